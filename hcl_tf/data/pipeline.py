"""A prepared folder to batches: tf.data over the TFRecords, in an order that is a function of (seed, epoch).

A split is read once, checked against the manifest, and kept as padded arrays (Douban's 218,039 training examples take
130 MB). Batches are then gathered by position, so the data position of a run is just (epoch, batch): nothing else has to
be stored to go on from it.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.data import appended, graph, tfrecords, tokenization, word_vectors
from hcl_tf.data.graph import UNKNOWN, KeywordGraph
from hcl_tf.data.subgraph import CAPS, SubgraphSampler, find_impostors
from hcl_tf.data.tfrecords import ROLES, Record, Text
from hcl_tf.data.word_vectors import WordVectors
from hcl_tf.errors import UserError

SPECIAL_PIECES = 2  # [CLS] before and [SEP] after every text
PARSED_AT_ONCE = 1024
EXTRA = 1  # tells the random numbers of extra columns from those of the sub-graph
Extra = Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]]


@dataclass(frozen=True)
class SplitArrays:
    """A split in memory; n examples, S and T the task's lengths, K keywords a text.

    Attributes:
      source_ids: [n, S + 2] int32, `[CLS] pieces [SEP]` and padding; target_ids, negative_ids: [n, T + 2] likewise.
      source_nodes, target_nodes, negative_nodes: [n, K] int32 node numbers, -1 for none or unknown.
      source_unknown, target_unknown: [n] int32, how many of the text's keywords the graph does not have.
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


