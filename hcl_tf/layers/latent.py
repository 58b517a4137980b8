"""The Gaussian networks of the CVAE: prior p(z | x, u) and posterior q(z | x, y) (paper section 3.1, eqs 1-3)."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras

from hcl_tf.layers.noise import Noise

Gaussian = tfp.distributions.MultivariateNormalDiag


class GaussianHead(keras.layers.Layer):
    """f_theta or f_phi: computes the mean and standard deviation of a diagonal Gaussian from a condition vector.

    One hidden layer (tanh), as in Zhao et al. (2017). Log-variances are bounded smoothly to (-bound, bound), so that neither
    a KL divergence nor a Mahalanobis distance can overflow. Float32 under mixed precision too, unless `dtype` is given.

    Args:
      size: Z. hidden: width of the hidden layer. bound: of the log-variance.
    """

    def __init__(self, size: int, hidden: int, bound: float = 10.0, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size, self.hidden, self.bound = size, hidden, bound
        self.inner = keras.layers.Dense(hidden, "tanh", dtype=self.dtype, name="inner")
        self.outer = keras.layers.Dense(2 * size, dtype=self.dtype, name="outer")

    def call(self, condition: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes mean and standard deviation, [B, Z] each, from conditions [B, C]."""
        mean, log_variance = tf.split(self.outer(self.inner(condition)), 2, axis=-1)
        return mean, tf.exp(0.5 * self.bound * tf.tanh(log_variance / self.bound))

    def get_config(self) -> dict:
        return super().get_config() | {"size": self.size, "hidden": self.hidden, "bound": self.bound}


def gaussian(parameters: tuple[tf.Tensor, tf.Tensor]) -> Gaussian:
    """Makes the TFP distribution of a head's output (mean and standard deviation)."""
    mean, stddev = parameters
    return Gaussian(loc=mean, scale_diag=stddev)


def kl_by_dimension(posterior: Gaussian, prior: Gaussian) -> tf.Tensor:
    """Computes each dimension's part of KL(posterior || prior), [B, Z] nats. They sum to the whole, because both are diagonal."""
    one = (tfp.distributions.Normal(d.mean(), d.stddev()) for d in (posterior, prior))
    return tfp.distributions.kl_divergence(*one)


def kl_parts(posterior: Gaussian, prior: Gaussian) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits KL(posterior || prior) into what the means contribute and what the variances do, [B] nats each; they sum to the whole.

    The means' part alone can move an output that is decoded from a mean.
    """
    means = 0.5 * mahalanobis(posterior.mean(), prior)
    ratio = posterior.stddev() / prior.stddev()
    return means, tf.reduce_sum(0.5 * (tf.square(ratio) - 1.0) - tf.math.log(ratio), -1)


def sample(distribution: Gaussian, noise: Noise) -> tf.Tensor:
    """Draws z [B, Z] by reparameterisation (Kingma and Welling 2014), with noise that belongs to each example."""
    return distribution.mean() + distribution.stddev() * tf.cast(noise.normal((distribution.event_shape[0],)), distribution.dtype)


def mahalanobis(point: tf.Tensor, distribution: Gaussian) -> tf.Tensor:
    """Computes h(u) = (u - mu)^T (sigma^2 I)^-1 (u - mu) (the text before eq 11) of points [B, Z]. Returns [B]."""
    return tf.reduce_sum(tf.square((point - distribution.mean()) / distribution.stddev()), -1)


def kl_weight(step: tf.Tensor | None, ramp: int, cycles: int, delay: int = 0) -> tf.Tensor | float:
    """Computes the weight of the KL term.

    It is 0 for `delay` steps, then rises linearly to 1 over `ramp` steps. With cycles (Fu et al. 2019) it does so `cycles` times, each time
    rising for half of `ramp` and staying at 1 for the other half.

    Args:
      step: int32 scalar, from 0; None: after the last ramp.
    """
    if step is None or not ramp + delay:
        return 1.0
    step = tf.cast(step - delay, tf.float32)
    weight = tf.minimum(1.0, (step + 1.0) / max(ramp, 1))
    if cycles:
        within = tf.math.floormod(step, float(ramp)) / ramp
        weight = tf.where(step >= float(ramp * cycles), 1.0, tf.minimum(1.0, 2.0 * within))
    return tf.where(step < 0, 0.0, weight)
