"""Recurrent networks against their equations in NumPy, step by step against whole sequences, and what padding may change."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from finite_differences import assert_gradients, variables

from hcl_tf.layers.noise import Noise
from hcl_tf.layers.recurrent import CELLS, BidirectionalEncoder, RecurrentDecoder, scan

B, L, E, D = 3, 5, 4, 6
LENGTHS = (5, 2, 3)
MASK = np.arange(L) < np.array(LENGTHS)[:, None]


@pytest.fixture(autouse=True, scope="module")
def float64():
    keras.mixed_precision.set_global_policy("float64")
    yield
    keras.mixed_precision.set_global_policy("float32")


def inputs(seed: int = 1, width: int = E) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=(B, L, width)))


def stirred(layer):
    """With weights large enough that every one of them shows."""
    random = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(random.normal(0.0, 0.5, variable.shape))
    return layer


def encoder(kind: str, layers: int = 2, dropout: float = 0.1) -> BidirectionalEncoder:
    made = BidirectionalEncoder(kind, D, layers, dropout)
    made(inputs(), tf.constant(MASK))
    return stirred(made)


def decoder(kind: str, layers: int = 2, dropout: float = 0.1) -> RecurrentDecoder:
    made = RecurrentDecoder(kind, D, layers, dropout)
    made(inputs(), made.begin(inputs()[:, 0]))
    return stirred(made)


# -- in NumPy, text by text, step by step ---------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(cell, x, state):
    """One step of one text; gates in the order that the layer's docstrings give their names."""
    w, u = np.split(cell.kernel.numpy(), cell.gates, 1), np.split(cell.recurrent.numpy(), cell.gates, 1)
    b, h = np.split(cell.bias.numpy(), cell.gates), state[0]
    if cell.gates == 4:
        i, f, o, g = (x @ w[k] + h @ u[k] + b[k] for k in range(4))
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    r, z = (sigmoid(x @ w[k] + h @ u[k] + b[k]) for k in range(2))
    n = np.tanh(x @ w[2] + b[2] + r * (h @ u[2] + cell.reset_bias.numpy()))
    return (z * h + (1 - z) * n,)


def numpy_run(cell, text, state):
    outputs = []
    for x in text:
        state = numpy_step(cell, x, state)
        outputs.append(state[0])
    return np.array(outputs), state


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_its_equations(kind, reverse):
    cell = CELLS[kind](D)
    cell(inputs())
    stirred(cell)
    start = tuple(tf.constant(np.random.default_rng(5 + i).normal(size=(B, D))) for i in range(cell.tensors))
    outputs, last = scan(cell, inputs(), start, tf.constant(MASK), reverse)
    for row, length in enumerate(LENGTHS):
        text = inputs().numpy()[row, :length]
        expected, state = numpy_run(cell, text[::-1] if reverse else text, [tensor[row].numpy() for tensor in start])
        np.testing.assert_allclose(outputs[row, :length], expected[::-1] if reverse else expected, rtol=1e-10)
        for found, wanted in zip(last, state, strict=True):
            np.testing.assert_allclose(found[row], wanted, rtol=1e-10)


@pytest.mark.parametrize("kind", CELLS)
def test_the_encoder_reads_each_layer_both_ways(kind):
    made = encoder(kind)
    outputs, last = made(inputs(), tf.constant(MASK))
    for row, length in enumerate(LENGTHS):
        text = inputs().numpy()[row, :length]
        for ahead, back in zip(made.forwards, made.backwards, strict=True):
            zero = [np.zeros(D)] * ahead.tensors
            (one, end), (two, start) = numpy_run(ahead, text, zero), numpy_run(back, text[::-1], zero)
            text = np.concatenate([one, two[::-1]], 1)
        np.testing.assert_allclose(outputs[row, :length], text, rtol=1e-10)
        np.testing.assert_allclose(last[row], np.concatenate([*end, *start]), rtol=1e-10)


@pytest.mark.parametrize("kind", CELLS)
def test_padding_changes_nothing(kind):
    made = encoder(kind)
    outputs, last = made(inputs(), tf.constant(MASK))
    junk = tf.where(MASK[..., None], inputs(), 50.0)
    others, other_last = made(junk, tf.constant(MASK))
    np.testing.assert_array_equal(tf.boolean_mask(outputs, MASK), tf.boolean_mask(others, MASK))
    np.testing.assert_array_equal(last, other_last)
    wider = made(tf.pad(junk, [[0, 0], [0, 3], [0, 0]]), tf.constant(np.pad(MASK, ((0, 0), (0, 3)))))
    np.testing.assert_allclose(tf.boolean_mask(outputs, MASK), tf.boolean_mask(wider[0][:, :L], MASK), rtol=1e-12)
    np.testing.assert_allclose(last, wider[1], rtol=1e-12)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("layers", [1, 3])
