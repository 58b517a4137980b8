"""Compares two systems that copy their sources to different degrees.

On paraphrases the source itself scores above every system in BLEU, so who copies more scores more. Here a share of the outputs of the one
that copies less is replaced by its sources, until both overlap with the sources equally on average. Which outputs are replaced would be
drawn; the expectation over all draws is known, so nothing is drawn. The share itself is estimated from the same sentences. What that adds
to the uncertainty is in each sentence's score: the linear part of the difference in it (the delta method), which has mean 0.
"""

from typing import NamedTuple

import numpy as np


class Matched(NamedTuple):
    """Scores of two systems at equal overlap.

    Attributes:
      first, second: [..., n] scores; those of the system that copies less are expectations, with the linear part.
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
    return Matched(
        _mixed(first, copy, of_first, (overlap_first, overlap_second, overlap_copy)),
        _mixed(second, copy, of_second, (overlap_second, overlap_first, overlap_copy)),
        of_first - of_second,
    )


def _mixed(scores: np.ndarray, copy: np.ndarray, share: np.ndarray, overlaps: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Scores of which a share is replaced by those of the sources: [..., n].

    Args:
      share: [...], 0 for the system that copies more. overlaps: [..., n] of this system, of the other, of the sources.
    """
    own, other, of_copy = overlaps
    part = share[..., None]
    room = of_copy.mean() - own.mean(-1)
    gained = np.where(share > 0, (copy.mean() - scores.mean(-1)) / np.where(room, room, 1.0), 0.0)[..., None]  # by a unit of overlap
    return (1 - part) * scores + part * copy + gained * (other - (1 - part) * own - part * of_copy)
