"""Examples that are not independent of each other, such as pairs of questions that share a text, as one unit of an analysis."""

import numpy as np


def by_unit(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Returns a value for each unit, such that the mean over units is the mean over examples, and their spread is that of its error.

    The mean over examples is a ratio, of the units' sums to their sizes n_j, both of which another draw of units would change. So unit j
    has the value m + J / N (sum of its values - n_j m), where m is the mean over everything: the ratio's linear part (Cochran 1977,
    section 2.11). With one example a unit these are the examples' own values.

    Args:
      values: [seeds, N]. units: [N], the number of the unit that each example is of; None: each is one of its own.

    Returns:
      [seeds, J].
    """
    values = np.asarray(values, np.float64)
    sums = summed(values.T, units).T
    if sums.shape == values.shape:
        return values
    sizes, mean = summed(np.ones((values.shape[1], 1)), units)[:, 0], values.mean()
    return mean + len(sizes) / values.shape[1] * (sums - sizes * mean)


def summed(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Returns the sums of values [N, k] over each unit, [J, k] in the order of the units' numbers; the values where each is its own."""
    names, place = (None, None) if units is None else np.unique(units, return_inverse=True)
    if names is None or len(names) == len(values):
        return values
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, place, values)
    return sums
