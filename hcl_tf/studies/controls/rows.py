"""Trains the rows of a control, and scores their texts at the prior's mean, where outputs are made."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Columns, Place
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.models.base import Batch
from hcl_tf.models.hcl import HCL
from hcl_tf.progress import track
from hcl_tf.training.launch import launch
from hcl_tf.training.trained_run import TrainedRun

CHECKPOINT = "best_nll"  # the smallest NLL of validation at the prior's mean
SPLIT = "test"


@dataclass(frozen=True)
class Row:
    """A row of a control: a name, and the settings that make it that row."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where and how the rows of a control are trained.

    Attributes:
      folder: below it runs are kept. preset: of settings. usual: the control's own settings.
      given: those that flags gave, which come before the control's but after a row's.
    """

    folder: Path
    preset: str
    usual: Mapping[str, Any]
    given: Mapping[str, Any]

    def train(self, row: Row, data: PreparedData, checkpoint: str = CHECKPOINT) -> TrainedRun:
        """Trains a row on a folder, or goes on with it, and opens it at a checkpoint. A finished run is not trained again."""
        began, path = time.monotonic(), self.folder / row.name.replace(" ", "_")
        settings = {**self.usual, **self.given, **row.settings}
        print(f"-- {row.name}: {', '.join(f'--{name}={value}' for name, value in settings.items())}", flush=True)
        launch(data.manifest["task"]["name"], data.folder, str(path), self.preset, settings, ["hcl_tf.studies.controls"])
        print(f"-- {row.name}: {time.monotonic() - began:.0f} s", flush=True)
        return TrainedRun(path, checkpoint, data.folder)


def target_nll(trained: TrainedRun, split: str = SPLIT, places: np.ndarray | None = None) -> np.ndarray:
    """Computes the NLL of each target of a split at the prior's mean, over all of its tokens or over chosen ones.

    Args:
      places: [n, T + 1] float32, the weight of each token, the last of them [SEP]; None: 1 for all. Of padding it does not count.

    Returns:
      [n] nats.
    """
    system = trained.system

    def nll(batch: Batch) -> tf.Tensor:
        texts, states = _decoded(system, batch, posterior=False)
        weights = system.label_weights(batch) * batch["places"]
        return system.tokens.text_nll(states, system.labels(batch), weights, system.mixture(batch, texts, states))

    return _by_example(trained, split, places, nll)


def nll_among(trained: TrainedRun, pieces: Sequence[int], split: str, places: np.ndarray, posterior: bool = False) -> np.ndarray:
    """Computes the NLL of the token at a place of each target, given that it is one of some pieces. Copying has no part in it.

    Args:
      pieces: vocabulary ids, each target's token among them. places: [n, T + 1], 1 at one place of each target.
      posterior: z is the posterior's mean, which knows the target, in place of the prior's.

    Returns:
      [n] nats.
    """
    system = trained.system

    def nll(batch: Batch) -> tf.Tensor:
        _, states = _decoded(system, batch, posterior)
        scores = system.tokens.logits(tf.reduce_sum(tf.cast(states, tf.float32) * batch["places"][..., None], 1))  # --> [B, V']
        among = tf.nn.log_softmax(tf.gather(scores, system.tokens.columns(tf.constant(pieces)), axis=1))  # --> [B, P]
        token = tf.reduce_sum(system.labels(batch) * tf.cast(batch["places"], tf.int32), 1)
        return -tf.reduce_sum(tf.where(token[:, None] == tf.constant(pieces)[None], among, 0.0), 1)

    return _by_example(trained, split, places, nll)


def _decoded(system: HCL, batch: Batch, posterior: bool) -> tuple[dict, tf.Tensor]:
    """Encodes a batch and decodes its targets under teacher forcing. Returns texts, and decoder states [B, T + 1, D]."""
    texts = system.encode(batch, None, ROLES[:2])
    keywords = system.keyword_states(batch, texts, system.states_of_nodes(batch, False))
    found = system.posterior_of(texts["source"], texts["target"]) if posterior else system.prior_of(texts, keywords)
    texts = system.with_words(texts, keywords)
    return texts, system.decode(batch, texts, keywords, found.mean(), None)


def _by_example(trained: TrainedRun, split: str, places: np.ndarray | None, compute: Callable[[Batch], tf.Tensor]) -> np.ndarray:
    """Computes a number for each example of a split, [n], from batches that have `places`."""
    arrays = trained.data.arrays(split)
    if places is None:
        places = np.ones((len(arrays), trained.data.target_length + 1), np.float32)
    size = min(trained.settings.batch_size, len(arrays))
    batches = pair_batches(trained.data, arrays, size, impostors=trained.system.impostors, further=[_column("places", places)])
    compiled, found = tf.function(compute, autograph=False), []
    for batch in track(batches.dataset(None), "measuring", len(batches), " batches"):
        found.append(compiled(batch).numpy()[batch["example_mask"].numpy() > 0])
    return np.concatenate(found)


def _column(name: str, values: np.ndarray) -> Columns:
    """Makes a column of batches from the values [n, ...] of a split's examples."""

    def gather(rows: np.ndarray, _filled: np.ndarray, _place: Place) -> dict[str, np.ndarray]:
        return {name: values[rows]}

    return gather
