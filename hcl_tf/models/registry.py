"""The systems by name: what `--model` may be."""

from importlib import import_module

from hcl_tf.errors import UserError
from hcl_tf.models.base import Inputs, System
from hcl_tf.settings import Settings

# Name -> module and class (imported when wanted: some need a library that takes seconds), and the settings that make it that
# system where flags do not say otherwise.
SYSTEMS: dict[str, tuple[str, str, dict]] = {
    "hcl": ("hcl", "HCL", {}),
    "bert_cvae": ("hcl", "HCL", {"weight_ins": 0.0, "weight_key": 0.0, "weight_ma": 0.0}),
    "bert_cvae_ins": ("hcl", "HCL", {"weight_key": 0.0, "weight_ma": 0.0}),
    "bert_gen": ("encoder_decoder", "EncoderDecoder", {}),
    "transformer": ("transformer", "Transformer", {"label_smoothing": 0.1, "copy": False}),
    "transformer_keywords": ("transformer", "Transformer", {"label_smoothing": 0.1, "copy": False, "append_keywords": True}),
    # No patience: the ramp of the contrast is longer than any.
    "groupwise": ("groupwise", "Groupwise", {"label_smoothing": 0.1, "copy": False, "patience": 0}),
    "copy": ("copy_source", "CopySource", {}),
    "t5": ("t5", "T5", {}),
    "claps": ("claps", "CLAPS", {}),
    "dialogpt": ("dialogpt", "DialoGPT", {}),
    "seq2seq": ("seq2seq", "Seq2Seq", {"copy": True}),
    "seq2seq_du": ("seq2seq_du", "Seq2SeqDU", {"copy": True}),
    "cvae": ("cvae", "CVAE", {"bag_of_words": 1.0, "latent_to": "both", "copy": False}),
}


def defaults_of(model: str) -> dict:
    """What a system's name settles. Raises `UserError` for a name that is none."""
    if model not in SYSTEMS:
        raise UserError(f"--model={model}: there is no such system; there are: {', '.join(SYSTEMS)}")
    return SYSTEMS[model][2]


def class_of(model: str) -> type[System]:
    """The class behind a name."""
    module, name, _ = SYSTEMS[model]
    return getattr(import_module(f"hcl_tf.models.{module}"), name)


def build(settings: Settings, inputs: Inputs) -> System:
    """The system with all its variables, initialised by the seed that TensorFlow was given."""
    system = class_of(settings.model)(settings, inputs, name=settings.model)
    system.make_variables()
    return system
