"""The pieces that an output may consist of, with their embeddings, which are tied with the output layer (and with BERT's)."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers import output
from hcl_tf.layers.shapes import dimension

WIDE = 32  # columns; decoding/top_k.py searches rows in blocks of so many


class TokenTable(keras.layers.Layer):
    """Embeddings of the decoder's input and weights of its output layer.

    Args:
      kept: [V'] int32 vocabulary ids that an output may contain, ascending. All others read and count as `unknown_id`.
      vocabulary: V.
      unknown_id: must be kept.
      source: a function that gives BERT's table [V, D], with which this one is tied; None: a table of its own [V', D]
        (the encoder is frozen, or there is none).
      width: D, where the table is its own.
      biased: the output layer has a bias, as BERT's has; else none (T5's and GPT-2's).
    """

    def __init__(
        self, kept: np.ndarray, vocabulary: int, unknown_id: int, source=None, width: int = 0, biased: bool = True, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.kept = np.asarray(kept, np.int32)
        self.vocabulary, self.unknown_id, self.width, self.biased, self._source = vocabulary, unknown_id, width, biased, source
        column = np.full(vocabulary + 1, -1, np.int32)  # padding may be numbered past the pieces
        column[self.kept] = np.arange(len(self.kept))
        self._has = column >= 0
        self._column = np.where(self._has, column, column[unknown_id])
        # Without a bias a constant of each graph, no tensor from outside: compiled programs have all their state in variables.
        zeros = np.zeros(len(self.kept), np.float32)
        self.bias = self.add_weight("bias", zeros.shape, initializer="zeros", dtype="float32") if biased else zeros
        if source is None:
            self.own = self.add_weight("table", (len(self.kept), width), initializer=keras.initializers.TruncatedNormal(stddev=0.02))

    @property
    def scored(self) -> int:
        """The number of columns of `scores`, V''."""
        return len(self.kept) + -len(self.kept) % WIDE

    def decoding_output(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns kernel [D, V''] and bias [V''] for `scores`, which decoding makes once a batch and uses at every step.

        V'' rounds V' up to a multiple of `WIDE`, so that the search need not copy each row to do it; the columns beyond V' score -inf.
        """
        more = self.scored - len(self.kept)
        kernel = tf.pad(tf.transpose(self.weights_of_output()), [[0, 0], [0, more]])
        return tf.cast(kernel, self.compute_dtype), tf.pad(self.bias, [[0, more]], constant_values=-float("inf"))

    @staticmethod
    def scores(states: tf.Tensor, decoding_output: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Computes logits of states [..., D], and -inf in the columns behind V'. Returns [..., V''] float32."""
        kernel, bias = decoding_output
        return tf.cast(tf.matmul(tf.cast(states, kernel.dtype), kernel), bias.dtype) + bias

    def weights_of_output(self) -> tf.Tensor:
        """Returns the rows of the table that the output layer has, [V', D]."""
        if self._source is None:
            return tf.convert_to_tensor(self.own)
        table = tf.convert_to_tensor(self._source())
        return table if len(self.kept) == table.shape[0] else tf.gather(table, self.kept)

    def embed(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks up the embeddings of vocabulary ids [...]. Returns [..., D]."""
        # Never gathered from the variable itself: TensorFlow would copy it at each reading from then on.
        if self._source is None:
            return tf.cast(tf.gather(tf.convert_to_tensor(self.own), self.columns(ids)), self.compute_dtype)
        return tf.cast(tf.gather(tf.convert_to_tensor(self._source()), tf.gather(self.kept, self.columns(ids))), self.compute_dtype)

    def columns(self, ids: tf.Tensor) -> tf.Tensor:
        """Turns vocabulary ids into columns of the output layer; ids that are not kept become the unknown word's column."""
        return tf.gather(self._column, ids)

    def has(self, ids: tf.Tensor) -> tf.Tensor:
        """Says which vocabulary ids outputs may contain, bool."""
        return tf.gather(self._has, ids)

    def ids(self, columns: tf.Tensor) -> tf.Tensor:
        """Turns columns of the output layer into vocabulary ids."""
        return tf.gather(self.kept, columns)

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """Computes logits [..., V'] float32 of states [..., D]."""
        return output.logits(states, self.weights_of_output(), self.bias)

    def cross_entropy(
        self, states: tf.Tensor, ids: tf.Tensor, weights: tf.Tensor, smoothing: float = 0.0, training: bool = True,
        mixture: output.Mixture | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:  # fmt: skip
        """Computes `output.cross_entropy` of texts.

        Args:
          states: [B, T, D]. ids: [B, T] of the vocabulary. weights, mixture: [B, T]. smoothing, training: as there.

        Returns:
          The weighted sum (a scalar, differentiable), and [B] the NLL of each text (not differentiable, not smoothed).
        """
        batch, length = dimension(ids), ids.shape[1]
        total, nll = output.cross_entropy(
            tf.reshape(states, [batch * length, states.shape[-1]]), self.weights_of_output(), self.bias,
            tf.reshape(self.columns(ids), [-1]), tf.reshape(weights, [-1]), smoothing, training, _flat(mixture),
        )  # fmt: skip
        return total, tf.reduce_sum(tf.reshape(nll, [batch, length]), -1)

    def text_nll(self, states: tf.Tensor, ids: tf.Tensor, weights: tf.Tensor, mixture: output.Mixture | None = None) -> tf.Tensor:
        """Computes each text's NLL [B], differentiable (`output.token_nll`); arguments as in `cross_entropy`."""
        batch, length = dimension(ids), ids.shape[1]
        nll = output.token_nll(
            tf.reshape(states, [batch * length, states.shape[-1]]), self.weights_of_output(), self.bias,
            tf.reshape(self.columns(ids), [-1]), tf.reshape(weights, [-1]), _flat(mixture),
        )  # fmt: skip
        return tf.reduce_sum(tf.reshape(nll, [batch, length]), -1)

    def divergence_gradient(self, states: tf.Tensor, moved: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Computes `output.divergence_gradient` for states [B, T, D], `moved` [B, T, D] and weights [B, T]. Returns [B, T, D]."""
        flat = (tf.reshape(part, [-1, states.shape[-1]]) for part in (states, moved))
        found = output.divergence_gradient(*flat, self.weights_of_output(), self.bias, tf.reshape(weights, [-1]))
        return tf.reshape(found, tf.shape(states))

    def get_config(self) -> dict:
        names = ("vocabulary", "unknown_id", "width", "biased")
        return super().get_config() | {"kept": self.kept.tolist()} | {name: getattr(self, name) for name in names}


def _flat(mixture: output.Mixture | None) -> output.Mixture | None:
    """Flattens a mixture's [B, T] to [B * T]."""
    return mixture and output.Mixture(*(tf.reshape(part, [-1]) for part in mixture))
