"""Copying from the source beside generating from the vocabulary (See et al. 2017, section 2.2).

    P(w) = p_gen P_vocab(w) + (1 - p_gen) * sum of the attention over the source positions that hold w

The columns of the mixture are those of the output layer and behind them one for each source position: a source piece that the
output layer lacks (left out by `--output_vocab=train`, or unknown to the vocabulary) is copied through its position's column.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.output import Mixture
from hcl_tf.layers.token_table import TokenTable

NOTHING = 1e-30  # the copied mass of a target that the source lacks: log keeps a gradient of 0 there instead of none


class Pointer(keras.layers.Layer):
    """The gate p_gen, and the mixture of generating and copying for an attention over the source that is given."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.gate = keras.layers.Dense(1, dtype=self.dtype, name="gate")

    def call(self, context: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes log p_gen and log(1 - p_gen), [...] each, from what the gate sees, [..., C] (decoder state, attended source)."""
        score = self.gate(tf.cast(context, self.compute_dtype))[..., 0]
        return tf.math.log_sigmoid(score), tf.math.log_sigmoid(-score)

    def mixture(self, context: tf.Tensor, attention: tf.Tensor, source_ids: tf.Tensor, labels: tf.Tensor) -> Mixture:
        """Computes what copying adds at each label, for `TokenTable.cross_entropy`.

        Args:
          context: [B, T, C], for the gate. attention: [B, T, S]. source_ids: [B, S]. labels: [B, T].

        Returns:
          log p_gen and the log-probability of copying the label, [B, T] each.
        """
        log_generate, log_copy = self(context)
        same = tf.cast(source_ids[:, None] == labels[:, :, None], attention.dtype)  # --> [B, T, S]
        copied = tf.cast(tf.reduce_sum(attention * same, -1), log_copy.dtype)
        return Mixture(log_generate, log_copy + tf.math.log(tf.maximum(copied, NOTHING)))

    def scores(self, logits: tf.Tensor, context: tf.Tensor, attention: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """Computes the log-probabilities of one decoding step.

        Args:
          logits: [B * beams, V'] of the output layer; -inf in columns that stand for no piece.
          context: [B * beams, C]. attention: [B * beams, S]. columns: [B, S] (`source_columns`).

        Returns:
          [B * beams, V' + S] float32; a row's probabilities sum to 1, -inf where nothing leads to a column.
        """
        log_generate, log_copy = self(context)
        rows, width = tf.shape(logits)[0], logits.shape[1]
        generated = tf.nn.softmax(logits) * tf.exp(log_generate)[:, None]
        copied = tf.cast(attention, generated.dtype) * tf.exp(log_copy)[:, None]
        places = tf.repeat(columns, rows // tf.shape(columns)[0], axis=0)  # a text's beams look at one source
        where = tf.stack([tf.broadcast_to(tf.range(rows)[:, None], tf.shape(places)), places], -1)
        mixed = tf.tensor_scatter_nd_add(tf.pad(generated, [[0, 0], [0, columns.shape[1]]]), where, copied)
        return tf.ensure_shape(tf.math.log(mixed), [logits.shape[0], width + columns.shape[1]])


class CopyAttention(keras.layers.Layer):
    """One attention head that looks for what to copy, for a decoder whose own attention has many heads and layers.

    With `identity` the two projections start as the identity: a state looks at source pieces that resemble it, which with tied
    embeddings are those that it is about to say (`layers.decoder.Attention`).
    """

    def __init__(self, width: int, identity: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width, self.identity = width, identity
        start = "identity" if identity else "glorot_uniform"
        self.query, self.key = (keras.layers.Dense(width, kernel_initializer=start, name=name) for name in ("query", "key"))

    def remember(self, memory: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns keys [B, S, D], values [B, S, D] and the mask [B, S] of a source's states [B, S, D]."""
        memory = tf.cast(memory, self.compute_dtype)
        return self.key(memory), memory, mask

    def call(self, states: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Attends from states [B, L, D]. Returns the attention [B, L, S], and [state ; attended source] [B, L, 2 D] for the gate."""
        scores = tf.matmul(self.query(states), keys, transpose_b=True) * self.width**-0.5
        attention = tf.nn.softmax(tf.where(mask[:, None], tf.cast(scores, tf.float32), -1e9))
        found = tf.matmul(tf.cast(attention, values.dtype), values)
        return attention, tf.concat([states, found], -1)

    def get_config(self) -> dict:
        return super().get_config() | {"width": self.width, "identity": self.identity}


def source_columns(source_ids: tf.Tensor, tokens: TokenTable, width: int) -> tf.Tensor:
    """Says which column of `Pointer.scores` copying each source position adds to. Returns [B, S].

    A piece that the output layer has adds to that piece's column. Any other has a column of its position; equal pieces share the first
    one's, but unknown words do not: they are different words that look alike.

    Args:
      width: columns of the output layer's scores, V' or more.
    """
    length = source_ids.shape[1]
    first = tf.argmax(tf.cast(source_ids[:, :, None] == source_ids[:, None], tf.int32), -1, output_type=tf.int32)
    unknown = source_ids == tokens.unknown_id
    own = width + tf.where(unknown, tf.range(length)[None], first)
    return tf.where(tokens.has(source_ids) & ~unknown, tokens.columns(source_ids), own)


def pieces_of(columns: tf.Tensor, source_ids: tf.Tensor, tokens: TokenTable, width: int) -> tf.Tensor:
    """Turns columns [B, ...] of `Pointer.scores` into vocabulary ids; columns from `width` on are source positions."""
    copied = tf.gather(source_ids, tf.maximum(columns - width, 0), batch_dims=1)
    return tf.where(columns < width, tokens.ids(tf.minimum(columns, len(tokens.kept) - 1)), copied)


def output_of(columns: tf.Tensor, source_ids: tf.Tensor, tokens: TokenTable, width: int) -> tf.Tensor:
    """Does as `pieces_of`, but gives V + position for a copied unknown word, in whose place `decoding.generator` puts the word itself."""
    pieces = pieces_of(columns, source_ids, tokens, width)
    return tf.where((columns >= width) & (pieces == tokens.unknown_id), tokens.vocabulary + columns - width, pieces)
