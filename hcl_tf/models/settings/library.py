"""Settings of the systems that are a library's own model: models/t5.py, models/claps.py and models/dialogpt.py."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from hcl_tf.setting_fields import setting
from hcl_tf.settings import (
    EQUAL,
    NO_WEIGHTS,
    PUBLISHED,
    RANDOM,
    DecodingSettings,
    EncoderSettings,
    Settings,
    StackSettings,
    TextSettings,
    TrainingSettings,
)

UNPUBLISHED_T5_RATE = 50.0  # times the learning rate, of all but matrices: a T5's embeddings begin at 1, those of BERT and GPT-2 at 0.02


@dataclass(frozen=True)
class LibrarySettings(EncoderSettings):
    """A system that is a library's own model."""

    group: ClassVar[str] = "library model"

    pretrained: str = setting("", "Published weights of the library's model: hub name or folder; empty: random.")

    def weights(self, encoder: str) -> str | None:
        if not self.pretrained:
            return RANDOM
        return EQUAL if EQUAL in encoder else PUBLISHED

    def cautions(self, encoder: str, arithmetic: int) -> dict[str, str]:
        found = super().cautions(encoder, arithmetic)
        if self.weights(encoder) == PUBLISHED:
            return found
        return found | {
            NO_WEIGHTS: "its weights are not the published ones that define it: only rows with weights of its kind stand beside it"
        }


@dataclass(frozen=True)
class T5Settings(Settings):
    """The body of a T5, of which only the matrices begin as small as other bodies' weights."""

    group: ClassVar[str] = "T5"

    embedding_rate: float = setting(
        0.0, "Learning rate of a T5's embeddings, relative positions and normalisation, in multiples of --learning_rate; 0: 50 with "
        "weights that nobody published, else 1.",
        low=0.0, high=1000.0, before=1.0,
    )  # fmt: skip

    def settled(self, weights: str, given: dict[str, Any]) -> "Settings":
        found = super().settled(weights, given)
        if found.embedding_rate:
            return found
        return dataclasses.replace(found, embedding_rate=1.0 if weights == PUBLISHED else UNPUBLISHED_T5_RATE)


@dataclass(frozen=True)
class LibraryModelSettings(StackSettings, LibrarySettings, TextSettings, TrainingSettings, DecodingSettings):
    """`dialogpt`."""


@dataclass(frozen=True)
class T5ModelSettings(T5Settings, LibraryModelSettings):
    """`t5`."""
