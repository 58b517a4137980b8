"""Blockwise cross-entropy against softmax cross-entropy over all logits at once, in value and gradients."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras
from finite_differences import assert_gradients, variables
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.layers.output import BLOCK, Mixture, cross_entropy, divergence_gradient, logits, token_nll

D, V = 5, 11


def problem(count: int, seed: int = 0, share: float = 0.7, dtype=np.float32) -> tuple:
    """states, table, bias, targets, weights; a position counts with probability `share`."""
    random = np.random.default_rng(seed)
    weights = (random.random(count) < share) * random.uniform(0.5, 2, count)
    states, table, bias = (random.normal(0, 2, shape) for shape in ((count, D), (V, D), (V,)))
    arrays = (
        states.astype(dtype),
        table.astype(dtype),
        bias.astype(dtype),
        random.integers(0, V, count).astype(np.int32),
        weights.astype(dtype),
    )
    return tuple(map(tf.constant, arrays))


def with_gradients(function, states, table, bias, *rest):
    with tf.GradientTape() as tape:
        tape.watch((states, table, bias))
        total, nll = function(states, table, bias, *rest)
        scaled = 3.0 * total  # a gradient that comes from above and is not 1
    return total, nll, *map(tf.convert_to_tensor, tape.gradient(scaled, (states, table, bias)))


def plainly(states, table, bias, targets, weights, smoothing=0.0):
    """Keras' categorical cross-entropy of one-hot targets, over all logits."""
    scores = states @ tf.transpose(table) + bias
    hot = tf.one_hot(targets, table.shape[0], dtype=states.dtype)
    each = keras.losses.categorical_crossentropy(hot, scores, from_logits=True, label_smoothing=smoothing)
    nll = keras.losses.sparse_categorical_crossentropy(targets, scores, from_logits=True)
    return tf.reduce_sum(each * weights), tf.where(weights == 0, tf.zeros_like(nll), nll)


def assert_equal(found, expected, tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(b)))) if tf.size(b) else 1.0
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 37])
def test_equals_softmax_cross_entropy(count, smoothing):
    arguments = (*problem(count, dtype=np.float64), smoothing)
    assert_equal(with_gradients(cross_entropy, *arguments), with_gradients(plainly, *arguments), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_softmax_cross_entropy_in_float32(smoothing, compiled):
    """To 1e-5 of the largest entry: sums of 300 float32 numbers in another order."""
    arguments = problem(2 * BLOCK + 37)
    run = tf.function(lambda *parts: with_gradients(cross_entropy, *parts, smoothing), jit_compile=compiled)
    exact = with_gradients(plainly, *(tf.cast(x, tf.float64) if x.dtype.is_floating else x for x in arguments), smoothing)
    assert_equal(run(*arguments), exact, 1e-5)


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 2 * BLOCK), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_any_positions_may_count(count, seed, share):
    arguments = problem(count, seed, share, np.float64)
    assert_equal(with_gradients(cross_entropy, *arguments), with_gradients(plainly, *arguments), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "xla"])
def test_no_position_at_all(compiled):
    states, table, bias, targets, weights = problem(BLOCK + 3)
    run = tf.function(lambda *parts: with_gradients(cross_entropy, *parts), jit_compile=compiled)
    for found in run(states, table, bias, targets, 0 * weights):
        assert not np.any(found)


