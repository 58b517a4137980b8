"""Leaves padding out of everything that is computed token by token.

Texts of different lengths come as [B, L] with padding, which is a third of the questions' positions. Dense layers, normalisations and
dropout treat each token by itself, so they take the real tokens alone, as rows [N, D]. Only attention needs the texts apart, and there
they are as long as the longest of the batch.

XLA needs shapes that it knows when it compiles. Under it all B * L positions are rows, padding too, and the same code computes the same
numbers for real tokens.
"""

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from hcl_tf.layers.shapes import dimension


def compiled_by_xla() -> bool:
    """Says whether the function that is being traced will be compiled by XLA, which needs to know every shape."""
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


class Rows:
    """Some of n things, whose values stand side by side.

    Args:
      chosen: [n] bool; None: all of them.

    Attributes:
      numbers: [m] int32, which they are. Not there where all are.
    """

    def __init__(self, chosen: tf.Tensor | None) -> None:
        self._all = chosen is None
        if not self._all:
            self.numbers = tf.cast(tf.where(chosen)[:, 0], tf.int32)
            place = tf.cumsum(tf.cast(chosen, tf.int32)) - 1
            self.place = tf.where(chosen, place, dimension(self.numbers))  # --> [n], m where a thing is none of them

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """Takes their values: [n, ...] --> [m, ...]."""
        return values if self._all else moved(values, self.numbers, self.place, gaps=False)

    def back(self, values: tf.Tensor) -> tf.Tensor:
        """Puts values back where they belong, and zeros at the others: [m, ...] --> [n, ...]."""
        return values if self._all else moved(values, self.place, self.numbers, gaps=True)

    def among(self, others: "Rows", values: tf.Tensor) -> tf.Tensor:
        """Takes their values out of values of `others`, which have all of these and more: [m', ...] --> [m, ...]."""
        if self._all:
            return values
        return moved(values, tf.gather(others.place, self.numbers), tf.gather(self.place, others.numbers), gaps=False)


class Packing:
    """The real tokens of a batch of texts, row after row.

    Args:
      mask: [B, L] bool, true where there is a token.

    Attributes:
      texts, places: [N] int32, the text that each row belongs to and where in it the row stands.
      length: L. mask: [B, longest] bool, the mask up to the last token of any text; under XLA the whole one.
    """

    def __init__(self, mask: tf.Tensor) -> None:
        self._batch, self.length = dimension(mask, 0), dimension(mask, 1)
        self._static = compiled_by_xla()
        self._rows = Rows(None if self._static else tf.reshape(mask, [-1]))
        self._positions = tf.range(self._batch * self.length) if self._static else self._rows.numbers
        self.texts, self.places = self._positions // self.length, self._positions % self.length
        # 0 if there is no token
        self._longest = self.length if self._static else tf.reduce_max(tf.pad(self.places + 1, [[0, 1]]))
        self.mask = mask if self._static else mask[:, : self._longest]

    def flat(self, values: tf.Tensor) -> tf.Tensor:
        """Takes the real tokens of values [B, L], such as ids. Returns [N]."""
        return tf.gather(tf.reshape(values, [-1]), self._positions)

    def cut(self, values: tf.Tensor) -> tf.Tensor:
        """Cuts values [B, L] to the length of `mask`."""
        return values if self._static else values[:, : self._longest]

    def rows(self, values: tf.Tensor) -> tf.Tensor:
        """Takes the real tokens of values [B, L, D]. Returns [N, D]."""
        return self._rows.of(tf.reshape(values, [-1, values.shape[-1]]))

    def texts_of(self, rows: tf.Tensor) -> tf.Tensor:
        """Puts rows [N, D] back into their texts. Returns [B, L, D], zeros at padding."""
        found = tf.reshape(self._rows.back(rows), [self._batch, self.length, rows.shape[-1]])
        return tf.where(self.mask[..., None], found, 0) if self._static else found

    def heads(self, rows: tf.Tensor, parts: int, heads: int) -> tf.Tensor:
        """Puts rows back into their texts, divided among attention heads.

        Args:
          rows: [N, parts * heads * d], such as queries, keys and values beside each other.

        Returns:
          [parts, B, heads, longest, d]; zeros at padding, or under XLA what its own rows have.
        """
        size = rows.shape[-1] // (parts * heads)
        if self._static:
            return tf.transpose(tf.reshape(rows, [self._batch, self.length, parts, heads, size]), [2, 0, 3, 1, 4])
        to, back = self._routes(parts, heads)
        found = moved(tf.reshape(rows, [-1, size]), to, back, gaps=True)
        return tf.reshape(found, [parts, self._batch, heads, self._longest, size])

    def rows_of_heads(self, values: tf.Tensor) -> tf.Tensor:
        """Does what `heads` does backwards: [parts, B, heads, longest, d] -> [N, parts * heads * d]."""
        parts, heads, size = values.shape[0], values.shape[2], values.shape[4]
        if self._static:
            return tf.reshape(tf.transpose(values, [1, 3, 0, 2, 4]), [self._batch * self.length, parts * heads * size])
        to, back = self._routes(parts, heads)
        return tf.reshape(moved(tf.reshape(values, [-1, size]), back, to, gaps=False), [-1, parts * heads * size])

    def _routes(self, parts: int, heads: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Says where each slice of `heads` comes from, and each slice of `rows_of_heads`; one past the end stands for zeros."""
        part, head = tf.range(parts), tf.range(heads)
        row = tf.reshape(self._rows.place, [self._batch, self.length])[:, : self._longest]
        to = (row[None, :, None] * parts + part[:, None, None, None]) * heads + head[:, None]  # --> [parts, B, heads, longest]
        to = tf.minimum(to, dimension(self.texts) * parts * heads)
        texts, places = self.texts[:, None, None], self.places[:, None, None]
        back = ((part[:, None] * self._batch + texts) * heads + head) * self._longest + places  # --> [N, parts, heads]
        return tf.reshape(to, [-1]), tf.reshape(back, [-1])


def moved(values: tf.Tensor, to: tf.Tensor, back: tf.Tensor, gaps: bool) -> tf.Tensor:
    """Gathers values [n, ...] at `to`, whose gradient is gathered at `back`: TensorFlow's own would add rows up, one after the other.

    Args:
      to, back: each place that one of them reads is where the other puts it.
      gaps: whether some of `to` are n, which stands for zeros; then no `back` is past its end. Else the other way round.
    """

    @tf.custom_gradient
    def move(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        with tf.name_scope("packing"):
            padded = tf.pad(values, [[0, 1], *[[0, 0]] * (values.shape.rank - 1)]) if gaps else values
            return tf.gather(padded, to), lambda upstream: moved(tf.convert_to_tensor(upstream), back, to, not gaps)

    return move(values)
