"""Transformer (Vaswani et al. 2017): encoder and decoder from scratch, trained with label smoothing.

The encoder is `layers.encoder.TextEncoder`, BERT's arithmetic with random weights; width and depth are `--encoder=random:LAYERSxWIDTH`'s.
"""

import tensorflow as tf

from hcl_tf.models.base import System
from hcl_tf.models.encoder_decoder import EncoderDecoder


class Transformer(EncoderDecoder):
    """One learning rate for all of it: nothing here was trained before."""

    trained_layers = None

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        return System.learning_rates(self)
