"""Packing against NumPy loops over the texts: what goes where, that backwards is backwards, and its gradients; plain and under XLA."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.layers.packing import Packing

HEADS, SIZE = 2, 3


def some_values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


masks = st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
)


@settings(deadline=None, max_examples=40)
@given(masks)
def test_rows_are_the_real_tokens_in_order_and_find_back(mask):
    mask = np.array(mask)
    values = some_values((*mask.shape, 5))
    packing = Packing(tf.constant(mask))
    np.testing.assert_array_equal(packing.rows(tf.constant(values)), values[mask])
    np.testing.assert_array_equal(packing.texts_of(tf.constant(values[mask])), values * mask[..., None])
    np.testing.assert_array_equal(packing.flat(tf.constant(values[..., 0])), values[mask][:, 0])
    np.testing.assert_array_equal(np.stack([packing.texts, packing.places], 1), np.argwhere(mask))


@settings(deadline=None, max_examples=30)
@given(masks, st.integers(1, 3))
def test_heads_are_what_a_loop_over_tokens_makes_of_them(mask, parts):
    mask = np.array(mask)
    rows = some_values((int(mask.sum()), parts * HEADS * SIZE))
    longest = max((place + 1 for _, place in np.argwhere(mask)), default=0)
    expected = np.zeros((parts, mask.shape[0], HEADS, longest, SIZE), np.float32)
    for row, (text, place) in zip(rows, np.argwhere(mask), strict=True):
        expected[:, text, :, place] = row.reshape(parts, HEADS, SIZE)
    packing = Packing(tf.constant(mask))
    np.testing.assert_array_equal(packing.mask, mask[:, :longest])
    found = packing.heads(tf.constant(rows), parts, HEADS)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(packing.rows_of_heads(found), rows)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_gradients_reach_real_tokens_alone(jit):
    """Through rows, heads and back: the derivative of a weighted sum is the weights at real tokens, and 0 at padding."""
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    weights = some_values((*mask.shape, HEADS * SIZE), 1)

    @tf.function(jit_compile=jit)
    def gradient(values: tf.Tensor) -> tf.Tensor:
        packing = Packing(tf.constant(mask))
        with tf.GradientTape() as tape:
            tape.watch(values)
            rows = packing.rows_of_heads(packing.heads(packing.rows(values), 1, HEADS))
            loss = tf.reduce_sum(packing.texts_of(rows) * weights)
        return tape.gradient(loss, values)

    np.testing.assert_allclose(gradient(tf.constant(some_values(weights.shape))), weights * mask[..., None], rtol=1e-6)


def test_one_trace_serves_any_number_of_tokens_and_texts():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.bool), tf.TensorSpec([None, None, 4])])
    def there_and_back(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        traces.append(1)
        packing = Packing(mask)
        return packing.texts_of(packing.rows(values))

    for shape in ((2, 3), (4, 1)):
        mask, values = np.random.default_rng(0).random(shape) < 0.5, some_values((*shape, 4))
        np.testing.assert_array_equal(there_and_back(tf.constant(mask), tf.constant(values)), values * mask[..., None])
    assert len(traces) == 1
