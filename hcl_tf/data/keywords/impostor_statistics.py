"""What a set of impostors is made of: where they come from, whether they are what the negatives say, and which words they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hcl_tf.data.keywords.graph import UNKNOWN, KeywordGraph, SampleKeywords
from hcl_tf.data.keywords.subgraph import ROUTES, find_impostors

FREQUENT = 8


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
        share = self.share_of_negatives()
        met = (
            "no negative has a keyword that source and target lack"
            if np.isnan(share)
            else (
                f"a keyword of the negative is among them in {share:.1%} of the samples whose negative has one that source and target lack"
            )
        )
        return [
            f"impostors come from: {routes}; {met}",
            f"most frequent impostors, by share of samples: {words or 'none'}",
        ]
