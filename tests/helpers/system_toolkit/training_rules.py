"""The rules that take training steps, whole runs or XLA: seconds to a minute for each system."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf

from hcl_tf.decoding.generator import Generator
from hcl_tf.models import registry
from hcl_tf.models.base import Batch
from hcl_tf.training import assembly, checkpoints, loop
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import Run, load_run
from hcl_tf.training.step import TrainStep
from system_toolkit import replicas
from system_toolkit.breach import DEAR, DEAREST, Breach, close, close_all, equal, need, rule
from system_toolkit.kit import Kit, Walk, sources_of

# What only this process could serve, in the text of a program.
ON_HOST = ("xla_python", "xla_ffi_python", "EagerPyFunc", "PyFunc", "outfeed", "infeed", "send_to_host")
LOOK = 20  # steps between looks at what was learnt
CHANCE = 1e-4  # a gradient so much smaller than all together has a sign of chance
DYNAMIC = ("tensor<?", "x?x")  # shapes that depend on values


# -- steps ------------------------------------------------------------------------------------------------------------


@rule(DEAR)
def micro_batches_change_nothing(kit: Kit) -> None:
    """The first two steps of a run, all noise on, in two micro-batches; a second phase begins between them."""
    kit = kit.divisible
    # Eagerly, because tracing loops around whole models takes long; that a traced loop does the same is the step's affair, not a system's.
    parts = kit.changed(micro_batch=kit.settings.batch_size // 2)
    same_steps(kit, parts.walk(kit.first_batches[:2], eagerly=True, beside=kit.walked), "in two micro-batches")


@rule(DEAREST)
def xla_takes_the_same_steps(kit: Kit) -> None:
    """The first steps of a run, compiled."""
    same_steps(kit, kit.walk(kit.first_batches, compiled=True, beside=kit.walked), "compiled by XLA")


def same_steps(kit: Kit, walk: Walk, why: str) -> None:
    """Those of `kit.walked`: scalars, gradients as Adam's moments keep them, and the weights after them."""
    plain = kit.walked
    names = {id(variable): name for name, variable in plain.variables.items()}
    seconds = {path: names[id(slot)] for path, slot in second_moments(plain)}
    most = 2 * kit.settings.learning_rate  # a sign of chance moves a weight a rate the other way
    for number, (found, wanted) in enumerate(zip(walk.states, plain.states[: len(walk.states)], strict=True)):
        here = f"in step {number} {why}"
        close_all(walk.scalars[number], plain.scalars[number], here, 1e-4, 1e-5)
        same_moments(found, wanted, 1e-4, here)
        for path in assembly.variables(plain.system):
            apart = abs(found[path] - wanted[path])
            need(apart.max(initial=0) < most, path, f"moved elsewhere by {apart.max(initial=0)} {here}")
            if path not in seconds:
                continue
            size = np.sqrt(np.maximum(found[seconds[path]], wanted[seconds[path]]) / 1e-3)
            apart = apart[(size == 0) | (size > CHANCE)]
            share = (apart > 1e-5).mean() if apart.size else 0.0
            need(share < 0.01, path, f"{share:.1%} of it are other values {here}")


def second_moments(walk: Walk) -> Iterator[tuple[str, tf.Variable]]:
    """Path and Adam's second moment of everything trained."""
    paths = {id(v): path for path, v in assembly.variables(walk.system).items()}
    for name, (variables, _) in walk.step.groups.items():
        for variable in variables:
            yield paths[id(variable)], walk.step.optimizers[name].get_slot(variable, "v")


def same_moments(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rel: float, why: str) -> None:
    """Together, not one by one: a gradient that is zero but for rounding has no digits to compare."""
    names = [name for name in wanted if name.startswith("optimizer/") and wanted[name].ndim]
    apart, whole = (np.sqrt(sum(np.sum(np.square(part[name])) for name in names)) for part in (
        {name: found[name] - wanted[name] for name in names}, wanted
    ))  # fmt: skip
    need(whole > 0, "gradients", "are all 0")
    if apart > rel * whole:
        worst = max(names, key=lambda name: np.linalg.norm(found[name] - wanted[name]))
        raise Breach(worst, f"moments are {apart / whole:.2e} of their length apart {why}")


