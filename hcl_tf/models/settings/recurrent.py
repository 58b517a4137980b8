"""Settings of the systems with a recurrent decoder: models/seq2seq.py, models/seq2seq_du.py and models/cvae.py."""

from dataclasses import dataclass
from typing import ClassVar

from hcl_tf.setting_fields import setting
from hcl_tf.settings import (
    BertSettings,
    DecodingSettings,
    EncoderSettings,
    LatentSettings,
    TextSettings,
    TrainingSettings,
    WordDropoutSettings,
)


@dataclass(frozen=True)
class RecurrentSettings(WordDropoutSettings):
    """A recurrent decoder."""

    group: ClassVar[str] = "recurrent"

    recurrent_layers: int = setting(1, "Layers of recurrent encoders and decoders.", low=1, unit="layers")


@dataclass(frozen=True)
class Seq2SeqSettings(RecurrentSettings, EncoderSettings, TextSettings, TrainingSettings, DecodingSettings):
    """`seq2seq`, which is defined with its pointer."""


@dataclass(frozen=True)
class Seq2SeqDUSettings(RecurrentSettings, BertSettings, TextSettings, TrainingSettings, DecodingSettings):
    """`seq2seq_du`, which reads with BERT and is defined with its pointers."""


@dataclass(frozen=True)
class CVAESettings(LatentSettings, RecurrentSettings, EncoderSettings, TextSettings, TrainingSettings, DecodingSettings):
    """`cvae`."""
