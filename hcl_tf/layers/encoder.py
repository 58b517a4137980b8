"""The text encoder: BERT (Devlin et al. 2019, as the paper's section 4.1 says) whose dropout is a function of its noise.

Its lower part may be fixed: then it has neither dropout nor gradients, so that its states are a function of the text alone and can be
computed once for each.
"""

from dataclasses import asdict, dataclass

import tensorflow as tf
import tf_keras as keras
from official.nlp.modeling.networks import BertEncoderV2

from hcl_tf.errors import UserError
from hcl_tf.layers.library_dropout import replace_dropout
from hcl_tf.layers.noise import Noise


@dataclass(frozen=True)
class EncoderShape:
    """The sizes and constants of a BERT.

    Attributes:
      width: D. intermediate: width of the feed-forward network. positions: longest text. types: token types.
      epsilon: of the layer normalisations.

    Raises:
      UserError: `width` is not a multiple of `heads`, or a number is not positive.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    intermediate: int
    positions: int = 512
    types: int = 2
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            if not value > 0:
                raise UserError(f"an encoder with {name}={value} can't be built; every size must be positive")
        if self.width % self.heads:
            raise UserError(f"an encoder of width {self.width} can't have {self.heads} heads; give a divisor of the width")

    def to_dict(self) -> dict[str, int | float]:
        """Returns the values for a run's configuration; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, int | float]) -> "EncoderShape":
        return cls(**values)


