"""Measures what a high BLEU can hide: dull outputs, copies of training targets, outputs that ignore their keywords, samples that are alike.

Every function takes tokens (`words.words`), so that case and spacing make no difference between systems.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from hcl_tf.metrics import bleu

Tokens = Sequence[str]


def distinct(texts: Iterable[Tokens], order: int) -> float:
    """Computes distinct-n (Li et al. 2016): the number of different n-grams of all texts, divided by that of all n-grams.

    It falls as the number of texts grows, so only values over the same test set can be compared. NaN where there is no n-gram.
    """
    grams = [tuple(text[i : i + order]) for text in texts for i in range(len(text) - order + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def distinct_share(texts: Sequence[Tokens]) -> float:
    """Computes the share of different texts among all texts; NaN where there are none."""
    return len(set(map(tuple, texts))) / len(texts) if texts else float("nan")


def pairwise_distinctness(texts: Sequence[Tokens]) -> float:
    """Computes the mean of 1 - BLEU-2 over all ordered pairs of different places among texts: in [0, 1], NaN of fewer than two.

    That is 1 minus a pairwise BLEU (Shen et al. 2019), here of sentences, bounded (metrics/bleu.py). Equal texts are at 0, even those that
    are too short for a BLEU of 1.
    """
    if len(texts) < 2:
        return float("nan")
    counts = Counter(map(tuple, texts))
    pairs = list(permutations(counts, 2))
    unlike = 1 - bleu.sentence_scores([a for a, _ in pairs], [b for _, b in pairs], (2,), smoothing=bleu.ADD_ONE)[:, 0] / 100
    times = np.array([counts[a] * counts[b] for a, b in pairs], np.float64)
    return float(times @ unlike) / (len(texts) * (len(texts) - 1))


def verbatim(texts: Sequence[Tokens], training_targets: Iterable[Tokens]) -> np.ndarray:
    """Says which texts are, token for token, training targets: [n] float64, 1 or 0."""
    known = set(map(tuple, training_targets))
    return np.array([tuple(text) in known for text in texts], np.float64)


def keyword_inclusion(texts: Sequence[Tokens], keywords: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Computes the share of each text's distinct keywords that it contains: [n] float64 in [0, 1], NaN where it has no keywords.

    A keyword is contained where its tokens stand in the text one after the other. For Chinese, whose tokens are
    characters, that is being a substring. Nothing is inflected: give keywords in the form that is looked for.
    """
    shares = []
    for text, given in zip(texts, keywords, strict=True):
        looked_for = {tuple(keyword) for keyword in given if keyword}
        grams = {tuple(text[i : i + size]) for size in set(map(len, looked_for)) for i in range(len(text) - size + 1)}
        shares.append(len(looked_for & grams) / len(looked_for) if looked_for else float("nan"))
    return np.array(shares, np.float64)
