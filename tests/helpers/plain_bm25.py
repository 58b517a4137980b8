"""BM25 without a matrix."""

import math
from collections import Counter


def plain_bm25(documents: list[list[str]], query: list[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Lucene's BM25 (Kamphuis et al. 2020), word by word."""
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, norm = Counter(document), k1 * (1 - b + b * len(document) / average)
        holding = {word: sum(word in other for other in documents) for word in query}
        scores.append(
            sum(
                math.log(1 + (len(documents) - holding[word] + 0.5) / (holding[word] + 0.5)) * counts[word] / (counts[word] + norm)
                for word in query
            )
        )
    return scores
