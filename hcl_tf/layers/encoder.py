"""The text encoder: BERT (Devlin et al. 2019, as the paper's section 4.1 says) whose dropout is a function of its noise.

Its lower part may be fixed: then it has neither dropout nor gradients, so that its states are a function of the text alone and can be
computed once for each.
"""

from dataclasses import asdict, dataclass

import tensorflow as tf
import tf_keras as keras
from official.nlp.modeling.networks import BertEncoderV2

from hcl_tf.errors import UserError
from hcl_tf.layers.attention import attend, bias_between, bias_of
from hcl_tf.layers.elementwise import gelu, layer_norm
from hcl_tf.layers.noise import Noise, dropout
from hcl_tf.layers.packing import Packing


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
      product_dtype: of matrix products, which mixed precision takes in float16; all else is float32.

    Raises:
      UserError: there are fewer layers than are to train.
    """

    def __init__(
        self, shape: EncoderShape, pad_id: int = 0, output_dropout: float = 0.1, attention_dropout: float = 0.1,
        trained_layers: int | None = None, **kwargs,
    ) -> None:  # fmt: skip
        super().__init__(**{"dtype": "float32", **kwargs})
        if trained_layers is not None and trained_layers > shape.layers:
            raise UserError(
                f"--trainable_layers={trained_layers}: the encoder has {shape.layers} layers; give at most so many, or -1, with which the "
                "embeddings train too"
            )
        self.shape, self.trained_layers = shape, trained_layers
        self.pad_id, self.product_dtype = pad_id, keras.mixed_precision.global_policy().compute_dtype
        self.output_dropout, self.attention_dropout = output_dropout, attention_dropout
        # The library makes the variables; `call` computes with them, because the library's own pass computes padding too. Dropout is ours.
        self.bert = BertEncoderV2(
            vocab_size=shape.vocab_size,
            hidden_size=shape.width,
            num_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_sequence_length=shape.positions,
            type_vocab_size=shape.types,
            inner_dim=shape.intermediate,
            output_dropout=0.0,
            attention_dropout=0.0,
            name="bert",
        )
        # The first token's pooled vector is used nowhere: its weights would get no gradient.
        self.bert._pooler_layer = keras.layers.Activation("linear", name="no_pooler")
        with tf.init_scope(), tf.name_scope(self.name):
            self._build_bert()
        self._fix_lower_part()

    def _build_bert(self) -> None:
        """Makes the variables. Pieces are not looked up, because a variable that was gathered from is copied at each later reading."""
        with tf.name_scope("bert"), tf.name_scope(self.bert._embedding_layer.name):
            self.bert._embedding_layer.build(None)
        one = tf.zeros([1, 1], tf.int32)
        embedded = tf.zeros([1, 1, self.shape.width], self.product_dtype)
        self.bert({"input_word_ids": one, "input_mask": one, "input_type_ids": one, "input_word_embeddings": embedded})

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
    def _tables(self) -> tuple[tf.Variable, ...]:
        """The embeddings of pieces, places and token types, of which all texts have the first."""
        bert = self.bert
        return tuple(layer.weights[0] for layer in (bert._embedding_layer, bert._position_embedding_layer, bert._type_embedding_layer))

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

    def call(
        self, ids: tf.Tensor, noise: Noise | None = None, lower: tf.Tensor | None = None, texts: tuple[tf.Tensor, tf.Tensor] | None = None
    ) -> tf.Tensor:
        """Computes the states of the last layer.

        Args:
          ids: [B, S] int32, [CLS] pieces [SEP], padded with `pad_id`.
          noise: of these B rows, for dropout in layers that are not fixed; None: no dropout.
          lower: [B, S, D] what `lower_states` gave for these ids, in any precision; padding may hold anything finite. None: computed here.
          texts: where a row holds several texts, each attending to itself alone: [B, S] int32 the number of each piece's text, and [B, S]
            its place in that text. Only an encoder that trains as a whole takes them. None: a row is one text.

        Returns:
          [B, S, D], float32 under mixed precision too (the last operation is a layer normalisation, kept in float32).

        Raises:
          UserError: S exceeds the encoder's positions.
        """
        if ids.shape[1] is not None:
            self.check_length(ids.shape[1])
        packing = Packing(self.mask(ids))
        if self.is_divided:
            rows = self._lower_rows(ids, packing) if lower is None else packing.rows(tf.cast(lower, tf.float32))
            return packing.texts_of(self._through(self._upper_blocks, rows, packing, noise))
        noise = None if self.trained_layers == 0 else noise
        places, bias = None, None
        if texts is not None:
            places, bias = packing.flat(texts[1]), bias_between(packing.cut(texts[0]))
        rows = self._embed(ids, packing, noise, places)
        return packing.texts_of(self._through(self.bert.transformer_layers, rows, packing, noise, bias))

    def lower_states(self, ids: tf.Tensor) -> tf.Tensor:
        """Computes what the fixed part of a divided encoder makes of ids [B, S]. Returns [B, S, D] float32, without a gradient."""
        packing = Packing(self.mask(ids))
        return packing.texts_of(self._lower_rows(ids, packing))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "shape": self.shape.to_dict(),
            "pad_id": self.pad_id,
            "output_dropout": self.output_dropout,
            "attention_dropout": self.attention_dropout,
            "trained_layers": self.trained_layers,
        }

    @classmethod
    def from_config(cls, config: dict) -> "TextEncoder":
        return cls(**{**config, "shape": EncoderShape.from_dict(config["shape"])})

    def _lower_rows(self, ids: tf.Tensor, packing: Packing) -> tf.Tensor:
        return tf.stop_gradient(self._through(self._lower_blocks, self._embed(ids, packing, None), packing, None))

    def _embed(self, ids: tf.Tensor, packing: Packing, noise: Noise | None, places: tf.Tensor | None = None) -> tf.Tensor:
        """Embeds the tokens of ids [B, S]: [N, D] float32. `places` [N]: of each in its text; None: in its row."""
        words, positions, types = (tf.convert_to_tensor(part) for part in self._tables)
        places = packing.places if places is None else places
        rows = tf.gather(words, packing.flat(ids)) + tf.gather(positions, places) + tf.gather(types, tf.zeros_like(places))
        return dropout(self._normed(self.bert._embedding_norm_layer, rows), self.output_dropout, noise, packing)

    def _through(
        self, blocks: list[keras.layers.Layer], rows: tf.Tensor, packing: Packing, noise: Noise | None, bias: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Passes rows [N, D] through some layers. `bias`: what attention may look at (`attend`); None: every token of the row."""
        bias = bias_of(packing.mask) if bias is None else bias
        for block in blocks:
            rows = self._layer(block, rows, packing, bias, noise)
        return rows

    def _layer(self, block: keras.layers.Layer, rows: tf.Tensor, packing: Packing, bias: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Passes rows [N, D] through one layer; sums and normalisations are float32 under mixed precision too."""
        attention, width = block._attention_layer, self.shape.width
        three = [attention._query_dense, attention._key_dense, attention._value_dense]
        kernel = tf.concat([tf.reshape(_kernel(layer), [width, width]) for layer in three], 1)
        offset = tf.concat([tf.reshape(_offset(layer), [width]) for layer in three], 0)
        queries, keys, values = tf.unstack(packing.heads(self._dense(rows, kernel, offset), 3, self.shape.heads))
        found = attend(queries, keys, values, bias, self.attention_dropout, noise, (packing.length, packing.length))
        found = packing.rows_of_heads(tf.expand_dims(found, 0))
        found = self._dense(found, tf.reshape(_kernel(attention._output_dense), [width, width]), _offset(attention._output_dense))
        rows = self._normed(block._attention_layer_norm, self._added(rows, found, packing, noise))
        inner = gelu(self._dense(rows, _kernel(block._intermediate_dense), _offset(block._intermediate_dense)))
        inner = self._dense(inner, _kernel(block._output_dense), _offset(block._output_dense))
        return self._normed(block._output_layer_norm, self._added(rows, inner, packing, noise))

    def _dense(self, rows: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        rows, kernel, offset = (tf.cast(part, self.product_dtype) for part in (rows, kernel, offset))
        return tf.nn.bias_add(tf.matmul(rows, kernel), offset)

    def _added(self, rows: tf.Tensor, more: tf.Tensor, packing: Packing, noise: Noise | None) -> tf.Tensor:
        return rows + tf.cast(dropout(more, self.output_dropout, noise, packing), rows.dtype)

    def _normed(self, norm: keras.layers.LayerNormalization, rows: tf.Tensor) -> tf.Tensor:
        return layer_norm(rows, tf.convert_to_tensor(norm.gamma), tf.convert_to_tensor(norm.beta), self.shape.epsilon)


def _kernel(dense: keras.layers.Layer) -> tf.Tensor:
    return tf.convert_to_tensor(dense.kernel)


def _offset(dense: keras.layers.Layer) -> tf.Tensor:
    return tf.convert_to_tensor(dense.bias)


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
