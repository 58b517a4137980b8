"""Chooses the examples of a split that people are shown."""

import numpy as np

SAMPLES = 8


def sample_rows(count: int, samples: int = SAMPLES) -> np.ndarray:
    """Returns the numbers of at most `samples` of `count` examples, evenly spread, so that nobody chooses them."""
    return np.unique(np.linspace(0, count - 1, min(samples, count)).astype(int))
