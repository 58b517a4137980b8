"""The output layer: logits from tied embeddings, and their cross-entropy without ever holding all logits.

A batch of 256 texts of 21 tokens over BERT's vocabulary has 656 MB of logits, and a third of its positions is padding. Here the
positions that count are moved to the front and taken in blocks of at most `BLOCK`. A block's logits exist only until they are added to the
loss and to the gradients, which are computed in the same pass. The sums are those of the plain form; only fewer of them are taken.

A pointer (layers/pointer.py) gives each position a second way to its target, copying. The loss is then that of the mixture.

In names, `d_x` is the derivative of the total (the weighted sum of all losses) in `x`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from hcl_tf.layers.packing import compiled_by_xla, moved
from hcl_tf.layers.shapes import dimension

BLOCK = 512  # positions whose logits are held at once: 62 MB over BERT's vocabulary


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
    return tf.nn.bias_add(tf.cast(product, bias.dtype), bias)


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
    blocks, in_order = _in_blocks(states, table, bias, targets, weights, mixture)
    if not training:
        nll = _losses_only(blocks)
        return tf.reduce_sum(nll * tf.cast(blocks.weights, nll.dtype)), in_order(nll)

    @tf.custom_gradient
    def compute(*parts):
        losses, *gradients = _losses_and_gradients(blocks.with_parts(parts), blocks.weights, smoothing)
        return (tf.reduce_sum(losses[:, 0]), losses[:, 1]), lambda upstream, _: _scaled(gradients, upstream)

    total, nll = compute(*blocks.parts())
    return total, in_order(nll)


def token_nll(
    states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, mixture: Mixture | None = None
) -> tf.Tensor:
    """Computes each position's NLL [N], 0 where the weight is 0, differentiable in states, table, bias and mixture.

    For losses that are not a sum of NLLs: how much a position counts is known only when the gradient is asked for, so the blocks are
    then computed a second time. Arguments as in `cross_entropy`.
    """
    blocks, in_order = _in_blocks(states, table, bias, targets, weights, mixture)

    @tf.custom_gradient
    def compute(*parts):
        given = blocks.with_parts(parts)

        def gradient(upstream):
            counted = tf.where(blocks.weights == 0, tf.zeros_like(upstream), upstream)
            return _losses_and_gradients(given, counted, 0.0)[1:]

        return _losses_only(given), gradient

    return in_order(compute(*blocks.parts()))


def divergence_gradient(states: tf.Tensor, moved_states: tf.Tensor, table: tf.Tensor, bias: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Computes the gradient of KL(p || q) in `moved_states`, where p and q are the next-token distributions of the two.

    It is (q - p) @ table at each position (Lee et al. 2021 move states along it).

    Args:
      states, moved_states: [N, D]. table, bias: as in `logits`. weights: [N], 0 for positions that do not count (those get 0).

    Returns:
      [N, D], without a gradient of its own.
    """
    rows = _Rows(weights)
    before, after = rows.front(states), rows.front(moved_states)
    bias, table = tf.convert_to_tensor(bias), tf.cast(table, states.dtype)

    def block(part: tuple[tf.Tensor, tf.Tensor]) -> tuple[tuple[tf.Tensor], tuple]:
        p, q = (tf.nn.softmax(logits(each, table, bias)) for each in part)  # --> [n, V']
        return (tf.cast(q - p, table.dtype) @ table,), ()

    gradient = rows.in_order(rows.over_blocks(block, (before, after))[0])  # --> [N, D]
    return tf.stop_gradient(tf.where(weights[:, None] == 0, tf.zeros_like(gradient), gradient))


# -- blocks -------------------------------------------------------------------------------------------------------------


