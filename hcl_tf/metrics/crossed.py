"""The interval of a mean over seeds and sentences, where both are a sample of what could have been.

Each value of a table [seeds, sentences] is mean + effect of its seed + effect of its sentence + rest (a crossed random-effects analysis of
variance, one value a cell). An interval over sentences alone takes the seeds for the only ones there are, and the other way round.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class CrossedMean:
    """A mean with its interval.

    Attributes:
      value: the mean. low, high: its interval. freedom: degrees of freedom (Satterthwaite 1946). p: two-sided, of a true mean of 0.
      of_seeds, of_sentences, of_rest: the variances of the three effects, 0 where the estimate is negative.
    """

    value: float
    low: float
    high: float
    freedom: float
    of_seeds: float
    of_sentences: float
    of_rest: float
    p: float


def crossed_mean(values: np.ndarray, level: float = 0.95) -> CrossedMean:
    """Analyses values [S seeds, N sentences], for instance paired differences of two systems.

    The variance of the mean is (M_s + M_n - M_e) / (S N), of the mean squares of seeds, of sentences and of the rest; at least the largest
    of what each of the two first alone would give. Its degrees of freedom are those of this sum (Satterthwaite 1946).

    Raises:
      ValueError: there are not at least two seeds and two sentences, or a value is no number.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"a table of at least two seeds and two sentences without gaps is needed, got shape {values.shape}")
    seeds, sentences = values.shape
    whole, by_seed, by_sentence = values.mean(), values.mean(1), values.mean(0)
    rest = values - by_seed[:, None] - by_sentence[None] + whole
    of_seeds, of_sentences = sentences * by_seed.var(ddof=1), seeds * by_sentence.var(ddof=1)  # mean squares
    of_rest = float((rest**2).sum() / ((seeds - 1) * (sentences - 1)))
    total = of_seeds + of_sentences - of_rest
    parts = of_seeds**2 / (seeds - 1) + of_sentences**2 / (sentences - 1) + of_rest**2 / ((seeds - 1) * (sentences - 1))
    freedom = total**2 / parts if parts else float("inf")
    if total < max(of_seeds, of_sentences):  # the rest is larger than one of the effects: that effect is taken for none
        total, freedom = max((of_seeds, seeds - 1.0), (of_sentences, sentences - 1.0))
    freedom_of_t, error = max(freedom, 1.0), np.sqrt(total / (seeds * sentences))
    half = float(stats.t.ppf(0.5 + level / 2, freedom_of_t) * error)
    p = float(2 * stats.t.sf(abs(whole) / error, freedom_of_t)) if error else float(whole == 0)
    return CrossedMean(
        float(whole), float(whole - half), float(whole + half), float(freedom), float(max(of_seeds - of_rest, 0.0) / sentences),
        float(max(of_sentences - of_rest, 0.0) / seeds), of_rest, p,
    )  # fmt: skip
