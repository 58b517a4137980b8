"""Trains the rows of a control, and scores their texts at the prior's mean, where outputs are made."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Columns, Place
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.models.base import Batch
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
        began, path = time.monotonic(), self.folder / row.name
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
    system, arrays = trained.system, trained.data.arrays(split)
    if places is None:
        places = np.ones((len(arrays), trained.data.target_length + 1), np.float32)

    def nll(batch: Batch) -> tf.Tensor:
        texts, keywords, prior = system.read_sources(batch)
        states = system.decode(batch, texts, keywords, prior.mean(), None)
        weights = system.label_weights(batch) * batch["places"]
        return system.tokens.text_nll(states, system.labels(batch), weights, system.mixture(batch, texts, states))

    size = min(trained.settings.batch_size, len(arrays))
    batches = pair_batches(trained.data, arrays, size, impostors=system.impostors, further=[_column("places", places)])
    compiled, found = tf.function(nll, autograph=False), []
    for batch in batches.dataset(None):
        found.append(compiled(batch).numpy()[batch["example_mask"].numpy() > 0])
    return np.concatenate(found)


def _column(name: str, values: np.ndarray) -> Columns:
    """Makes a column of batches from the values [n, ...] of a split's examples."""

    def gather(rows: np.ndarray, _filled: np.ndarray, _place: Place) -> dict[str, np.ndarray]:
        return {name: values[rows]}

    return gather