class PreparedData:
    """A prepared folder, checked as it is read. Raises `UserError` naming the damaged file (and record).

    Attributes:
      source_length: pieces of a source without special ones. room: how many of them are for appended keywords (`with_keywords`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = tfrecords.read_manifest(self.folder)
        tfrecords.check_files(self.folder, self.manifest, list(self.manifest["files"]))
        self.graph: KeywordGraph = graph.load(self.folder / tfrecords.GRAPH)
        self.tokenizer = tokenization.from_file(self.folder / tfrecords.VOCABULARY)
        self.source_length = self.manifest["task"]["source_length"]
        self.target_length = self.manifest["target_length"]
        self.max_keywords = self.manifest["settings"]["max_keywords"]
        self.room = 0

    def with_keywords(self) -> "PreparedData":
        """The same data, read with each source's keywords appended to it (data/appended.py). All else is equal."""
        view = copy.copy(self)
        view.room = appended.room(self.max_keywords)
        view.source_length = self.source_length + view.room
        return view

    @cached_property
    def whole_graph(self) -> np.ndarray:
        """[N, 2, M] the neighbours of every node, for computing all states at once (validation, evaluation)."""
        return self.graph.table(self.manifest["settings"]["graph_degree"])

    @cached_property
    def word_vectors(self) -> WordVectors:
        """The vectors learnt from the training texts, for the embedding scores."""
        return word_vectors.load(self.folder / tfrecords.WORD_VECTORS)

    def records(self, split: str) -> Iterator[Record]:
        """The split's full records, in order: raw texts and keywords, for evaluation and other tokenisers."""
        for path in self._shards(split):
            yield from map(tfrecords.parse, tfrecords.read_records(path))

    def arrays(self, split: str) -> SplitArrays:
        """Reads a split into memory."""
        columns: dict[str, list[np.ndarray]] = {}
        dataset = tf.data.TFRecordDataset([str(path) for path in self._shards(split)]).batch(PARSED_AT_ONCE)
        for parsed in dataset.map(self._parse, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator():
            for name, values in parsed.items():
                columns.setdefault(name, []).append(values)
        if not columns:
            raise UserError(f"{self.folder}: the {split} split is empty")
        whole = {name: np.concatenate(parts) for name, parts in columns.items()}
        if self.room:
            whole["source_ids"] = self._appended([record.source for record in self.records(split)])
        return SplitArrays(**whole)

    def _appended(self, sources: list[Text]) -> np.ndarray:
        """[n, S + 2], the sources with their keywords."""
        names = [[keyword.text for keyword in source.keywords] for source in sources]
        t = self.tokenizer
        ids = np.full((len(sources), self.source_length + SPECIAL_PIECES), t.pad_id, np.int32)
        for row, pieces in zip(ids, appended.append([source.ids for source in sources], names, t, self.room), strict=True):
            row[: len(pieces) + SPECIAL_PIECES] = [t.cls_id, *pieces, t.sep_id]
        return ids

    def _shards(self, split: str) -> list[Path]:
        if split not in self.manifest["splits"]:
            raise UserError(f"{self.folder}: no split {split!r}; there are: {', '.join(self.manifest['splits'])}")
        names = [shard["file"] for shard in self.manifest["splits"][split]["shards"]]
        tfrecords.check_files(self.folder, self.manifest, names)
        return [self.folder / name for name in names]

    def _parse(self, serialised: tf.Tensor) -> dict[str, tf.Tensor]:
        """[n] serialised examples -> the columns of `SplitArrays`."""
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


@dataclass(frozen=True)
class Batches:
    """The batches of a split, epoch by epoch.

    Attributes:
      data: the folder; arrays: its split in memory.
      batch_size: rows of every batch; a last, incomplete one is filled up with rows whose `example_mask` is 0.
      seed: with the epoch, decides order and sub-graphs.
      sampler: draws a sub-graph a batch; None: node numbers stay those of the whole graph.
      buckets: source lengths (pieces without special ones) that a batch is padded to, besides the task's: shorter texts
        then cost less, at one compiled shape each. Examples meet only others of their bucket.
      impostors: where they come from without a sampler (`by` of `find_impostors`).
      extra: example numbers [B] and a random generator of (seed, epoch, batch) -> more columns of the batch, such as cached encoder
        states or drawn pairs.
    """

    data: PreparedData
    arrays: SplitArrays
    batch_size: int
    seed: int = 1
    sampler: SubgraphSampler | None = None
    buckets: tuple[int, ...] = ()
    extra: Extra | None = None
    impostors: str = "graph"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"--batch_size={self.batch_size}: at least 1 is expected")
        if self.sampler:
            self.sampler.check(self.batch_size, self.data.max_keywords)
        shapes = sorted({length for length in self.buckets if 0 < length < self.data.source_length} | {self.data.source_length})
        object.__setattr__(self, "_widths", np.array(shapes) + SPECIAL_PIECES)
        ends = self.arrays.source_ids[:, ::-1] != self.data.tokenizer.pad_id  # a start token may look like padding
        lengths = self.arrays.source_ids.shape[1] - ends.argmax(1)
        object.__setattr__(self, "_bucket", np.searchsorted(self._widths, lengths))

    def plan(self, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Which examples make up each batch of an epoch.

        Args:
          epoch: shuffled as a function of (seed, epoch); None: in the corpus's order.

        Returns:
          rows: [batches, batch_size] example numbers, -1 where a batch is filled up.
          widths: [batches] the padded source length of each batch, special pieces included.
        """
        count = len(self.arrays)
        order = np.arange(count) if epoch is None else np.random.default_rng([self.seed, epoch]).permutation(count)
        rows, widths, due = [], [], []
        for bucket, width in enumerate(self._widths):
            places = np.flatnonzero(self._bucket[order] == bucket)  # when, in this epoch's order, each of its examples comes
            batches = -(-len(places) // self.batch_size)
            filled = np.full(batches * self.batch_size, -1)
            filled[: len(places)] = order[places]
            rows.append(filled.reshape(batches, self.batch_size))
            widths.append(np.full(batches, width))
            last = np.minimum(np.arange(1, batches + 1) * self.batch_size, len(places)) - 1
            due.append(places[last])  # a batch is due when its last example comes
        sequence = np.argsort(np.concatenate(due), kind="stable")
        return np.concatenate(rows)[sequence], np.concatenate(widths)[sequence]

    def batches_an_epoch(self) -> int:
        """How many batches each epoch has (bucket sizes, and so this, do not depend on the order)."""
        return len(self.plan(None)[0])

    def make(self, rows: np.ndarray, width: int, epoch: int, number: int) -> dict[str, np.ndarray]:
        """One batch, B rows: a function of its arguments and the seed, nothing else.

        Returns:
          source_ids: [B, width]; target_ids, negative_ids: [B, T + 2].
          example_rows: [B] each example's number in the split; example_mask: [B] float32, 0 for rows that fill up.
          source_nodes, target_nodes: [B, K]; impostor_nodes: [B, K, F]; impostor_routes: [B].
          source_unknown, target_unknown: [B] how many keywords are no nodes of the graph.
          With a sampler also graph_nodes, graph_neighbours and graph_caps (`SubgraphSampler.sample`), to whose places the
          nodes then refer; without, negative_nodes [B, K]. With `extra` its columns too.
        """
        filled = rows < 0
        rows = np.where(filled, rows[0], rows)  # a real text keeps attention over a row that does not count well defined
        arrays = self.arrays
        nodes = [
            np.where(filled[:, None], UNKNOWN, column[rows]) for column in (arrays.source_nodes, arrays.target_nodes, arrays.negative_nodes)
        ]
        batch = {
            "source_ids": arrays.source_ids[rows, :width],
            "target_ids": arrays.target_ids[rows],
            "negative_ids": arrays.negative_ids[rows],
            "example_rows": rows.astype(np.int32),
            "example_mask": (~filled).astype(np.float32),
            "source_unknown": np.where(filled, 0, arrays.source_unknown[rows]),
            "target_unknown": np.where(filled, 0, arrays.target_unknown[rows]),
        }
        if self.extra:
            batch |= self.extra(rows, np.random.default_rng([self.seed, epoch, number, EXTRA]))
        if self.sampler:
            return batch | self.sampler.sample(*nodes, np.random.default_rng([self.seed, epoch, number]))
        impostors, routes = find_impostors(self.data.whole_graph, *nodes, self.impostors)
        named = {f"{role}_nodes": places for role, places in zip(ROLES, nodes, strict=True)}
        return batch | named | {"impostor_nodes": impostors, "impostor_routes": routes}

    def dataset(self, epoch: int | None, start: int = 0) -> tf.data.Dataset:
        """The batches of one epoch from number `start` on, as dictionaries of tensors (see `make`).

        Continuing at (epoch, start) gives exactly the batches that an uninterrupted run would see.
        """
        rows, widths = self.plan(epoch)
        example = self.make(rows[0], int(widths[0]), epoch or 0, 0)
        names = list(example)

        def load(number: np.ndarray) -> list[np.ndarray]:
            made = self.make(rows[number], int(widths[number]), epoch or 0, int(number))
            return [made[name] for name in names]

        def tensors(number: tf.Tensor) -> dict[str, tf.Tensor]:
            loaded = tf.numpy_function(load, [number], [tf.as_dtype(example[name].dtype) for name in names], stateful=False)
            batch = dict(zip(names, loaded, strict=True))
            for name, tensor in batch.items():  # set_shape narrows in place: a shape that varies must never be set
                varies = name == "source_ids" and len(self._widths) > 1
                tensor.set_shape([self.batch_size, None] if varies else example[name].shape)
            return batch

        return tf.data.Dataset.range(start, len(rows)).map(tensors, num_parallel_calls=2, deterministic=True).prefetch(2)


def describe_caps(caps: np.ndarray) -> str:
    """How often the sampler's caps bound, from the summed `graph_caps` of some batches."""
    parts = [f"{CAPS[i]} {caps[i]:,} of {caps[i + 1]:,} ({caps[i] / max(caps[i + 1], 1):.1%})" for i in range(0, len(CAPS), 2)]
    return "sub-graph caps: " + ", ".join(parts)
