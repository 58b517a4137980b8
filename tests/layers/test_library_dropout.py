"""Dropout of library layers: every one replaced, wherever it is held, and drawn from the noise while it is on."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.library_dropout import NoisyDropout, replace_dropout
from hcl_tf.layers.noise import Noise

VALUES = tf.ones([2, 50])


class Inner(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.drop = keras.layers.Dropout(0.5)

    def call(self, values, training=False):
        return self.drop(values, training=training)


class Outer(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.last = [Inner(), Inner()], keras.layers.Dropout(0.25)

    def call(self, values, training=False):
        for block in self.blocks:
            values = block(values, training=training)
        return self.last(values, training=training)


def test_all_are_replaced_at_their_rates():
    model = Outer()
    replace_dropout(model)
    assert [type(layer.drop) for layer in model.blocks] == [NoisyDropout, NoisyDropout]
    assert [layer.drop.rate for layer in model.blocks] == [0.5, 0.5]
    assert (type(model.last), model.last.rate) == (NoisyDropout, 0.25)
    assert not [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]


def test_it_is_the_noise_s_dropout_while_on_and_none_else():
    model = Outer()
    switch = replace_dropout(model)
    noise, same = (Noise(1, 2, tf.constant([7, 8])) for _ in range(2))
    with switch.on(noise):
        found = model(VALUES, training=False)
    expected = VALUES
    for rate in (0.5, 0.5, 0.25):
        expected = same.dropout(expected, rate)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model(VALUES, training=True), VALUES)
    with pytest.raises(ValueError, match="by hand"), switch.on(noise):
        raise ValueError("by hand")
    assert switch.noise is None


def test_one_that_only_a_list_holds_is_not_passed_over():
    model = Outer()
    model.more = [keras.layers.Dropout(0.1)]
    with pytest.raises(ValueError, match="no attribute holds"):
        replace_dropout(model)
