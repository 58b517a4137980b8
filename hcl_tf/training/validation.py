"""The validation loss that picks the checkpoint, and what it hides: contrasts, latent dimensions in use, outputs."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import tensorflow as tf

from hcl_tf.data.pipeline import Batches, Extra, PreparedData, SplitArrays
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, System

NOISE_STEP = 2**31 - 1  # a step that training never takes: validation's noise is the same every time, and nobody else's
ACTIVE_VARIANCE = 0.01  # Burda et al. 2016: a latent dimension is active if its posterior mean varies more than this
MOST_ROWS = 64


class Validation:
    """Passes over one held-out split, in the corpus's order.

    Args:
      system: the system; `before_inference` is the caller's. seed: of the fixed noise.
      impostors: where they come from (`data.subgraph.find_impostors`). extra: `System.columns` of the split.
    """

    def __init__(
        self, system: System, data: PreparedData, arrays: SplitArrays, batch_size: int, seed: int, impostors: str = "graph",
        extra: Extra | None = None,
    ) -> None:  # fmt: skip
        self.system, self.seed = system, seed
        self.batches = Batches(data, arrays, min(batch_size, MOST_ROWS, len(arrays)), impostors=impostors, extra=extra)
        self._sums = tf.function(self._sums_of, autograph=False)
        self._examine = tf.function(lambda batch: system.examine(batch, self._noise(batch)), autograph=False)

    def loss(self, most: int = 0) -> dict[str, float]:
        """Means over the split, or over its first `most` examples in whole batches, of every loss and figure.

        `loss` among them is the objective after all ramps.
        """
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        pers: dict[str, str] = {}
        for batch in self._first(most):
            sums, counted = self._sums(batch, self.system.phase)
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value.value)
                pers[name] = self._per[name]
            for name, value in counted.items():
                counts[name] = counts.get(name, 0.0) + float(value)
        means = {name: total / counts[pers[name]] if counts[pers[name]] else 0.0 for name, total in totals.items()}
        means["loss"] = sum(float(weight) * means[name] for name, weight in self.system.weights_of(None).items())
        return means

    def examine(self, most: int = 0) -> dict[str, np.ndarray]:
        """Name -> one figure an example (`System.examine`), of the first `most` examples in whole batches, or of all."""
        found: dict[str, list[np.ndarray]] = {}
        for batch in self._first(most):
            real = batch["example_mask"].numpy() > 0
            for name, values in self._examine(batch).items():
                found.setdefault(name, []).append(values.numpy()[real])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def rows(self, numbers: np.ndarray) -> Iterator[Batch]:
        """Batches of chosen examples, in the shape of all others."""
        size = self.batches.batch_size
        width = self.batches.data.source_length + 2
        for start in range(0, len(numbers), size):
            part = np.full(size, -1)
            part[: len(numbers[start : start + size])] = numbers[start : start + size]
            yield {name: tf.constant(value) for name, value in self.batches.make(part, width, 0, 0).items()}

    def _first(self, most: int) -> Iterator[Batch]:
        """The split's batches, or as few of them as hold `most` examples."""
        rows = most or len(self.batches.arrays)
        return islice(iter(self.batches.dataset(None)), -(-rows // self.batches.batch_size))

    def _noise(self, batch: Batch) -> Noise:
        return Noise(self.seed, NOISE_STEP, batch["example_rows"])

    def _sums_of(self, batch: Batch, phase: int):
        del phase  # no tensor: each has a trace of its own
        sums = self.system.losses(batch, tf.constant(NOISE_STEP), self._noise(batch), training=False)
        self._per = {name: value.per for name, value in sums.items()}
        return {name: value._replace(per="") for name, value in sums.items()}, self.system.counts(batch)


def summarise(figures: dict[str, np.ndarray]) -> dict[str, float]:
    """Means of an examination over the examples that each figure applies to, and how many latent dimensions are active.

    The posterior's mean moves with the source even where the target adds nothing, because the prior's does too; so
    `active_units_beyond_prior` counts dimensions in which posterior and prior means differ from example to example.
    """
    means = {name: float(np.nanmean(values)) for name, values in figures.items() if values.ndim == 1 and not np.isnan(values).all()}
    for name, values in (("active_units", "posterior_mean"), ("active_units_beyond_prior", "posterior_shift")):
        if values in figures:
            means[name] = int((figures[values].var(0) > ACTIVE_VARIANCE).sum())
    return means
