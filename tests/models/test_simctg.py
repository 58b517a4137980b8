"""SimCTG: its contrast against a loop over pairs, its objective, and that training keeps the states of a text's tokens apart."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.generator import SOURCE_COLUMNS, Generator
from hcl_tf.layers.contrast import token_contrast
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.base import Batch
from hcl_tf.models.transformer import Transformer
from hcl_tf.training import assembly
from hcl_tf.training.step import TrainStep

TINY = {"decoder_layers": 1, "batch_size": 8, "warmup_steps": 0, "learning_rate": 0.01, "maximum_length": 6, "minimum_length": 2}
ROWS = 8


@cache
def read(folder: Path) -> tuple[PreparedData, SplitArrays]:
    data = PreparedData(folder)
    return data, data.arrays("train")


def made(folder: Path, name: str, **given) -> Transformer:
    data, arrays = read(folder)
    shape, kept = EncoderShape(len(data.tokenizer), 16, 1, 2, 24), assembly.output_ids(data, arrays, "train")
    tf.keras.utils.set_random_seed(3)
    return registry.build(registry.resolve("tiny", {"model": name, **TINY, **given}), assembly.inputs_of(data, shape, kept))


def batch_of(folder: Path) -> Batch:
    """Seven examples, and a row that fills up."""
    batch = next(iter(pair_batches(*read(folder), ROWS).dataset(0)))
    return {**batch, "example_mask": tf.constant([1.0] * (ROWS - 1) + [0.0])}


def sums_of(system: Transformer, batch: Batch, training: bool = False) -> dict[str, float]:
    sums = system.losses(batch, tf.constant(5), Noise(1, 5, batch["example_rows"]), training)
    return {name: float(total.value) for name, total in sums.items()}


def over_pairs(states: np.ndarray, margin: float) -> float:
    """Equation 2 of one text [n, D], as printed."""

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        return a @ b / np.sqrt((a @ a) * (b @ b))

    count, total = len(states), 0.0
    for i in range(count):
        for j in range(count):
            if i != j:
                total += max(0.0, margin - similarity(states[i], states[i]) + similarity(states[i], states[j]))
    return total / (count * (count - 1)) if count > 1 else 0.0


@pytest.mark.parametrize("margin", [0.5, 1.0, 0.0, -0.5])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_contrast_is_a_mean_over_pairs(margin, compiled):
    random = np.random.default_rng(0)
    states = random.normal(0.4, 1, (5, 7, 3)).astype(np.float32)
    real = np.arange(7) < np.array([7, 4, 2, 1, 0])[:, None]
    found = tf.function(lambda s, r: token_contrast(s, r, margin), jit_compile=compiled)(states, real)
    np.testing.assert_allclose(
        found, [over_pairs(text[of].astype(np.float64), margin) for text, of in zip(states, real, strict=True)], rtol=1e-5
    )


def test_states_that_are_nothing_have_a_gradient():
    states = tf.zeros([2, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(states)
        total = tf.reduce_sum(token_contrast(states, tf.ones([2, 3], tf.bool), 1.0))
    assert np.isfinite(tape.gradient(total, states)).all()


def test_the_contrast_stands_beside_the_likelihood_of_a_token(qqp_folder):
    system, batch = made(qqp_folder, "simctg", weight_simctg=0.3, label_smoothing=0.0), batch_of(qqp_folder)
    texts = system.encode(batch, None)
    states = system.teach(batch, texts["states"], texts["mask"], None).numpy().astype(np.float64)
    lengths = system.label_weights(batch).numpy().sum(1).astype(int)
    assert lengths[-1] == 0
    found = sums_of(system, batch)
    assert found["simctg"] == pytest.approx(sum(over_pairs(text[:n], 0.5) for text, n in zip(states, lengths, strict=True)), rel=1e-4)
    assert found["simctg"] > 0
    step = tf.constant(5)
    objective = float(system.objective(system.losses(batch, step, None, False), system.counts(batch), step))
    a_token = found["nll"] / lengths.sum() + 0.3 * found["simctg"] / (ROWS - 1)  # the paper's objective
    assert objective == pytest.approx(a_token * lengths.sum() / (ROWS - 1), rel=1e-5)


@pytest.mark.slow
def test_without_weight_it_is_the_transformer(qqp_folder):
    batch, found = batch_of(qqp_folder), []
    for name, given in (("simctg", {"weight_simctg": 0.0}), ("transformer", {})):
        system = made(qqp_folder, name, **given)
        step = TrainStep(system, system.settings, None, compiled=False)
        found.append([step(batch, number)["nll"] for number in range(3)])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def trained(folder: Path, compiled: bool, weight: float) -> list[dict[str, float]]:
    """Returns the scalars of some steps on one batch."""
    system, batch = made(folder, "simctg", dropout=0.0, weight_simctg=weight), batch_of(folder)
    step = TrainStep(system, system.settings, None, compiled=compiled)
    return [step(batch, number) for number in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_likelihood_draws_states_together_and_the_contrast_keeps_them_apart(qqp_folder, compiled):
    with_contrast, without = (trained(qqp_folder, compiled, weight) for weight in (1.0, 0.0))
    assert without[-1]["simctg"] > 2 * without[0]["simctg"]
    assert with_contrast[-1]["simctg"] < 0.5 * without[-1]["simctg"]
    assert with_contrast[-1]["nll"] < with_contrast[0]["nll"]


@pytest.mark.slow
def test_it_searches_contrastively_unless_told_otherwise(qqp_folder):
    sources = {name: tensor for name, tensor in batch_of(qqp_folder).items() if name in SOURCE_COLUMNS}
    for given, hypotheses in (({}, 1), ({"search": "beam", "beams": 2}, 2)):
        ids, scores = Generator(made(qqp_folder, "simctg", **given), None).ids(sources)
        assert ids.shape == (ROWS, hypotheses, 6)
        assert np.isfinite(scores).all()
