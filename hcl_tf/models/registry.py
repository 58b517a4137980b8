"""The systems by name: what `--model` may be, and which settings each takes.

A system is one file in this folder, one dataclass in settings/, and one line here. TensorFlow is imported with the first class that
is asked for, so that flags are checked before.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hcl_tf.errors import UserError
from hcl_tf.models.settings.claps import CLAPSSettings
from hcl_tf.models.settings.encoder_decoder import EncoderDecoderSettings, TransformerSettings
from hcl_tf.models.settings.groupwise import GroupwiseSettings
from hcl_tf.models.settings.hcl import HCLSettings
from hcl_tf.models.settings.library import LibraryModelSettings, T5ModelSettings
from hcl_tf.models.settings.recurrent import CVAESettings, Seq2SeqDUSettings, Seq2SeqSettings
from hcl_tf.models.settings.simctg import SimCTGSettings
from hcl_tf.settings import RENAMED, Settings, UntrainedSettings, check, preset_values

if TYPE_CHECKING:
    from hcl_tf.models.base import Inputs, System


@dataclass(frozen=True)
class Entry:
    """A system: where its class is, the class of its settings, and the values that make it that system where flags say nothing else."""

    module: str
    system: str
    settings: type[Settings]
    fixed: Mapping[str, Any] = field(default_factory=dict)


SYSTEMS = {
    "hcl": Entry("hcl", "HCL", HCLSettings),
    "bert_cvae": Entry("hcl", "HCL", HCLSettings, {"weight_ins": 0.0, "weight_key": 0.0, "weight_ma": 0.0}),
    "bert_cvae_ins": Entry("hcl", "HCL", HCLSettings, {"weight_key": 0.0, "weight_ma": 0.0}),
    "bert_gen": Entry("encoder_decoder", "EncoderDecoder", EncoderDecoderSettings),
    "transformer": Entry("transformer", "Transformer", TransformerSettings, {"label_smoothing": 0.1, "copy": False}),
    "transformer_keywords": Entry(
        "transformer", "Transformer", TransformerSettings, {"label_smoothing": 0.1, "copy": False, "append_keywords": True}
    ),
    # No patience: the ramp of the contrast is longer than any.
    "groupwise": Entry("groupwise", "Groupwise", GroupwiseSettings, {"label_smoothing": 0.1, "copy": False, "patience": 0}),
    "simctg": Entry("simctg", "SimCTG", SimCTGSettings, {"label_smoothing": 0.1, "copy": False, "search": "contrastive"}),
    "copy": Entry("copy_source", "CopySource", UntrainedSettings),
    "t5": Entry("t5", "T5", T5ModelSettings),
    "claps": Entry("claps", "CLAPS", CLAPSSettings),
    "dialogpt": Entry("dialogpt", "DialoGPT", LibraryModelSettings),
    "seq2seq": Entry("seq2seq", "Seq2Seq", Seq2SeqSettings),
    "seq2seq_du": Entry("seq2seq_du", "Seq2SeqDU", Seq2SeqDUSettings),
    # Z and what holds z open as Zhao et al. have them, not as our experiments found them for hcl.
    "cvae": Entry(
        "cvae", "CVAE", CVAESettings, {"latent_size": 200, "latent_to": "both", "bag_of_words": 1.0, "free_bits": 0.0, "kl_delay": 0}
    ),
}
OURS = "hcl"  # the paper's own: what is trained where no flag says, and the row that all others are compared with
RATED = ("claps", "dialogpt", "seq2seq_du", OURS)  # [P] the systems of Table 3


def entry(model: str) -> Entry:
    """What is known of a name. Raises `UserError` for a name that is none."""
    if model not in SYSTEMS:
        raise UserError(f"--model={model}: there is no such system; there are: {', '.join(SYSTEMS)}")
    return SYSTEMS[model]


def class_of(model: str) -> type["System"]:
    """The class behind a name."""
    known = entry(model)
    return getattr(import_module(f"hcl_tf.models.{known.module}"), known.system)


def build(settings: Settings, inputs: "Inputs") -> "System":
    """The system with all its variables, initialised by the seed that TensorFlow was given."""
    system = class_of(settings.model)(settings, inputs, name=settings.model)
    system.make_variables()
    return system


# -- settings -----------------------------------------------------------------------------------------------------------


def names_of(model: str) -> set[str]:
    """The settings that a system takes."""
    return {item.name for item in dataclasses.fields(entry(model).settings)}


def used(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some settings that a system takes."""
    names = names_of(model)
    return {name: value for name, value in values.items() if name in names}


def systems_with(name: str) -> list[str]:
    """The systems that take a setting."""
    return [model for model in SYSTEMS if name in names_of(model)]


def resolve(preset: str, given: Mapping[str, Any]) -> Settings:
    """The settings of a run: what flags gave, else what the system's name fixes, else the preset.

    Raises:
      UserError: the system does not take one of those that were given, a value is out of bounds, or two contradict each other; the
        text names the flag.
    """
    model = given.get("model", OURS)
    known = entry(model)
    for name in sorted(given.keys() - names_of(model)):
        raise UserError(f"--{name}: --model={model} does not use it; {', '.join(systems_with(name)) or 'no system'} would. Drop the flag")
    settings = known.settings(**{**preset_values(known.settings, preset), **known.fixed, **given, "preset": preset, "model": model})
    check(settings)
    return settings


def read(recorded: Mapping[str, Any], origin: object = "stored settings") -> Settings:
    """The settings of a stored run, whatever version wrote it.

    Settings of other systems, which earlier versions stored too, are read over. One that was not stored means what the program did before
    it existed. `origin`: the file or folder that they are stored in.

    Raises:
      UserError: the system is none, or a setting that every version had is missing; names the origin.
    """
    recorded = {RENAMED.get(name, name): value for name, value in recorded.items()}
    model, values = recorded.get("model"), {}
    if model not in SYSTEMS:
        raise UserError(f"{origin}: of a system {model}, which is none of this version: {', '.join(SYSTEMS)}")
    for item in dataclasses.fields(SYSTEMS[model].settings):
        if item.name in recorded:
            values[item.name] = recorded[item.name]
        elif "before" in item.metadata:
            values[item.name] = item.metadata["before"]
        else:
            raise UserError(f"{origin}: the setting {item.name} is missing; restore the file from a copy")
    return SYSTEMS[model].settings(**values)
