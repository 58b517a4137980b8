"""The output layer: logits from tied embeddings, and their cross-entropy without ever holding all logits.

A batch of 256 texts of 21 tokens over BERT's vocabulary has 656 MB of logits, and a third of its positions is padding. Here the
positions that count are moved to the front and taken in blocks of `BLOCK`. A block's logits exist only until they are added to the loss
and to the gradients, which are computed in the same pass. The sums are those of the plain form; only fewer of them are taken.

A pointer (layers/pointer.py) gives each position a second way to its target, copying. The loss is then that of the mixture.

In names, `d_x` is the derivative of the total (the weighted sum of all losses) in `x`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

BLOCK = 128  # positions whose logits are held at once


class Mixture(NamedTuple):
    """What a pointer adds to the output layer at each of N positions, as logarithms of probabilities.

    Attributes:
      log_generate: [N] float32, log p_gen. log_copied: [N] float32, of copying the target.
    """

    log_generate: tf.Tensor
    log_copied: tf.Tensor


def logits(states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Scores every piece: [N, D] states (or [..., D]), [V', D] embeddings and [V'] bias -> [N, V'] in the bias's type (float32)."""
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
    """Computes the weighted negative log-likelihood of targets, with its gradients.

    Args:
      states: [N, D]. table: [V', D]. bias: [V'].
      targets: [N] int32 columns. weights: [N] float32, 0 for positions that do not count (those cost nothing).
      training: False leaves out the gradients, which are otherwise computed with the losses, and the smoothing.
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
        return tf.reduce_sum(nll * tf.cast(blocks.weights, nll.dtype)), _in_order(nll, place)

    @tf.custom_gradient
    def compute(*parts):
        losses, *gradients = _losses_and_gradients(blocks.with_parts(parts), blocks.weights, smoothing)
        return (tf.reduce_sum(losses[:, 0]), losses[:, 1]), lambda upstream, _: _scaled(gradients, upstream)

    total, nll = compute(*blocks.parts())
    return total, _in_order(nll, place)


def token_nll(
    states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, mixture: Mixture | None = None
) -> tf.Tensor:
    """Computes each position's NLL [N], 0 where the weight is 0, differentiable in states, table, bias and mixture.

    For losses that are not a sum of NLLs: how much a position counts is known only when the gradient is asked for, so the blocks are
    then computed a second time. Arguments as in `cross_entropy`.
    """
    blocks, place = _in_blocks(states, table, bias, targets, weights, mixture)

    @tf.custom_gradient
    def compute(*parts):
        given = blocks.with_parts(parts)

        def gradient(upstream):
            counted = tf.where(blocks.weights == 0, tf.zeros_like(upstream), upstream)
            return _losses_and_gradients(given, counted, 0.0)[1:]

        return _losses_only(given), gradient

    return _in_order(compute(*blocks.parts()), place)


def divergence_gradient(states: tf.Tensor, moved: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Computes the gradient of KL(p || q) in `moved`, where p and q are the next-token distributions of `states` and `moved`.

    It is (q - p) @ table at each position (Lee et al. 2021 move states along it).

    Args:
      states, moved: [N, D]. table, bias: as in `logits`. weights: [N], 0 for positions that do not count (those get 0).

    Returns:
      [N, D], without a gradient of its own.
    """
    order, needed, arrange = _arrangement(weights)
    before, after = arrange(states), arrange(moved)
    bias, table = tf.convert_to_tensor(bias), tf.cast(table, states.dtype)

    def block(i, gradient):
        p, q = (tf.nn.softmax(logits(part[i], table, bias)) for part in (before, after))  # --> [BLOCK, V']
        return i + 1, tf.tensor_scatter_nd_update(gradient, [[i]], [tf.cast(q - p, table.dtype) @ table])

    _, gradient = tf.while_loop(lambda i, _: i < needed, block, [tf.constant(0), tf.zeros_like(before)], parallel_iterations=1)
    gradient = tf.gather(tf.reshape(gradient, [-1, states.shape[1]]), tf.argsort(order, stable=True))  # --> [N, D]
    return tf.stop_gradient(tf.where(weights[:, None] == 0, tf.zeros_like(gradient), gradient))


