"""The output layer: logits from tied embeddings, and their cross-entropy without ever holding all logits.

A batch of 256 texts of 21 tokens over BERT's vocabulary has 656 MB of logits, and a third of its positions is padding. Here the
real positions are moved to the front and taken in blocks; a block's logits live just long enough to add to the loss and
to both gradients. Same sums as the plain form, fewer of them.
"""

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
    parts, place = _in_blocks(states, table, bias, targets, weights)
    total, nll = _blockwise(*parts, smoothing) if training else _losses_only(*parts)
    return total, tf.gather(tf.reshape(nll, [-1]), place)


def token_nll(states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """[N] each position's NLL, 0 where the weight is 0, differentiable in states, table and bias.

    For losses that are no sum of NLLs: what a position counts is known only when the gradient is asked for, so the blocks are then
    computed once more. Arguments as in `cross_entropy`.
    """
    (blocks, table, bias, targets, weights, needed), place = _in_blocks(states, table, bias, targets, weights)

    @tf.custom_gradient
    def compute(states, table, bias):
        nll = _losses_only(states, table, bias, targets, weights, needed)[1]

        def gradient(upstream):
            counted = tf.where(weights == 0, tf.zeros_like(upstream), upstream)
            return _sums_and_gradients(states, table, bias, targets, counted, needed, 0.0)[2:]

        return nll, gradient

    return tf.gather(tf.reshape(compute(blocks, table, bias), [-1]), place)


def _in_blocks(states, table, bias, targets, weights) -> tuple[tuple, tf.Tensor]:
    """Real positions first, in blocks: the arguments of what computes block by block, and where each position went."""
    order = tf.argsort(tf.cast(weights == 0, tf.int32), stable=True)
    blocks = -(-states.shape[0] // BLOCK)

    def arrange(values: tf.Tensor) -> tf.Tensor:
        """[N, ...] -> [blocks, BLOCK, ...]"""
        filled = tf.pad(tf.gather(values, order), [[0, blocks * BLOCK - values.shape[0]], *[[0, 0]] * (values.shape.rank - 1)])
        return tf.reshape(filled, [blocks, BLOCK, *values.shape[1:]])

    bias = tf.convert_to_tensor(bias)  # a distributed variable as an argument would be taken for a captured one
    needed = -(-tf.math.count_nonzero(weights, dtype=tf.int32) // BLOCK)
    return (arrange(states), table, bias, arrange(targets), arrange(weights), needed), tf.argsort(order, stable=True)


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

    @tf.custom_gradient
    def compute(states, table, bias):
        total, nll, d_states, d_table, d_bias = _sums_and_gradients(states, table, bias, targets, weights, needed, smoothing)

        def gradient(upstream, _):
            return d_states * tf.cast(upstream, states.dtype), d_table * upstream, d_bias * upstream

        return (total, nll), gradient

    return compute(states, table, bias)


def _sums_and_gradients(states, table, bias, targets, weights, needed, smoothing) -> tuple[tf.Tensor, ...]:
    """The weighted total, each position's plain NLL, and the total's gradients in states, table and bias."""
    size = table.shape[0]
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
    return tf.while_loop(lambda i, *_: i < needed, block, [tf.constant(0), *zeros], parallel_iterations=1)[1:]
