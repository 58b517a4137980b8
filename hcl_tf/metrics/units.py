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
    count = values.shape[1]
    if units is None:
        return values
    _, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if len(sizes) == count:
        return values
    sums = np.zeros((len(values), len(sizes)))
    np.add.at(sums, (slice(None), place), values)
    mean = values.mean()
    return mean + len(sizes) / count * (sums - sizes * mean)
