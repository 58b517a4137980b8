"""What `models/base.py` asks of every system, as checks that the tests of each system call."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.generator import SOURCE_COLUMNS, Generator
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.base import Batch, System
from hcl_tf.training import assembly
from hcl_tf.training.initialization import initialize
from hcl_tf.training.step import TrainStep
from hcl_tf.training.text_states import TextStates

TINY = {
    "encoder": "random:1x16", "latent_size": 5, "latent_hidden": 8, "decoder_layers": 1, "output_vocab": "train", "graph_fanout": "64,64",
    "beams": 3, "minimum_length": 2, "maximum_length": 6, "batch_size": 4, "warmup_steps": 0, "learning_rate": 0.01,
}  # fmt: skip
STEP, STEPS = tf.constant(30), 4


@cache
def read(folder: Path) -> tuple[PreparedData, SplitArrays]:
    data = PreparedData(folder)
    return data, data.arrays("train")


def settings_of(model: str, **given):
    return registry.resolve("tiny", {**registry.used(model, TINY), "model": model, **given})


def new(folder: Path, model: str, **given) -> System:
    """At its starting weights."""
    data, arrays = read(folder)
    settings, begun = initialize(settings_of(model, **given), data, given)
    inputs = assembly.inputs_of(data, begun.shape, assembly.output_ids(data, arrays, settings.output_vocab))
    system, _ = assembly.new_system(settings, inputs, begun)
    system.before_epoch(0, TextStates(data, arrays, keep=False))
    system.before_inference()
    return system


def stirred(system: System) -> System:
    """With every weight moved, so that each shows."""
    random = np.random.default_rng(0)
    for variable in system.trainable_variables:
        variable.assign_add(random.normal(0, 0.2, variable.shape))
    system.before_inference()
    return system


def batch_of(folder: Path, rows: int, training: bool, sampled: bool = False) -> Batch:
    """The first examples. `training`: all are real, else the last row fills up. `sampled`: nodes are places in a sub-graph."""
    data, arrays = read(folder)
    numbers = np.arange(rows)
    if training:
        batches = pair_batches(data, arrays, rows, 1, SubgraphSampler(data.graph, (64, 64), len(data.graph)) if sampled else None)
    else:
        batches, numbers[-1] = pair_batches(data, arrays, rows), -1
    made = batches.make(numbers, 0, 0)
    return {name: tf.constant(value) for name, value in made.items() if name != "graph_caps"}


def noise_of(batch: Batch) -> Noise:
    return Noise(1, STEP, batch["example_rows"])


def sums_of(system: System, batch: Batch, training: bool) -> dict[str, float]:
    return {name: float(total.value) for name, total in system.losses(batch, STEP, noise_of(batch), training).items()}


def log_probabilities(system: System, batch: Batch, beams: int = 2) -> np.ndarray:
    """[B, T + 1] of each target's pieces, decoded one by one; every beam must say the same."""
    cache, fixed = system.start({name: batch[name] for name in SOURCE_COLUMNS}, beams, None)
    columns, found = system.tokens.columns(batch["target_ids"]), []
    for t in range(columns.shape[1] - 1):
        scores, cache = system.step(tf.repeat(columns[:, t], beams), tf.constant(t), cache, fixed)
        each = tf.gather(tf.nn.log_softmax(scores), tf.repeat(columns[:, t + 1], beams), batch_dims=1).numpy().reshape(-1, beams)
        np.testing.assert_allclose(each, each[:, :1] + np.zeros(beams), rtol=1e-5, atol=1e-6)
        found.append(each[:, 0])
    return np.stack(found, 1)


def assert_steps_give_what_teacher_forcing_gives(system: System, batch: Batch, nll: tf.Tensor) -> None:
    """`nll`: [B] under teacher forcing, on a batch whose last row fills up."""
    found = -(log_probabilities(system, batch) * system.label_weights(batch).numpy()).sum(1)
    np.testing.assert_allclose(found[:-1], nll[:-1], rtol=1e-4)
    assert len(set(np.round(found, 3))) == len(found)


def assert_search_finds_what_its_scores_say(system: System, batch: Batch, nll) -> None:
    """`nll`: batch -> [B] under teacher forcing. Scores are those of whole texts, and none of the beams repeats another."""
    ids, scores = (tensor.numpy() for tensor in tf.function(system.generate)({name: batch[name] for name in SOURCE_COLUMNS}))
    s, inputs = system.settings, system.inputs_
    assert ids.shape == (len(batch["source_ids"]), s.beams, s.maximum_length)
    assert (np.diff(scores) <= 0).all()
    for beam in range(s.beams):
        lengths = (ids[:, beam] != inputs.pad_id).sum(1)
        assert (lengths >= s.minimum_length).all()
        texts = np.full_like(batch["target_ids"], inputs.pad_id)
        for row, length in enumerate(lengths):
            texts[row, : length + 2] = [inputs.cls_id, *ids[row, beam, :length], inputs.sep_id]
        expected = -nll({**batch, "target_ids": tf.constant(texts)}).numpy() / ((5 + lengths) / 6) ** s.length_penalty
        np.testing.assert_allclose(scores[:-1, beam], expected[:-1], rtol=1e-4)
    assert all(len({tuple(text) for text in item}) == s.beams for item in ids)


