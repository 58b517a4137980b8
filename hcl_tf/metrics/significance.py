"""Estimates by the bootstrap how far a mean over test sentences would move with other sentences (Efron 1979; for BLEU: Koehn 2004).

A sentence without a score is NaN. It is left out of the mean of every resample that it is drawn into. Where sentences are not independent
of each other, `units` [n] says of which unit each is, and whole units are drawn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.metrics.units import summed

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK = 1 << 22  # draws at a time: 32 MB
_KEPT = 1 << 26  # draws that are kept for the next statistic of as many sentences: 128 MB


def resample(count: int, resamples: int = RESAMPLES, seed: int = 1) -> Iterator[np.ndarray]:
    """Draws resamples of `count` sentences. Yields how often each sentence is drawn, in blocks [b, count] float64 of b resamples."""
    blocks = _kept(count, resamples, seed) if count * resamples <= _KEPT else _drawn(count, resamples, seed)
    for block in blocks:
        yield block.astype(np.float64)


@lru_cache(maxsize=2)
def _kept(count: int, resamples: int, seed: int) -> list[np.ndarray]:
    """Does as `_drawn`. A report asks for the same resamples hundreds of times, and to draw them takes most of a comparison's time."""
    return [block.astype(np.uint16) for block in _drawn(count, resamples, seed)]  # no sentence is drawn more than `count` times


def _drawn(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draws what `resample` yields, as whole numbers."""
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // count)
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        draws = random.integers(count, size=(block, count)) + count * np.arange(block)[:, None]
        yield np.bincount(draws.ravel(), minlength=block * count).reshape(block, count)


def resampled(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES, seed: int = 1,
    units: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Computes a statistic of each resample of values [n, k], from their sums [b, k] over b resamples. Returns [resamples, ...]."""
    values = summed(values, units)
    return np.concatenate([statistic(weights @ values) for weights in resample(len(values), resamples, seed)])


def resampled_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 1, units: np.ndarray | None = None) -> np.ndarray:
    """Computes the means of m scores of n sentences, [n, m], in each resample: [resamples, m], NaN where a resample has no score."""
    known = np.isfinite(values)
    sums = np.concatenate([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)

    def means(totals: np.ndarray) -> np.ndarray:
        total, scored = np.split(totals, 2, axis=1)
        return np.divide(total, scored, out=np.full_like(total, np.nan), where=scored > 0)

    return resampled(sums, means, resamples, seed, units)


def percentiles(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Returns the central interval that holds a share `level` of resampled values [r]; NaN where none of them is a number."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return float("nan"), float("nan")
    low, high = np.percentile(samples, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def confidence_interval(values: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 1) -> tuple[float, float]:
    """Computes the percentile bootstrap interval of the mean of values [n] over sentences."""
    return percentiles(resampled_means(np.asarray(values, np.float64)[:, None], resamples, seed)[:, 0], level)


def means(columns: dict[str, np.ndarray], units: np.ndarray | None = None) -> dict[str, dict]:
    """Computes the means of several columns of values [n] of the same examples, with bootstrap intervals. All are resampled together.

    Returns:
      For each column: value, low and high (None where no example has a value), and examples, how many have one.
    """
    if not columns:
        return {}
    resampled = resampled_means(np.stack(list(columns.values()), 1), units=units)
    found = {}
    for (name, values), samples in zip(columns.items(), resampled.T, strict=True):
        known = values[np.isfinite(values)]
        low, high = percentiles(samples)
        value = {"value": float(known.mean()), "low": low, "high": high} if len(known) else dict.fromkeys(("value", "low", "high"))
        found[name] = value | {"examples": len(known)}
    return found


@dataclass(frozen=True)
class PairedComparison:
    """A comparison of system a with system b on the same sentences.

    Attributes:
      sentences: how many have a score of both.
      difference: mean of a minus mean of b; `low` to `high` is its interval.
      p_value: two-sided.
    """

    sentences: int
    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(a: np.ndarray, b: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 1) -> PairedComparison:
    """Compares two systems by paired bootstrap resampling (Koehn 2004) of their values [n] for each sentence.

    Koehn's p is the share of resamples in which the better system does not win. It is doubled here (at most 1), because which of the two
    is better was not known beforehand, and one resample is added to either count, so that p is never 0.

    Raises:
      ValueError: the two do not have the same length, or no sentence has both scores.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"the systems have values of shapes {a.shape} and {b.shape}; two of the same length are needed")
    differences = (a - b)[np.isfinite(a) & np.isfinite(b)]
    if not len(differences):
        raise ValueError("no sentence has a score of both systems")
    samples = resampled_means(differences[:, None], resamples, seed)[:, 0]
    difference = float(differences.mean())
    lost = int((samples * np.sign(difference) <= 0).sum())
    return PairedComparison(len(differences), difference, *percentiles(samples, level), min(1.0, 2 * (lost + 1) / (resamples + 1)))


def compare_paired(differences: np.ndarray) -> PairedComparison:
    """Compares two systems by paired differences [seeds, sentences]: over both crossed, or where there is one seed by a paired bootstrap.

    Raises:
      ValueError: there is no sentence, or a difference is no number.
    """
    if min(differences.shape) < 2:  # there is nothing to cross
        return paired_bootstrap(differences.mean(0), np.zeros(differences.shape[1]))
    found = crossed_mean(differences)
    return PairedComparison(differences.shape[1], found.value, found.low, found.high, found.p)