@rule(DEAR)
def a_restored_step_goes_on_with_the_same_bits(kit: Kit) -> None:
    """A system that is built anew and given the variables of a run takes the run's remaining steps, right before a phase begins too."""
    whole, phases = kit.walked, kit.walked.system.phases()
    after = [1, 2] if phases else [2]
    system = kit.new()
    walk = Walk(system, TrainStep(system, system.settings, None, compiled=False), [], [])
    for first in after:
        why = f"in a system that was given the state after step {first}"
        checkpoints.assign(walk.variables, whole.states[first - 1])
        walk.scalars.clear()
        walk.go_on(kit.first_batches[first:], first)
        for number, scalars in enumerate(walk.scalars, first):
            for name, value in whole.scalars[number].items():
                equal(name, scalars[name], value, f"step {number} {why}")
        found = checkpoints.variables_of(walk.variables)
        for name, value in whole.states[-1].items():
            equal(name, found[name], value, why)


@rule(DEAREST)
def two_devices_add_up(kit: Kit) -> None:
    """Three steps on two devices: scalars, and gradients as Adam's first moments keep them, are those of one device.

    Not weight by weight: where a gradient is zero but for rounding, Adam makes a full step of the rounding.
    """
    found, wanted = replicas.steps_of(kit.folder, kit.model)
    need(int(found["replicas"]) == 2 and int(wanted["replicas"]) == 1, "replicas", f"{found['replicas']} and {wanted['replicas']}")
    for name in (name for name in wanted if name.startswith("scalar/")):
        _, number, scalar = name.split("/", 2)
        size = float(wanted[f"scalar/{number}/nll"]) if scalar in kit.facts.differences else 1.0
        close(scalar, found[name], wanted[name], f"in step {number} on two devices", 1e-5, 1e-7 * size)
    same_moments(found, wanted, 1e-5, "on two devices")


@rule(DEAR)
def eight_examples_are_learnt_by_heart(kit: Kit) -> None:
    """Until beam search says their targets, word for word."""
    settings = {
        "encoder": "random:1x64", "dropout": 0.0, "latent_size": 32, "latent_hidden": 128, "kl_ramp": 100, "batch_size": 8,
        "minimum_length": 1, "maximum_length": kit.data.target_length, "mle_steps": 10_000, "beams": 4,
    }  # fmt: skip
    kit = kit.changed(**registry.used(kit.model, settings), **kit.facts.learnt)
    batch, smoothed = kit.batch(range(8)), getattr(kit.settings, "label_smoothing", 0.0)
    system, step, scalars, _ = kit.walk([])
    generator, i = Generator(system, kit.data.tokenizer), system.inputs_
    sources, wanted = kit.batch(range(8), training=False), np.where(batch["target_ids"] == i.sep_id, i.pad_id, batch["target_ids"])[:, 1:-1]
    most = 0.05 + 0.8 * smoothed  # smoothing leaves a token a probability of 1 - e and a little
    for number in range(kit.facts.steps):
        scalars.append(step(batch, number))
        if number % LOOK or scalars[-1]["nll_token"] > most or scalars[-1]["objective"] > 0.3 * scalars[0]["objective"]:
            continue
        system.before_inference()
        ids = generator.ids(sources)[0][:, 0]
        if (ids == wanted).all():
            return
    for name, bound in (("nll_token", most), ("objective", 0.3 * scalars[0]["objective"])):
        first, last = scalars[0][name], scalars[-1][name]
        need(last <= bound, name, f"{first} at first, {last} after {len(scalars)} steps, not below {bound}")
    equal("output ids", ids, wanted, "the targets that were learnt")


# -- runs -------------------------------------------------------------------------------------------------------------


