"""Generates texts for sources, and scores given ones: runs a system batch by batch, traced once for each shape."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.layers.latent import Gaussian
from hcl_tf.layers.noise import Noise
from hcl_tf.settings import Settings

# The columns of an example that generation may see; none is of its reference or negative.
SOURCE_COLUMNS = ("source_ids", "source_nodes", "source_unknown", "example_rows", "example_mask")


class Generating(Protocol):
    """The part of a system (models/base.py) that generation needs."""

    settings: Settings

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds texts for sources. Returns vocabulary ids [B, hypotheses, T], best first, and scores [B, hypotheses].

        Args:
          noise: with which z is drawn; None: no sampling.
        """

    def source_prior(self, batch: Batch) -> Gaussian | None:
        """Computes the prior of z [B, Z]; None: there is no z."""

    def target_nll(self, batch: Batch) -> tf.Tensor:
        """Computes the NLL [B] of each target, nats."""


class Generator:
    """Generates texts with a system.

    Args:
      system: with the weights to use, `before_inference` done. compiled: whether XLA compiles the search, which pays from some hundred
        texts on. sampled: whether z is drawn from the prior; else it is the prior's mean.
    """

    def __init__(self, system: Generating, tokenizer: Tokenizer, compiled: bool = False, sampled: bool = False) -> None:
        self.tokenizer = tokenizer

        def run(batch: Batch, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            noise = Noise(system.settings.seed, draw, batch["example_rows"]) if sampled else None
            return system.generate(batch, noise)

        def prior_parameters(batch: Batch) -> tuple[tf.Tensor, tf.Tensor] | None:
            prior = system.source_prior(batch)
            return None if prior is None else (prior.mean(), prior.stddev())

        def nll(batch: Batch) -> tf.Tensor:
            return system.target_nll(batch)

        self._run = tf.function(run, autograph=False, jit_compile=compiled)
        self._prior = tf.function(prior_parameters, autograph=False)
        self._nll = tf.function(nll, autograph=False)

    def ids(self, batch: Batch, draw: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Searches one batch. Returns vocabulary ids [B, hypotheses, T], best first, and scores [B, hypotheses].

        Args:
          draw: the number of the sample, on which z depends if it is drawn.
        """
        ids, scores = self._run({name: batch[name] for name in SOURCE_COLUMNS}, tf.constant(draw, tf.int32))
        return ids.numpy(), scores.numpy()

    def texts(self, batches: Iterable[Batch], sources: Iterable[str], draw: int = 0) -> list[str]:
        """Generates the best text for each real row of the batches.

        Args:
          sources: the texts in their normal form, from which words are copied that the vocabulary lacks. draw: as of `ids`.
        """
        found, raw = [], iter(sources)
        for batch in batches:
            ids, _ = self.ids(batch, draw)
            real = np.asarray(batch["example_mask"]) > 0
            rows = zip(ids[real, 0], np.asarray(batch["source_ids"])[real], islice(raw, int(real.sum())), strict=True)
            found += [text_of(self.tokenizer, *row) for row in rows]
        return found

    def prior(self, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns mean and standard deviation [B, Z] of the prior of z; None: the system has no z."""
        found = self._prior({name: batch[name] for name in SOURCE_COLUMNS})
        return found and (found[0].numpy(), found[1].numpy())

    def nll(self, batch: Batch, target_ids: np.ndarray) -> np.ndarray:
        """Returns the NLL [B] of each target in nats, with z at the prior's mean; 0 for rows that fill up. `target_ids`: [B, T + 2]."""
        return self._nll({**{name: batch[name] for name in SOURCE_COLUMNS}, "target_ids": tf.constant(target_ids)}).numpy()

    def beams(self, batch: Batch, sources: Sequence[str], draw: int = 0) -> list[list[tuple[str, float]]]:
        """Generates all hypotheses for each real row of a batch, best first, as text and score; arguments as of `texts`."""
        ids, scores = self.ids(batch, draw)
        rows = zip(ids, scores, np.asarray(batch["source_ids"]), sources, strict=False)  # rows that fill up have no source
        return [
            [(text_of(self.tokenizer, one, pieces, source), float(s)) for one, s in zip(own, of, strict=True)]
            for own, of, pieces, source in rows
        ]


def text_of(tokenizer: Tokenizer, ids: np.ndarray, source_ids: np.ndarray, source: str) -> str:
    """Decodes vocabulary ids [T] to text; an id of V or more stands for an unknown word of the source (`System.output_ids`).

    Args:
      source_ids: [S + 2] the source's framed pieces. source: its text in normal form.
    """
    vocabulary = len(tokenizer)
    if ids.max() < vocabulary:
        return tokenizer.decode(ids)
    pieces = [int(i) for i in source_ids if i != tokenizer.pad_id][1:-1]  # without [CLS] and [SEP]
    words = tokenizer.unknown_words(source, pieces)
    return tokenizer.decode(ids, {vocabulary + 1 + place: word for place, word in words.items()})