def assert_padding_changes_nothing(system: System, batch: Batch) -> None:
    """Three more columns of padding behind every source."""
    pad = [[0, 0], [0, 3]]
    wider = {**batch, "source_ids": tf.pad(batch["source_ids"], pad, constant_values=system.inputs_.pad_id)}
    assert sums_of(system, wider, False) == pytest.approx(sums_of(system, batch, False), rel=1e-5)
    np.testing.assert_allclose(log_probabilities(system, wider), log_probabilities(system, batch), rtol=1e-4, atol=1e-5)


def assert_parts_add_up(system: System, batch: Batch) -> None:
    """Losses and counts of a batch are the sums over its examples, with noise on; a row that fills up adds nothing."""
    rows = range(len(batch["example_mask"]))
    parts = [{n: tensor if n.startswith("graph_") else tensor[row : row + 1] for n, tensor in batch.items()} for row in rows]
    each = [sums_of(system, part, True) for part in parts]
    for name, total in sums_of(system, batch, True).items():
        assert sum(part[name] for part in each) == pytest.approx(total, rel=1e-5, abs=1e-5), name
    for name, count in system.counts(batch).items():
        assert sum(float(system.counts(part)[name]) for part in parts) == float(count), name
    filled = {**batch, "example_mask": tf.constant([1.0] * (len(rows) - 1) + [0.0])}
    whole, last = sums_of(system, batch, True), each[-1]
    for name, total in sums_of(system, filled, True).items():
        assert total == pytest.approx(whole[name] - last[name], rel=1e-4, abs=1e-4), name


def assert_micro_batches_change_nothing(folder: Path, model: str, micro: int = 2, compiled: bool = False, **given) -> None:
    """Some steps on one batch, with all noise on, which lower the loss; `compiled`: the whole batch at once under XLA instead."""
    batch, found = batch_of(folder, TINY["batch_size"], training=True), []
    for changed in (0, 0 if compiled else micro):
        system = new(folder, model, micro_batch=changed, **given)
        step = TrainStep(system, system.settings, None, compiled and len(found) == 1)
        found.append(([step(batch, number) for number in range(STEPS)], assembly.variables(system)))
    (plain, variables), (scalars, others) = found
    for ours, theirs in zip(scalars, plain, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
    assert plain[-1]["objective"] < plain[0]["objective"]
    # Adam's first steps are signs of gradients, and where one is rounding error its sign is chance: such a weight moves by a rate.
    rate = system.settings.learning_rate
    for path, variable in variables.items():
        apart = abs(variable.numpy() - others[path].numpy())
        assert (apart > 1e-5).mean() < 0.01, path
        assert apart.max() < 2 * STEPS * rate, path


def assert_every_variable_is_trained(system: System, batch: Batch, silent: tuple[str, ...] = ()) -> None:
    """Each has a path, belongs to one group and gets a gradient, but for those that add the same to all scores of a softmax."""
    paths = {id(v): path for path, v in assembly.variables(system).items()}
    assert set(paths) == {id(v) for v in system.variables}
    grouped = [v for variables, _ in system.learning_rates().values() for v in variables]
    assert sorted(map(id, grouped)) == sorted(map(id, system.trainable_variables))
    with tf.GradientTape() as tape:
        objective = system.objective(system.losses(batch, STEP, noise_of(batch), True), system.counts(batch), STEP)
    for variable, gradient in zip(grouped, tape.gradient(objective, grouped), strict=True):
        path = paths[id(variable)]
        assert gradient is not None, path
        assert abs(tf.convert_to_tensor(gradient).numpy()).max() > 1e-7 or any(part in path for part in silent), path


def overfit(folder: Path, model: str, steps: int, **given) -> tuple[list[float], list[str], list[str]]:
    """The objective of each step on eight examples, what beam search then gives for their sources, and their targets."""
    data, _ = read(folder)
    sizes = {"encoder": "random:1x64", "dropout": 0.0, "latent_size": 32, "latent_hidden": 128, "kl_ramp": 100, "minimum_length": 1}
    system = new(folder, model, **registry.used(model, {"batch_size": 8, "maximum_length": 20, **sizes}), **given)
    step, batch = TrainStep(system, system.settings, None, compiled=False), batch_of(folder, 8, training=True)
    objectives = [step(batch, number)["objective"] for number in range(steps)]
    system.before_inference()
    ids, _ = Generator(system, data.tokenizer).ids({name: tensor[:8] for name, tensor in batch_of(folder, 9, training=False).items()})
    special = {data.tokenizer.pad_id, data.tokenizer.cls_id, data.tokenizer.sep_id}
    text = lambda row: data.tokenizer.decode([i for i in row if i not in special])  # noqa: E731
    return objectives, [text(row) for row in ids[:, 0].tolist()], [text(row) for row in batch["target_ids"].numpy().tolist()]
