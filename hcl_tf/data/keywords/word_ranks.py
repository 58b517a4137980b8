"""Ranks the words of a text by TextRank (Mihalcea and Tarau 2004): PageRank over the graph of words that stand close together.

The numbers are pytextrank's, whose ranks come with its phrases from a NetworkX graph and a sparse matrix for each text; for a graph of ten
words building those takes far longer than ranking (BUILD_NOTES.md, 23).
"""

from collections import Counter

import numpy as np
from spacy.tokens import Doc

KEPT = frozenset(("ADJ", "NOUN", "PROPN", "VERB"))
LOOKBACK = 3  # kept words up to so many places apart are linked
DAMPING, TOLERANCE, STEPS = 0.85, 1e-6, 100  # as of `networkx.pagerank`


def ranks(doc: Doc) -> dict[tuple[str, str], float]:
    """Returns the rank of each (lemma, part of speech) that is a node; ranks of a text sum to 1."""
    nodes: dict[tuple[str, str], int] = {}
    links: Counter[tuple[int, int]] = Counter()
    for sentence in doc.sents:
        kept = [nodes.setdefault((token.lemma_, token.pos_), len(nodes)) for token in sentence if token.pos_ in KEPT]
        for apart in range(1, LOOKBACK + 1):
            links.update(zip(kept, kept[apart:], strict=False))
    return dict(zip(nodes, _pagerank(len(nodes), links).tolist(), strict=True)) if nodes else {}


def _pagerank(count: int, links: dict[tuple[int, int], int]) -> np.ndarray:
    """Returns the rank of each of `count` nodes, [count], by power iteration."""
    weights = np.zeros((count, count))
    for (left, right), weight in links.items():  # in both directions; of two orders of a pair the later one's count holds, as in pytextrank
        weights[left, right] = weights[right, left] = weight
    total = weights.sum(1, keepdims=True)
    step = np.divide(weights, total, out=np.full_like(weights, 1 / count), where=total > 0)  # from a node without links to any
    step = DAMPING * step + (1 - DAMPING) / count
    found = np.full(count, 1 / count)
    for _ in range(STEPS):
        last, found = found, found @ step
        if np.abs(found - last).sum() < count * TOLERANCE:
            break
    return found
