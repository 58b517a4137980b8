"""The three bodies: texts of one row do not see each other, losses are plain ones, every variable learns."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.batches import Batches, Place
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.noise import Noise
from hcl_tf.pretraining import settings as pretraining_settings
from hcl_tf.pretraining.launch import body
from hcl_tf.pretraining.objectives import KINDS, Pieces
from hcl_tf.pretraining.rows import Texts, pack
from hcl_tf.pretraining.systems import Pretraining
from hcl_tf.training.step import TrainStep

PAD, UNKNOWN, CLS, SEP, MASK, VOCABULARY, LENGTH = 0, 1, 2, 3, 4, 40, 32
SENTINELS = np.arange(5, 10)
PIECES = Pieces(PAD, UNKNOWN, CLS, SEP, MASK, np.arange(10, VOCABULARY), np.zeros(VOCABULARY, bool), SENTINELS)
OBJECTIVES = list(KINDS)


def settings_of(objective: str, **given) -> pretraining_settings.PretrainingSettings:
    sizes = {"layers": 2, "width": 16, "decoder_layers": 1, "row_length": LENGTH, "batch_size": 4, "warmup_steps": 0}
    return pretraining_settings.resolve({**sizes, "objective": objective, **given})


def system_of(objective: str, **given) -> Pretraining:
    system = body(settings_of(objective, **given), PIECES, EncoderShape(VOCABULARY, 16, 2, 2, 24, LENGTH), None)
    for variable in system.trainable_variables:  # so that no two states are alike
        variable.assign_add(keras.initializers.RandomNormal(stddev=0.2, seed=2)(variable.shape))
    return system


def some_texts(count: int = 12) -> Texts:
    random = np.random.default_rng(4)
    return Texts.of([random.integers(10, VOCABULARY, n) for n in random.integers(3, 11, count)])


def columns(objective: str, texts: Texts):
    made = lambda packed: KINDS[objective](texts, packed, LENGTH, PIECES)  # noqa: E731
    return made(pack(texts, made(None).places_of, LENGTH))


def batch_of(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    rows = len(arrays["ids"])
    return {name: tf.constant(values, tf.int32) for name, values in arrays.items()} | {
        "example_rows": tf.range(rows), "example_mask": tf.ones([rows]),
    }  # fmt: skip


@pytest.fixture(scope="module", params=OBJECTIVES)
def system(request) -> Pretraining:
    return system_of(request.param)


@pytest.fixture(scope="module")
def packed(system) -> dict[str, np.ndarray]:
    made = columns(system.name, some_texts())
    return made(np.arange(len(made.packed)), np.zeros(len(made.packed), bool), Place(1, 0, 0))


def apart(batch: dict[str, np.ndarray], objective: str) -> list[dict[str, np.ndarray]]:
    """Each text of a batch in a row of its own, at the same places of its row where the body counts these."""
    found = []
    for row in range(len(batch["ids"])):
        for text in range(1, batch["segments"][row].max() + 1):
            own = {}
            for name, values in batch.items():
                of_target = name.startswith("target") or (name == "labels" and objective == "span")
                mine = batch["target_segments" if of_target else "segments"][row] == text
                kept = np.where(mine, values[row], 0)
                if objective == "causal":
                    own[name] = values[row] if name == "places" else kept
                else:
                    own[name] = np.concatenate([values[row][mine], np.zeros(len(mine) - mine.sum(), int)])
            found.append({name: np.where(values > 0, 1, 0) if name.endswith("segments") else values for name, values in own.items()})
    return found


@pytest.mark.slow
def test_texts_of_a_row_do_not_see_each_other(system, packed):
    """The loss of packed rows is the sum of the losses of their texts alone."""
    whole = system.losses(batch_of(packed), tf.constant(0), None, training=False)
    parts = apart(packed, system.name)
    assert len(parts) == 12
    alone = [system.losses(batch_of({k: v[None] for k, v in part.items()}), tf.constant(0), None, training=False) for part in parts]
    for name, total in whole.items():
        np.testing.assert_allclose(total.value, sum(one[name].value for one in alone), rtol=1e-4)


def test_the_loss_is_the_plain_one(system, packed):
    """Softmax over all pieces that may be predicted, written out with NumPy on the body's states."""
    batch = batch_of(packed)
    states = system.states(batch, None).numpy()
    kernel, bias = (np.asarray(part) for part in (system.tokens.weights_of_output(), system.tokens.bias))
    logits = states @ kernel.T + bias
    logits -= np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) + logits.max(-1, keepdims=True)
    column = {int(piece): place for place, piece in enumerate(system.inputs_.output_ids)}
    losses = {(r, c): -logits[r, c, column[int(label)]] for (r, c), label in np.ndenumerate(packed["labels"]) if label != PAD}
    found, counts = system.losses(batch, tf.constant(0), None, training=False), system.counts(batch)
    np.testing.assert_allclose(found["nll_token"].value, sum(losses.values()), rtol=1e-5)
    assert counts["tokens"] == len(losses)
    pieces = {place: loss for place, loss in losses.items() if packed["labels"][place] >= 10 or system.name != "span"}
    np.testing.assert_allclose(found["nll_piece"].value, sum(pieces.values()), rtol=1e-5)
    assert counts["pieces"] == len(pieces)
    assert system.name != "span" or len(pieces) < len(losses)


