"""The output layer: logits from tied embeddings, and their cross-entropy without ever holding all logits.

A batch of 256 texts of 21 tokens over BERT's vocabulary has 656 MB of logits, and a third of its positions is padding. Here the
real positions are moved to the front and taken in blocks; a block's logits live just long enough to add to the loss and
to both gradients. Same sums as the plain form, fewer of them.

A pointer (layers/pointer.py) gives each position a second way to its target, copying; the loss is then that of the mixture.
"""

from collections.abc import Callable
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
      mixture: a target's probability is p_gen times that of the output layer plus that of copying it. Smoothing then spreads
        probability over the output layer's part.

    Returns:
      The weighted sum (a scalar, differentiable in states, table, bias and mixture) and [N] each position's NLL without smoothing
      (no gradient; 0 where the weight is 0).
    """
    blocks, place = _in_blocks(states, table, bias, targets, weights, mixture)
    if not training:
        nll = _losses_only(blocks)
        return tf.reduce_sum(nll * tf.cast(blocks.weights, nll.dtype)), _back(nll, place)

    @tf.custom_gradient
    def compute(*parts):
        losses, *gradients = _sums_and_gradients(blocks.with_parts(parts), blocks.weights, smoothing)
        return (tf.reduce_sum(losses[:, 0]), losses[:, 1]), lambda upstream, _: _scaled(gradients, upstream)

    total, nll = compute(*blocks.parts())
    return total, _back(nll, place)


def token_nll(
    states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, mixture: Mixture | None = None
) -> tf.Tensor:
    """[N] each position's NLL, 0 where the weight is 0, differentiable in states, table, bias and mixture.

    For losses that are no sum of NLLs: what a position counts is known only when the gradient is asked for, so the blocks are then
    computed once more. Arguments as in `cross_entropy`.
    """
    blocks, place = _in_blocks(states, table, bias, targets, weights, mixture)

    @tf.custom_gradient
    def compute(*parts):
        found = blocks.with_parts(parts)

        def gradient(upstream):
            counted = tf.where(blocks.weights == 0, tf.zeros_like(upstream), upstream)
            return _sums_and_gradients(found, counted, 0.0)[1:]

        return _losses_only(found), gradient

    return _back(compute(*blocks.parts()), place)


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


class _Blocks(NamedTuple):
    """States [blocks, BLOCK, D], targets, weights and mixture [blocks, BLOCK], of which the first `needed` blocks count."""

    states: tf.Tensor
    table: tf.Tensor
    bias: tf.Tensor
    targets: tf.Tensor
    weights: tf.Tensor
    needed: tf.Tensor
    mixture: tuple = ()

    def parts(self) -> tuple[tf.Tensor, ...]:
        """What gradients are taken of."""
        return self.states, self.table, self.bias, *self.mixture

    def with_parts(self, parts: tuple[tf.Tensor, ...]) -> "_Blocks":
        """The same over other `parts`."""
        return self._replace(states=parts[0], table=parts[1], bias=parts[2], mixture=parts[3:])


def _in_blocks(states, table, bias, targets, weights, mixture) -> tuple[_Blocks, tf.Tensor]:
    """Real positions first, in blocks, and where each position went."""
    order, needed, arrange = _arrangement(weights)
    bias = tf.convert_to_tensor(bias)  # a distributed variable as an argument would be taken for a captured one
    arranged = arrange(states), table, bias, arrange(targets), arrange(weights), needed, tuple(map(arrange, mixture or ()))
    return _Blocks(*arranged), tf.argsort(order, stable=True)


def _back(nll: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """[blocks, BLOCK] -> [N], as the positions came."""
    return tf.gather(tf.reshape(nll, [-1]), place)


def _losses_only(blocks: _Blocks) -> tf.Tensor:
    """[blocks, BLOCK] each position's NLL, 0 where the weight is 0."""
    table = tf.cast(blocks.table, blocks.states.dtype)

    def block(i, nll):
        scores = logits(blocks.states[i], table, blocks.bias)
        found = tf.gather(scores, blocks.targets[i], batch_dims=1) - tf.reduce_logsumexp(scores, -1)
        if blocks.mixture:
            log_generate, log_copied = (part[i] for part in blocks.mixture)
            found = _log_sum(log_generate + found, log_copied)
        return i + 1, tf.tensor_scatter_nd_update(nll, [[i]], [tf.where(blocks.weights[i] == 0, tf.zeros_like(found), -found)])

    zeros = tf.zeros(blocks.weights.shape, blocks.bias.dtype)
    return tf.while_loop(lambda i, _: i < blocks.needed, block, [tf.constant(0), zeros], parallel_iterations=1)[1]


