"""Compiles the parts of a training loop to StableHLO, and writes them with everything that they read into a bundle."""

import dataclasses
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.pairs import PairColumns
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.decoding.generator import SOURCE_COLUMNS
from hcl_tf.errors import UserError
from hcl_tf.layers.encoder import text_vector
from hcl_tf.models.base import Batch
from hcl_tf.portable import starting_weights
from hcl_tf.portable.bundle import Bundle, Program
from hcl_tf.progress import working
from hcl_tf.settings import BertSettings, TrainingSettings
from hcl_tf.training import assembly
from hcl_tf.training.branching import with_trunk
from hcl_tf.training.environment import describe_environment
from hcl_tf.training.launch import LOOKED_AT, assemble, recorded_of, settle
from hcl_tf.training.loop import DIAGNOSED, Loop
from hcl_tf.training.step import TrainStep

Values = dict[str, tf.Tensor]
Part = tuple[Callable[[Batch], Values], Batch]  # a function, and a batch to trace it on
Starts = dict[int, tuple[tf.Variable, object, bytes]]  # id of a variable -> the variable, its initializer, the hash of its first values
SEARCHED = 256  # sources decoded at once, more than on a CPU; outputs do not depend on it
BOOLEANS = re.compile(r'dense<"0x([0-9A-Fa-f]+)"> : tensor<((?:\d+x)+i1)>')
ALIAS = re.compile(r"parameter_number = (\d+) : i64}, output_index = array<i64(?:: (\d+))?>")


def export(task: str, data_dir: Path | None, preset: str | None, given: dict, out: Path, system: str | None, half: bool) -> Bundle:
    """Exports a training as a system's part of a bundle.

    Args:
      given: the settings that flags gave; `preset` gives the others. system: the name in the bundle; None: that of its row.
      half: whether weights that are not drawn are stored as float16.

    Raises:
      UserError: the training needs more than compiled programs between one validation and the next; the bundle has the system already, or
        can't be written.
    """
    data, settings, begun_with = settle(task, data_dir, preset, given)
    begun_with = with_trunk(begun_with, settings, data, None)
    bundle = Bundle(out, system or settings.row)
    bundle.check_new()
    if not isinstance(settings, TrainingSettings):
        raise UserError(f"--model={settings.model} has nothing to train; there is nothing to export")
    if settings.mixed_precision or settings.strategy != "none":
        raise UserError("--mixed_precision and --strategy have state that only TensorFlow keeps; export without them")
    with starting_points() as starts:
        loop = assemble(data, settings, begun_with, None, out, None, keep_states=False)
    _refuse_what_stays(loop)
    loop.batches = dataclasses.replace(loop.batches, columns=loop.batches.columns[:1])
    loop.system.before_epoch(0, loop.texts)
    if isinstance(settings, BertSettings) and settings.trained_layers is not None:
        _forget_unread_pieces(loop, data)
    parts = Parts(loop)
    with working("storing data"):
        description = {
            "config": recorded_of(task, data, settings, begun_with, system), "batches": _batches(bundle, loop, data),
            "examined": DIAGNOSED, "looked_at": LOOKED_AT, "inputs": _inputs(bundle, loop, data),
            "refresh": {"every": parts.refresh_every, "rows": SEARCHED, "variables": parts.refreshed()},
        }  # fmt: skip
    write(bundle, parts, parts.all(), drawable(loop, starts), half, description)
    return bundle