def test_the_objective_is_a_mean_over_predicted_pieces(system, packed):
    batch = batch_of(packed)
    found, counts = system.losses(batch, tf.constant(0), None, training=False), system.counts(batch)
    np.testing.assert_allclose(system.objective(found, counts, None), found["nll_token"].value / counts["tokens"], rtol=1e-6)


def test_every_variable_gets_a_gradient(system, packed):
    batch = batch_of(packed)
    with tf.GradientTape() as tape:
        sums = system.losses(batch, tf.constant(0), Noise(1, 0, batch["example_rows"]), training=True)
        objective = system.objective(sums, system.counts(batch), tf.constant(0))
    gradients = tape.gradient(objective, system.trainable_variables)
    without = [
        v.name
        for v, g in zip(system.trainable_variables, gradients, strict=True)
        if g is None or not tf.reduce_any(tf.convert_to_tensor(g) != 0)
    ]
    assert without == []


@pytest.mark.slow
def test_dropout_draws_from_the_noise(system, packed):
    batch = batch_of(packed)
    first, again, other = (
        float(system.losses(batch, tf.constant(0), Noise(1, step, batch["example_rows"]), training=True)["nll"].value) for step in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.slow
def test_parts_of_a_batch_add_up(system):
    """A step in micro-batches is the step of the whole batch."""
    steps = []
    for micro in (0, 2):
        fresh = system_of(system.name, micro_batch=micro, gradient_clip=0.0, dropout=0.0)
        made = columns(system.name, some_texts(40))
        step = TrainStep(fresh, fresh.settings, None, compiled=False)
        batch = next(iter(Batches(len(made.packed), 4, (made,), 1).dataset(0)))
        scalars = step(batch, 0)
        steps.append((scalars["objective"], scalars["grad_norm"]))
    np.testing.assert_allclose(*steps, rtol=1e-4)


@pytest.mark.parametrize(("objective", "given", "times"), [("span", {}, 50), ("span", {"embedding_rate": 3.0}, 3), ("causal", {}, 1)])
def test_embeddings_of_a_t5_take_longer_steps(objective, given, times):
    """Adam's first step is as long in every weight that has a gradient: the learning rate."""
    system = system_of(objective, learning_rate=1e-4, **given)
    made = columns(objective, some_texts())
    batch = batch_of(made(np.arange(len(made.packed)), np.zeros(len(made.packed), bool), Place(1, 0, 0)))
    table, before = system.tokens._source(), [v.numpy() for v in system.trainable_variables]
    named = ("relative_attention_bias", "layer_norm")
    fast = [table.ref(), *(v.ref() for v in system.trainable_variables if any(name in v.name for name in named))]
    TrainStep(system, system.settings, None, compiled=False)(batch, 0)
    moved = {v.ref(): np.abs(v.numpy() - was).max() for v, was in zip(system.trainable_variables, before, strict=True)}
    assert [moved.pop(name) for name in fast] == pytest.approx([times * 1e-4] * len(fast), rel=0.02)
    assert max(moved.values()) == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize(("objective", "was"), [("span", ["embedding_rate: was 1.0, now 50.0"]), ("mlm", [])])
def test_weights_from_before_embeddings_had_a_rate_are_told_apart(objective, was):
    now = settings_of(objective)
    recorded = now.to_dict()
    del recorded["embedding_rate"]
    assert pretraining_settings.differences(recorded, now) == was


@pytest.mark.slow
def test_a_step_lowers_the_loss(system, packed):
    fresh = system_of(system.name, dropout=0.0, learning_rate=1e-2)
    step = TrainStep(fresh, fresh.settings, None, compiled=False)
    batch = batch_of(packed)
    losses = [step(batch, number)["nll_token"] for number in range(15)]
    assert losses[-1] < 0.8 * losses[0]
