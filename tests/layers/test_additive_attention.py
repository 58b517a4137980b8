"""Additive attention against its formula, its gradient, and what masked items may change."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from finite_differences import assert_gradients, variables

from hcl_tf.layers.additive_attention import AdditiveAttention

B, L, M, Q, E, A = 2, 3, 4, 5, 6, 7
MASK = tf.constant([[True, True, True, True], [True, False, True, False]])


@pytest.fixture(scope="module")
def attention():
    keras.mixed_precision.set_global_policy("float64")
    layer = AdditiveAttention(A)
    layer(tf.zeros([B, L, Q], tf.float64), layer.remember(tf.zeros([B, M, E], tf.float64)), MASK)
    random = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(random.normal(0, 0.7, variable.shape))
    yield layer
    keras.mixed_precision.set_global_policy("float32")


def draw(*shape: int, seed: int = 1) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


def test_is_its_formula(attention):
    queries, memory = draw(B, L, Q), draw(B, M, E, seed=2)
    found = attention(queries, attention.remember(memory), MASK).numpy()
    w, b, u, v = (x.numpy() for x in (attention.query.kernel, attention.query.bias, attention.item.kernel, attention.score))
    for row in range(B):
        for i in range(L):
            scores = [v @ np.tanh(queries[row, i].numpy() @ w + b + memory[row, j].numpy() @ u) for j in range(M)]
            powers = np.exp(scores) * MASK.numpy()[row]
            np.testing.assert_allclose(found[row, i], powers / powers.sum(), rtol=1e-10)


def test_masked_items_do_not_matter_and_the_rest_does(attention):
    queries, memory = draw(B, L, Q), draw(B, M, E, seed=2)
    found = attention(queries, attention.remember(memory), MASK)
    junk = tf.where(MASK[..., None], memory, 50.0)
    np.testing.assert_array_equal(attention(queries, attention.remember(junk), MASK), found)
    for place in range(M):
        moved = memory.numpy()
        moved[:, place] += 1
        differs = abs(attention(queries, attention.remember(tf.constant(moved)), MASK) - found).numpy().max((1, 2)) > 1e-6
        assert differs.tolist() == MASK.numpy()[:, place].tolist()


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients(attention, compiled):
    queries, memory = variables(3, (B, L, Q), (B, M, E))
    wanted = draw(B, L, M, seed=4)

    def loss():
        return tf.reduce_sum(wanted * tf.square(attention(queries, attention.remember(memory), MASK)))

    if compiled:
        loss = tf.function(loss, jit_compile=True)
    of = [queries, memory, attention.query.kernel, attention.item.kernel, attention.score, attention.query.bias]
    assert_gradients(loss, of)
