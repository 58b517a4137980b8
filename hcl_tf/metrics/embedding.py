"""Measures how near two texts are by their words' vectors: Extrema, Average and Greedy.

The formulas are those of Liu et al. (2016, "How NOT To Evaluate Your Dialogue System"), section 3.2. Words without a vector are skipped.
Where no word of one of the two texts has a vector (an empty text, for one), the score of the pair is NaN, to be counted and reported.
Where a hypothesis has further references, each score is that of the reference that is nearest by it.
"""

from collections.abc import Sequence

import numpy as np

from hcl_tf.data.store.word_vectors import WordVectors
from hcl_tf.data.tokenizers.words import TOKENISATION

NAMES = ("Extrema", "Average", "Greedy")


def similarities(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    vectors: WordVectors,
    further: Sequence[Sequence[Sequence[str]]] | None = None,
) -> np.ndarray:
    """Computes the scores `NAMES` of n tokenised pairs, and of those with the references in `further`.

    Returns [n, 3] float64 in [-1, 1], NaN for hypotheses that have no score.
    """
    scores = np.full((len(hypotheses), len(NAMES)), np.nan)
    for row, (hypothesis, reference, others) in enumerate(zip(hypotheses, references, further or [()] * len(references), strict=True)):
        one = vectors.of(hypothesis).astype(np.float64)
        for other in (vectors.of(tokens).astype(np.float64) for tokens in (reference, *others)):
            if len(one) and len(other):
                found = cosine(extrema(one), extrema(other)), cosine(one.mean(axis=0), other.mean(axis=0)), greedy(one, other)
                scores[row] = np.fmax(scores[row], found)
    return scores


def extrema(vectors: np.ndarray) -> np.ndarray:
    """Returns, in each dimension of [n, d], the value furthest from zero with its sign, [d]; of two equally far the negative one."""
    highest, lowest = vectors.max(axis=0), vectors.min(axis=0)
    return np.where(highest > np.abs(lowest), highest, lowest)


def greedy(one: np.ndarray, other: np.ndarray) -> float:
    """Computes the mean cosine of each word of [n, d] with its nearest word of [m, d] and reversely, averaged over both directions."""
    table = _unit(one) @ _unit(other).T
    return float(np.clip((table.max(axis=1).mean() + table.max(axis=0).mean()) / 2, -1.0, 1.0))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Computes the cosine of two vectors [d]; 0 where one of them is zero (words that cancel out)."""
    return float(np.clip(_unit(one) @ _unit(other), -1.0, 1.0))


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def signature(name: str, language: str, vectors: WordVectors) -> str:
    """Returns the signature of one of the scores of `similarities`."""
    return f"{name}|level:sentence, mean|vectors:{vectors.name}|oov:skipped|{TOKENISATION[language]}|scale:1, from -1"
