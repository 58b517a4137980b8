"""Sources to texts: the search of a system, batch by batch, compiled once."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.layers.noise import Noise
from hcl_tf.settings import Settings

# All that generation may see of an example: nothing of its reference or negative.
SOURCE_COLUMNS = ("source_ids", "source_nodes", "source_unknown", "example_rows", "example_mask")


class Generating(Protocol):
    """What a system has to offer here (models/base.py): it finds texts for sources."""

    settings: Settings

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """[B, hypotheses, T] vocabulary ids, best first, and [B, hypotheses] scores; `noise`: sample what can be sampled."""


class Generator:
    """A search over batches of one shape.

    Args:
      system: at the weights to use, `before_inference` done. compiled: use XLA, worth it from some hundred texts on.
      sampled: draw z from the prior instead of taking its mean.
    """

    def __init__(self, system: Generating, tokenizer: Tokenizer, compiled: bool = False, sampled: bool = False) -> None:
        self.tokenizer, self.traces = tokenizer, 0

        def run(batch: Batch, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1  # counts in Python, while tracing
            noise = Noise(system.settings.seed, draw, batch["example_rows"]) if sampled else None
            return system.generate(batch, noise)

        self._run = tf.function(run, autograph=False, jit_compile=compiled)

    def ids(self, batch: Batch, draw: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """[B, hypotheses, T] vocabulary ids and [B, hypotheses] scores, best first. `draw` numbers the samples of z."""
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
            rows = zip(ids[real, 0], np.asarray(batch["source_ids"])[real], islice(raw, int(real.sum())), strict=True)
            found += [text_of(self.tokenizer, *row) for row in rows]
        return found

    def beams(self, batch: Batch, sources: Sequence[str], draw: int = 0) -> list[list[tuple[str, float]]]:
        """Every hypothesis of each real row, best first: its text and its score. `sources`: see `texts`."""
        ids, scores = self.ids(batch, draw)
        rows = zip(ids, scores, np.asarray(batch["source_ids"]), sources, strict=False)  # rows that fill up have no source
        return [
            [(text_of(self.tokenizer, one, pieces, source), float(s)) for one, s in zip(own, of, strict=True)]
            for own, of, pieces, source in rows
        ]


def text_of(tokenizer: Tokenizer, ids: np.ndarray, source_ids: np.ndarray, source: str) -> str:
    """The text of vocabulary ids [T]; an id of V or more stands for an unknown word of the source (`System.output_ids`).

    Args:
      source_ids: [S] the source's pieces; source: its raw text.
    """
    vocabulary = len(tokenizer)
    if ids.max() < vocabulary:
        return tokenizer.decode(ids)
    pieces = [int(i) for i in source_ids if i != tokenizer.pad_id][1:-1]  # without [CLS] and [SEP]
    words = tokenizer.unknown_words(source, pieces)
    return tokenizer.decode(ids, {vocabulary + 1 + place: word for place, word in words.items()})
