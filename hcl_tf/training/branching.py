"""Begins a run with the weights of another one (`--init_from`).

Variables of the same path and shape are taken, the others start as they would without. The two runs must agree in what gives a weight its
meaning: vocabulary, output ids and the encoder's shape. Optimiser and schedules start anew.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings, TrainingSettings
from hcl_tf.training import assembly, trunk
from hcl_tf.training.checkpoints import Checkpoints
from hcl_tf.training.initialization import Initialization
from hcl_tf.training.run_folder import CHECKPOINTS, CONFIG
from hcl_tf.training.trained_run import TrainedRun
from hcl_tf.training.trunk import Trunk

SHOWN = 6  # variables that a line names


def with_trunk(begun: Initialization, settings: Settings, data: PreparedData, path: Path | None) -> Initialization:
    """Adds what `--init_from` names to the beginning of a run.

    Args:
      path: the folder of the run, which has kept its beginning if it was begun before; None: it has none.

    Raises:
      UserError: there is no such run or checkpoint, it does not fit, or it is another one than the run was begun with.
    """
    if not isinstance(settings, TrainingSettings) or not settings.init_from:
        return begun
    found = trunk.kept(Checkpoints(path / CHECKPOINTS)) if path else None
    if found is None:
        found = branch(begun, settings, data, path)
        if path and (path / CONFIG).exists():
            _check_same(path, found)
    return dataclasses.replace(begun, trunk=found)


def branch(begun: Initialization, settings: TrainingSettings, data: PreparedData, path: Path | None) -> Trunk:
    """Reads what a new run takes of `--init_from`, says what is left on either side, and records it. Raises `UserError` as `with_trunk`."""
    source = Path(settings.init_from)
    if not (source / CONFIG).is_file():
        raise UserError(f"--init_from={source}: no run there; give the folder that hcl_tf.train wrote")
    if path and path.resolve() == source.resolve():
        raise UserError(f"--init_from={source}: the run's own folder; choose another --run_dir")
    run = TrainedRun(source, settings.init_checkpoint)
    kept = assembly.output_ids(data, data.arrays("train"), settings.output_vocab)
    inputs = assembly.inputs_of(data, begun.shape, kept, begun.library and begun.library.config)
    _check_fits(source, run, inputs, data)
    saved = run.run.checkpoints.read(settings.init_checkpoint)
    theirs = {name: array for name, array in saved.arrays.items() if name.startswith("model/")}
    system, _ = assembly.new_system(settings, inputs, None)
    ours = assembly.variables(system)
    of_graph = {id(variable) for variable in system.of_graph()} if _other_graph(run, data) else set()
    taken, left = {}, {}
    for name, array in theirs.items():
        if name not in ours:
            left[name] = "has no place here"
        elif tuple(ours[name].shape) != array.shape or ours[name].dtype.as_numpy_dtype != array.dtype:
            left[name] = f"{list(array.shape)} there, {list(ours[name].shape)} here"
        elif id(ours[name]) in of_graph:
            left[name] = "of another keyword graph"
        else:
            taken[name] = array
    if not any(ours[name].trainable for name in taken):
        raise UserError(
            f"--init_from={source}: none of the weights of this {run.settings.model} fits --model={settings.model}; give another run"
        )
    anew = sorted(ours.keys() - taken.keys())
    record = {
        "run": source.resolve().name, "model": run.settings.model, "checkpoint": settings.init_checkpoint, "step": saved.step,
        "sha256": saved.digest, "taken": len(taken), "left": left, "anew": anew,
    }  # fmt: skip
    print(f"begins from {source}, {settings.init_checkpoint} of step {saved.step:,}: {len(taken)} variables taken", flush=True)
    for what, names in (("not taken", [f"{name} ({why})" for name, why in sorted(left.items())]), ("starting as they would", anew)):
        if names:
            print(f"  {what}: {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}", flush=True)
    return Trunk(taken, record)


def _check_fits(source: Path, run: TrainedRun, inputs: Inputs, data: PreparedData) -> None:
    """Raises `UserError` where two runs' weights of the same shape would mean different things; names both, and the flag that helps."""
    where, theirs = f"--init_from={source}", run.inputs
    if (theirs.library is None) != (inputs.library is None):
        raise UserError(f"{where}: one of the two runs has a library's published weights, the other has not; give the same --pretrained")
    if run.tokenizer.vocabulary() != data.tokenizer.vocabulary():
        raise UserError(
            f"{where}: its vocabulary ({theirs.vocabulary:,} pieces) is not that of {data.folder} ({inputs.vocabulary:,}); prepare the "
            f"data with --vocab={source / 'data' / 'vocab.txt'}, or give the same --pretrained"
        )
    if not np.array_equal(theirs.output_ids, inputs.output_ids):
        raise UserError(
            f"{where}: its outputs are of {len(theirs.output_ids):,} pieces (--output_vocab={run.settings.output_vocab}), this run's of "
            f"{len(inputs.output_ids):,}, or of others; give the same --output_vocab, and with train the same data, or full to both"
        )
    if theirs.library is None and theirs.shape != inputs.shape:
        here, there = (json.dumps(one.shape and one.shape.to_dict()) for one in (inputs, theirs))
        raise UserError(f"{where}: its encoder is {there}, this run's is {here}; give --encoder={getattr(run.settings, 'encoder', '')}")


def _other_graph(run: TrainedRun, data: PreparedData) -> bool:
    """Says whether node numbers mean other keywords than in the run."""
    return run.graph.nodes != data.graph.nodes


def _check_same(path: Path, found: Trunk) -> None:
    """Raises `UserError` where a run that was begun, and killed before it could keep its beginning, had another one."""
    recorded = json.loads((path / CONFIG).read_text(encoding="utf-8")).get("init_from", found.record)
    if recorded["sha256"] != found.record["sha256"]:
        raise UserError(
            f"{path}: begun from {recorded['run']} at SHA-256 {recorded['sha256'][:12]}, which is now {found.record['sha256'][:12]}; "
            "restore that checkpoint, or begin another run in another --run_dir"
        )
