"""Every compiled step and search is one XLA program, whose state is in variables: it can be handed out and run without TensorFlow."""

import pytest
import tensorflow as tf
from small_systems import first_batch, new_system, step_of

from hcl_tf.decoding.generator import SOURCE_COLUMNS, Generator
from hcl_tf.models import registry

TRAINED = [name for name in registry.SYSTEMS if registry.class_of(name).is_trained]
ON_HOST = (
    "xla_python",
    "xla_ffi_python",
    "EagerPyFunc",
    "PyFunc",
    "outfeed",
    "infeed",
    "send_to_host",
)  # what only this process could serve


def program_of(function, variables, *arguments) -> str:
    """The StableHLO text; what it reads besides its arguments must be among the variables, which a checkpoint has."""
    known = {id(variable.handle) for variable in variables}
    assert [tensor for tensor in function.get_concrete_function(*arguments).captured_inputs if id(tensor) not in known] == []
    return function.experimental_get_compiler_ir(*arguments)(stage="stablehlo")


def check(text: str) -> None:
    assert "stablehlo." in text
    assert [word for word in ON_HOST if word in text] == []
    assert "tensor<?" not in text
    assert "x?x" not in text


@pytest.mark.slow
@pytest.mark.parametrize("model", TRAINED)
def test_a_training_step_is_exportable(model, qqp_folder):
    """In its last phase."""
    system = new_system(qqp_folder, model, **registry.used(model, {"mle_steps": 1, "matching_steps": 2}))
    for _ in system.phases():
        system.begin_phase()
    step = step_of(system, compiled=True)
    constants = [value for optimizer in step.optimizers.values() for value in optimizer._hyper.values() if isinstance(value, tf.Variable)]
    batch = first_batch(qqp_folder, system)
    check(program_of(step._run, [*system.variables, *step.state().values(), *constants], batch, tf.constant(0), system.phase))


@pytest.mark.slow
@pytest.mark.parametrize("model", TRAINED)
def test_a_search_is_exportable(model, qqp_folder):
    system = new_system(qqp_folder, model, beams=2, maximum_length=5)
    system.before_inference()
    generator = Generator(system, None, compiled=True)
    batch = first_batch(qqp_folder, system)
    check(program_of(generator._run, system.variables, {name: batch[name] for name in SOURCE_COLUMNS}, tf.constant(0)))
