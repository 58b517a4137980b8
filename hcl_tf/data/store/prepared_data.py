"""Reads a prepared folder into arrays, with tf.data over the TFRecords.

A split is read once, checked against the manifest, and kept as padded arrays (Douban's 218,039 training examples take 130 MB). Batches
are then gathered by position (batching/batches.py), so the position of a run in its data is just (epoch, batch).
"""

import copy
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import UNKNOWN, KeywordGraph
from hcl_tf.data.store import tfrecords, word_vectors
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.store.tfrecords import Record, Text
from hcl_tf.data.store.untuned import untuned
from hcl_tf.data.store.word_vectors import WordVectors
from hcl_tf.data.tokenizers import keyword_suffix, wordpiece
from hcl_tf.data.tokenizers.wordpiece import SPECIAL_PIECES
from hcl_tf.errors import UserError

PARSED_AT_ONCE = 4096


class PreparedData:
    """A prepared folder, checked as it is read.

    Attributes:
      source_length, target_length: the most pieces of a source and of a target, without special ones.
      suffix_length: how many pieces of `source_length` are for appended keywords (`with_keywords`); 0: there are none.
      max_keywords: K.

    Raises:
      UserError: a file is missing or damaged; the text names it, and the record where there is one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = tfrecords.read_manifest(self.folder)
        tfrecords.check_files(self.folder, self.manifest, list(self.manifest["files"]))
        self.graph: KeywordGraph = graph.load(self.folder / tfrecords.GRAPH)
        self.tokenizer = wordpiece.from_file(self.folder / tfrecords.VOCABULARY)
        self.source_length = self.manifest["task"]["source_length"]
        self.target_length = self.manifest["target_length"]
        self.max_keywords = self.manifest["settings"]["max_keywords"]
        self.suffix_length = 0

    def with_keywords(self) -> "PreparedData":
        """Returns the same data with its keywords appended to each source (data/tokenizers/keyword_suffix.py)."""
        extended = copy.copy(self)
        extended.suffix_length = keyword_suffix.suffix_length(self.max_keywords)
        extended.source_length = self.source_length + extended.suffix_length
        return extended

    @cached_property
    def whole_graph(self) -> np.ndarray:
        """The neighbours of every node, [N, 2, M], with which the states of all nodes are computed at once (validation, evaluation)."""
        return self.graph.table(self.manifest["settings"]["graph_degree"])

    @cached_property
    def word_vectors(self) -> WordVectors:
        """The word vectors learnt from the training texts, for the embedding scores."""
        return word_vectors.load(self.folder / tfrecords.WORD_VECTORS)

    def records(self, split: str) -> Iterator[Record]:
        """Yields the records of a split in order, with raw texts and keywords."""
        for path in self._shards(split):
            yield from map(tfrecords.parse, tfrecords.read_records(path))

    def arrays(self, split: str) -> SplitArrays:
        """Reads a split into memory."""
        columns: dict[str, list[np.ndarray]] = {}
        # The kernel that parses a block uses all cores, and outside of `Dataset.map` no graph has to be traced for a small folder.
        for block in untuned(tf.data.TFRecordDataset([str(path) for path in self._shards(split)]).batch(PARSED_AT_ONCE)):
            for name, values in self._parse(block).items():
                columns.setdefault(name, []).append(values.numpy())
        if not columns:
            raise UserError(f"{self.folder}: the {split} split is empty")
        whole = {name: np.concatenate(parts) for name, parts in columns.items()}
        if self.suffix_length:
            whole["source_ids"] = self._appended([record.source for record in self.records(split)])
        return SplitArrays(**whole)

    def _appended(self, sources: list[Text]) -> np.ndarray:
        """Appends its keywords to each source. Returns [n, S + 2] ids."""
        names = [[keyword.text for keyword in source.keywords] for source in sources]
        pieces = keyword_suffix.append([source.ids for source in sources], names, self.tokenizer, self.suffix_length)
        return self.tokenizer.framed(pieces, self.source_length)

    def _shards(self, split: str) -> list[Path]:
        if split not in self.manifest["splits"]:
            raise UserError(f"{self.folder}: no split {split!r}; there are: {', '.join(self.manifest['splits'])}")
        names = [shard["file"] for shard in self.manifest["splits"][split]["shards"]]
        tfrecords.check_files(self.folder, self.manifest, names)
        return [self.folder / name for name in names]

    def _parse(self, serialised: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parses serialised examples [n] into the columns of `SplitArrays`."""
        names = [f"{role}_{kind}" for role in ROLES for kind in ("ids", "nodes")]
        parsed = tf.io.parse_example(serialised, {name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in names})
        columns = {}
        for role in ROLES:
            length = (self.source_length if role == "source" else self.target_length) + SPECIAL_PIECES
            pieces = tf.cast(parsed[f"{role}_ids"], tf.int32)
            first, last = (tf.fill([tf.shape(serialised)[0], 1], piece) for piece in (self.tokenizer.cls_id, self.tokenizer.sep_id))
            columns[f"{role}_ids"] = tf.concat([first, pieces, last], 1).to_tensor(self.tokenizer.pad_id, shape=[None, length])
            nodes = tf.cast(parsed[f"{role}_nodes"], tf.int32)
            columns[f"{role}_nodes"] = nodes.to_tensor(UNKNOWN, shape=[None, self.max_keywords])
            if role != "negative":
                columns[f"{role}_unknown"] = tf.reduce_sum(tf.cast(nodes == UNKNOWN, tf.int32), 1)
        return columns
