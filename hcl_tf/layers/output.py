"""The output layer: logits from tied embeddings, and their cross-entropy without ever holding all logits.

A batch of 256 texts of 21 tokens over BERT's vocabulary has 656 MB of logits, and a third of its positions is padding. Here the
real positions are moved to the front and taken in blocks; a block's logits live just long enough to add to the loss and
to both gradients. Same sums as the plain form, fewer of them.
"""

from collections.abc import Callable

import tensorflow as tf

BLOCK = 128


def logits(states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """[..., D] states, [V', D] embeddings, [V'] bias -> [..., V'] in the bias's type (float32)."""
    product = tf.matmul(states, tf.cast(table, states.dtype), transpose_b=True)
    return tf.cast(product, bias.dtype) + bias


def cross_entropy(
    states: tf.Tensor,
    table: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    smoothing: float = 0.0,
    training: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Weighted negative log-likelihood of targets.

    Args:
      states: [N, D]. table: [V', D]. bias: [V'].
      targets: [N] int32 columns. weights: [N] float32, 0 for positions that do not count (those cost nothing).
      training: False spares the gradients, which come with the losses, and the smoothing.
      smoothing: share of the target's probability spread evenly over V' (Szegedy et al. 2016), in the first result only.

    Returns:
      The weighted sum (a scalar, differentiable in states, table and bias) and [N] each position's NLL without smoothing
      (no gradient; 0 where the weight is 0).
    """
    order, needed, arrange = _arrangement(weights)
    bias = tf.convert_to_tensor(bias)  # a distributed variable as an argument would be taken for a captured one
    parts = arrange(states), table, bias, arrange(targets), arrange(weights), needed
    total, nll = _blockwise(*parts, smoothing) if training else _losses_only(*parts)
    return total, tf.gather(tf.reshape(nll, [-1]), tf.argsort(order, stable=True))


def divergence_gradient(states: tf.Tensor, moved: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Gradient in `moved` of KL(p || q), p and q the next-token distributions of `states` and `moved`: (q - p) @ table, token by token.

    Args:
      states, moved: [N, D]. table, bias: as in `logits`. weights: [N], 0 for positions that do not count (those get 0).

    Returns:
      [N, D], without a gradient of its own.
    """
    order, needed, arrange = _arrangement(weights)
    before, after = arrange(states), arrange(moved)
    bias, table = tf.convert_to_tensor(bias), tf.cast(table, states.dtype)

    def block(i, found):
        p, q = (tf.nn.softmax(logits(part[i], table, bias)) for part in (before, after))
        return i + 1, tf.tensor_scatter_nd_update(found, [[i]], [tf.cast(q - p, table.dtype) @ table])

    _, found = tf.while_loop(lambda i, _: i < needed, block, [tf.constant(0), tf.zeros_like(before)], parallel_iterations=1)
    found = tf.gather(tf.reshape(found, [-1, states.shape[1]]), tf.argsort(order, stable=True))
    return tf.stop_gradient(tf.where(weights[:, None] == 0, tf.zeros_like(found), found))


def _arrangement(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The order of [N] positions with those that count first, how many blocks these fill, and a function that arranges
    [N, ...] in that order as [blocks, BLOCK, ...].
    """
    order = tf.argsort(tf.cast(weights == 0, tf.int32), stable=True)
    blocks = -(-weights.shape[0] // BLOCK)

    def arrange(values: tf.Tensor) -> tf.Tensor:
        filled = tf.pad(tf.gather(values, order), [[0, blocks * BLOCK - values.shape[0]], *[[0, 0]] * (values.shape.rank - 1)])
        return tf.reshape(filled, [blocks, BLOCK, *values.shape[1:]])

    return order, -(-tf.math.count_nonzero(weights, dtype=tf.int32) // BLOCK), arrange


def _losses_only(states, table, bias, targets, weights, needed) -> tuple[tf.Tensor, tf.Tensor]:
    """`_blockwise` without gradients and smoothing."""
    table = tf.cast(table, states.dtype)

    def block(i, nll):
        scores = logits(states[i], table, bias)
        found = tf.reduce_logsumexp(scores, -1) - tf.gather(scores, targets[i], batch_dims=1)
        return i + 1, tf.tensor_scatter_nd_update(nll, [[i]], [tf.where(weights[i] == 0, tf.zeros_like(found), found)])

    zeros = tf.zeros(weights.shape, bias.dtype)
    _, nll = tf.while_loop(lambda i, _: i < needed, block, [tf.constant(0), zeros], parallel_iterations=1)
    return tf.reduce_sum(nll * tf.cast(weights, nll.dtype)), nll


def _blockwise(states, table, bias, targets, weights, needed, smoothing) -> tuple[tf.Tensor, tf.Tensor]:
    """`cross_entropy` of the first `needed` blocks: states [blocks, BLOCK, D], targets and weights [blocks, BLOCK]."""
    size = table.shape[0]

    @tf.custom_gradient
    def compute(states, table, bias):
        # The gradients are made here: a second tape that watched the loop would have it prepare for second ones, which XLA refuses.
        states, table, bias = (tf.stop_gradient(part) for part in (states, table, bias))
        small = tf.cast(table, states.dtype)  # here, so that the table's gradient, a sum over all positions, stays float32

        def block(i, total, nll, d_states, d_table, d_bias):
            inputs, truth, weight = states[i], targets[i], weights[i]
            scores = logits(inputs, small, bias)  # [BLOCK, V']
            log_sum = tf.reduce_logsumexp(scores, -1)
            truth_scores = tf.gather(scores, truth, batch_dims=1)
            loss = log_sum - (1.0 - smoothing) * truth_scores
            share = tf.exp(scores - log_sum[:, None])
            if smoothing:
                loss -= smoothing * tf.reduce_mean(scores, -1)
                share -= smoothing / size
            hot = tf.range(size, dtype=truth.dtype)[None] == truth[:, None]
            share = (share - tf.where(hot, tf.constant(1.0 - smoothing, share.dtype), 0)) * weight[:, None]  # d total / d scores
            half = tf.cast(share, small.dtype)
            return (
                i + 1,
                total + tf.reduce_sum(loss * weight),
                tf.tensor_scatter_nd_update(nll, [[i]], [tf.where(weight == 0, 0.0, log_sum - truth_scores)]),
                tf.tensor_scatter_nd_update(d_states, [[i]], [half @ small]),
                d_table + tf.cast(tf.matmul(half, inputs, transpose_a=True), bias.dtype),
                d_bias + tf.reduce_sum(share, 0),
            )

        zero = tf.zeros([], bias.dtype)
        zeros = [zero, tf.zeros_like(weights), tf.zeros_like(states), tf.zeros(table.shape, bias.dtype), tf.zeros_like(bias)]
        _, total, nll, d_states, d_table, d_bias = tf.while_loop(
            lambda i, *_: i < needed, block, [tf.constant(0), *zeros], parallel_iterations=1
        )

        def gradient(upstream, _):
            return d_states * tf.cast(upstream, states.dtype), d_table * upstream, d_bias * upstream

        return (total, nll), gradient

    return compute(states, table, bias)
