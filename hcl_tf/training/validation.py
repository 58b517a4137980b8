"""The validation loss that picks the checkpoint, and what it hides: contrasts, latent dimensions in use, outputs."""

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
from hcl_tf.training.diagnostics import means_of

NOISE_STEP = 2**31 - 1  # a step that training never takes: validation's noise is the same every time, and nobody else's
MOST_ROWS = 64


class Validation:
    """Passes over one held-out split, in the corpus's order.

    Args:
      system: the system; `before_inference` is the caller's. batches: of the split. seed: of the fixed noise.
    """

    def __init__(self, system: System, batches: Batches, seed: int) -> None:
        self.system, self.batches, self.seed = system, batches, seed
        self._sums = tf.function(self.sums_of, autograph=False)
        self._diagnose = tf.function(self.diagnostics_of, autograph=False)
        self.per: dict[str, str] = {}  # loss -> its count; names are no tensors, so they stay outside of the graph

    @classmethod
    def of_pairs(cls, system: System, data: PreparedData, arrays: SplitArrays, further: Sequence[Columns] = ()) -> "Validation":
        """Over a split of prepared data, in batches that cost no more memory than those of training.

        Args:
          further: more columns, that the system asks for (`System.columns`).
        """
        size = min(system.settings.batch_size, MOST_ROWS, len(arrays))
        batches = pair_batches(data, arrays, size, impostors=system.impostors, further=further)
        return cls(system, batches, system.settings.seed)

    def loss(self, most: int = 0) -> dict[str, float]:
        """Means over the split, or over its first `most` examples in whole batches, of every sum that the system reports.

        `loss` among them is the objective after all ramps.
        """
        parts = []
        for batch in self._first(most):
            sums, counts = self._sums(batch, self.system.phase)
            parts.append(({name: float(s.value) for name, s in sums.items()}, {name: float(n) for name, n in counts.items()}))
        return means_of(parts, self.per, self.final_weights())

    def final_weights(self) -> dict[str, float]:
        """Weight of each term of the objective after all ramps."""
        return {name: float(weight) for name, weight in self.system.weights_of(None).items()}

    def diagnose(self, most: int = 0) -> dict[str, np.ndarray]:
        """Name -> one value an example (`System.diagnose`), of the first `most` examples in whole batches, or of all."""
        found: dict[str, list[np.ndarray]] = {}
        for batch in self._first(most):
            real = batch["example_mask"].numpy() > 0
            for name, values in self._diagnose(batch).items():
                found.setdefault(name, []).append(values.numpy()[real])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def rows(self, numbers: np.ndarray) -> Iterator[Batch]:
        """Batches of chosen examples, in the shape of all others."""
        size = self.batches.batch_size
        for start in range(0, len(numbers), size):
            part = np.full(size, -1)
            part[: len(numbers[start : start + size])] = numbers[start : start + size]
            yield {name: tf.constant(value) for name, value in self.batches.make(part, 0, 0).items()}

    def _first(self, most: int) -> Iterator[Batch]:
        """The split's batches, or as few of them as hold `most` examples."""
        rows = most or self.batches.count
        return islice(iter(self.batches.dataset(None)), -(-rows // self.batches.batch_size))

    def diagnostics_of(self, batch: Batch) -> dict[str, tf.Tensor]:
        """`System.diagnose` of one batch under the fixed noise."""
        return self.system.diagnose(batch, self._noise(batch))

    def _noise(self, batch: Batch) -> Noise:
        return Noise(self.seed, NOISE_STEP, batch["example_rows"])

    def sums_of(self, batch: Batch, phase: int) -> tuple[dict[str, Sum], dict[str, tf.Tensor]]:
        """Sums of all losses over one batch, under the fixed noise, and the counts that they are taken over (`per`)."""
        del phase  # no tensor: each has a trace of its own
        sums = self.system.losses(batch, tf.constant(NOISE_STEP), self._noise(batch), training=False)
        self.per = {name: value.per for name, value in sums.items()}
        return {name: value._replace(per="") for name, value in sums.items()}, self.system.counts(batch)