def write(bundle: Bundle, parts: "Parts", chosen: Mapping[str, Part], starts: Starts, half: bool, description: dict) -> None:
    """Compiles parts of a loop, and writes them with their variables and a description into the bundle.

    Args:
      chosen: the parts by name, with a batch to trace each on. starts: of variables that may be drawn anew (`starting_points`).
      half: whether weights that are not drawn are stored as float16. description: what else the bundle says of the system.
    """
    loop, variables = parts.loop, parts.variables
    programs = {name: _program(bundle, name, *part, variables) for name, part in chosen.items()}
    programs = {name: program for name, program in programs.items() if program.outputs or program.updates}
    used = {name for program in programs.values() for name in program.variables}
    with working("storing weights"):
        description |= {
            "environment": describe_environment(), "half": half,
            "variables": {name: _start(bundle, variables[name], starts, half) for name in sorted(used)},
            "figures": parts.names, "per": loop.validation.per, "final_weights": loop.validation.final_weights(),
            "output_nll": loop.system.output_nll, "patience_from": loop.system.ramp_steps,
        }  # fmt: skip
    bundle.write(description, programs)
    print(f"wrote {bundle.system} to {bundle.folder}: {', '.join(programs)}", flush=True)


def _refuse_what_stays(loop: Loop) -> None:
    """Raises `UserError` where training needs TensorFlow, or drawn columns, between two steps."""
    if why := loop.system.stays(loop.last_step, len(loop.batches)):
        raise UserError(f"{why} (what is exported trains where TensorFlow is missing)")


def _forget_unread_pieces(loop: Loop, data: PreparedData) -> None:
    """Sets the rows of a frozen encoder's table for pieces that no text has to zero: they are never read, and zeros need no space."""
    ids = [getattr(data.arrays(split), f"{role}_ids").ravel() for split in data.manifest["splits"] for role in ROLES]
    read = np.unique(np.concatenate([*ids, loop.system.inputs_.keyword_ids.ravel()]))
    table = loop.system.encoder.embedding_table
    values = np.zeros_like(table.numpy())
    values[read] = table.numpy()[read]
    table.assign(values)


