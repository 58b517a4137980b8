"""Makes the batches that generation takes, from sources of a user (decoding/source_reader.py) or of a prepared folder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.tfrecords import Text
from hcl_tf.data.tokenizers import keyword_suffix
from hcl_tf.data.tokenizers.wordpiece import Tokenizer

SHAPES = (1, 8, 32)  # rows of a batch: one text need not cost as much as 32, and each shape is compiled once


@dataclass(frozen=True)
class Source:
    """A source as the model takes it.

    Attributes:
      text: in its normal form. ids: of its pieces, cut, without special ones. nodes: of its keywords, `UNKNOWN` for those that the graph
        lacks. keywords: their names.
    """

    text: str
    ids: list[int]
    nodes: tuple[int, ...]
    keywords: tuple[str, ...] = ()


def from_record(source: Text) -> Source:
    """Makes a source of a record's."""
    return Source(source.normal, source.ids, source.nodes, tuple(keyword.text for keyword in source.keywords))


class SourceBatches:
    """Makes batches of sources, of few shapes. Their columns are those of `PairColumns` that concern sources.

    Args:
      source_length, max_keywords: S and K of the data that the system was trained on (`Inputs`).
      append_keywords: whether the sources of that data have their keywords appended.
    """

    def __init__(self, tokenizer: Tokenizer, source_length: int, max_keywords: int, append_keywords: bool = False) -> None:
        self._tokenizer, self._length, self._keywords, self._append = tokenizer, source_length, max_keywords, append_keywords

    def make(self, sources: Sequence[Source], first: int) -> Batch:
        """Makes one batch, of the smallest of `SHAPES` that holds the sources.

        Args:
          sources: 1 to the largest of `SHAPES`. first: the number of the first one; the noise of a sampled z depends on the numbers.

        Returns:
          source_ids [B, S + 2], source_nodes [B, K], source_unknown, example_rows [B] int32, example_mask [B] float32.
        """
        rows = next(size for size in SHAPES if size >= len(sources))
        nodes = np.full((rows, self._keywords), UNKNOWN, np.int32)
        unknown = np.zeros(rows, np.int32)
        for row, source in enumerate(sources):
            nodes[row, : len(source.nodes)] = source.nodes
            unknown[row] = source.nodes.count(UNKNOWN)
        columns = {
            "source_ids": self._ids(sources, rows), "source_nodes": nodes, "source_unknown": unknown,
            "example_rows": np.arange(first, first + rows, dtype=np.int32),
            "example_mask": (np.arange(rows) < len(sources)).astype(np.float32),
        }  # fmt: skip
        return {name: tf.constant(column) for name, column in columns.items()}

    def _ids(self, sources: Sequence[Source], rows: int) -> np.ndarray:
        """Returns the sources' ids [rows, S + 2]; rows that fill up repeat the first, because only padding would have no text vector."""
        pieces = [source.ids for source in sources]
        if self._append:
            names, most = [source.keywords for source in sources], keyword_suffix.suffix_length(self._keywords)
            pieces = keyword_suffix.append(pieces, names, self._tokenizer, most)
        return self._tokenizer.framed(pieces + [pieces[0]] * (rows - len(pieces)), self._length)

    def of(self, sources: Iterable[Source]) -> Iterator[Batch]:
        """Yields batches of all sources, of the largest of `SHAPES` but the last."""
        remaining, first = iter(sources), 0
        while block := list(islice(remaining, SHAPES[-1])):
            yield self.make(block, first)
            first += len(block)
