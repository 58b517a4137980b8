"""The batches of a split: which examples, in an order that is a function of (seed, epoch).

What a batch holds of its examples, `Columns` say; nothing here knows what an example is. NumPy alone makes batches, so a run goes on
from (epoch, batch) without anything stored, also where TensorFlow is missing (portable/); only `Batches.dataset` needs it, which turns
them into tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from hcl_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf


Batch: TypeAlias = "dict[str, tf.Tensor]"


class Place(NamedTuple):
    """Which batch of a run: all that its random numbers may depend on."""

    seed: int
    epoch: int
    number: int

    def random(self, stream: int = 0) -> np.random.Generator:
        """Random numbers for this batch; those of different streams have nothing to do with each other."""
        return np.random.default_rng([*self, stream] if stream else list(self))


# Example numbers [B], which of the rows fill up [B] bool, and the batch's place -> columns of the batch, arrays [B, ...] by name (or, where
# the name begins with `graph_`, arrays that belong to the batch as a whole).
Columns = Callable[[np.ndarray, np.ndarray, Place], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Batches:
    """The batches of a split, epoch by epoch.

    Attributes:
      count: examples of the split.
      batch_size: rows of every batch; a last, incomplete one is filled up with rows whose `example_mask` is 0.
      columns: what a batch holds besides `example_rows` and `example_mask`.
      seed: with the epoch, decides the order; with the batch's number too, all that is drawn for it.
    """

    count: int
    batch_size: int
    columns: tuple[Columns, ...]
    seed: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"--batch_size={self.batch_size}: at least 1 is expected")

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.count // self.batch_size)

    def plan(self, epoch: int | None) -> np.ndarray:
        """[batches, batch_size] example numbers, -1 where a batch is filled up.

        Args:
          epoch: shuffled as a function of (seed, epoch); None: in the corpus's order.
        """
        order = np.arange(self.count) if epoch is None else np.random.default_rng([self.seed, epoch]).permutation(self.count)
        rows = np.full(len(self) * self.batch_size, -1)
        rows[: self.count] = order
        return rows.reshape(-1, self.batch_size)

    def make(self, rows: np.ndarray, epoch: int, number: int) -> dict[str, np.ndarray]:
        """One batch, B rows: a function of its arguments and the seed, nothing else.

        Returns:
          example_rows: [B] each example's number in the split; example_mask: [B] float32, 0 for rows that fill up; and what `columns` give.
        """
        filled = rows < 0
        rows = np.where(filled, rows[0], rows)  # a real text keeps attention over a row that does not count well defined
        batch = {"example_rows": rows.astype(np.int32), "example_mask": (~filled).astype(np.float32)}
        place = Place(self.seed, epoch, number)
        for columns in self.columns:
            batch |= columns(rows, filled, place)
        return batch

    def dataset(self, epoch: int | None, start: int = 0) -> "tf.data.Dataset":
        """The batches of one epoch from number `start` on, as dictionaries of tensors (see `make`).

        Continuing at (epoch, start) gives exactly the batches that an uninterrupted run would see.
        """
        import tensorflow as tf

        rows = self.plan(epoch)
        example = self.make(rows[0], epoch or 0, 0)
        names = list(example)

        def load(number: np.ndarray) -> list[np.ndarray]:
            made = self.make(rows[number], epoch or 0, int(number))
            return [made[name] for name in names]

        def tensors(number: tf.Tensor) -> dict[str, tf.Tensor]:
            loaded = tf.numpy_function(load, [number], [tf.as_dtype(example[name].dtype) for name in names], stateful=False)
            batch = dict(zip(names, loaded, strict=True))
            for name, tensor in batch.items():
                tensor.set_shape(example[name].shape)
            return batch

        return tf.data.Dataset.range(start, len(rows)).map(tensors, num_parallel_calls=2, deterministic=True).prefetch(2)