class TextEncoder(keras.layers.Layer):
    """BERT without its pooler: computes the states of the last layer from WordPiece ids.

    All variables exist once the layer is constructed, so published weights can be put in before the first call.

    Args:
      shape: the sizes. pad_id: the id that is never attended to.
      output_dropout, attention_dropout: rates.
      trained_layers: how many of the upper layers train, while embeddings and layers below are fixed; None: everything trains.

    Attributes:
      bert: the BertEncoderV2 inside, for the loader of published weights.

    Raises:
      UserError: there are fewer layers than are to train.
    """

    def __init__(
        self, shape: EncoderShape, pad_id: int = 0, output_dropout: float = 0.1, attention_dropout: float = 0.1,
        trained_layers: int | None = None, **kwargs,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if trained_layers is not None and trained_layers > shape.layers:
            raise UserError(
                f"--trainable_layers={trained_layers}: the encoder has {shape.layers} layers; give at most so many, or -1, with which the "
                "embeddings train too"
            )
        self.shape, self.trained_layers = shape, trained_layers
        self.pad_id = pad_id
        self._rates = (output_dropout, attention_dropout)
        self.bert = BertEncoderV2(
            vocab_size=shape.vocab_size,
            hidden_size=shape.width,
            num_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_sequence_length=shape.positions,
            type_vocab_size=shape.types,
            inner_dim=shape.intermediate,
            inner_activation=keras.activations.gelu,  # exact, as published weights were trained; the default approximates
            output_dropout=output_dropout,
            attention_dropout=attention_dropout,
            name="bert",
        )
        # The first token's pooled vector is used nowhere: its weights would get no gradient.
        self.bert._pooler_layer = keras.layers.Activation("linear", name="no_pooler")
        self.bert._embedding_norm_layer.epsilon = shape.epsilon
        for block in self.bert.transformer_layers:
            block._norm_epsilon = shape.epsilon
        with tf.init_scope(), tf.name_scope(self.name):
            self._states(tf.constant([[pad_id]]))  # builds the variables and the dropout layers, which are then replaced
        self._switch = replace_dropout(self.bert)
        for block in self.bert.transformer_layers:
            # The library drops the attention's output with the rate of its probabilities; in BERT it has the other rate.
            block._attention_dropout.rate = output_dropout
        self._fix_lower_part()

    def _fix_lower_part(self) -> None:
        """Takes embeddings and lower layers, or all of it, from what is trained."""
        if self.trained_layers is None:
            return
        if not self.trained_layers:
            self.trainable = False
            return
        bert = self.bert
        embedding = (bert._embedding_layer, bert._position_embedding_layer, bert._type_embedding_layer, bert._embedding_norm_layer)
        for layer in (*embedding, *self._lower_blocks):
            layer.trainable = False

    @property
    def _lower_blocks(self) -> list[keras.layers.Layer]:
        return self.bert.transformer_layers[: self.shape.layers - self.trained_layers]

    @property
    def _upper_blocks(self) -> list[keras.layers.Layer]:
        return self.bert.transformer_layers[self.shape.layers - self.trained_layers :]

    @property
    def is_divided(self) -> bool:
        """Whether a part of it is fixed and another trains."""
        return bool(self.trained_layers)

    @property
    def fixed_variables(self) -> list[tf.Variable]:
        """The variables that nothing trains, in a fixed order."""
        return self.non_trainable_variables

    @property
    def embedding_table(self) -> tf.Variable:
        """The WordPiece embeddings [V, D], with which an output layer may be tied."""
        return self.bert.get_embedding_table()

    def mask(self, ids: tf.Tensor) -> tf.Tensor:
        """Says which of `ids` [B, S] are not padding. Returns [B, S] bool."""
        return tf.not_equal(ids, self.pad_id)

    def check_length(self, length: int) -> None:
        """Checks that texts of `length` pieces, [CLS] and [SEP] included, fit.

        Models call it when they are built: within `call`, Keras wraps the message in a page of its own.

        Raises:
          UserError: `length` exceeds the encoder's positions.
        """
        if length > self.shape.positions:
            raise UserError(
                f"texts of {length} pieces with [CLS] and [SEP], but the encoder has {self.shape.positions} positions; "
                "prepare the data with a shorter --source_length, or choose another --encoder"
            )

    def call(self, ids: tf.Tensor, noise: Noise | None = None, lower: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the states of the last layer.

        Args:
          ids: [B, S] int32, [CLS] pieces [SEP], padded with `pad_id`.
          noise: of these B rows, for dropout in layers that are not fixed; None: no dropout.
          lower: [B, S, D] what `lower_states` gave for these ids, in any precision; padding may hold anything finite. None: computed here.

        Returns:
          [B, S, D], float32 under mixed precision too (the last operation is a layer normalisation, kept in float32).

        Raises:
          UserError: S exceeds the encoder's positions.
        """
        if ids.shape[1] is not None:
            self.check_length(ids.shape[1])
        if not self.is_divided:
            with self._switch.on(None if self.trained_layers == 0 else noise):
                return self._states(ids)
        states = tf.cast(self.lower_states(ids) if lower is None else lower, tf.float32)
        with self._switch.on(noise):
            return self._through(self._upper_blocks, states, ids)

    def lower_states(self, ids: tf.Tensor) -> tf.Tensor:
        """Computes what the fixed part of a divided encoder makes of ids [B, S]. Returns [B, S, D] float32, without a gradient."""
        words = self.bert._get_embeddings(ids, tf.zeros_like(ids), None, None, None)
        states = self._through(self._lower_blocks, self.bert._embedding_norm_layer(words), ids)
        return tf.stop_gradient(tf.cast(states, tf.float32))

    def get_config(self) -> dict:
        output_dropout, attention_dropout = self._rates
        return {
            **super().get_config(),
            "shape": self.shape.to_dict(),
            "pad_id": self.pad_id,
            "output_dropout": output_dropout,
            "attention_dropout": attention_dropout,
            "trained_layers": self.trained_layers,
        }

    @classmethod
    def from_config(cls, config: dict) -> "TextEncoder":
        return cls(**{**config, "shape": EncoderShape.from_dict(config["shape"])})

    def _states(self, ids: tf.Tensor) -> tf.Tensor:
        inputs = {"input_word_ids": ids, "input_mask": tf.cast(self.mask(ids), tf.int32), "input_type_ids": tf.zeros_like(ids)}
        return self.bert(inputs)["sequence_output"]

    def _through(self, blocks: list[keras.layers.Layer], states: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Passes states [B, S, D] of ids [B, S] through some layers."""
        attended = self.bert._attention_mask_layer(states, tf.cast(self.mask(ids), tf.int32))
        for block in blocks:
            states = block([states, attended])
        return states


def text_vector(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Computes the mean state of each text, [CLS] and [SEP] included, padding left out.

    Args:
      states: [B, S, D]. mask: [B, S], true (or 1) where there is no padding (`TextEncoder.mask`).

    Returns:
      [B, D] float32; zeros for a row of nothing but padding.
    """
    weights = tf.cast(mask, tf.float32)[:, :, None]  # --> [B, S, 1]
    total = tf.reduce_sum(tf.cast(states, tf.float32) * weights, axis=1)  # --> [B, D]
    return tf.math.divide_no_nan(total, tf.reduce_sum(weights, axis=1))