class Parts:
    """The parts of a loop that run on the device, as functions of tensors.

    Attributes:
      variables: all that they may read, by name.
      names: a part that returns many scalars stacks them into one vector, and this says which they are, in order.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop, self.names = loop, {}
        self.variables = {**assembly.variables(loop.system), **loop.train_step.state(), **_constants(loop.train_step)}
        every = loop.system.refreshed()[0]
        self.refresh_every = every if every * len(loop.batches) < loop.last_step else 0  # epochs; no further ones than it has

    def refreshed(self) -> dict[str, str]:
        """Returns the names of the variables that are given new values between epochs."""
        names = {id(variable): name for name, variable in self.variables.items()}
        return {key: names[id(variable)] for key, variable in self.loop.system.refreshed()[1].items()} if self.refresh_every else {}

    def training(self) -> dict[str, Part]:
        """Returns what training alone needs: each part by its name in the bundle, with a batch to trace it on."""
        batch = next(iter(self.loop.batches.dataset(0)))
        validated = next(iter(self.loop.validation.batches.dataset(None)))
        return {"step": (self.step, batch | {"step": tf.constant(0)}), "validate": (self.validate, validated)}

    def all(self) -> dict[str, Part]:
        """Returns the parts of a system that writes texts, as `training` does."""
        held_out, training = self.loop.validation.batches, self.training()
        searched = next(iter(dataclasses.replace(held_out, batch_size=SEARCHED).dataset(None)))
        texts = {"ids": tf.constant(self.loop.texts.ids[np.arange(SEARCHED) % len(self.loop.texts.ids)], tf.int32)}
        return ({"vectors": (self.vectors, texts)} if self.refresh_every else {}) | {
            "step": training["step"],
            "prepare": (self.prepare, {}),
            "validate": training["validate"],
            "examine": (self.loop.validation.diagnostics_of, training["validate"][1]),
            "search": (self.search, {name: searched[name] for name in SOURCE_COLUMNS}),
        }

    def step(self, batch: Batch) -> Values:
        """Takes a training step. Returns its scalars."""
        number = batch.pop("step")
        return self._stacked("step", self.loop.train_step.compute(batch, number, self.loop.system.phase))

    def vectors(self, batch: Batch) -> Values:
        """Computes the vectors of texts, of which node features are made."""
        encoder = self.loop.system.encoder
        return {"vectors": text_vector(encoder(batch["ids"]), encoder.mask(batch["ids"]))}

    def prepare(self, _: Batch) -> Values:
        """Runs `System.before_inference`, which for some systems computes nothing."""
        self.loop.system.before_inference()
        return {}

    def validate(self, batch: Batch) -> Values:
        """Computes the sums of the losses over a batch, and the counts of which means are taken."""
        sums, counts = self.loop.validation.sums_of(batch, self.loop.system.phase)
        return self._stacked("sums", {name: total.value for name, total in sums.items()}) | self._stacked("counts", counts)

    def search(self, batch: Batch) -> Values:
        """Finds the best hypothesis of each source."""
        return {"ids": self.loop.system.generate(batch)[0][:, 0]}

    def _stacked(self, name: str, scalars: Values) -> Values:
        self.names[name] = sorted(scalars)
        return {name: tf.stack([tf.cast(scalars[key], tf.float32) for key in self.names[name]])}


def _program(bundle: Bundle, name: str, function: Callable[[Batch], Values], batch: Batch, variables: Mapping[str, tf.Variable]) -> Program:
    """Compiles a function of a batch to StableHLO and stores it."""
    inputs, outputs = sorted(batch), []

    def flat(*values: tf.Tensor) -> list[tf.Tensor]:
        results = function(dict(zip(inputs, values, strict=True)))
        outputs[:] = sorted(results)
        return [results[key] for key in outputs]

    compiled = tf.function(flat, autograph=False, jit_compile=True)
    values = [batch[key] for key in inputs]
    of_handle = {id(variable.handle): key for key, variable in variables.items()}
    with working(f"tracing {name}"):
        captured = compiled.get_concrete_function(*values).captured_inputs
    if unknown := [tensor.name for tensor in captured if id(tensor) not in of_handle]:
        raise ValueError(f"{name} reads {unknown}, which no variable holds")
    read = [of_handle[id(tensor)] for tensor in captured]
    if not outputs and not captured:
        return Program([], [], [], [])
    with working(f"compiling {name}"):
        text = compiled.experimental_get_compiler_ir(*values)(stage="stablehlo")
    # An updated variable comes back in a place that the program names beside the argument it replaces.
    replaced = {int(output or 0): int(argument) for argument, output in ALIAS.findall(text)}
    updates = [read[replaced[place] - len(inputs)] for place in sorted(replaced)]
    if sorted(replaced) != list(range(len(outputs), len(outputs) + len(replaced))):
        raise ValueError(f"{name}: updates do not follow the {len(outputs)} outputs")
    bundle.write_program(name, BOOLEANS.sub(_spelt_out, text))
    return Program(inputs, read, outputs, updates)


def _spelt_out(constant: re.Match) -> str:
    """Writes a constant of booleans as a list, because versions of MLIR differ in how they pack bits."""
    shape = [int(size) for size in constant[2].split("x")[:-1]]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(constant[1]), np.uint8), count=int(np.prod(shape)), bitorder="little")
    return f"dense<{json.dumps(bits.astype(bool).reshape(shape).tolist())}> : tensor<{constant[2]}>"


def _constants(step: TrainStep) -> dict[str, tf.Variable]:
    """Returns the variables that optimisers read besides their state, such as beta_1."""
    found = ((name, key, value) for name, optimizer in step.optimizers.items() for key, value in optimizer._hyper.items())
    return {f"constant/{name}/{key}": value for name, key, value in found if isinstance(value, tf.Variable)}


@contextmanager
def starting_points() -> Iterator[Starts]:
    """Records the initializer and the hash of the first values of every weight that layers make within the context."""
    made: Starts = {}
    original = keras.layers.Layer.add_weight

    def add_weight(self, *args, **kwargs):
        variable = original(self, *args, **kwargs)
        made[id(variable)] = variable, kwargs.get("initializer"), _digest(variable.numpy())
        return variable

    keras.layers.Layer.add_weight = add_weight
    try:
        yield made
    finally:
        keras.layers.Layer.add_weight = original


def drawable(loop: Loop, starts: Starts) -> Starts:
    """Leaves out weights that may not be drawn anew: those of an encoder that has computed node features already."""
    system = loop.system
    described = isinstance(system.settings, BertSettings) and system.uses_keywords
    kept = {id(v) for v in system.encoder.variables} if described else set()
    return {key: start for key, start in starts.items() if key not in kept}


def _start(bundle: Bundle, variable: tf.Variable, made: Starts, half: bool) -> dict:
    """Describes how a variable begins: its shape and type, and a constant, a distribution (`starting_weights`), or stored values."""
    values = variable.numpy()
    start = {"shape": list(values.shape), "dtype": str(values.dtype)}
    if values.size and (values == values.flat[0]).all():
        return start | {"kind": "constant", "value": values.flat[0].item()}
    _, initializer, digest = made.get(id(variable), (None, None, b""))
    drawn = starting_weights.describe(initializer, values.shape) if initializer and digest == _digest(values) else None
    if drawn and starting_weights.fits(drawn, values):
        return start | drawn
    return start | {"kind": "stored", "key": bundle.store(values.astype(np.float16) if half and values.dtype == np.float32 else values)}


def _digest(values: np.ndarray) -> bytes:
    return hashlib.sha256(values.tobytes()).digest()


def _inputs(bundle: Bundle, loop: Loop, data: PreparedData) -> dict:
    """Describes what a run keeps of the encoder's sizes and of a library's model: its configuration and its tokeniser's files."""
    inputs = loop.system.inputs_
    found = {"shape": inputs.shape and inputs.shape.to_dict(), "library": inputs.library, "tokenizer": {}}
    if isinstance(data.tokenizer, LibraryTokenizer):
        with tempfile.TemporaryDirectory() as folder:
            data.tokenizer.save(Path(folder))
            files = {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in sorted(Path(folder).iterdir())}
        found["tokenizer"] = {name: bundle.store(content) for name, content in files.items()}
    return found


