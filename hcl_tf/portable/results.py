"""Turns the results of `portable.loop.train` into a run folder: ids into texts, and texts into scores, as for every other run."""

import io
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hcl_tf.data.store import retokenized
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.tokenizers import library
from hcl_tf.decoding.generator import text_of
from hcl_tf.errors import UserError
from hcl_tf.evaluation.scoring import EvaluationRequest, diagnosed, head_of, report
from hcl_tf.files.json_text import from_json
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models import registry
from hcl_tf.models.inputs import Inputs
from hcl_tf.portable.bundle import DIAGNOSTICS, OUTPUTS, Bundle
from hcl_tf.settings import Settings
from hcl_tf.training import assembly
from hcl_tf.training.initialization import initialize
from hcl_tf.training.launch import finish
from hcl_tf.training.run_folder import DONE, ENVIRONMENT, METRICS, SPEED, RunFolder
from hcl_tf.training.trained_run import BEST, data_of

MACHINE = ("python", "platform", "cpu", "memory_gib", "gpus", "variables")  # values of the environment that are of the training machine
ELSEWHERE = ("jax", "jaxlib", "numpy")  # packages whose versions are those of the training machine


def take_back(bundle: Bundle, results: Path, data_dir: Path | None, run_dir: Path) -> None:
    """Writes the run folder, or on any failure none.

    Raises:
      UserError: results are missing, damaged, or of another bundle, the data are not those of the bundle, or the folder holds something.
    """
    config, there = bundle.description["config"], Results(results, bundle)
    if run_dir.exists() and not (run_dir.is_dir() and not any(run_dir.iterdir())):
        raise UserError(f"--run_dir={run_dir}: not an empty folder; choose another")
    data, settings = _as_trained(bundle, data_of(config, data_dir)), registry.read(config["settings"])
    records = {
        split: list(islice(data.records(split), most)) for split, most in (("validation", bundle.description["looked_at"]), ("test", None))
    }
    outputs = {split: _texts(data, split, there.ids(split, len(known)), known) for split, known in records.items()}
    try:
        with RunFolder.open(run_dir, config, sys.argv, there.environment(bundle)) as run:
            inputs = _store_inputs(run, bundle, data, settings)
            for line in there.metrics:
                run.append(line)
            for line in there.speed:
                run.append_speed(line)
            head = head_of(config, settings, BEST[0], there.done["best_step"], data, "test", len(records["test"]))
            found = EvaluationRequest(run_dir)
            looked_into = partial(diagnosed, there.diagnostics, registry.class_of(settings.model), data.arrays("test"), inputs)
            report(run, found, data, records["test"], outputs["test"], head, looked_into)
            summary = {name: there.done[name] for name in ("ended", "step", "best_step")}
            finish(run, data, records["validation"], outputs["validation"], summary, there.done["best_loss"])
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise


class Results:
    """The results of a training, read and checked."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self._folder = folder
        self.done = self._read(DONE, from_json)
        if self.done.get("bundle") != bundle.digest:
            raise UserError(f"{folder / DONE}: not of this bundle's {bundle.system}; give the bundle that was trained, and its --system")
        self._machine = self._read(ENVIRONMENT, from_json)
        self.metrics, self.speed = (self._read(name, _lines) for name in (METRICS, SPEED))

    @property
    def diagnostics(self) -> dict[str, np.ndarray]:
        """Diagnostics of the test examples."""
        return self._read(DIAGNOSTICS, _arrays)

    def ids(self, split: str, count: int) -> np.ndarray:
        """Reads the ids of a split's outputs, [count, T]. Raises `UserError` where there are not `count` of them."""
        name = OUTPUTS.format(split)
        ids = self._read(name, lambda data: _arrays(data)["ids"])
        if len(ids) != count:
            raise UserError(f"{self._folder / name}: {len(ids)} outputs for {count} examples; bring the results back again")
        return ids

    def environment(self, bundle: Bundle) -> dict:
        """Describes the machine that trained, the versions of both machines, and the commit that was exported."""
        here = bundle.description["environment"]
        packages = here["packages"] | {name: self._machine["packages"][name] for name in ELSEWHERE}
        machine = {name: self._machine[name] for name in MACHINE}
        return here | machine | {"packages": packages, "exported": {"float16": bundle.description["half"]}}

    def _read(self, name: str, parse: Callable[[bytes], Any]) -> Any:
        path = self._folder / name
        try:
            return parse(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror}); give a folder that hcl_tf.portable.train finished") from error
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: damaged ({error}); bring the results back again") from error


def _lines(data: bytes) -> list[dict]:
    return [from_json(line) for line in data.splitlines()]


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data)) as arrays:
        return dict(arrays)


def _texts(data: PreparedData, split: str, ids: np.ndarray, records: list[Record]) -> list[str]:
    sources = data.arrays(split).source_ids
    return [text_of(data.tokenizer, *row, record.source.normal) for *row, record in zip(ids, sources, records, strict=False)]


def _as_trained(bundle: Bundle, data: PreparedData) -> PreparedData:
    """Returns data in the pieces that the training saw them in: those of a library's tokeniser, if one travelled in the bundle."""
    files = bundle.description.get("inputs", {}).get("tokenizer")
    if not files:
        return data
    with tempfile.TemporaryDirectory() as folder:
        for name, key in files.items():
            (Path(folder) / name).write_bytes(bundle.array(key).tobytes())
        return retokenized.with_tokenizer(data, library.load(Path(folder)))


def _store_inputs(run: RunFolder, bundle: Bundle, data: PreparedData, settings: Settings) -> Inputs:
    """Stores what every run keeps of its data, and returns what its system knows of them."""
    known = bundle.description.get("inputs")
    if known is None:  # a bundle of version 0.2.0 or earlier
        settings, begun_with = initialize(settings, data, settings.to_dict())
        shape, config = begun_with.shape, None
    else:
        shape, config = known["shape"] and EncoderShape.from_dict(known["shape"]), known["library"]
    kept = assembly.output_ids(data, data.arrays("train"), settings.output_vocab)
    inputs = assembly.inputs_of(data, shape, kept, config)
    assembly.store_inputs(run, data, inputs)
    return inputs
