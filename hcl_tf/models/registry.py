"""The systems by name: what `--model` may be."""

from hcl_tf.errors import UserError
from hcl_tf.models.base import Inputs, System
from hcl_tf.models.hcl import HCL
from hcl_tf.settings import Settings

# Name -> its class, and the settings that make it that system where flags do not say otherwise.
SYSTEMS: dict[str, tuple[type[System], dict]] = {
    "hcl": (HCL, {}),
    "bert_cvae": (HCL, {"weight_ins": 0.0, "weight_key": 0.0, "weight_ma": 0.0}),
}


def defaults_of(model: str) -> dict:
    """What a system's name settles. Raises `UserError` for a name that is none."""
    if model not in SYSTEMS:
        raise UserError(f"--model={model}: there is no such system; there are: {', '.join(SYSTEMS)}")
    return SYSTEMS[model][1]


def build(settings: Settings, inputs: Inputs) -> System:
    """The system with all its variables, initialised by the seed that TensorFlow was given."""
    system = SYSTEMS[settings.model][0](settings, inputs, name=settings.model)
    system.make_variables()
    return system
