"""Finds the largest entries of wide rows, such as a vocabulary's log-probabilities, without ordering whole rows."""

import tensorflow as tf

BLOCK = 32  # of 16 to 128 the fastest under XLA, and within 20% of the fastest in plain mode


def top_k(values: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the k largest entries of each row, largest first, and of equal ones the leftmost first, as `tf.math.top_k` does.

    Only the k blocks of neighbouring columns with the largest maxima are searched. That is exact: an entry of any other block is preceded
    by k others, the maxima of those blocks. For 128 rows of 30,522 (2 cores) it takes 2.8 ms against 9.4 in plain mode; under XLA, whose
    own is better on a CPU, 6.1 against 5.7.

    Args:
      values: [N, V], of which V is known when the function is traced. float32: XLA sorts whole rows of any narrower type on a CPU.
      k: 1 to V.

    Returns:
      [N, k] values and [N, k] int32 columns.
    """
    width = values.shape[1]
    if width <= 2 * k * BLOCK:
        return tf.math.top_k(values, k)
    if width % BLOCK:  # padding stands last, so even a row of -inf never prefers it
        values = tf.pad(values, [[0, 0], [0, -width % BLOCK]], constant_values=values.dtype.as_numpy_dtype(-float("inf")))
    blocks = tf.reshape(values, [-1, -(-width // BLOCK), BLOCK])
    _, best = tf.math.top_k(tf.reduce_max(blocks, 2), k)
    best = tf.sort(best, 1)  # back in the row's order, so that of equal entries the leftmost stays first
    values, places = tf.math.top_k(tf.reshape(tf.gather(blocks, best, batch_dims=1), [-1, k * BLOCK]), k)
    return values, tf.gather(best, places // BLOCK, batch_dims=1) * BLOCK + places % BLOCK
