"""Measures how far annotators agree beyond chance: Fleiss' kappa (Fleiss 1971), with a bootstrap interval.

Categories are nominal: a 1 against a 3 is no worse than a 1 against a 2.
"""

from dataclasses import dataclass

import numpy as np

from hcl_tf.metrics.significance import LEVEL, RESAMPLES, percentiles, resampled


@dataclass(frozen=True)
class Agreement:
    """Fleiss' kappa with its interval and its parts.

    Attributes:
      kappa: (observed - chance) / (1 - chance); None where it is undefined, and then `undefined` says why.
      low, high: its bootstrap interval; None where no resample has a kappa.
      undefined_resamples: the share of resamples that have no kappa; the interval is that of the others.
      observed: the share of pairs of annotators of one subject that agree; None with one annotator.
      chance: the share that would agree if each drew from `shares`.
      shares: of each category among all ratings.
      subjects: how many were rated. raters: annotators of each.
    """

    kappa: float | None
    low: float | None
    high: float | None
    undefined: str
    undefined_resamples: float
    observed: float | None
    chance: float
    shares: tuple[float, ...]
    subjects: int
    raters: int


def category_counts(ratings: np.ndarray, categories: tuple[int, ...]) -> np.ndarray:
    """Counts how many of R annotators chose each of C categories: [..., R] -> [..., C]. Raises ValueError for any other rating."""
    counts = (ratings[..., None] == np.array(categories)).sum(axis=-2)
    if not (counts.sum(axis=-1) == ratings.shape[-1]).all():
        raise ValueError(f"ratings other than {categories}")
    return counts


def fleiss_kappa(counts: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 1) -> Agreement:
    """Computes Fleiss' kappa.

    The bootstrap draws items whole, because the outputs of several systems for one source are not independent of each other.

    Args:
      counts: [I, G, C], of I items with G rated subjects each, how many annotators chose each of C categories.
      level: of the interval.

    Raises:
      ValueError: nothing is rated, or not everything by the same number of annotators.
    """
    counts = np.asarray(counts)
    if counts.ndim != 3 or not counts.size or not counts.sum():
        raise ValueError(f"counts of shape {counts.shape}; items, subjects and categories are needed")
    raters = int(counts[0, 0].sum())
    if not (counts.sum(axis=-1) == raters).all():
        raise ValueError("every subject has to be rated by the same number of annotators")
    subjects = counts.shape[0] * counts.shape[1]
    shares = counts.sum(axis=(0, 1)) / (subjects * raters)
    chance = float((shares**2).sum())
    common = {"chance": chance, "shares": tuple(map(float, shares)), "subjects": subjects, "raters": raters}
    if raters < 2:
        return Agreement(None, None, None, "one annotator has nobody to agree with", 1.0, None, **common)
    # All that kappa needs of an item, as sums: agreeing pairs, then ratings in each category.
    sums = np.concatenate([(counts * (counts - 1)).sum(axis=(1, 2))[:, None], counts.sum(axis=1)], axis=1).astype(np.float64)

    def kappas(totals: np.ndarray) -> np.ndarray:
        ratings = totals[:, 1:].sum(axis=1)
        observed, expected = totals[:, 0] / (ratings * (raters - 1)), ((totals[:, 1:] / ratings[:, None]) ** 2).sum(axis=1)
        varied = totals[:, 1:].max(axis=1) < ratings  # exact, unlike a comparison of `expected` with 1
        return np.divide(observed - expected, 1 - expected, out=np.full_like(expected, np.nan), where=varied)

    kappa, observed = float(kappas(sums.sum(axis=0, keepdims=True))[0]), float(sums[:, 0].sum() / (subjects * raters * (raters - 1)))
    if np.isnan(kappa):
        why = "every rating is in the same category, so agreement by chance is certain"
        return Agreement(None, None, None, why, 1.0, observed, **common)
    samples = resampled(sums, kappas, resamples, seed)
    low, high = percentiles(samples, level)
    missing = float(np.isnan(samples).mean())
    return Agreement(kappa, *((None, None) if missing == 1 else (low, high)), "", missing, observed, **common)
