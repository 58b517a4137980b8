"""Additive attention (Bahdanau et al. 2015): e_ij = v^T tanh(W q_i + U m_j + b)."""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.decoder import MASKED


class AdditiveAttention(keras.layers.Layer):
    """Scores the items of a memory for each query. U m_j is computed apart from its use, so that decoding can keep it.

    Args:
      width: A, of the space in which queries and items are added.
    """

    def __init__(self, width: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.query = keras.layers.Dense(width, name="query")
        self.item = keras.layers.Dense(width, use_bias=False, name="item")
        self.score = self.add_weight("score", (width,), initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"))

    def remember(self, memory: tf.Tensor) -> tf.Tensor:
        """Projects a memory [B, M, E] to its items U m, [B, M, A]."""
        return self.item(memory)

    def scores(self, queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Computes e_ij of queries [B, L, Q] and items [B, M, A] (`remember`). Returns [B, L, M]."""
        return _scores(self.query(queries), items, tf.cast(self.score, items.dtype))

    def call(self, queries: tf.Tensor, items: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Computes how each query divides its attention among the items.

        Args:
          queries: [B, L, Q]. items: [B, M, A] of `remember`. mask: [B, M] bool, false for items that do not exist.

        Returns:
          [B, L, M], of which each row adds up to 1, in the variables' type, because pointers take logarithms of it.
        """
        return attention_weights(self.scores(queries, items), mask, self.variable_dtype)

    def get_config(self) -> dict:
        return super().get_config() | {"width": self.width}


def attention_weights(scores: tf.Tensor, mask: tf.Tensor, dtype: str) -> tf.Tensor:
    """Takes the softmax of scores [B, L, M] over the items that `mask` [B, M] allows. The others get 0, unless there are no others."""
    return tf.nn.softmax(tf.cast(scores, dtype) + tf.cast(tf.where(mask, 0.0, MASKED), dtype)[:, None])


@tf.custom_gradient
def _scores(queries: tf.Tensor, items: tf.Tensor, score: tf.Tensor):
    """Computes v^T tanh(q_i + m_j) for projected queries [B, L, A], items [B, M, A] and v [A]. Returns [B, L, M].

    The tanh has L * M * A numbers a text, the largest tensor of such a model by far. The gradient computes it again instead of keeping it.
    """

    def activations() -> tf.Tensor:
        return tf.tanh(queries[:, :, None] + items[:, None])  # --> [B, L, M, A]

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = activations()
        d_sum = upstream[..., None] * score * (1.0 - tf.square(found))  # --> [B, L, M, A], the derivative in q_i + m_j
        return tf.reduce_sum(d_sum, 2), tf.reduce_sum(d_sum, 1), tf.einsum("blm,blma->a", upstream, found)

    # Not matvec: TensorFlow 2.19's oneDNN kernel for [B, 1, M, A] x [A] writes beyond its buffer, and the process dies.
    return tf.tensordot(activations(), score, 1), gradient
