"""Additive attention (Bahdanau et al. 2015): e_ij = v^T tanh(W q_i + U m_j + b)."""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.decoder import MASKED


class AdditiveAttention(keras.layers.Layer):
    """Scores of a memory's items for queries. U m_j is computed apart from its use, so that decoding can keep it.

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
        """[B, M, E] -> U m, [B, M, A]."""
        return self.item(memory)

    def scores(self, queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """[B, L, Q] queries, [B, M, A] items of `remember` -> [B, L, M] e_ij."""
        return _scores(self.query(queries), items, tf.cast(self.score, items.dtype))

    def call(self, queries: tf.Tensor, items: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """How each query divides its attention.

        Args:
          queries: [B, L, Q]. items: [B, M, A] of `remember`. mask: [B, M] bool, false for items that do not exist.

        Returns:
          [B, L, M], each row adds up to 1; in the variables' type, because pointers take their logarithms.
        """
        return attention_weights(self.scores(queries, items), mask, self.variable_dtype)

    def get_config(self) -> dict:
        return super().get_config() | {"width": self.width}


def attention_weights(scores: tf.Tensor, mask: tf.Tensor, dtype: str) -> tf.Tensor:
    """[B, L, M] scores -> their softmax over the items that `mask` [B, M] allows; 0 at the others if there are any."""
    return tf.nn.softmax(tf.cast(scores, dtype) + tf.cast(tf.where(mask, 0.0, MASKED), dtype)[:, None])


@tf.custom_gradient
def _scores(queries: tf.Tensor, items: tf.Tensor, score: tf.Tensor):
    """[B, L, A], [B, M, A], [A] -> [B, L, M].

    The sum inside the tanh has L M A numbers a text, the largest tensor of such a model by far. Its gradient computes it again
    instead of keeping it.
    """
    inner = lambda: tf.tanh(queries[:, :, None] + items[:, None])  # noqa: E731

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = inner()
        to_sum = upstream[..., None] * score * (1.0 - tf.square(found))
        return tf.reduce_sum(to_sum, 2), tf.reduce_sum(to_sum, 1), tf.einsum("blm,blma->a", upstream, found)

    # Not matvec: TensorFlow 2.19's oneDNN kernel for [B, 1, M, A] x [A] writes beyond its buffer, and the process dies.
    return tf.tensordot(inner(), score, 1), gradient
