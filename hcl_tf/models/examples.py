"""Questions about the examples of a batch, and how their answers become sums and diagnostics."""

import tensorflow as tf

from hcl_tf.data.keywords.subgraph import ROUTES
from hcl_tf.models.base import Batch, Sum, partners

NOT_A_NUMBER = float("nan")  # the value of an example to which a question does not apply


def has_impostor(batch: Batch) -> tf.Tensor:
    """Says which examples have an impostor, [B] bool."""
    return batch["impostor_routes"] != ROUTES.index("none")


def have_different_keywords(batch: Batch) -> tf.Tensor:
    """Says for which examples target and negative have different sets of nodes, [B] bool."""
    return differ(batch["target_nodes"], batch["negative_nodes"])


def differ(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Says which sets of nodes, [B, K] each (-1: none), differ, [B] bool."""
    same = a[:, :, None] == b[:, None, :]  # --> [B, K, K]
    alone = [(nodes >= 0) & ~tf.reduce_any(same, axis) for nodes, axis in ((a, 2), (b, 1))]
    return tf.reduce_any(tf.concat(alone, -1), -1)


def with_negatives(batch: Batch) -> Batch:
    """Returns the batch with its negatives in the place of its targets."""
    return {**batch, "target_ids": batch["negative_ids"]}


def another(values: tf.Tensor, batch: Batch) -> tf.Tensor:
    """Gives each example the values of another real one (`partners`), [B, ...]; NaN, or its own whole numbers, where it is alone."""
    partner, exists = partners(batch)
    found = tf.gather(values, partner)
    return found if values.dtype.is_integer else tf.where(exists, found, NOT_A_NUMBER)


def as_float(condition: tf.Tensor) -> tf.Tensor:
    """Turns true into 1 and false into 0."""
    return tf.cast(condition, tf.float32)


def where_applies(applies: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """Turns true into 1 and false into 0, where the question applies; NaN elsewhere. [B] each."""
    return tf.where(applies, as_float(condition), NOT_A_NUMBER)


def weighted_sum(values: tf.Tensor, weights: tf.Tensor, per: str) -> Sum:
    """Sums values [B] times weights [B]; what has the weight 0 does not count even if it is NaN. `per`: the count for the mean."""
    return Sum(tf.reduce_sum(tf.where(weights > 0, values, 0.0) * weights), per)
