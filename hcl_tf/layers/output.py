"""The output layer: logits from tied embeddings, and their cross-entropy without ever holding all logits.

A batch of 256 texts of 21 tokens over BERT's vocabulary has 656 MB of logits, and a third of its positions is padding. Here the
real positions are moved to the front and taken in blocks; a block's logits live just long enough to add to the loss and
to both gradients. Same sums as the plain form, fewer of them.

A pointer (layers/pointer.py) gives each position a second way to its target, copying; the loss is then that of the mixture.
"""

from typing import NamedTuple

import tensorflow as tf

BLOCK = 128


class Mixture(NamedTuple):
    """What a pointer adds at each of N positions: log p_gen, and the log-probability with which the target is copied; [N] float32."""

    log_generate: tf.Tensor
    log_copied: tf.Tensor


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
    mixture: Mixture | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Weighted negative log-likelihood of targets.

    Args:
      states: [N, D]. table: [V', D]. bias: [V'].
      targets: [N] int32 columns. weights: [N] float32, 0 for positions that do not count (those cost nothing).
      training: False spares the gradients, which come with the losses, and the smoothing.
      smoothing: share of the target's probability spread evenly over V' (Szegedy et al. 2016), in the first result only.
      mixture: a target's probability is p_gen times that of the output layer plus that of copying it; not together with smoothing.

    Returns:
      The weighted sum (a scalar, differentiable in states, table, bias and mixture) and [N] each position's NLL without smoothing
      (no gradient; 0 where the weight is 0).
    """
    if mixture and smoothing:
        raise ValueError("label smoothing is not defined for a mixture with copying")
    parts, place = _in_blocks(states, table, bias, targets, weights, mixture)
    total, nll = _blockwise(*parts, smoothing) if training else _losses_only(*parts)
    return total, tf.gather(tf.reshape(nll, [-1]), place)


def token_nll(
    states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, mixture: Mixture | None = None
) -> tf.Tensor:
    """[N] each position's NLL, 0 where the weight is 0, differentiable in states, table, bias and mixture.

    For losses that are no sum of NLLs: what a position counts is known only when the gradient is asked for, so the blocks are then
    computed once more. Arguments as in `cross_entropy`.
    """
    (blocks, table, bias, targets, weights, needed, mixture), place = _in_blocks(states, table, bias, targets, weights, mixture)

    @tf.custom_gradient
    def compute(states, table, bias, *mixture):
        nll = _losses_only(states, table, bias, targets, weights, needed, mixture and Mixture(*mixture))[1]

        def gradient(upstream):
            counted = tf.where(weights == 0, tf.zeros_like(upstream), upstream)
            return tuple(_losses_and_gradients(states, table, bias, targets, counted, needed, mixture, 0.0)[1:])

        return nll, gradient

    return tf.gather(tf.reshape(compute(blocks, table, bias, *(mixture or ())), [-1]), place)


def _in_blocks(states, table, bias, targets, weights, mixture) -> tuple[tuple, tf.Tensor]:
    """Real positions first, in blocks: the arguments of what computes block by block, and where each position went."""
    order = tf.argsort(tf.cast(weights == 0, tf.int32), stable=True)
    blocks = -(-states.shape[0] // BLOCK)

    def arrange(values: tf.Tensor) -> tf.Tensor:
        """[N, ...] -> [blocks, BLOCK, ...]"""
        filled = tf.pad(tf.gather(values, order), [[0, blocks * BLOCK - values.shape[0]], *[[0, 0]] * (values.shape.rank - 1)])
        return tf.reshape(filled, [blocks, BLOCK, *values.shape[1:]])

    bias = tf.convert_to_tensor(bias)  # a distributed variable as an argument would be taken for a captured one
    needed = -(-tf.math.count_nonzero(weights, dtype=tf.int32) // BLOCK)
    mixture = mixture and Mixture(*map(arrange, mixture))
    return (arrange(states), table, bias, arrange(targets), arrange(weights), needed, mixture), tf.argsort(order, stable=True)


def _losses_only(states, table, bias, targets, weights, needed, mixture) -> tuple[tf.Tensor, tf.Tensor]:
    """`_blockwise` without gradients and smoothing."""
    table = tf.cast(table, states.dtype)

    def block(i, nll):
        scores = logits(states[i], table, bias)
        found = tf.gather(scores, targets[i], batch_dims=1) - tf.reduce_logsumexp(scores, -1)
        if mixture:
            found = _log_sum(mixture.log_generate[i] + found, mixture.log_copied[i])
        return i + 1, tf.tensor_scatter_nd_update(nll, [[i]], [tf.where(weights[i] == 0, tf.zeros_like(found), -found)])

    zeros = tf.zeros(weights.shape, bias.dtype)
    _, nll = tf.while_loop(lambda i, _: i < needed, block, [tf.constant(0), zeros], parallel_iterations=1)
    return tf.reduce_sum(nll * tf.cast(weights, nll.dtype)), nll


def _blockwise(states, table, bias, targets, weights, needed, mixture, smoothing) -> tuple[tf.Tensor, tf.Tensor]:
    """`cross_entropy` of the first `needed` blocks: states [blocks, BLOCK, D], targets, weights and mixture [blocks, BLOCK]."""

    @tf.custom_gradient
    def compute(states, table, bias, *mixture):
        losses, *gradients = _losses_and_gradients(states, table, bias, targets, weights, needed, mixture, smoothing)

        def gradient(upstream, _):
            return tuple(each * tf.cast(upstream, each.dtype) for each in gradients)

        return (tf.reduce_sum(losses[:, 0]), losses[:, 1]), gradient

    return compute(states, table, bias, *(mixture or ()))


def _losses_and_gradients(states, table, bias, targets, weights, needed, mixture, smoothing) -> list[tf.Tensor]:
    """[blocks, 2, BLOCK] each position's part of the weighted sum and its plain NLL; then gradients in states, table, bias, mixture."""
    size = table.shape[0]
    small = tf.cast(table, states.dtype)  # here, so that the table's gradient, a sum over all positions, stays float32

    def block(i, nll, d_states, d_table, d_bias, *d_mixture):
        inputs, truth, weight = states[i], targets[i], weights[i]
        scores = logits(inputs, small, bias)  # [BLOCK, V']
        log_sum = tf.reduce_logsumexp(scores, -1)
        truth_scores = tf.gather(scores, truth, batch_dims=1)
        loss = log_sum - (1.0 - smoothing) * truth_scores
        each = log_sum - truth_scores
        share = tf.exp(scores - log_sum[:, None])
        if smoothing:
            loss -= smoothing * tf.reduce_mean(scores, -1)
            share -= smoothing / size
        hot = tf.range(size, dtype=truth.dtype)[None] == truth[:, None]
        share -= tf.where(hot, tf.constant(1.0 - smoothing, share.dtype), 0)  # d loss / d scores
        blame = weight
        if mixture:
            generated, copied = mixture[0][i] - each, mixture[1][i]
            loss = each = -_log_sum(generated, copied)
            blame = weight * tf.exp(generated + loss)  # the part of the target's probability that the output layer gave
            d_mixture = [
                tf.tensor_scatter_nd_update(old, [[i]], [-new])
                for old, new in zip(d_mixture, (blame, weight * tf.exp(copied + loss)), strict=True)
            ]
        share *= blame[:, None]
        half = tf.cast(share, small.dtype)
        return (
            i + 1,
            tf.tensor_scatter_nd_update(nll, [[i]], [tf.stack([loss * weight, tf.where(weight == 0, tf.zeros_like(each), each)])]),
            tf.tensor_scatter_nd_update(d_states, [[i]], [half @ small]),
            d_table + tf.cast(tf.matmul(half, inputs, transpose_a=True), bias.dtype),
            d_bias + tf.reduce_sum(share, 0),
            *d_mixture,
        )

    losses = tf.zeros([weights.shape[0], 2, weights.shape[1]], bias.dtype)  # what counts, and the plain NLL
    zeros = [losses, tf.zeros_like(states), tf.zeros(table.shape, bias.dtype), tf.zeros_like(bias), *map(tf.zeros_like, mixture)]
    return tf.while_loop(lambda i, *_: i < needed, block, [tf.constant(0), *zeros], parallel_iterations=1)[1:]


def _log_sum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """log(e^a + e^b)"""
    return tf.maximum(a, b) + tf.math.softplus(-tf.abs(a - b))
