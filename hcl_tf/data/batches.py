"""The batches of a split: which examples, in an order that is a function of (seed, epoch), with the sub-graph of each.

NumPy alone makes them, so a run goes on from (epoch, batch) without anything stored, also where TensorFlow is missing (portable/); only
`Batches.dataset` needs it, which turns them into tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hcl_tf.data.formats import ROLES
from hcl_tf.data.graph import UNKNOWN
from hcl_tf.data.subgraph import CAPS, SubgraphSampler, find_impostors
from hcl_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

    from hcl_tf.data.pipeline import PreparedData

SPECIAL_PIECES = 2  # [CLS] before and [SEP] after every text
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

    data: "PreparedData"
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

    def dataset(self, epoch: int | None, start: int = 0) -> "tf.data.Dataset":
        """The batches of one epoch from number `start` on, as dictionaries of tensors (see `make`).

        Continuing at (epoch, start) gives exactly the batches that an uninterrupted run would see.
        """
        import tensorflow as tf

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
