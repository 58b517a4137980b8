"""The settings of a pretraining. TensorFlow is not imported: a wrong flag is refused before anything slow happens."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from hcl_tf.errors import UserError
from hcl_tf.models.settings.library import T5Settings
from hcl_tf.setting_fields import setting
from hcl_tf.settings import RANDOM, Settings, StackSettings, TrainingSettings, check

BODIES = {"mlm": "bert", "span": "t5", "causal": "gpt2"}  # objective -> `model_type` of the weights that come out
# Settings without a flag here.
DEVICES = ("preset", "model", "init_from", "init_checkpoint", "mixed_precision", "strategy", "worker_timeout", "logical_cpus")


@dataclass(frozen=True)
class PretrainingSettings(T5Settings, StackSettings, TrainingSettings):
    """What is learnt, by which body, and for how long. An example is a row in which several texts are packed."""

    group: ClassVar[str] = "pretraining"

    objective: str = setting(
        "mlm", "mlm: masked pieces, by a BERT; span: corrupted spans, by a T5; causal: the next piece, by a GPT-2.", choices=tuple(BODIES)
    )
    config: str = setting("", "config.json of published weights, whose sizes the body takes instead of --layers and --width; empty: none.")
    layers: int = setting(4, "Layers of the encoder; a GPT-2 has as many as encoder and decoder together.", low=1, unit="layers")
    width: int = setting(256, "Width of the states, a multiple of 64, or less than 64.", low=8, unit="dimensions")
    decoder_layers: int = setting(4, "Layers of a T5's decoder, and those that a GPT-2 has besides --layers.", low=1, unit="blocks")
    row_length: int = setting(128, "Pieces of a row, in which several texts are packed.", low=16, high=4096, unit="pieces")
    corrupted: float = setting(0.15, "Share of pieces that mlm and span hide (Devlin et al. 2019; Raffel et al. 2020).", low=0.01, high=0.9)
    mean_span: float = setting(3.0, "Mean length of what span hides in one piece (Raffel et al. 2020).", low=1.0, unit="pieces")
    whole_words: bool = setting(True, "mlm hides all pieces of a word or none (the authors' later whole-word masking).")
    output_vocab: str = setting(
        "train", "train: only pieces that the training texts contain are predicted; full: all.", choices=("full", "train")
    )
    batch_size: int = setting(32, "Rows of a step.", low=1, unit="rows")
    micro_batch: int = setting(0, "Rows computed at once; the step's gradients are summed over them. 0: all.", low=0, unit="rows")
    epochs: int = setting(5, "Passes over the training texts at most.", low=1, unit="epochs")
    patience: int = setting(0, "Stop after so many validations without a smaller loss; 0: never.", low=0, unit="validations")
    learning_rate: float = setting(5e-4, "Learning rate of Adam after the warm-up.", low=0.0, high=1.0)
    warmup_steps: int = setting(300, "Steps over which the learning rate rises from 0; constant afterwards.", low=0, unit="steps")

    @property
    def heads(self) -> int:
        """Attention heads of a body without `--config`."""
        return max(1, self.width // 64)

    def settled(self, weights: str, given: dict[str, Any]) -> Settings:
        """With values in place of those that mean "it depends"; only a T5 has embeddings with a rate of their own."""
        if self.objective != "span":
            return dataclasses.replace(self, embedding_rate=1.0)
        return super().settled(weights, given)

    def check_together(self) -> None:
        super().check_together()
        if self.embedding_rate not in (0.0, 1.0) and self.objective != "span":
            raise UserError(f"--embedding_rate={self.embedding_rate}: it is of a T5, and --objective={self.objective} trains none; drop it")
        if self.width % self.heads:
            raise UserError(f"--width={self.width}: a multiple of 64 is expected, so that every head has 64 dimensions")


def flags_of() -> dict[str, dataclasses.Field]:
    """Returns the settings that have a flag, by name."""
    return {item.name: item for item in dataclasses.fields(PretrainingSettings) if item.name not in DEVICES}


def resolve(given: dict[str, Any]) -> PretrainingSettings:
    """Returns all settings, with those that flags gave in place of the defaults.

    Raises:
      UserError: a value is out of bounds, or two contradict each other.
    """
    settings = PretrainingSettings(**{**given, "preset": "paper", "model": given.get("objective", "mlm")})
    check(settings)
    return settings.settled(RANDOM, given)


def read(recorded: dict[str, Any]) -> PretrainingSettings:
    """Returns the settings of a stored pretraining; one that was not stored means what the program did before it existed."""
    fields = dataclasses.fields(PretrainingSettings)
    added = {item.name: item.metadata["before"] for item in fields if "before" in item.metadata}
    return PretrainingSettings(**{**added, **{item.name: recorded[item.name] for item in fields if item.name in recorded}})


def differences(recorded: dict[str, Any], now: Settings) -> list[str]:
    """Returns the settings in which a record differs, as "name: was A, now B"."""
    before, values = read(recorded).to_dict(), now.to_dict()
    return [f"{name}: was {before[name]!r}, now {values[name]!r}" for name in sorted(values) if before[name] != values[name]]
