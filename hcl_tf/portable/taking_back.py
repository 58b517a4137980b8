"""Results of `training.train` to a run folder: ids become texts, texts become scores, in the way of every other run."""

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from hcl_tf.analysis import figures
from hcl_tf.analysis.evaluation import Request, data_of, head_of, report
from hcl_tf.data.pipeline import PreparedData
from hcl_tf.data.tfrecords import Record
from hcl_tf.decoding.generator import text_of
from hcl_tf.errors import UserError
from hcl_tf.portable.bundle import EXAMINED, OUTPUTS, Bundle
from hcl_tf.training import assembly
from hcl_tf.training.checkpoints import from_json
from hcl_tf.training.launch import finish, settle
from hcl_tf.training.run_folder import CONFIG, DONE, ENVIRONMENT, METRICS, RunFolder

MACHINE = ("python", "platform", "cpu", "memory_gib", "gpus")  # of the environment: the machine that trained
ELSEWHERE = ("jax", "jaxlib", "numpy")


def take_back(bundle: Bundle, results: Path, data_dir: Path | None, run_dir: Path) -> None:
    """Writes the run folder.

    Raises:
      UserError: results are missing or damaged, the data are not those of the bundle, or the folder holds something.
    """
    config = bundle.description["config"]
    if (run_dir / CONFIG).exists():
        raise UserError(f"--run_dir={run_dir}: a run is there already; choose another folder")
    done, there = (_json(results / name) for name in (DONE, ENVIRONMENT))
    lines = [from_json(line) for line in _bytes(results / METRICS).splitlines()]
    ids = {split: _arrays(results / OUTPUTS.format(split))["ids"] for split in ("validation", "test")}
    examined = _arrays(results / EXAMINED)
    data = data_of(config, data_dir)
    here = bundle.description["environment"]
    packages = here["packages"] | {name: there["packages"][name] for name in ELSEWHERE}
    environment = here | {name: there[name] for name in MACHINE} | {"packages": packages, "exported": True}
    with RunFolder.open(run_dir, config, sys.argv, environment) as run:
        _store_inputs(run, config, data_dir)
        for line in lines:
            run.append(line)
        rate = done["step"] * config["settings"]["batch_size"] / done["seconds"]
        run.append_speed({"step": done["step"], "examples_per_second": round(rate, 2)})
        records = {split: list(islice(data.records(split), len(ids[split]))) for split in ids}
        outputs = {split: _texts(data, split, ids[split], records[split]) for split in ids}
        summary = {name: done[name] for name in ("ended", "step", "best_step")}
        finish(run, data, records["validation"], outputs["validation"], summary, done["best_loss"])
        head = head_of(config, assembly.BEST[0], done["best_step"], data, "test", len(records["test"]))
        report(run, Request(run_dir), data, records["test"], outputs["test"], head, lambda: figures.summary(examined))


def _texts(data: PreparedData, split: str, ids: np.ndarray, records: list[Record]) -> list[str]:
    sources = data.arrays(split).source_ids
    return [text_of(data.tokenizer, *row, record.source.raw) for *row, record in zip(ids, sources, records, strict=False)]


def _store_inputs(run: RunFolder, config: dict, data_dir: Path | None) -> None:
    """What every run keeps of its data."""
    given = {name: value for name, value in config["settings"].items() if name != "preset"}
    data, settings, encoder = settle(config["task"], data_dir, config["settings"]["preset"], given)
    kept = assembly.output_ids(data, data.arrays("train"), settings.output_vocab)
    assembly.store_inputs(run, data, assembly.inputs_of(data, encoder.shape, kept, encoder.library and encoder.library.config))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); give a folder that hcl_tf.portable.train finished") from error


def _json(path: Path) -> dict:
    try:
        return json.loads(_bytes(path))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); bring the results back again") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    _bytes(path)
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); bring the results back again") from error