def test_steps_give_what_whole_sequences_give(kind, layers):
    made = decoder(kind, layers)
    states = made.begin(inputs(2)[:, 0])
    assert [len(state) for state in states] == [CELLS[kind].tensors] * layers
    expected = made(inputs(), states)
    for t in range(L):
        found, states = made.step(inputs()[:, t], states)
        np.testing.assert_allclose(found, expected[:, t], rtol=1e-12)


def test_first_states_are_a_tanh_of_the_condition_and_differ():
    made = decoder("lstm", 2)
    condition = inputs(2)[:, 0]
    whole = np.tanh(condition @ made.first.kernel.numpy() + made.first.bias.numpy())
    parts = [tensor.numpy() for state in made.begin(condition) for tensor in state]
    assert sorted(float(part[0, 0]) for part in parts) == pytest.approx(sorted(whole[0, ::D]), rel=1e-12)
    assert len({float(part[0, 0]) for part in parts}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_gradients(kind):
    made, head = encoder(kind, 1), decoder(kind, 1)
    (text,) = variables(3, (B, L, E))

    def loss():
        outputs, last = made(text, tf.constant(MASK))
        return tf.reduce_sum(tf.sin(outputs) * MASK[..., None]) + tf.reduce_sum(tf.square(head(text, head.begin(text[:, 0])))) + last[0, 0]

    assert_gradients(loss, [text, *made.trainable_variables, *head.trainable_variables])


@pytest.mark.parametrize("kind", CELLS)
def test_dropout_is_of_the_noise_and_never_on_the_state_that_goes_on(kind):
    made = decoder(kind, 1, dropout=0.5)
    begin = made.begin(inputs()[:, 0])
    noise = lambda step: Noise(1, step, tf.range(B))  # noqa: E731
    plain, one = made(inputs(), begin), made(inputs(), begin, noise(0))
    np.testing.assert_array_equal(one, made(inputs(), begin, noise(0)))
    assert (abs(one - made(inputs(), begin, noise(1))).numpy().max((1, 2)) > 1e-3).all()
    zeros = tf.zeros_like(inputs())
    kept = made(zeros, begin, noise(0)).numpy()  # nothing to drop but the outputs: a state that lost a part would change the rest
    plain = made(zeros, begin).numpy()
    assert np.isclose(kept, 2 * plain, rtol=1e-12).any(2).all()
    assert (np.isclose(kept, 2 * plain, rtol=1e-12) | (kept == 0)).all()


def test_half_precision_keeps_states_in_single():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        made = BidirectionalEncoder("lstm", D)
        text = tf.cast(inputs(), tf.float32)
        outputs, last = made(text, tf.constant(MASK))
        half = [made.forwards[0](text).dtype, outputs.dtype, last.dtype]
    finally:
        keras.mixed_precision.set_global_policy("float64")
    assert half == [tf.float16, tf.float32, tf.float32]
    exact = BidirectionalEncoder("lstm", D)
    exact(inputs(), tf.constant(MASK))
    for ours, theirs in zip(exact.variables, made.variables, strict=True):
        ours.assign(tf.cast(theirs, tf.float64))
    np.testing.assert_allclose(last, exact(inputs(), tf.constant(MASK))[1], atol=3e-3)


def test_initial_weights():
    cell = CELLS["lstm"](D)
    cell(inputs())
    assert cell.bias.numpy().tolist() == [0] * D + [1] * D + [0] * 2 * D
    for block in np.split(cell.recurrent.numpy(), 4, 1):
        np.testing.assert_allclose(block @ block.T, np.eye(D), atol=1e-12)
    assert abs(cell.recurrent.numpy()[:, :D] - cell.recurrent.numpy()[:, D : 2 * D]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_xla_gives_the_same_outputs_and_gradients(kind):
    made, text = encoder(kind, 1, 0.3), inputs()

    def run():
        with tf.GradientTape() as tape:
            outputs, last = made(text, tf.constant(MASK), Noise(1, 2, tf.range(B)))
            loss = tf.reduce_sum(tf.sin(outputs)) + tf.reduce_sum(last)
        return [loss, *tape.gradient(loss, made.trainable_variables)]

    for plain, compiled in zip(run(), tf.function(run, jit_compile=True)(), strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=1e-8, atol=1e-10)


def test_config_makes_the_same_layer():
    for made in (encoder("gru", 2, 0.2), decoder("lstm", 3, 0.0), CELLS["gru"](D)):
        config = made.get_config()
        assert type(made).from_config(config).get_config() == config
