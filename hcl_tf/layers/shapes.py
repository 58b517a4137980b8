"""Sizes of tensors."""

import tensorflow as tf


def dimension(tensor: tf.Tensor, axis: int = 0) -> int | tf.Tensor:
    """Returns the size of an axis: a number where it is known while tracing, which keeps shapes known; else a scalar tensor."""
    known = tensor.shape[axis]
    return tf.shape(tensor)[axis] if known is None else known
