"""Compares two systems that copy their sources to different degrees.

On paraphrases the source itself scores above every system in BLEU, so who copies more scores more. Here a share of the outputs of the one
that copies less is replaced by its sources, until both overlap with the sources equally on average. Which outputs are replaced would be
drawn; the expectation over all draws is known, so nothing is drawn.
"""

from typing import NamedTuple

import numpy as np


class Matched(NamedTuple):
    """Scores of two systems at equal overlap.

    Attributes:
      first, second: [..., n] scores; those of the system that copies less are expectations.
      share: of the outputs of that one that are replaced, [...]; above 0 for the first, below 0 for the second, 0 where they overlap alike.
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray


def at_matched_overlap(
    first: np.ndarray, second: np.ndarray, overlap_first: np.ndarray, overlap_second: np.ndarray, copy: np.ndarray, overlap_copy: np.ndarray
) -> Matched:
    """Brings two systems to the same mean overlap with the sources.

    Args:
      first, second: [..., n] scores of each sentence, [seeds, n] for instance. overlap_first, overlap_second: how far their outputs overlap
        with the sources. copy, overlap_copy: [n] the same of the sources themselves as outputs.

    Raises:
      ValueError: the sources overlap with themselves no more than both systems' outputs do, so no share of them could help.
    """
    ours, theirs = overlap_first.mean(-1), overlap_second.mean(-1)
    most, room = np.maximum(ours, theirs), overlap_copy.mean() - np.minimum(ours, theirs)
    if (room <= 0).any():
        raise ValueError("the sources overlap with themselves no more than the outputs do")
    share = (most - np.minimum(ours, theirs)) / room  # (1 - share) * least + share * copy = most
    of_first, of_second = np.where(ours < theirs, share, 0.0), np.where(theirs < ours, share, 0.0)
    mixed = [(1 - part[..., None]) * scores + part[..., None] * copy for part, scores in ((of_first, first), (of_second, second))]
    return Matched(*mixed, of_first - of_second)
