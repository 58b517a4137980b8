"""Yardsticks of a pretraining: what models of single pieces and of pairs of pieces would lose on the same held-out texts."""

from dataclasses import dataclass

import numpy as np

from hcl_tf.pretraining.rows import Texts


@dataclass(frozen=True)
class NGrams:
    """Counts of pieces, and of pairs of neighbours, in texts `[end] pieces [end]`.

    Attributes:
      size: V. single: [V] counts of pieces, ends included. pairs: [P] first * V + second, ascending; times: [P] how often.
      followers: [V] how many different pieces follow each.
    """

    size: int
    single: np.ndarray
    pairs: np.ndarray
    times: np.ndarray
    followers: np.ndarray

    @classmethod
    def of(cls, texts: Texts, end: int, size: int) -> "NGrams":
        """Counts training texts. `end`: the piece before and behind each. `size`: of the vocabulary."""
        firsts, seconds = _neighbours(texts, end)
        pairs, times = np.unique(firsts * size + seconds, return_counts=True)
        return cls(size, np.bincount(seconds, minlength=size), pairs, times, np.bincount(pairs // size, minlength=size))

    def piece_probabilities(self) -> np.ndarray:
        """Returns the probability of each piece, [V], with one added to every count (Laplace)."""
        return (self.single + 1.0) / (self.single.sum() + self.size)

    def losses(self, texts: Texts, end: int) -> tuple[float, float]:
        """Computes the mean NLL, in nats a piece, of the pieces of texts and of the end of each: under single pieces, and under pairs.

        Pairs are smoothed as Witten and Bell (1991) do: after a piece that was seen c times with f different followers, the probability of
        single pieces counts f / (c + f).
        """
        firsts, seconds = _neighbours(texts, end)
        alone = self.piece_probabilities()[seconds]
        where = np.minimum(np.searchsorted(self.pairs, firsts * self.size + seconds), len(self.pairs) - 1)
        seen = np.where(self.pairs[where] == firsts * self.size + seconds, self.times[where], 0)
        before = np.bincount(self.pairs // self.size, weights=self.times, minlength=self.size)[firsts]
        followers = self.followers[firsts]
        together = np.where(before > 0, (seen + followers * alone) / np.maximum(before + followers, 1), alone)
        return float(-np.log(alone).mean()), float(-np.log(together).mean())

    def piece_loss(self, texts: Texts) -> float:
        """Computes the mean NLL of the pieces of texts alone, without ends, in nats, under the model of single pieces."""
        return float(-np.log(self.piece_probabilities()[texts.pieces]).mean())


def _neighbours(texts: Texts, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns each piece and end, and the piece or end before it: [total + n] both, int64."""
    count, total = len(texts), len(texts.pieces)
    starts = texts.ends - texts.lengths
    seconds, firsts = np.full(total + count, end, np.int64), np.full(total + count, end, np.int64)
    at = np.arange(total) + np.repeat(np.arange(count), texts.lengths)  # each text takes one more place, for its end
    seconds[at] = texts.pieces
    inner = np.ones(total, bool)
    inner[starts[texts.lengths > 0]] = False
    firsts[at[inner]] = texts.pieces[:-1][inner[1:]] if total else texts.pieces
    ends = texts.ends + np.arange(count)
    firsts[ends] = texts.pieces[texts.ends - 1]
    return firsts, seconds
