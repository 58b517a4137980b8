"""Any system on prepared samples, small enough to train in a test, put together as `training.launch` does it."""

from functools import cache
from pathlib import Path

import tensorflow as tf

from hcl_tf.data.batching.batches import Batches
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.training import assembly
from hcl_tf.training.initialization import initialize
from hcl_tf.training.step import TrainStep

SMALL = {
    "encoder": "random:1x32", "decoder_layers": 1, "batch_size": 8, "latent_size": 4, "latent_hidden": 8, "learning_rate": 0.01,
    "warmup_steps": 1, "graph_node_budget": 256, "output_vocab": "train",
}  # fmt: skip


@cache
def read(folder: Path) -> tuple[PreparedData, SplitArrays, SplitArrays]:
    """A prepared folder, its training split and its validation split: read once for all tests."""
    data = PreparedData(folder)
    return data, data.arrays("train"), data.arrays("validation")


def new_system(folder: Path, model: str, **given) -> System:
    """The system at its starting weights."""
    data, train, _ = read(folder)
    settings = registry.resolve("tiny", {**registry.used(model, SMALL), "model": model, **given})
    settings, begun = initialize(settings, data, given)
    inputs = assembly.inputs_of(data, begun.shape, assembly.output_ids(data, train, settings.output_vocab))
    return assembly.new_system(settings, inputs, begun)[0]


def batches_of(folder: Path, system: System) -> Batches:
    """Its training batches."""
    data, train, _ = read(folder)
    s = system.settings
    further = [columns for columns in [system.columns(data, "train", train, train)] if columns]
    return pair_batches(data, train, s.batch_size, s.seed, system.sampler(data.graph), system.impostors, further)


def step_of(system: System, compiled: bool = False) -> TrainStep:
    return TrainStep(system, system.settings, None, compiled)


def steps(folder: Path, system: System, count: int) -> list[dict[str, float]]:
    """Scalars of the first training steps."""
    step = step_of(system)
    return [step(batch, number) for number, batch in enumerate(batches_of(folder, system).dataset(0).take(count))]


def first_batch(folder: Path, system: System) -> dict[str, tf.Tensor]:
    return next(iter(batches_of(folder, system).dataset(0)))


def overfit(folder: Path, system: System, count: int) -> list[dict[str, float]]:
    """Scalars of training steps on one and the same batch."""
    step, batch = step_of(system), first_batch(folder, system)
    return [step(batch, number) for number in range(count)]