class _Rows:
    """The positions that count, of N, in front of the others.

    XLA must know every shape. Under it the rows are all positions, filled up to whole blocks, of which it computes as many as count.

    Args:
      weights: [N], 0 for positions that do not count.
    """

    def __init__(self, weights: tf.Tensor) -> None:
        order = tf.argsort(tf.cast(weights == 0, tf.int32), stable=True)  # --> [N]
        self._count, self._static = tf.math.count_nonzero(weights, dtype=tf.int32), compiled_by_xla()
        rows = dimension(weights) if self._static else self._count
        self._order, self._place = order[:rows], tf.minimum(tf.argsort(order, stable=True), rows)
        self._filled = -rows % BLOCK if self._static else 0

    def front(self, values: tf.Tensor) -> tf.Tensor:
        """Brings values [N, ...] into the order of rows; those that do not count are left out, except under XLA."""
        found = moved(values, self._order, self._place, gaps=False)
        return tf.pad(found, [[0, self._filled], *[[0, 0]] * (values.shape.rank - 1)]) if self._filled else found

    def in_order(self, rows: tf.Tensor) -> tf.Tensor:
        """Does what `front` does backwards, without gradients; positions that do not count get zeros, or under XLA what their row has."""
        return tf.gather(tf.pad(rows, [[0, 1], *[[0, 0]] * (rows.shape.rank - 1)]), self._place)

    def over_blocks(self, compute: Callable, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Computes something block by block.

        Args:
          compute: takes some rows of each of `parts`, and returns values of these rows, and sums over them.
          parts: values of all rows (`front`).

        Returns:
          The values of all rows, 0 for rows of blocks where nothing counts, and behind them the sums.
        """
        with tf.name_scope("output"):
            return self._over_blocks(compute, parts)

    def _over_blocks(self, compute: Callable, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        rows = dimension(parts[0])

        def block(i: int | tf.Tensor) -> tuple[tuple, tuple]:
            size = BLOCK if self._static else tf.minimum(BLOCK, rows - i * BLOCK)
            begin = lambda part: [i * BLOCK] + [0] * (part.shape.rank - 1)  # noqa: E731
            return compute(tuple(tf.slice(part, begin(part), [size, *part.shape[1:]]) for part in parts))

        def put(whole: tf.Tensor, i: int | tf.Tensor, values: tf.Tensor) -> tf.Tensor:
            return tf.tensor_scatter_nd_update(whole, i * BLOCK + tf.range(dimension(values))[:, None], values)

        def add(i: tf.Tensor, wholes: tuple, sums: tuple) -> tuple:
            values, more = block(i)
            return i + 1, tuple(put(w, i, v) for w, v in zip(wholes, values, strict=True)), tuple(map(tf.add, sums, more))

        # The first block begins the sums: one with as many rows as all positions need no zeros to add to.
        values, sums = block(0)
        wholes = tuple(put(tf.zeros([rows, *value.shape[1:]], value.dtype), 0, value) for value in values)
        blocks = -(-self._count // BLOCK)
        _, wholes, sums = tf.while_loop(lambda i, *_: i < blocks, add, (tf.constant(1), wholes, sums), parallel_iterations=1)
        return *wholes, *sums


class _Blocks(NamedTuple):
    """The rows whose losses are asked for: states [n, D], targets, weights and mixture [n]; with table and bias."""

    rows: _Rows
    states: tf.Tensor
    table: tf.Tensor
    bias: tf.Tensor
    targets: tf.Tensor
    weights: tf.Tensor
    mixture: tuple = ()

    def parts(self) -> tuple[tf.Tensor, ...]:
        """Returns the tensors that gradients are taken of."""
        return self.states, self.table, self.bias, *self.mixture

    def with_parts(self, parts: tuple[tf.Tensor, ...]) -> "_Blocks":
        """Returns the same blocks with other tensors in place of `parts`."""
        return self._replace(states=parts[0], table=parts[1], bias=parts[2], mixture=parts[3:])


def _in_blocks(states, table, bias, targets, weights, mixture) -> tuple[_Blocks, Callable[[tf.Tensor], tf.Tensor]]:
    """Arranges positions in rows. Returns these, and what brings values of rows back into the order of positions."""
    rows = _Rows(weights)
    bias = tf.convert_to_tensor(bias)  # a distributed variable as an argument would be taken for a captured one
    arranged = rows.front(states), table, bias, rows.front(targets), rows.front(weights), tuple(map(rows.front, mixture or ()))
    return _Blocks(rows, *arranged), rows.in_order


# -- losses and gradients -----------------------------------------------------------------------------------------------


def _losses_only(blocks: _Blocks) -> tf.Tensor:
    """Computes each row's NLL, 0 where the weight is 0. Returns [n]."""
    table = tf.cast(blocks.table, blocks.states.dtype)

    def block(part: tuple[tf.Tensor, ...]) -> tuple[tuple[tf.Tensor], tuple]:
        states, targets, weights, *mixture = part
        scores = logits(states, table, blocks.bias)  # --> [n, V']
        log_probability = tf.gather(scores, targets, batch_dims=1) - tf.reduce_logsumexp(scores, -1)
        if mixture:
            log_generate, log_copied = mixture
            log_probability = _log_sum(log_generate + log_probability, log_copied)
        return (tf.where(weights == 0, tf.zeros_like(log_probability), -log_probability),), ()

    return blocks.rows.over_blocks(block, (blocks.states, blocks.targets, blocks.weights, *blocks.mixture))[0]


def _losses_and_gradients(blocks: _Blocks, weights: tf.Tensor, smoothing: float) -> tuple[tf.Tensor, ...]:
    """Computes each row's losses and the gradients of their total, block by block.

    Args:
      weights: [n] how much each row's loss counts in the total.

    Returns:
      [n, 2] what each row adds to the total, and its NLL without smoothing; then the derivative of the total in each of `blocks.parts()`.
    """
    # Tapes must not watch the loop: they would have it prepare for second derivatives, which XLA refuses.
    states, table, bias, *mixture = (tf.stop_gradient(part) for part in blocks.parts())
    small = tf.cast(table, states.dtype)  # not inside of the loop; the table's gradient, a sum over all positions, stays float32

    def block(part: tuple[tf.Tensor, ...]) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
        inputs, targets, counted, *at_block = part
        scores = logits(inputs, small, bias)  # --> [n, V']
        losses, d_scores, scale, d_at_block = _losses_and_derivatives(scores, targets, counted, smoothing, at_block)
        if inputs.dtype != scores.dtype:  # float16 can't hold what is scaled only behind the products
            d_scores, scale = tf.cast(d_scores * scale[:, None], inputs.dtype), tf.ones_like(scale)
        small_scale = tf.cast(scale, inputs.dtype)[:, None]
        d_table = tf.cast(tf.matmul(d_scores, inputs * small_scale, transpose_a=True), bias.dtype)
        d_bias = tf.cast(tf.matmul(small_scale, d_scores, transpose_a=True)[0], bias.dtype)
        return (losses, (d_scores @ small) * small_scale, *d_at_block), (d_table, d_bias)

    losses, d_states, *rest = blocks.rows.over_blocks(block, (states, blocks.targets, weights, *mixture))
    *d_mixture, d_table, d_bias = rest
    return losses, d_states, d_table, d_bias, *d_mixture


def _losses_and_derivatives(
    scores: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, smoothing: float, mixture: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Computes the losses of one block and their derivatives.

    The smoothed loss is (1 - smoothing) NLL + smoothing (mean over V' of -log softmax). Its derivative in the scores is
    scale * (e - c), where e = exp(scores - their maximum): the softmax is never divided out over V', only over the n rows.

    Args:
      scores: [n, V']. targets, weights: [n]. mixture: log p_gen and log of the copied probability, [n] each, or nothing.

    Returns:
      [n, 2] weighted loss and plain NLL; e - c, [n, V'], and scale, [n]; the derivatives in the mixture, [n] each.
    """
    highest = tf.reduce_max(scores, -1)  # --> [n]
    powers = tf.exp(scores - highest[:, None])  # --> [n, V']
    total = tf.reduce_sum(powers, -1)
    log_sum = highest + tf.math.log(total)
    nll = log_sum - tf.gather(scores, targets, batch_dims=1)
    d_nll, d_mixture = weights * (1.0 - smoothing), []
    if mixture:
        nll, d_nll, d_mixture = _mixed(nll, d_nll, *mixture)
    d_log_sum = d_nll + smoothing * weights
    loss = nll
    if smoothing:
        loss = (1.0 - smoothing) * nll + smoothing * (log_sum - tf.reduce_mean(scores, -1))
        powers -= (total * tf.math.divide_no_nan(smoothing * weights, d_log_sum) / scores.shape[1])[:, None]
    at_target = tf.stack([tf.range(dimension(targets), dtype=targets.dtype), targets], 1)
    d_scores = tf.tensor_scatter_nd_sub(powers, at_target, total * tf.math.divide_no_nan(d_nll, d_log_sum))
    return tf.stack([loss * weights, tf.where(weights == 0, tf.zeros_like(nll), nll)], 1), d_scores, d_log_sum / total, d_mixture


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
    with tf.name_scope("output"):
        return tuple(d * tf.cast(upstream, d.dtype) for d in gradients)


def _log_sum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Computes log(e^a + e^b) without overflow."""
    return tf.maximum(a, b) + tf.math.softplus(-tf.abs(a - b))