class _Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@rule(DEAREST)
def a_stopped_run_ends_with_the_same_bits(kit: Kit) -> None:
    """Killed after step 3, between two checkpoints, without a chance to save; a second phase, if there is one, begins at step 2."""
    given = {**kit.given, "batch_size": 8, "max_steps": 4, "log_every": 1, "checkpoint_every": 2, "beams": 2, "maximum_length": 5}
    log = loop.Loop._log

    def die(self, scalars):
        log(self, scalars)
        if self.at.step == 3:
            raise _Killed

    with tempfile.TemporaryDirectory() as place:
        whole, stopped = Path(place) / "whole", Path(place) / "stopped"
        run(kit, whole, given)
        try:
            with mock.patch.object(loop.Loop, "_log", die):
                run(kit, stopped, given)
        except _Killed:
            run(kit, stopped, given)
        same_runs(load_run(stopped), load_run(whole))


def run(kit: Kit, place: Path, given: dict) -> None:
    """As the command does it."""
    launch(kit.data.manifest["task"]["name"], kit.folder, str(place), "tiny", given, ["hcl_tf.train"])


def same_runs(found: Run, wanted: Run) -> None:
    """Every line of metrics and every variable, bit for bit."""
    why = "in a run that was killed and taken up again"
    for ours, theirs in zip(found.read_metrics(), wanted.read_metrics(), strict=True):
        need(ours.keys() == theirs.keys(), "metrics", f"lines {ours} and {theirs}; {why}")
        for name, value in theirs.items():
            equal(f"{name} of step {theirs['step']}", ours[name], value, why)
    ours, theirs = (one.checkpoints.newest().arrays for one in (found, wanted))
    need(ours.keys() == theirs.keys(), "variables", f"{ours.keys() ^ theirs.keys()}; {why}")
    for name, value in theirs.items():
        equal(name, ours[name], value, why)


# -- programs ---------------------------------------------------------------------------------------------------------


@rule(DEAREST)
def a_training_step_is_exportable(kit: Kit) -> None:
    """In its last phase it is one XLA program, whose state is in variables: it can run where TensorFlow is missing."""
    system, step, *_ = kit.walk([], compiled=True)
    for _ in system.phases():
        system.begin_phase()
    constants = [value for optimizer in step.optimizers.values() for value in optimizer._hyper.values() if isinstance(value, tf.Variable)]
    variables = [*system.variables, *step.state().values(), *constants]
    check_program(step._run, variables, kit.training, tf.constant(0), system.phase)


@rule(DEAREST, untrained=True)
def a_search_is_exportable(kit: Kit) -> None:
    """As a training step is; with a batch of any size, and compiled, it gives what it gives anyway."""
    batch = sources_of(kit.held_out)

    def search(sources: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        return kit.system.generate(sources)

    compiled = tf.function(search, autograph=False, jit_compile=True)
    signature = {name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for name, tensor in batch.items()}
    check_program(compiled, kit.system.variables, batch)
    ids, scores = kit.generator.ids(batch)
    free = tf.function(search, autograph=False, input_signature=[signature])
    for found, why in ((free(batch), "with a batch of any size"), (compiled(batch), "compiled by XLA")):
        equal("output ids", found[0], ids, why)
        close("output scores", found[1], scores, why, 1e-4)


def check_program(function: tf.types.experimental.PolymorphicFunction, variables: list[tf.Variable], *arguments) -> None:
    """What it reads besides its arguments must be among the variables, which a checkpoint has; nothing is served by this process."""
    known, concrete = {id(variable.handle) for variable in variables}, function.get_concrete_function(*arguments)
    names = {id(variable.handle): variable.name for variable in concrete.variables}
    for tensor in concrete.captured_inputs:
        term = names.get(id(tensor), f"a tensor {tensor.dtype.name}{tensor.shape}")
        need(id(tensor) in known, term, "is read, but held by no variable of the system or the optimiser")
    text = function.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    need("stablehlo." in text, "program", "is not StableHLO")
    for word in (*ON_HOST, *DYNAMIC):
        line = next((line for line in text.splitlines() if word in line), "").strip()
        need(word not in text, word, f"stands in the program: {line[:200]}")


RULES = (
    micro_batches_change_nothing, a_restored_step_goes_on_with_the_same_bits, eight_examples_are_learnt_by_heart, xla_takes_the_same_steps,
    two_devices_add_up, a_stopped_run_ends_with_the_same_bits, a_training_step_is_exportable, a_search_is_exportable,
)  # fmt: skip
