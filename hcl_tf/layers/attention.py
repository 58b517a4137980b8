"""Scaled dot-product attention of several heads (Vaswani et al. 2017), and the mask that it takes."""

import tensorflow as tf

from hcl_tf.layers.noise import Noise, dropout

MASKED = -1e4  # added to scores that must not count; finite in float16 too


def attend(
    queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor,
    rate: float = 0.0, noise: Noise | None = None, lengths: tuple | None = None,
) -> tf.Tensor:  # fmt: skip
    """Attends from each of l queries to m keys. Returns [B, heads, l, d].

    Args:
      queries: [B, heads, l, d]. keys, values: [B, heads, m, d].
      bias: broadcasts to [B, heads, l, m]; 0 where a query may look, `MASKED` where not.
      rate: of dropout of the weights. noise: of the B texts, for dropout; None: no dropout.
      lengths: what l and m would be if all batches were equally long, so that noise does not depend on the batch; None: they are.
    """
    scores = tf.matmul(queries * queries.shape[-1] ** -0.5, keys, transpose_b=True)  # --> [B, heads, l, m]
    weights = dropout(tf.nn.softmax(scores + tf.cast(bias, scores.dtype)), rate, noise, lengths=lengths)
    return tf.matmul(weights, values)


def bias_of(mask: tf.Tensor) -> tf.Tensor:
    """Turns a mask [B, M] of what may be looked at into what is added to scores: [B, 1, 1, M], 0 or `MASKED`."""
    return tf.where(mask, 0.0, MASKED)[:, None, None, :]


def bias_between(segments: tf.Tensor) -> tf.Tensor:
    """Lets places look at places of the same text: segments [B, M], numbers of texts, become what is added to scores, [B, 1, M, M]."""
    return tf.where(segments[:, None, :, None] == segments[:, None, None, :], 0.0, MASKED)
