"""Sources, of a user's texts (decoding/source_reader.py) or of a prepared folder's records, to the batches that generation takes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.tfrecords import Text
from hcl_tf.data.tokenizers import keyword_suffix
from hcl_tf.data.tokenizers.wordpiece import SPECIAL_PIECES, Tokenizer

SHAPES = (1, 8, 32)  # rows of a batch: one text need not cost as much as 32, and few shapes mean few compilations


@dataclass(frozen=True)
class Source:
    """One source: its text; as the model takes it WordPiece ids (cut, without special ones); each keyword's node, or `UNKNOWN`, and its
    name."""

    text: str
    ids: list[int]
    nodes: tuple[int, ...]
    keywords: tuple[str, ...] = ()


def from_record(source: Text) -> Source:
    """The request of a prepared source."""
    return Source(source.raw, source.ids, source.nodes, tuple(keyword.text for keyword in source.keywords))


class SourceBatches:
    """Requests to batches of few shapes (see `Batches.make` for the columns).

    Args:
      source_length, max_keywords: S and K of the data that the system was trained on (`Inputs`).
      append_keywords: the sources of that data have their keywords appended.
    """

    def __init__(self, tokenizer: Tokenizer, source_length: int, max_keywords: int, append_keywords: bool = False) -> None:
        self._tokenizer, self._width, self._keywords = tokenizer, source_length + SPECIAL_PIECES, max_keywords
        self._append = append_keywords

    def make(self, requests: Sequence[Source], first: int) -> Batch:
        """One batch, of the smallest of `SHAPES` that holds them.

        Args:
          requests: 1 to the largest of `SHAPES`. first: the number of the first; the numbers decide a sampled z.

        Returns:
          source_ids [B, S + 2], source_nodes [B, K], source_unknown, example_rows [B] int32, example_mask [B] float32.
        """
        t, rows = self._tokenizer, next(size for size in SHAPES if size >= len(requests))
        ids = np.full((rows, self._width), t.pad_id, np.int32)
        nodes = np.full((rows, self._keywords), UNKNOWN, np.int32)
        unknown = np.zeros(rows, np.int32)
        sources = [request.ids for request in requests]
        if self._append:
            names, most = [request.keywords for request in requests], keyword_suffix.suffix_length(self._keywords)
            sources = keyword_suffix.append(sources, names, t, most)
        for row, request in enumerate(requests):
            pieces = [t.cls_id, *sources[row], t.sep_id]
            ids[row, : len(pieces)] = pieces
            nodes[row, : len(request.nodes)] = request.nodes
            unknown[row] = request.nodes.count(UNKNOWN)
        ids[len(requests) :] = ids[0]  # a row of nothing but padding has no text vector
        columns = {
            "source_ids": ids, "source_nodes": nodes, "source_unknown": unknown,
            "example_rows": np.arange(first, first + rows, dtype=np.int32),
            "example_mask": (np.arange(rows) < len(requests)).astype(np.float32),
        }  # fmt: skip
        return {name: tf.constant(column) for name, column in columns.items()}

    def of(self, requests: Iterable[Source], size: int = SHAPES[-1]) -> Iterator[Batch]:
        """All requests, `size` at a time."""
        remaining, first = iter(requests), 0
        while block := list(islice(remaining, size)):
            yield self.make(block, first)
            first += len(block)
