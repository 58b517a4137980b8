"""What a comparison over seeds and sentences can show: how often it errs, and the smallest difference that it would find.

Answers come by simulation of the same analysis (`metrics.crossed`), with variances that runs have shown; a formula would need the degrees
of freedom, which each table has its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hcl_tf.metrics.crossed import CrossedMean, crossed_mean
from hcl_tf.metrics.decision import within

SENTENCES = 400  # simulated at most: of more, the mean's variance is kept by scaling the effects


@dataclass(frozen=True)
class Components:
    """Variances of the effects in a table of paired differences, [seeds, sentences]."""

    of_seeds: float
    of_sentences: float
    of_rest: float

    @classmethod
    def of(cls, found: CrossedMean) -> "Components":
        """Returns the estimates that a comparison gave."""
        return cls(found.of_seeds, found.of_sentences, found.of_rest)


def simulate(parts: Components, seeds: int, sentences: int, difference: float, times: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draws tables [seeds, sentences] of normal effects around a true difference.

    Of many sentences `SENTENCES` are drawn, whose effects are as much smaller as keeps the variance of all means.
    """
    draw, count = np.random.default_rng(seed), min(sentences, SENTENCES)
    shrunk = np.sqrt(count / sentences)
    for _ in range(times):
        effects = np.sqrt(parts.of_seeds) * draw.normal(size=(seeds, 1)) + shrunk * np.sqrt(parts.of_sentences) * draw.normal(
            size=(1, count)
        )
        yield difference + effects + shrunk * np.sqrt(parts.of_rest) * draw.normal(size=(seeds, count))


def false_alarms(parts: Components, seeds: int, sentences: int, level: float = 0.95, times: int = 2000) -> float:
    """Returns how often the interval leaves 0 out although there is no difference; 1 - level is what it promises."""
    found = [crossed_mean(table, level) for table in simulate(parts, seeds, sentences, 0.0, times)]
    return float(np.mean([one.low > 0 or one.high < 0 for one in found]))


def equal_found(parts: Components, seeds: int, sentences: int, margin: float, level: float = 0.95, times: int = 2000) -> float:
    """Returns how often two systems that do not differ are found not to: the 90% interval lies within the margin, and 0 within the other.

    Args:
      level: of the interval that would show a difference, also of one within the margin.
    """
    tables = simulate(parts, seeds, sentences, 0.0, times)
    both = [(crossed_mean(table, 0.90), crossed_mean(table, level)) for table in tables]
    return float(np.mean([within(narrow.low, narrow.high, margin) and wide.low <= 0 <= wide.high for narrow, wide in both]))


def smallest_found(parts: Components, seeds: int, sentences: int, power: float = 0.8, level: float = 0.95, times: int = 2000) -> float:
    """Returns the smallest true difference that the interval would show to be above 0 with probability `power`.

    A table around a difference is one around 0, moved: so of tables around 0 the lower ends alone are needed.
    """
    lows = [crossed_mean(table, level).low for table in simulate(parts, seeds, sentences, 0.0, times)]
    return float(-np.quantile(lows, 1 - power))
