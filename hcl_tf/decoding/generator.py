"""Sources to texts: beam search of a system, batch by batch, compiled once."""

from collections.abc import Iterable, Sequence
from itertools import islice

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

    def texts(self, batches: Iterable[Batch], sources: Iterable[str], draw: int = 0) -> list[str]:
        """The best text of each real row of the batches.

        Args:
          sources: the raw text of each, from which come copied words that the vocabulary lacks.
        """
        found, raw = [], iter(sources)
        for batch in batches:
            ids, _ = self.ids(batch, draw)
            real = np.asarray(batch["example_mask"]) > 0
            found += map(self._text, ids[real, 0], np.asarray(batch["source_ids"])[real], list(islice(raw, real.sum())))
        return found

    def beams(self, batch: Batch, sources: Sequence[str], draw: int = 0) -> list[list[tuple[str, float]]]:
        """Every hypothesis of each real row, best first: its text and its score. `sources`: see `texts`."""
        ids, scores = self.ids(batch, draw)
        rows = zip(ids, scores, np.asarray(batch["source_ids"]), sources, strict=False)  # rows that fill up have no source
        return [[(self._text(one, pieces, source), float(s)) for one, s in zip(own, of, strict=True)] for own, of, pieces, source in rows]

    def _text(self, ids: np.ndarray, source_ids: np.ndarray, source: str) -> str:
        vocabulary = len(self.tokenizer)
        if ids.max() < vocabulary:
            return self.tokenizer.decode(ids)
        pieces = [int(i) for i in source_ids if i != self.tokenizer.pad_id][1:-1]  # without [CLS] and [SEP]
        words = self.tokenizer.unknown_words(source, pieces)
        return self.tokenizer.decode(ids, {vocabulary + 1 + place: word for place, word in words.items()})