# -- blocks -------------------------------------------------------------------------------------------------------------


def _arrangement(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Puts positions that count first.

    Returns:
      [N] the positions in that order; how many blocks hold all that count; a function that arranges [N, ...] as [blocks, BLOCK, ...].
    """
    order = tf.argsort(tf.cast(weights == 0, tf.int32), stable=True)
    blocks = -(-weights.shape[0] // BLOCK)

    def arrange(values: tf.Tensor) -> tf.Tensor:
        filled = tf.pad(tf.gather(values, order), [[0, blocks * BLOCK - values.shape[0]], *[[0, 0]] * (values.shape.rank - 1)])
        return tf.reshape(filled, [blocks, BLOCK, *values.shape[1:]])

    return order, -(-tf.math.count_nonzero(weights, dtype=tf.int32) // BLOCK), arrange


class _Blocks(NamedTuple):
    """Positions in blocks: states [blocks, BLOCK, D], targets, weights and mixture [blocks, BLOCK]; the first `needed` blocks count."""

    states: tf.Tensor
    table: tf.Tensor
    bias: tf.Tensor
    targets: tf.Tensor
    weights: tf.Tensor
    needed: tf.Tensor
    mixture: tuple = ()

    def parts(self) -> tuple[tf.Tensor, ...]:
        """Returns the tensors that gradients are taken of."""
        return self.states, self.table, self.bias, *self.mixture

    def with_parts(self, parts: tuple[tf.Tensor, ...]) -> "_Blocks":
        """Returns the same blocks with other tensors in place of `parts`."""
        return self._replace(states=parts[0], table=parts[1], bias=parts[2], mixture=parts[3:])


def _in_blocks(states, table, bias, targets, weights, mixture) -> tuple[_Blocks, tf.Tensor]:
    """Arranges positions in blocks. Returns these, and [N] the place of each position in them."""
    order, needed, arrange = _arrangement(weights)
    bias = tf.convert_to_tensor(bias)  # a distributed variable as an argument would be taken for a captured one
    arranged = arrange(states), table, bias, arrange(targets), arrange(weights), needed, tuple(map(arrange, mixture or ()))
    return _Blocks(*arranged), tf.argsort(order, stable=True)


def _in_order(nll: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Brings positions back into the order that they came in: [blocks, BLOCK] -> [N]."""
    return tf.gather(tf.reshape(nll, [-1]), place)


# -- losses and gradients -----------------------------------------------------------------------------------------------


def _losses_only(blocks: _Blocks) -> tf.Tensor:
    """Computes each position's NLL, 0 where the weight is 0. Returns [blocks, BLOCK]."""
    table = tf.cast(blocks.table, blocks.states.dtype)

    def block(i, nll):
        scores = logits(blocks.states[i], table, blocks.bias)  # --> [BLOCK, V']
        log_probability = tf.gather(scores, blocks.targets[i], batch_dims=1) - tf.reduce_logsumexp(scores, -1)
        if blocks.mixture:
            log_generate, log_copied = (part[i] for part in blocks.mixture)
            log_probability = _log_sum(log_generate + log_probability, log_copied)
        found = tf.where(blocks.weights[i] == 0, tf.zeros_like(log_probability), -log_probability)
        return i + 1, tf.tensor_scatter_nd_update(nll, [[i]], [found])

    zeros = tf.zeros(blocks.weights.shape, blocks.bias.dtype)
    return tf.while_loop(lambda i, _: i < blocks.needed, block, [tf.constant(0), zeros], parallel_iterations=1)[1]


def _losses_and_gradients(blocks: _Blocks, weights: tf.Tensor, smoothing: float) -> tuple[tf.Tensor, ...]:
    """Computes each position's losses and the gradients of their total, block by block.

    Args:
      weights: [blocks, BLOCK] how much each position's loss counts in the total.

    Returns:
      [blocks, 2, BLOCK] what each position adds to the total, and its NLL without smoothing; then the derivative of the total in each of
      `blocks.parts()`.
    """
    # Tapes must not watch the loop: they would have it prepare for second derivatives, which XLA refuses.
    states, table, bias, *mixture = (tf.stop_gradient(part) for part in blocks.parts())
    small = tf.cast(table, states.dtype)  # not inside of the loop; the table's gradient, a sum over all positions, stays float32

    def block(i, losses, d_states, d_table, d_bias, *d_mixture):
        inputs = states[i]
        scores = logits(inputs, small, bias)  # --> [BLOCK, V']
        at_block = [part[i] for part in mixture]
        found, d_scores, d_at_block = _losses_and_derivatives(scores, blocks.targets[i], weights[i], smoothing, at_block)
        half = tf.cast(d_scores, small.dtype)
        return (
            i + 1,
            tf.tensor_scatter_nd_update(losses, [[i]], [found]),
            tf.tensor_scatter_nd_update(d_states, [[i]], [half @ small]),
            d_table + tf.cast(tf.matmul(half, inputs, transpose_a=True), bias.dtype),
            d_bias + tf.reduce_sum(d_scores, 0),
            *(tf.tensor_scatter_nd_update(d, [[i]], [value]) for d, value in zip(d_mixture, d_at_block, strict=True)),
        )

    losses = tf.zeros([weights.shape[0], 2, weights.shape[1]], bias.dtype)
    zeros = [losses, tf.zeros_like(states), tf.zeros(table.shape, bias.dtype), tf.zeros_like(bias), *map(tf.zeros_like, mixture)]
    return tf.while_loop(lambda i, *_: i < blocks.needed, block, [tf.constant(0), *zeros], parallel_iterations=1)[1:]


def _losses_and_derivatives(
    scores: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, smoothing: float, mixture: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Computes the losses of one block and their derivatives.

    The smoothed loss is (1 - smoothing) NLL + smoothing (mean over V' of -log softmax).

    Args:
      scores: [BLOCK, V']. targets, weights: [BLOCK]. mixture: log p_gen and log of the copied probability, [BLOCK] each, or nothing.

    Returns:
      [2, BLOCK] weighted loss and plain NLL; d_scores [BLOCK, V']; the derivatives in the mixture.
    """
    log_sum = tf.reduce_logsumexp(scores, -1)  # --> [BLOCK]
    nll = log_sum - tf.gather(scores, targets, batch_dims=1)
    d_nll, d_mixture = weights * (1.0 - smoothing), []
    if mixture:
        nll, d_nll, d_mixture = _mixed(nll, d_nll, *mixture)
    is_target = tf.range(scores.shape[1], dtype=targets.dtype)[None] == targets[:, None]  # --> [BLOCK, V']
    d_scores = tf.exp(scores - log_sum[:, None]) * (d_nll + smoothing * weights)[:, None] - tf.where(is_target, d_nll[:, None], 0)
    loss = nll
    if smoothing:
        loss = (1.0 - smoothing) * nll + smoothing * (log_sum - tf.reduce_mean(scores, -1))
        d_scores -= (smoothing / scores.shape[1]) * weights[:, None]
    return tf.stack([loss * weights, tf.where(weights == 0, tf.zeros_like(nll), nll)]), d_scores, d_mixture


def _mixed(
    nll: tf.Tensor, d_nll: tf.Tensor, log_generate: tf.Tensor, log_copied: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Mixes the output layer with copying; all [BLOCK].

    The target's probability is a sum, e^(log_generate - nll) + e^log_copied. Of the derivative each of the two gets its share of the sum.

    Args:
      nll: of the output layer alone. d_nll: in the NLL of the mixture.

    Returns:
      The NLL of the mixture; the derivative in the output layer's NLL; those in `log_generate` and `log_copied`.
    """
    log_generated = log_generate - nll
    mixed = -_log_sum(log_generated, log_copied)
    d_generate, d_copied = (-d_nll * tf.exp(part + mixed) for part in (log_generated, log_copied))
    return mixed, -d_generate, [d_generate, d_copied]


def _scaled(gradients: list[tf.Tensor], upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Multiplies each gradient by a scalar."""
    return tuple(d * tf.cast(upstream, d.dtype) for d in gradients)


def _log_sum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Computes log(e^a + e^b) without overflow."""
    return tf.maximum(a, b) + tf.math.softplus(-tf.abs(a - b))
