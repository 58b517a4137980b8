"""Sources to texts: beam search of a system, batch by batch, compiled once."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from hcl_tf.data.tokenization import Tokenizer
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, System

# All that generation may see of an example: nothing of its reference or negative.
SOURCE_COLUMNS = ("source_ids", "source_nodes", "source_unknown", "example_rows", "example_mask")


class Generator:
    """Beam search over batches of one shape.

    Args:
      system: at the weights to use, `before_inference` done. compiled: use XLA, worth it from some hundred texts on.
      sampled: draw z from the prior instead of taking its mean.
    """

    def __init__(self, system: System, tokenizer: Tokenizer, compiled: bool = False, sampled: bool = False) -> None:
        self.tokenizer, self.traces = tokenizer, 0

        def run(batch: Batch, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1  # counts in Python, while tracing
            noise = Noise(system.settings.seed, draw, batch["example_rows"]) if sampled else None
            return system.generate(batch, noise)

        self._run = tf.function(run, autograph=False, jit_compile=compiled)

    def ids(self, batch: Batch, draw: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """[B, beams, T] vocabulary ids and [B, beams] scores, best first. `draw` numbers the samples of z."""
        ids, scores = self._run({name: batch[name] for name in SOURCE_COLUMNS}, tf.constant(draw, tf.int32))
        return ids.numpy(), scores.numpy()

    def texts(self, batches: Iterable[Batch], draw: int = 0) -> list[str]:
        """The best text of each real row of the batches."""
        found = []
        for batch in batches:
            ids, _ = self.ids(batch, draw)
            found += [self.tokenizer.decode(row[0]) for row, real in zip(ids, np.asarray(batch["example_mask"]), strict=True) if real]
        return found