def _batches(bundle: Bundle, loop: Loop, data: PreparedData) -> dict:
    """Stores the splits, and describes how their batches are made."""
    pairs, held_out = (batches.columns[0] for batches in (loop.batches, loop.validation.batches))
    if not isinstance(pairs, PairColumns):
        raise UserError(f"--model={loop.settings.model} is not trained on pairs of source and target, which alone travel")
    arrays = {"train": pairs.arrays, "validation": held_out.arrays, "test": data.arrays("test")}
    columns = {
        split: {f.name: bundle.store(_small(getattr(part, f.name))) for f in dataclasses.fields(SplitArrays)}
        for split, part in arrays.items()
    }
    sampler, graph = pairs.sampler, data.graph
    return {
        "columns": columns, "batch_size": loop.batches.batch_size, "held_out_batch_size": loop.validation.batches.batch_size,
        "search_batch_size": SEARCHED, "pad_id": data.tokenizer.pad_id, "seed": loop.batches.seed, "max_keywords": data.max_keywords,
        "sampler": sampler and {"fanout": list(sampler.fanout), "node_budget": sampler.node_budget, "impostors": sampler.impostors},
        "impostors": held_out.impostors, "nodes": len(graph), "degree": data.whole_graph.shape[2],
        "indptr": [bundle.store(part) for part in graph.indptr], "indices": [bundle.store(_small(part)) for part in graph.indices],
    }  # fmt: skip


def _small(values: np.ndarray) -> np.ndarray:
    """Stores whole numbers in 16 bits where they fit."""
    bounds = np.iinfo(np.int16)
    return values.astype(np.int16) if values.size and bounds.min <= values.min() and values.max() <= bounds.max else values
