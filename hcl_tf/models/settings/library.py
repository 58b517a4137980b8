"""Settings of the systems that are a library's own model: models/t5.py, models/claps.py and models/dialogpt.py."""

from dataclasses import dataclass

from hcl_tf.settings import DecodingSettings, LibrarySettings, StackSettings, T5Settings, TextSettings, TrainingSettings


@dataclass(frozen=True)
class LibraryModelSettings(StackSettings, LibrarySettings, TextSettings, TrainingSettings, DecodingSettings):
    """`dialogpt`."""


@dataclass(frozen=True)
class T5ModelSettings(T5Settings, LibraryModelSettings):
    """`t5`."""
