"""A system of seven weights whose gradients are a line of algebra: what tests of the step and of the loop train in milliseconds."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.batches import Batches
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.latent import kl_weight
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TEXT, Batch, Sum, System
from hcl_tf.models.registry import resolve
from hcl_tf.settings import Settings
from hcl_tf.training import assembly

FEATURES = 5
DROPOUT, NOISE = 0.25, 0.3  # strong enough that a mask in the wrong place changes every digit
SHAPE = EncoderShape(2000, 8, 1, 1, 8)


def toy_settings(**given) -> Settings:
    return resolve("tiny", {"encoder": "random:1x8", "warmup_steps": 4, "kl_ramp": 8, "batch_size": 32, **given})


class Toy(System):
    """Predicts (length of the target + latent noise) from counts of the source's ids; weights `slope` (group "rest") and `level`
    ("encoder"). `feature` is what `before_epoch` computes, as HCL's node features are. `poison`: step -> the term that becomes
    NaN there. `boundaries`: its phases, each of which begins by changing `feature` too."""

    scales: ClassVar[Mapping[str, str]] = dict.fromkeys(("nll", "kl_objective", "key"), A_TEXT)

    def __init__(self, settings: Settings, inputs, poison: dict[int, str] | None = None, boundaries: tuple[int, ...] = ()) -> None:
        super().__init__(settings, inputs, name="toy")
        keras.utils.set_random_seed(settings.seed)
        self.slope = self.add_weight("slope", (FEATURES,), initializer="random_normal")
        self.level = self.add_weight("level", (), initializer="zeros")
        self.feature = self.add_weight("feature", (), initializer="zeros", trainable=False)
        self.poison, self.boundaries = poison or {}, boundaries
        self.refreshed: list[int] = []

    def features(self, batch: Batch) -> tf.Tensor:
        ids = batch["source_ids"]
        return tf.stack([tf.reduce_mean(tf.cast(ids % FEATURES == k, tf.float32), 1) for k in range(FEATURES)], 1)

    def wanted(self, batch: Batch) -> tf.Tensor:
        return tf.reduce_sum(self.label_weights(batch), 1) / 10.0

    def counts(self, batch: Batch) -> dict[str, tf.Tensor]:
        return super().counts(batch) | {"contrasted": tf.reduce_sum(batch["example_mask"] * self.paired(batch))}

    def paired(self, batch: Batch) -> tf.Tensor:
        return tf.cast(batch["example_rows"] % 3 == 0, tf.float32)

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        mask = batch["example_mask"]
        inputs = noise.dropout(self.features(batch), DROPOUT) if training else self.features(batch)
        wanted = self.wanted(batch) + NOISE * noise.normal((1,))[:, 0]
        error = tf.linalg.matvec(inputs, self.slope) + self.level + self.feature - wanted
        nll = 0.5 * tf.square(error) * mask
        kl = 0.5 * tf.square(self.level - 2.0) * mask
        key = 0.5 * tf.square(tf.reduce_sum(self.slope) - wanted) * mask * self.paired(batch)
        sums = {"nll": nll, "nll_token": nll, "kl": kl, "kl_objective": kl, "key": key}
        pers = {"nll_token": "tokens", "key": "contrasted"}
        for at, name in self.poison.items():
            sums[name] = tf.where(tf.equal(step, at), float("nan"), sums[name])
        return {name: Sum(tf.reduce_sum(value), pers.get(name, "examples")) for name, value in sums.items()}

    def weights_of(self, step: tf.Tensor | None) -> dict:
        return {"nll": 1.0, "kl_objective": kl_weight(step, self.settings.kl_ramp, 0), "key": 0.5}

    def schedule(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"kl_weight": self.weights_of(step)["kl_objective"]}

    def learning_rates(self) -> dict:
        return {"rest": ([self.slope], self.settings.learning_rate), "encoder": ([self.level], self.settings.encoder_learning_rate)}

    def phases(self) -> tuple[int, ...]:
        return self.boundaries

    def begin_phase(self) -> None:
        self.feature.assign(5.0 + 10.0 * tf.reduce_sum(self.slope))

    def before_epoch(self, epoch: int, texts) -> None:
        self.refreshed.append(epoch)
        self.feature.assign(tf.reduce_sum(self.slope) * 0.1 + epoch)

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        return {"posterior_mean": tf.concat([self.features(batch), tf.zeros([batch["example_mask"].shape[0], 1])], 1)}

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        ids = tf.tile(batch["source_ids"][:, None, 1:4], [1, 2, 1])
        return ids, tf.zeros(ids.shape[:2])


@cache
def read(folder: Path) -> tuple[PreparedData, SplitArrays, SplitArrays]:
    """A prepared folder, its training split and its validation split: read once for all tests."""
    data = PreparedData(folder)
    return data, data.arrays("train"), data.arrays("validation")


def toy(folder: Path, settings: Settings, **options) -> tuple[Toy, Batches]:
    """The system and its training batches from a prepared folder."""
    data, train, _ = read(folder)
    inputs = assembly.inputs_of(data, SHAPE, assembly.output_ids(data, train, "full"))
    return Toy(settings, inputs, **options), pair_batches(data, train, settings.batch_size, settings.seed)


def values(system: System) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in assembly.variables(system).items()}
