"""Settings of the systems that are a library's own model: models/t5.py and models/dialogpt.py."""

from dataclasses import dataclass

from hcl_tf.settings import DecodingSettings, LibrarySettings, StackSettings, TextSettings, TrainingSettings


@dataclass(frozen=True)
class LibraryModelSettings(StackSettings, LibrarySettings, TextSettings, TrainingSettings, DecodingSettings):
    """`t5` and `dialogpt`."""