def _sums_and_gradients(blocks: _Blocks, weights: tf.Tensor, smoothing: float) -> tuple[tf.Tensor, ...]:
    """[blocks, 2, BLOCK] what each position adds to the total, and its plain NLL; then the total's gradients in `blocks.parts()`."""
    # The gradients are made here: a second tape that watched the loop would have it prepare for second ones, which XLA refuses.
    states, table, bias, *mixture = (tf.stop_gradient(part) for part in blocks.parts())
    size = table.shape[0]
    small = tf.cast(table, states.dtype)  # here, so that the table's gradient, a sum over all positions, stays float32

    def block(i, losses, d_states, d_table, d_bias, *d_mixture):
        inputs, truth, weight = states[i], blocks.targets[i], weights[i]
        scores = logits(inputs, small, bias)  # [BLOCK, V']
        log_sum = tf.reduce_logsumexp(scores, -1)
        each = log_sum - tf.gather(scores, truth, batch_dims=1)
        blame = weight * (1.0 - smoothing)  # d total / d each
        if mixture:
            generated, copied = mixture[0][i] - each, mixture[1][i]
            each = -_log_sum(generated, copied)
            new = [-blame * tf.exp(part + each) for part in (generated, copied)]  # by each one's part of the target's probability
            d_mixture = [tf.tensor_scatter_nd_update(d, [[i]], [value]) for d, value in zip(d_mixture, new, strict=True)]
            blame = -new[0]
        loss, share = each, tf.exp(scores - log_sum[:, None])
        hot = tf.range(size, dtype=truth.dtype)[None] == truth[:, None]
        d_scores = share * (blame + smoothing * weight)[:, None] - tf.where(hot, blame[:, None], 0)
        if smoothing:
            loss = (1.0 - smoothing) * each + smoothing * (log_sum - tf.reduce_mean(scores, -1))
            d_scores -= (smoothing / size) * weight[:, None]
        half = tf.cast(d_scores, small.dtype)
        return (
            i + 1,
            tf.tensor_scatter_nd_update(losses, [[i]], [tf.stack([loss * weight, tf.where(weight == 0, tf.zeros_like(each), each)])]),
            tf.tensor_scatter_nd_update(d_states, [[i]], [half @ small]),
            d_table + tf.cast(tf.matmul(half, inputs, transpose_a=True), bias.dtype),
            d_bias + tf.reduce_sum(d_scores, 0),
            *d_mixture,
        )

    losses = tf.zeros([weights.shape[0], 2, weights.shape[1]], bias.dtype)
    zeros = [losses, tf.zeros_like(states), tf.zeros(table.shape, bias.dtype), tf.zeros_like(bias), *map(tf.zeros_like, mixture)]
    return tf.while_loop(lambda i, *_: i < blocks.needed, block, [tf.constant(0), *zeros], parallel_iterations=1)[1:]


def _scaled(gradients: list[tf.Tensor], upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return tuple(d * tf.cast(upstream, d.dtype) for d in gradients)


def _log_sum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """log(e^a + e^b)"""
    return tf.maximum(a, b) + tf.math.softplus(-tf.abs(a - b))