def test_positions_without_weight_may_hold_anything():
    states, table, bias, targets, weights = problem(BLOCK + 3)
    junk = tf.where(weights[:, None] == 0, 1e30, states)
    found, clean = (with_gradients(cross_entropy, s, table, bias, targets, weights) for s in (junk, states))
    for a, b in zip(found[:2], clean[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_nll_of_each_position_takes_no_gradient_and_no_smoothing():
    states, table, bias, targets, weights = problem(9)
    with tf.GradientTape() as tape:
        tape.watch(states)
        nll = cross_entropy(states, table, bias, targets, weights, 0.3)[1]
    gradient = tape.gradient(nll, states)
    assert gradient is None or not np.any(tf.convert_to_tensor(gradient))
    np.testing.assert_allclose(nll, plainly(states, table, bias, targets, weights)[1], rtol=1e-5, atol=1e-5)


def test_half_precision_states_lose_no_more_than_their_rounding():
    states, table, bias, targets, weights = problem(2 * BLOCK)
    half = tf.cast(states, tf.float16)
    # float16 keeps 11 bits: logits are off by about 2^-11 of |states| |table| = 10 (the products add up in float32 or better).
    found = cross_entropy(half, table, bias, targets, weights)
    exact = plainly(states, table, bias, targets, weights)
    np.testing.assert_allclose(found[1], exact[1], atol=0.1)
    assert found[0].dtype == tf.float32
    np.testing.assert_allclose(found[0], exact[0], rtol=2e-3)


def test_the_tables_gradient_does_not_overflow_in_half_precision():
    """The loss scale times a piece that every position wants: more than float16's largest number, 65,504."""
    count = 2 * BLOCK
    states, table, bias = tf.ones([count, D], tf.float16), tf.zeros([V, D]), tf.zeros([V])
    with tf.GradientTape() as tape:
        tape.watch(table)
        total = 2.0**10 * cross_entropy(states, table, bias, tf.zeros([count], tf.int32), tf.ones([count]))[0]
    np.testing.assert_allclose(tape.gradient(total, table)[0], -(2**10) * count * (1 - 1 / V), rtol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients(smoothing):
    states, table, bias = variables(1, (BLOCK + 2, D), (V, D), (V,))
    _, _, _, targets, weights = problem(BLOCK + 2, dtype=np.float64)
    assert_gradients(
        lambda: cross_entropy(*map(tf.convert_to_tensor, (states, table, bias)), targets, weights, smoothing)[0], [states, table, bias]
    )


def test_logits():
    states, table, bias, *_ = problem(6)
    shaped = tf.reshape(states, [2, 3, D])
    expected = np.einsum("btd,vd->btv", shaped, table) + bias
    np.testing.assert_allclose(logits(shaped, table, bias), expected, rtol=1e-5, atol=1e-5)
    assert logits(tf.cast(states, tf.float16), table, bias).dtype == tf.float32


def test_without_training_the_values_are_the_same_and_smoothing_is_left_out():
    random = np.random.default_rng(5)
    states, table, bias = (tf.constant(random.normal(size=shape)) for shape in ((200, 6), (11, 6), (11,)))
    targets, weights = tf.constant(random.integers(11, size=200), tf.int32), tf.constant(random.integers(2, size=200), tf.float64)
    total, nll = cross_entropy(states, table, bias, targets, weights)
    for smoothing in (0.0, 0.1):
        found = cross_entropy(states, table, bias, targets, weights, smoothing, training=False)
        np.testing.assert_allclose(found[0], total, rtol=1e-12)
        np.testing.assert_array_equal(found[1], nll)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, BLOCK, 2 * BLOCK + 37])
def test_each_positions_nll_can_be_put_into_any_loss(count):
    """Of the squares of the NLLs, which are no sum that the forward pass could have weighed."""
    states, table, bias, targets, weights = problem(count, dtype=np.float64)

    def squares(each):
        def function(*arguments):
            nll = each(*arguments)
            return tf.reduce_sum(tf.square(nll)), nll

        return function

    expected = with_gradients(squares(lambda *arguments: plainly(*arguments)[1]), states, table, bias, targets, weights)
    assert_equal(with_gradients(squares(token_nll), states, table, bias, targets, weights), expected, 1e-11)
    compiled = tf.function(lambda *arguments: with_gradients(squares(token_nll), *arguments), autograph=False, jit_compile=True)
    assert_equal(compiled(states, table, bias, targets, weights), expected, 1e-9)


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 37])
def test_the_divergence_s_gradient_is_that_of_tfp_s(count):
    states, table, bias, _, weights = problem(count, dtype=np.float64)
    moved = states + tf.constant(np.random.default_rng(9).normal(0, 1, states.shape))
    tokens = lambda part: tfp.distributions.Categorical(logits=part @ tf.transpose(table) + bias)  # noqa: E731
    with tf.GradientTape() as tape:
        tape.watch(moved)
        total = tf.reduce_sum(tfp.distributions.kl_divergence(tokens(states), tokens(moved)))
    expected = np.where(weights.numpy()[:, None] == 0, 0, tape.gradient(total, moved))
    np.testing.assert_allclose(divergence_gradient(states, moved, table, bias, weights), expected, atol=1e-12)


def drawn_mixture(count: int) -> Mixture:
    return Mixture(*(tf.constant(np.log(np.random.default_rng(3).uniform(0.05, 0.9, count))) for _ in range(2)))


def mixed(states, table, bias, mixture, targets) -> tuple[tf.Tensor, tf.Tensor]:
    """Each position's NLL, the mixture written out over all logits; and the log-probabilities of the output layer."""
    logs = tf.nn.log_softmax(states @ tf.transpose(table) + bias)
    generated = tf.gather(logs, targets, batch_dims=1) + mixture.log_generate
    return -tf.math.log(tf.exp(generated) + tf.exp(mixture.log_copied)), logs


def gradients_of(function, states, table, bias, mixture) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch((states, table, bias, *mixture))
        total = function(states, table, bias, mixture)
    return [total, *map(tf.convert_to_tensor, tape.gradient(total, (states, table, bias, *mixture)))]


def test_each_positions_nll_of_a_mixture_can_be_put_into_any_loss():
    """Against automatic differentiation of the mixture written out."""
    states, table, bias, targets, weights = problem(BLOCK + 9, dtype=np.float64)
    arguments = states, table, bias, drawn_mixture(BLOCK + 9)
    plain = lambda *parts: tf.reduce_sum(tf.square(tf.where(weights == 0, tf.zeros_like(weights), mixed(*parts, targets)[0])))  # noqa: E731
    ours = lambda s, t, b, m: tf.reduce_sum(tf.square(token_nll(s, t, b, targets, weights, m)))  # noqa: E731
    assert_equal(gradients_of(ours, *arguments), gradients_of(plain, *arguments), 1e-11)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_smoothed_mixture(smoothing):
    """(1 - e) on the mixture's probability of the target, e / V' on every piece of the output layer."""
    states, table, bias, targets, weights = problem(BLOCK + 9, dtype=np.float64)
    arguments = states, table, bias, drawn_mixture(BLOCK + 9)

    def plain(*parts):
        each, logs = mixed(*parts, targets)
        return tf.reduce_sum(((1 - smoothing) * each - smoothing * tf.reduce_mean(logs, -1)) * weights)

    ours = lambda s, t, b, m: cross_entropy(s, t, b, targets, weights, smoothing, mixture=m)[0]  # noqa: E731
    assert_equal(gradients_of(ours, *arguments), gradients_of(plain, *arguments), 1e-11)
