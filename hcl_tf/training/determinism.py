"""Makes a training give the same bits each time, which exact resume rests on."""

from collections.abc import Sequence
from functools import reduce

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop


def make_deterministic() -> None:
    """Asks TensorFlow for operations that give the same bits each time, and adds gradients in a fixed order; for the whole process.

    TensorFlow's own switch misses one operation: AddN, which adds up the gradients of a value that several operations read. It begins with
    the first input whose memory it may overwrite, and which one that is depends on which thread let go of its input first. So with three
    inputs or more the order of the sum is left to chance: on two busy cores the keyword graph's gradient came out with other bits in one
    of 500 steps, and in eight of eleven trainings with two workers. TensorFlow's arithmetic optimiser would make an AddN of sums in order.
    """
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    pywrap_tfe.TFE_Py_RegisterVSpace(backprop._default_vspace._replace(aggregate_fn=added_in_order))
    tf.AggregationMethod.DEFAULT = tf.AggregationMethod.EXPERIMENTAL_TREE  # inside of loops, whose gradients are made elsewhere: by pairs


def added_in_order(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor | tf.IndexedSlices:
    """Adds the gradients of a value, the first two first. If all are sparse, TensorFlow joins them, which keeps their order."""
    if len(gradients) > 2 and any(isinstance(gradient, tf.Tensor) for gradient in gradients):
        return reduce(tf.add, map(tf.convert_to_tensor, gradients))
    return backprop._aggregate_grads(gradients)
