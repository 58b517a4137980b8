"""Gradients that meet are added in their order: TensorFlow's own sum of them begins with whichever memory is free first."""

import numpy as np
import tensorflow as tf

from hcl_tf.training.determinism import added_in_order, make_deterministic

# 2**24 + 1 is no float32: (large + 1) + 1 stays, 1 + (1 + large) does not.
ORDER_MATTERS = [np.float32(2**24), np.float32(1), np.float32(1), np.float32(-(2**24))]


def test_gradients_are_added_in_their_order():
    total = np.float32(0)
    for each in ORDER_MATTERS:
        total += each
    assert total == 0 != sum(ORDER_MATTERS[1:], ORDER_MATTERS[0] * 0) + ORDER_MATTERS[0], "the order has to matter"
    assert added_in_order([tf.constant(each) for each in ORDER_MATTERS]).numpy() == total


def test_sparse_gradients_are_joined():
    slices = [tf.IndexedSlices(tf.fill([1, 2], float(i)), tf.constant([i]), tf.constant([4, 2])) for i in range(3)]
    found = tf.convert_to_tensor(added_in_order(slices))
    np.testing.assert_array_equal(found, [[0, 0], [1, 1], [2, 2], [0, 0]])


def test_sparse_gradients_among_others_are_added_in_their_order():
    gradients = [tf.reshape(tf.constant(each), [1]) for each in ORDER_MATTERS]
    gradients[1] = tf.IndexedSlices(gradients[1], tf.constant([0]), tf.constant([1]))
    assert added_in_order(gradients).numpy().tolist() == [0]


def test_a_value_that_many_operations_read_has_a_gradient_without_a_sum_left_to_chance(monkeypatch):
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)  # it would stay on for other tests
    make_deterministic()

    @tf.function(autograph=False)
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.add_n([tf.sin(x), tf.cos(x), tf.exp(x), x * x])
        return tape.gradient(y, x)

    x = np.linspace(-1, 1, 5, dtype=np.float32)
    np.testing.assert_allclose(gradient(tf.constant(x)), np.cos(x) - np.sin(x) + np.exp(x) + 2 * x, rtol=1e-6)
    operations = gradient.get_concrete_function(tf.TensorSpec([5])).graph.get_operations()
    assert [len(each.inputs) for each in operations if each.type == "AddN"] == [4], "the one that the test wrote, and none of the tape's"
