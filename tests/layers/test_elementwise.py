"""Normalisation and GELU against SciPy and against TensorFlow's own gradients."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from finite_differences import assert_gradients, variables
from scipy.stats import norm
from transformers.activations_tf import get_tf_activation

from hcl_tf.layers.elementwise import LayerNorm, gelu, gelu_tanh, layer_norm


def test_layer_norm_is_keras_layer():
    values, gamma, beta = variables(0, (5, 8), (8,), (8,))
    layer = keras.layers.LayerNormalization(epsilon=1e-3, dtype="float64")
    layer.build((None, 8))
    layer.set_weights([gamma.numpy(), beta.numpy()])
    np.testing.assert_allclose(layer_norm(values, gamma, beta, 1e-3), layer(values), rtol=1e-12)


def test_the_gradient_of_layer_norm():
    values, gamma, beta, weights = variables(1, (5, 8), (8,), (8,), (5, 8))
    assert_gradients(tf.function(lambda: tf.reduce_sum(layer_norm(values, gamma, beta, 1e-3) * weights)), [values, gamma, beta])


def test_gelu_is_x_times_the_normal_distribution_function():
    values = np.linspace(-12, 12, 97)
    np.testing.assert_allclose(gelu(tf.constant(values)), values * norm.cdf(values), rtol=1e-12, atol=1e-15)
    (at,) = variables(2, (40,))
    assert_gradients(tf.function(lambda: tf.reduce_sum(gelu(at) ** 2)), [at])


def test_gelu_tanh_is_the_library_s():
    values = np.linspace(-12, 12, 97)
    cubic = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
    np.testing.assert_allclose(gelu_tanh(tf.constant(values)), 0.5 * values * (1 + np.tanh(cubic)), rtol=1e-12, atol=1e-15)
    single = tf.constant(values, tf.float32)  # the library takes pi in float32 in any case
    np.testing.assert_allclose(gelu_tanh(single), get_tf_activation("gelu_new")(single), rtol=1e-6, atol=1e-6)
    (at,) = variables(3, (40,))
    assert_gradients(tf.function(lambda: tf.reduce_sum(gelu_tanh(at) ** 2)), [at])


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_float16"])
def test_the_layer_computes_in_its_variables_type(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        layer = LayerNorm(epsilon=1e-6)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    compute, variable = ("float16", "float32") if policy == "mixed_float16" else (policy, policy)
    rows = tf.cast(1000.0 + tf.reshape(tf.range(8, dtype=tf.float32), [2, 4]), compute)
    found = layer(rows)
    assert (found.dtype, layer.gamma.dtype) == (compute, variable)
    np.testing.assert_allclose(found, [[-1.3416, -0.4472, 0.4472, 1.3416]] * 2, atol=2e-3)  # float16 alone would lose the differences
    assert LayerNorm.from_config(layer.get_config()).get_config() == layer.get_config()
