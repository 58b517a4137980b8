"""Operations on single tokens whose gradients TensorFlow would take in many more passes over memory than they need."""

import math
from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


def layer_norm(values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalises each row of [N, D] to mean 0 and variance 1, then scales by gamma [D] and shifts by beta [D] (Ba et al. 2016)."""

    @tf.custom_gradient
    def compute(values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        with tf.name_scope("norm"):
            centred = values - tf.reduce_mean(values, -1, keepdims=True)
            scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)  # --> [N, 1]
            normed = centred * scale
            found = normed * gamma + beta

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.name_scope("norm"):
                by_normed, d_normed = upstream * normed, upstream * gamma
                along = tf.matmul(by_normed, gamma[:, None]) / by_normed.shape[-1]  # --> [N, 1]
                d_values = scale * (d_normed - tf.reduce_mean(d_normed, -1, keepdims=True) - normed * along)
                return d_values, tf.reduce_sum(by_normed, 0), tf.reduce_sum(upstream, 0)

        return found, gradient

    return compute(values, gamma, beta)


@tf.custom_gradient
def gelu(values: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Computes x Phi(x), exactly as published weights were trained with (Hendrycks and Gimpel 2016)."""
    with tf.name_scope("gelu"):
        below = 0.5 + 0.5 * tf.math.erf(values * math.sqrt(0.5))  # Phi(x); erfc takes 20 times as long on a CPU
        found = values * below

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        with tf.name_scope("gelu"):
            density = tf.exp(tf.square(values) * -0.5) * (1 / math.sqrt(2 * math.pi))
            return upstream * (below + values * density)

    return found, gradient


@tf.custom_gradient
def gelu_tanh(values: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Computes GELU's approximation by tanh, which GPT-2 was trained with (Hendrycks and Gimpel 2016)."""
    slope, cubic = math.sqrt(2 / math.pi), 0.044715
    with tf.name_scope("gelu"):
        square = tf.square(values)  # a power of 3 takes five times as long on a CPU
        below = 0.5 + 0.5 * tf.tanh(slope * values * (1.0 + cubic * square))
        found = values * below

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        with tf.name_scope("gelu"):
            density = 2.0 * slope * below * (1.0 - below) * (1.0 + 3.0 * cubic * square)
            return upstream * (below + values * density)

    return found, gradient


class LayerNorm(keras.layers.LayerNormalization):
    """Keras' layer for rows [N, D], with the gradient of `layer_norm`; computed in its variables' type under mixed precision too."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**{"dtype": keras.mixed_precision.global_policy().variable_dtype, "autocast": False, **kwargs})

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        values, gamma, beta = (tf.cast(part, self.dtype) for part in (rows, self.gamma, self.beta))
        return tf.cast(layer_norm(values, gamma, beta, self.epsilon), rows.dtype)
