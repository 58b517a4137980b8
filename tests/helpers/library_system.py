"""What tests of systems on transformers' TF classes share: small systems on real examples, and properties that all of them have."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.beam_search import BeamSettings, beam_search
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.training import assembly
from hcl_tf.training.step import TrainStep

B, STEP = 4, tf.constant(30)
SMALL = {"decoder_layers": 2, "beams": 2, "minimum_length": 2, "maximum_length": 6, "batch_size": 4}
Teach = Callable[[System, dict], tf.Tensor]  # decoder states under teacher forcing, as the output layer reads them


def made(data: PreparedData, model: str, width: int = 16, **given) -> System:
    """A system whose every weight shows; equal settings give equal weights."""
    keras.utils.set_random_seed(3)
    settings = registry.resolve("tiny", {**SMALL, "model": model, **given})
    kept = assembly.output_ids(data, data.arrays("train"), settings.output_vocab)
    system = registry.build(settings, assembly.inputs_of(data, EncoderShape(len(data.tokenizer), width, 2, 2, 24), kept))
    random = np.random.default_rng(0)
    for variable in system.variables:
        if variable.shape.rank == 1:
            variable.assign_add(random.normal(0, 0.1, variable.shape))
    return system


def batch_of(data: PreparedData, rows: list[int]) -> dict[str, tf.Tensor]:
    """Training examples by number; -1 fills up."""
    batch = pair_batches(data, data.arrays("train"), len(rows)).make(np.array(rows), 0, 0)
    return {name: tf.constant(value) for name, value in batch.items()}


def noise_of(batch: dict) -> Noise:
    return Noise(1, STEP, batch["example_rows"])


def sums_of(system: System, batch: dict, training: bool = True) -> dict[str, float]:
    return {name: float(total.value) for name, total in system.losses(batch, STEP, noise_of(batch), training).items()}


def check_parts_add_up(system: System, batch: dict) -> None:
    """With dropout on."""
    assert system.settings.dropout
    whole = sums_of(system, batch)
    parts = [sums_of(system, {name: tensor[start : start + 2] for name, tensor in batch.items()}) for start in (0, 2)]
    assert {name: parts[0][name] + parts[1][name] for name in whole} == pytest.approx(whole, rel=1e-5)
    assert whole["nll"] != pytest.approx(sums_of(system, batch, training=False)["nll"], rel=1e-5)


def check_noise_follows_rows(system: System, batch: dict) -> None:
    sums = sums_of(system, batch)
    assert sums_of(system, {name: tf.reverse(tensor, [0]) for name, tensor in batch.items()}) == pytest.approx(sums, rel=1e-5)
    others = sums_of(system, {**batch, "example_rows": batch["example_rows"] + 1000})
    assert others["nll"] != pytest.approx(sums["nll"], rel=1e-4)


def check_fillers_do_not_count(system: System, data: PreparedData, rows: list[int]) -> None:
    filled = batch_of(data, [*rows, -1])
    assert sums_of(system, filled, False) == pytest.approx(sums_of(system, batch_of(data, rows), False), rel=1e-5)


def check_padding_changes_nothing(system: System, batch: dict) -> None:
    """Neither in training nor in decoding."""
    narrow = int(tf.reduce_max(tf.where(batch["source_ids"] != system.inputs_.pad_id)[:, 1])) + 1
    assert narrow < batch["source_ids"].shape[1]
    cut = {**batch, "source_ids": batch["source_ids"][:, :narrow]}
    assert sums_of(system, cut, False) == pytest.approx(sums_of(system, batch, False), rel=1e-5)
    (ids, scores), (cut_ids, cut_scores) = system.generate(batch), system.generate(cut)
    np.testing.assert_array_equal(ids, cut_ids)
    np.testing.assert_allclose(scores, cut_scores, rtol=1e-5)


def check_steps_equal_teaching(system: System, batch: dict, teach: Teach) -> None:
    """Scores of every next token, decoded step by step with two beams a text, one of them off the target."""
    size, steps = batch["target_ids"].shape[0], system.settings.maximum_length
    other = tf.concat([batch["target_ids"][:, :2], tf.reverse(batch["target_ids"][:, 2:-1], [0]), batch["target_ids"][:, -1:]], 1)
    paths = tf.stack([batch["target_ids"], other], 1)  # [B, 2, T + 2]
    cache, fixed = system.start(batch, 2, None)
    expected = [system.tokens.logits(teach(system, {**batch, "target_ids": paths[:, beam]})).numpy() for beam in range(2)]
    start = int(system.tokens.columns(tf.constant(system.start_id)))
    for position in range(steps):
        columns = tf.reshape(system.tokens.columns(paths[:, :, position]), [-1]) if position else tf.fill([2 * size], start)
        scores, cache = system.step(columns, tf.constant(position), cache, fixed)
        scores = scores.numpy().reshape(size, 2, -1)[:, :, : len(system.inputs_.output_ids)]
        for beam in range(2):
            np.testing.assert_allclose(scores[:, beam], expected[beam][:, position], rtol=2e-4, atol=2e-4)


def check_search_without_cache_agrees(system: System, batch: dict, teach: Teach) -> None:
    """Beam search whose step computes the whole prefix anew under teacher forcing."""
    s, inputs = system.settings, system.inputs_
    size, beams, length = batch["target_ids"].shape[0], s.beams, batch["target_ids"].shape[1]
    repeated = {name: tf.repeat(tensor, beams, 0) for name, tensor in batch.items()}

    def step(columns, position, cache, fixed):
        place = tf.one_hot(position, length, dtype=tf.int32)
        ids = cache["ids"] * (1 - place) + system.tokens.ids(columns)[:, None] * place
        states = teach(system, {**repeated, "target_ids": ids})[:, position]
        return system.tokens.logits(states), {"ids": ids}

    column = {int(i): c for c, i in enumerate(inputs.output_ids)}
    found = beam_search(
        step, {"ids": tf.fill([size * beams, length], inputs.pad_id)}, {}, size, column[system.start_id], column[inputs.sep_id],
        BeamSettings(beams, s.minimum_length, s.maximum_length, s.length_penalty, s.no_repeat_ngram),
    )  # fmt: skip
    ids, scores = system.generate(batch)
    real = np.arange(s.maximum_length) < found.lengths.numpy()[..., None]
    np.testing.assert_array_equal(np.where(real, inputs.output_ids[found.ids.numpy()], inputs.pad_id), ids)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)


def check_generates_in_fixed_shapes(system: System, batch: dict) -> None:
    """With a batch dimension of any size, as in an export, and under XLA."""
    names = ("source_ids", "example_rows", "example_mask")
    sources = {name: batch[name] for name in names}
    expected = system.generate(batch)
    signature = {name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for name, tensor in sources.items()}
    free = tf.function(system.generate, autograph=False, input_signature=[signature])
    compiled = tf.function(system.generate, autograph=False, jit_compile=True)
    for found in (free(sources), compiled(sources)):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-4)


def check_xla_gives_the_same_step(data: PreparedData, batch: dict, model: str, **given) -> None:
    """Losses and gradients of two training steps."""
    scalars = []
    for compiled in (False, True):
        system = made(data, model, **given)
        step = TrainStep(system, system.settings, None, compiled)
        scalars.append([step(batch, number) for number in range(2)])
    for plain, fast in zip(*scalars, strict=True):
        assert fast == pytest.approx(plain, rel=1e-3, abs=1e-4)


def check_overfits(data: PreparedData, model: str, steps: int, **given) -> None:
    """Eight bundled examples are learnt until beam search returns their targets (those that it may return: cut at the longest)."""
    settings = {"dropout": 0.0, "learning_rate": 3e-3, "batch_size": 8, "beams": 4, "maximum_length": data.target_length}
    system = made(data, model, 64, output_vocab="train", **{**settings, **given})
    batch = batch_of(data, list(range(8)))
    step = TrainStep(system, system.settings, None, compiled=False)
    for number in range(steps):
        scalars = step(batch, number)
    assert scalars["nll_token"] < 0.05
    ids, _ = system.generate(batch)
    wanted = np.where(batch["target_ids"] == system.inputs_.sep_id, system.inputs_.pad_id, batch["target_ids"])[:, 1:]
    np.testing.assert_array_equal(ids[:, 0], wanted[:, : ids.shape[2]])
