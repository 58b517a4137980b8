"""A split in memory, as padded arrays."""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SplitArrays:
    """A split in memory: n examples, S and T the task's lengths, K keywords of a text.

    Attributes:
      source_ids: [n, S + 2] int32, `[CLS] pieces [SEP]` and padding; target_ids, negative_ids: [n, T + 2] likewise.
      source_nodes, target_nodes, negative_nodes: [n, K] int32 node numbers, -1 for none or unknown.
      source_unknown, target_unknown: [n] int32, how many of the text's keywords are not in the graph.
    """

    source_ids: np.ndarray
    target_ids: np.ndarray
    negative_ids: np.ndarray
    source_nodes: np.ndarray
    target_nodes: np.ndarray
    negative_nodes: np.ndarray
    source_unknown: np.ndarray
    target_unknown: np.ndarray

    def __len__(self) -> int:
        return len(self.source_ids)

    def first(self, count: int | None) -> "SplitArrays":
        """Returns the first `count` examples; None: all."""
        return dataclasses.replace(self, **{item.name: getattr(self, item.name)[:count] for item in dataclasses.fields(self)})
