"""Measures the validation loss, which picks the checkpoint, and diagnostics of single examples, which show what a mean loss hides."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batches, Columns
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, Sum, System
from hcl_tf.progress import track
from hcl_tf.training.diagnostics import means_of

NOISE_STEP = 2**31 - 1  # training never takes this step, so no step has validation's noise, which is always the same
MOST_ROWS = 64


class Validation:
    """Makes passes over one split, in the corpus's order and under fixed noise.

    Args:
      system: the caller calls its `before_inference` before a pass. batches: those of the split. seed: that of the fixed noise.
    """

    def __init__(self, system: System, batches: Batches, seed: int) -> None:
        self.system, self.batches, self.seed = system, batches, seed
        self._sums = tf.function(self.sums_of, autograph=False)
        self._diagnose = tf.function(self.diagnostics_of, autograph=False)
        self.per: dict[str, str] = {}  # loss -> its count (`Sum.per`); names are no tensors, so no TensorFlow function can return them

    @classmethod
    def of_pairs(cls, system: System, data: PreparedData, arrays: SplitArrays, further: Sequence[Columns] = ()) -> "Validation":
        """Makes passes over a split of prepared data, in batches that cost no more memory than those of training.

        Args:
          arrays: the split. further: more columns of its batches, which the system asks for (`System.columns`).
        """
        size = min(system.settings.batch_size, MOST_ROWS, len(arrays))
        batches = pair_batches(data, arrays, size, impostors=system.impostors, further=further)
        return cls(system, batches, system.settings.seed)

    def loss(self, most: int = 0) -> dict[str, float]:
        """Computes the means of all losses over the split, or over as many whole batches as hold its first `most` examples.

        Returns:
          Loss -> its mean; and `loss`, the objective with its weights after all ramps.
        """
        parts = []
        for batch in self._first(most):
            sums, counts = self._sums(batch, self.system.phase)
            parts.append(({name: float(s.value) for name, s in sums.items()}, {name: float(n) for name, n in counts.items()}))
        return means_of(parts, self.per, self.final_weights())

    def final_weights(self) -> dict[str, float]:
        """Returns the weight of each term of the objective after all ramps."""
        return {name: float(weight) for name, weight in self.system.weights_of(None).items()}

    def diagnose(self, most: int = 0) -> dict[str, np.ndarray]:
        """Computes `System.diagnose` of all examples, or of whole batches that hold the first `most`. Returns name -> [n] or [n, Z]."""
        found: dict[str, list[np.ndarray]] = {}
        for batch in self._first(most):
            real = batch["example_mask"].numpy() > 0
            for name, values in self._diagnose(batch).items():
                found.setdefault(name, []).append(values.numpy()[real])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def rows(self, numbers: np.ndarray) -> Iterator[Batch]:
        """Yields batches of chosen examples, all of the same size: the last one is filled up with rows that do not count."""
        size = min(self.batches.batch_size, len(numbers))
        for start in range(0, len(numbers), size):
            part = np.full(size, -1)
            part[: len(numbers[start : start + size])] = numbers[start : start + size]
            yield {name: tf.constant(value) for name, value in self.batches.make(part, 0, 0).items()}

    def _first(self, most: int) -> Iterator[Batch]:
        """Returns the split's batches, or as few of them as hold `most` examples (0: all)."""
        count = -(-(most or self.batches.count) // self.batches.batch_size)
        yield from track(islice(iter(self.batches.dataset(None)), count), "validating", min(count, len(self.batches)), " batches")

    def diagnostics_of(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Computes `System.diagnose` of one batch under the fixed noise."""
        return self.system.diagnose(batch, self.noise(batch))

    def noise(self, batch: Batch) -> Noise:
        """The fixed noise of a batch."""
        return Noise(self.seed, NOISE_STEP, batch["example_rows"])

    def sums_of(self, batch: Batch, phase: int) -> tuple[dict[str, Sum], dict[str, tf.Tensor]]:
        """Computes the sums of all losses over one batch under the fixed noise, and the counts that they are divided by; sets `per`."""
        del phase  # a Python number, so TensorFlow traces this function anew for each phase
        sums = self.system.losses(batch, tf.constant(NOISE_STEP), self.noise(batch), training=False)
        self.per = {name: value.per for name, value in sums.items()}
        return {name: value._replace(per="") for name, value in sums.items()}, self.system.counts(batch)
