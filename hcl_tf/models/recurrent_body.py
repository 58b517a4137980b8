"""Holds what systems without BERT share: word embeddings, a bidirectional recurrent encoder and a recurrent decoder."""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise
from hcl_tf.layers.recurrent import BidirectionalEncoder, RecurrentDecoder
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings


class RecurrentBody(System):
    """Base of systems without BERT. Encoder, decoder and output layer share one table of embeddings, as they do in systems with BERT.

    All layers have the width that `--encoder` gives, so that the decoders of systems that are compared are equally wide.

    Attributes:
      cell: the kind of recurrent cell, a key of `layers.recurrent.CELLS`.
    """

    cell: str

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        width = inputs.shape.width
        first = keras.initializers.RandomUniform(-0.1, 0.1)  # embeddings as small as BERT's first ones would hardly move a recurrent cell
        self.embeddings = self.add_weight("embeddings", (inputs.vocabulary, width), initializer=first)
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, lambda: self.embeddings, width, name="tokens")
        sizes = self.cell, width, settings.recurrent_layers, settings.dropout
        self.encoder, self.decoder = BidirectionalEncoder(*sizes, name="encoder"), RecurrentDecoder(*sizes, name="decoder")

    def read(self, ids: tf.Tensor, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Encodes texts.

        Args:
          ids: [B, L] of the vocabulary. noise: for dropout; None: no dropout.

        Returns:
          The encoder's outputs [B, L, 2 D], its last states, and the mask [B, L] of what is not padding.
        """
        mask = ids != self.inputs_.pad_id
        return *self.encoder(tf.gather(self.embeddings, ids), mask, noise), mask
