"""The three contrasts: between instances, between keywords, and between the two (paper section 3.3, eqs 10 and 11); and other papers'.

The three compare a positive with an impostor. Over a similarity s (eq 10) the loss is -log of the positive's softmax; over a distance
h (L_ma, eq 11, and L_ins, which has no number) the paper prints -log(1 - softmax(h / tau)[positive]). With one negative both are one
softplus, which neither overflows nor loses small differences: -log(1 - e^a / (e^a + e^b)) = log(1 + e^(a - b)).
"""

import tensorflow as tf
import tf_keras as keras


class DistanceContrast(keras.layers.Layer):
    """L_ins and L_ma: the positive's distance must be the smaller one.

    Args:
      tau: temperature.
      scale: distances are divided by it first (Z: KL and Mahalanobis distances grow with the number of dimensions).
      form: with several negatives, "softmax" is -log softmax(-h / tau)[positive], in which the hardest negative rules;
        "printed" is the paper's -log(1 - softmax(h / tau)[positive]), in which the easiest does. Equal for one negative.
    """

    def __init__(self, tau: float = 1.0, scale: float = 1.0, form: str = "softmax", **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.tau, self.scale, self.form = tau, scale, form

    def call(self, positive: tf.Tensor, negatives: tf.Tensor, present: tf.Tensor | None = None) -> tf.Tensor:
        """Computes one loss for each example. Returns [B].

        Args:
          positive: [B] distances of the positives. negatives: [B] or [B, N] distances of the negatives.
          present: [B, N] bool, which negatives count; None: all.
        """
        positive = positive / (self.scale * self.tau)
        negatives = (negatives if negatives.shape.rank == 2 else negatives[:, None]) / (self.scale * self.tau)
        absent = 0.0 if present is None else tf.cast(tf.where(present, 0.0, -1e9), negatives.dtype)
        if self.form == "printed":  # -log(1 - e^p / (e^p + sum e^n)) = log(e^p + sum e^n) - log sum e^n
            return tf.math.softplus(positive - tf.reduce_logsumexp(negatives + absent, -1))
        return tf.math.softplus(positive + tf.reduce_logsumexp(absent - negatives, -1))

    def get_config(self) -> dict:
        return super().get_config() | {"tau": self.tau, "scale": self.scale, "form": self.form}


class KeywordContrast(keras.layers.Layer):
    """L_key (eq 10): the source keywords' state must be nearer, by cosine, to the target keywords' than to the impostor's.

    Args:
      tau: temperature.
    """

    def __init__(self, tau: float = 0.1, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.tau = tau
        self.compare = DistanceContrast(tau, dtype=self.dtype, name="compare")

    def call(self, positive: tf.Tensor, negatives: tf.Tensor, present: tf.Tensor | None = None) -> tf.Tensor:
        """Computes one loss for each example. Returns [B].

        Args:
          positive: [B] cos(u_x, u_y). negatives: [B] or [B, N] cos(u_x, u_-).
          present: [B, N] bool, which negatives count; None: all.
        """
        return self.compare(-positive, -negatives, present)

    def get_config(self) -> dict:
        return super().get_config() | {"tau": self.tau}


class Impostor(keras.layers.Layer):
    """Computes u_- of eq 10: the sum over the target keywords' negative neighbours of W u_j, W starting as the identity.

    Args:
      size: Z.
      kind: "one" takes one neighbour, drawn anew each time, "mean" the mean over them, either rescaled to the positive's length, so that
        its length alone does not give it away to the Mahalanobis distance; "sum" is the printed form. A mean over many differs from single
        keywords so much that one fixed direction tells it (BUILD_NOTES 92).
      gradient: whether the contrasts train W; they would learn to make the impostor trivial.
    """

    def __init__(self, size: int, kind: str = "one", gradient: bool = False, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size, self.kind, self.gradient = size, kind, gradient
        self.kernel = self.add_weight("kernel", (size, size), initializer="identity", trainable=gradient)

    def chosen(self, present: tf.Tensor, draw: tf.Tensor | None) -> tf.Tensor:
        """Says which negative neighbours [B, K, F] make the impostor, of those that are `present`; bool as this.

        Args:
          draw: [B, K, F] uniform noise, which chooses where `kind` is "one"; None: the first neighbour.
        """
        return one_of(present, draw) if self.kind == "one" else present

    def call(self, states: tf.Tensor, chosen: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
        """Computes impostors [B, Z]; zero where an example has no neighbour.

        Args:
          states: [B, K, F, Z] states of the negative neighbours of each target keyword.
          chosen: [B, K, F] bool, which of them count (`chosen`).
          positive: [B, Z] u_y.
        """
        weights = tf.cast(chosen, states.dtype)
        summed = tf.einsum("bkf,bkfz->bkz", weights, states)  # --> [B, K, Z]
        if self.kind == "sum":
            return tf.reduce_sum(summed, 1) @ self.kernel
        neighbours = tf.reduce_sum(weights, -1)  # --> [B, K]
        keywords = tf.reduce_sum(tf.cast(neighbours > 0, states.dtype), -1, keepdims=True)
        means = tf.reduce_sum(summed / tf.maximum(neighbours, 1.0)[..., None], 1) / tf.maximum(keywords, 1.0)
        # Not tf.norm, whose gradient at zero (a graph of one node, centred, before its projection has a bias) is not a number.
        length = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(positive), -1, keepdims=True), 1e-12))
        return tf.math.l2_normalize(means @ self.kernel, -1) * length

    def get_config(self) -> dict:
        return super().get_config() | {"size": self.size, "kind": self.kind, "gradient": self.gradient}


def one_of(present: tf.Tensor, draw: tf.Tensor | None) -> tf.Tensor:
    """Keeps one of the entries of each row [B, ...] that are present: the one with the largest draw, or the first where there is no draw.

    Args:
      present: [B, ...] bool. draw: the same shape, uniform noise; None: none.

    Returns:
      Bool of the same shape, at most one True a row.
    """
    shape = tf.shape(present)
    flat = tf.reshape(present, [shape[0], -1])
    keys = tf.cast(flat, tf.float32) if draw is None else tf.where(flat, tf.reshape(draw, tf.shape(flat)), -1.0)
    chosen = tf.one_hot(tf.argmax(keys, -1), tf.shape(flat)[1], True, False, dtype=tf.bool)
    return tf.reshape(flat & chosen, shape)


def group_contrast(gain: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """Computes the loss that Cai et al. (2020) give a pair: -log(0.5 - s (0.5 - h)) with h = sigmoid(g).

    Computed as -log((1 + s)/2 h + (1 - s)/2 (1 - h)), which is the same, with the logarithms of h and 1 - h from softplus: it is
    softplus(-g) for s = 1, softplus(g) for s = -1, and ln 2 for s = 0, and neither overflows nor loses the gradient of a large g.

    Args:
      gain: g, how much likelier (in nats) the pair is under the target model than under the reference. score: s in [-1, 1], same shape.
    """
    likely, unlikely = tf.math.log((1.0 + score) / 2.0) - tf.math.softplus(-gain), tf.math.log((1.0 - score) / 2.0) - tf.math.softplus(gain)
    return -tf.reduce_logsumexp(tf.stack([likely, unlikely]), 0)


def cosine(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Computes the cosine similarity along the last axis; 0 for a zero vector."""
    return tf.reduce_sum(tf.math.l2_normalize(a, -1) * tf.math.l2_normalize(b, -1), -1)


def token_contrast(states: tf.Tensor, real: tf.Tensor, margin: float) -> tf.Tensor:
    """Computes the contrast between a text's tokens (Su et al. 2022, eq 2): max(0, rho - 1 + cos(h_i, h_j)), 1 being cos(h_i, h_i).

    Args:
      states: [B, L, D] h. real: [B, L] bool, which positions count. margin: rho.

    Returns:
      [B] the mean over the ordered pairs of a text's different positions; 0 where there is none.
    """
    units = tf.math.l2_normalize(tf.cast(states, tf.float32), -1)
    losses = tf.nn.relu(margin - 1.0 + tf.matmul(units, units, transpose_b=True))  # --> [B, L, L]
    pairs = tf.cast(real[:, :, None] & real[:, None] & ~tf.eye(states.shape[1], dtype=tf.bool), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * pairs, [1, 2]), tf.reduce_sum(pairs, [1, 2]))
