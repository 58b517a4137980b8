"""What the systems without a BERT share: word embeddings, a bidirectional recurrent encoder, a recurrent decoder."""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise
from hcl_tf.layers.recurrent import BidirectionalEncoder, RecurrentDecoder
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Inputs, System
from hcl_tf.settings import Settings


class RecurrentBody(System):
    """One table embeds the sources' pieces (all V), the decoder's input and the output layer, as one does in the systems on BERT;
    its width, which all layers have, is the one that `--encoder` gives, so that the decoders of one comparison are equally wide.

    Attributes:
      cell: of `layers.recurrent.CELLS`.
    """

    cell: str

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        width = inputs.shape.width
        first = keras.initializers.RandomUniform(-0.1, 0.1)  # cells see next to nothing of embeddings as small as BERT's
        self.embeddings = self.add_weight("embeddings", (inputs.vocabulary, width), initializer=first)
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, lambda: self.embeddings, width, name="tokens")
        sizes = self.cell, width, settings.recurrent_layers, settings.dropout
        self.encoder, self.decoder = BidirectionalEncoder(*sizes, name="encoder"), RecurrentDecoder(*sizes, name="decoder")

    def read(self, ids: tf.Tensor, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Texts [B, L] -> outputs [B, L, 2 D] and last states of the encoder, mask [B, L]."""
        mask = ids != self.inputs_.pad_id
        return *self.encoder(tf.gather(self.embeddings, ids), mask, noise), mask
