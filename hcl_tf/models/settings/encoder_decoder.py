"""Settings of models/encoder_decoder.py and of what is built on it."""

from dataclasses import dataclass

from hcl_tf.settings import BertSettings, DecodingSettings, EncoderSettings, TextSettings, TrainingSettings, TransformerDecoderSettings


@dataclass(frozen=True)
class EncoderDecoderSettings(TransformerDecoderSettings, BertSettings, TextSettings, TrainingSettings, DecodingSettings):
    """`bert_gen`: a BERT encoder and a Transformer decoder."""


@dataclass(frozen=True)
class TransformerSettings(TransformerDecoderSettings, EncoderSettings, TextSettings, TrainingSettings, DecodingSettings):
    """`transformer`: the same from scratch, so without what belongs to published weights."""
