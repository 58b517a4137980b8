"""Divides a split into batches, in an order that depends on (seed, epoch) alone.

What a batch holds of its examples is computed by `Columns`; nothing here knows what an example is. A run goes on from (epoch, batch)
without anything stored. Batches are made with NumPy, so that they can be made where TensorFlow is missing (portable/); only
`Batches.dataset` needs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hcl_tf.data.store.untuned import untuned
from hcl_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf


Batch = dict[str, Any]  # name -> tf.Tensor, which is not imported here


class Place(NamedTuple):
    """The place of a batch in a run, which is all that the batch's random numbers may depend on."""

    seed: int
    epoch: int
    number: int

    def random(self, stream: int = 0) -> np.random.Generator:
        """Returns a generator for this batch; those of different streams are independent of each other."""
        return np.random.default_rng([*self, stream] if stream else list(self))


# Computes columns of a batch by name, arrays [B, ...], from the numbers [B] of its examples, from which of its rows only fill it up, [B]
# bool, and from its place. Arrays whose name begins with `graph_` belong to the batch as a whole and may have any shape.
Columns = Callable[[np.ndarray, np.ndarray, Place], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Batches:
    """The batches of a split, epoch by epoch.

    Attributes:
      count: examples of the split.
      batch_size: B, rows of every batch; a last, incomplete one is filled up with rows whose `example_mask` is 0.
      columns: compute what a batch holds besides `example_rows` and `example_mask`.
      seed: decides, with the epoch, the order and, with the batch's number too, all that is drawn for a batch.

    Raises:
      UserError: the batch size is below 1.
    """

    count: int
    batch_size: int
    columns: tuple[Columns, ...]
    seed: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"--batch_size={self.batch_size}: at least 1 is expected")

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return -(-self.count // self.batch_size)

    def plan(self, epoch: int | None) -> np.ndarray:
        """Returns the example numbers of each batch, [batches, B], -1 where a batch is filled up.

        Args:
          epoch: decides the order, together with the seed; None: the corpus's order.
        """
        order = np.arange(self.count) if epoch is None else np.random.default_rng([self.seed, epoch]).permutation(self.count)
        rows = np.full(len(self) * self.batch_size, -1)
        rows[: self.count] = order
        return rows.reshape(-1, self.batch_size)

    def make(self, rows: np.ndarray, epoch: int, number: int) -> dict[str, np.ndarray]:
        """Makes one batch. It depends on the arguments and the seed alone.

        Args:
          rows: [B] example numbers, -1 where the batch is filled up (`plan`). epoch, number: of the batch.

        Returns:
          example_rows: [B] each example's number in the split; example_mask: [B] float32, 0 for rows that fill up; and all `columns`.
        """
        filled = rows < 0
        rows = np.where(filled, rows[0], rows)  # a real text keeps attention over a row that does not count well defined
        batch = {"example_rows": rows.astype(np.int32), "example_mask": (~filled).astype(np.float32)}
        place = Place(self.seed, epoch, number)
        for columns in self.columns:
            batch |= columns(rows, filled, place)
        return batch

    def dataset(self, epoch: int | None, start: int = 0) -> "tf.data.Dataset":
        """Returns the batches of one epoch from number `start` on, as dictionaries of tensors (`make`).

        They are exactly those that an uninterrupted run would see.
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

        return untuned(tf.data.Dataset.range(start, len(rows)).map(tensors, num_parallel_calls=2, deterministic=True).prefetch(2))
