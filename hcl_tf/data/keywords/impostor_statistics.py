"""How hard a set of impostors is: whether they are what the negatives say, and whether they can be told without reading anything.

A contrast learns nothing from impostors that one fixed direction separates from the targets' keywords, whatever source and target are
(BUILD_NOTES 92). NumPy alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hcl_tf.data.keywords.graph import UNKNOWN, KeywordGraph, SampleKeywords
from hcl_tf.data.keywords.subgraph import ROUTES, find_impostors

FREQUENT = 8
SEED = 1
RIDGE = 0.1  # of the mean variance: the directions are as many as the vectors' dimensions, the samples few


@dataclass(frozen=True)
class Impostors:
    """The impostors of some samples.

    Attributes:
      nodes: [n, K, F] (`find_impostors`). routes: [n] where they come from.
      target, negative: [n, K] the samples' own keywords; own: [n, 2K] those of source and target, which no impostor is.
    """

    nodes: np.ndarray
    routes: np.ndarray
    target: np.ndarray
    negative: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray, source: np.ndarray, target: np.ndarray, negative: np.ndarray, by: str = "graph") -> "Impostors":
        """Finds them; arguments as in `find_impostors`."""
        return cls(*find_impostors(table, source, target, negative, by), target, negative, np.concatenate([source, target], 1))

    @classmethod
    def of_samples(cls, graph: KeywordGraph, samples: Sequence[SampleKeywords], degree: int) -> "Impostors":
        """Finds those of samples whose keywords are words; `degree`: neighbours that each node keeps."""
        numbers, roles = graph.numbers(), ("source", "target", "negative")
        most = max((len(getattr(sample, role)) for sample in samples for role in roles), default=1)
        nodes = np.full((3, len(samples), max(most, 1)), UNKNOWN, np.int32)
        for place, role in enumerate(roles):
            for row, sample in enumerate(samples):
                found = [numbers.get(word, UNKNOWN) for word in getattr(sample, role)]
                nodes[place, row, : len(found)] = found
        return cls.of(graph.table(degree), *nodes)

    @property
    def eligible(self) -> np.ndarray:
        """[n, K] the keywords of the negative that are of neither source nor target, `UNKNOWN` elsewhere."""
        return np.where((self.negative[..., None] == self.own[:, None]).any(-1), UNKNOWN, self.negative)

    def share_of_negatives(self) -> float:
        """Of the samples whose negative has an eligible keyword, the share that has one of these among its impostors; NaN: none has."""
        eligible = self.eligible
        asked = (eligible != UNKNOWN).any(1)
        flat = self.nodes.reshape(len(self.nodes), -1)
        met = ((eligible[..., None] == flat[:, None]) & (eligible[..., None] != UNKNOWN)).any((1, 2))
        return float(met[asked].mean()) if asked.any() else float("nan")

    def most_frequent(self, graph: KeywordGraph) -> list[tuple[str, float]]:
        """The words that are an impostor of the largest shares of samples."""
        counted: Counter[int] = Counter()
        for row in self.nodes.reshape(len(self.nodes), -1):
            counted.update(set(row[row != UNKNOWN].tolist()))
        return [(graph.nodes[node], count / len(self.nodes)) for node, count in counted.most_common(FREQUENT)]

    def lines(self, graph: KeywordGraph) -> list[str]:
        """What preparation prints of a split."""
        routes = ", ".join(f"{route} {np.mean(self.routes == number):.1%}" for number, route in enumerate(ROUTES))
        words = ", ".join(f"{word} {share:.1%}" for word, share in self.most_frequent(graph))
        return [
            f"impostors come from: {routes}; a keyword of the negative is among them in {self.share_of_negatives():.1%} of the samples "
            "whose negative has one that source and target lack",
            f"most frequent impostors, by share of samples: {words or 'none'}",
        ]


def blind_order(positive: np.ndarray, negative: np.ndarray) -> float:
    """Measures how well one fixed direction, which sees neither source nor target, tells the better of two vectors.

    The direction is Fisher's, fitted to the differences of one half of the pairs and tried on the other, both ways round.

    Args:
      positive, negative: [n, D] pairs.

    Returns:
      The share of pairs that it orders right; 0.5 is chance, and what a contrast can hope to teach begins above this.
    """
    differences = np.asarray(positive, np.float64) - np.asarray(negative, np.float64)
    order = np.random.default_rng(SEED).permutation(len(differences))
    halves = order[::2], order[1::2]
    right = []
    for fitted, tried in (halves, halves[::-1]):
        part = differences[fitted]
        covariance = part.T @ part / len(part)
        covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        right.append(differences[tried] @ np.linalg.solve(covariance, part.mean(0)) > 0)
    return float(np.concatenate(right).mean())


def one_each(nodes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws one of each sample's impostors [n, K, F], uniformly. Returns [n] node numbers, `UNKNOWN` where there is none."""
    flat = nodes.reshape(len(nodes), -1)
    keys = np.where(flat == UNKNOWN, -1.0, random.random(flat.shape))
    chosen = keys.argmax(1)
    return np.where(keys.max(1) < 0, UNKNOWN, flat[np.arange(len(flat)), chosen])


def mean_vectors(vectors: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """[N, D] vectors and [n, ...] node numbers -> [n, D] the mean over each sample's nodes; zeros where it has none."""
    flat = nodes.reshape(len(nodes), -1)
    known = (flat != UNKNOWN)[..., None]
    return (vectors[np.maximum(flat, 0)] * known).sum(1) / np.maximum(known.sum(1), 1)
