"""What the tests share: no hub, quiet libraries, and folders prepared once a session from the bundled samples."""

import importlib
import os
import shutil
import signal
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: tests behave alike with and without a network

from pathlib import Path
from types import ModuleType

import pytest
from absl import flags

from hcl_tf import cli, config

cli.quieten_libraries()
cli.import_tensorflow()

import tf_keras as keras  # noqa: E402

from hcl_tf.data.preparation import PreparationSettings, prepare  # noqa: E402
from hcl_tf.files.array_cache import CACHE  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _single_precision():
    """Takes back the policy that a system in mixed precision leaves to the whole process, and so to the next module of tests."""
    yield
    keras.mixed_precision.set_global_policy("float32")


def entry_point(name: str) -> ModuleType:
    """An entry point with its flags, in this process. Those of another, which has flags of the same names, are removed first."""
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if module.startswith(("hcl_tf.", "settings: ")):
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)
    sys.modules.pop(f"hcl_tf.{name}", None)
    return importlib.import_module(f"hcl_tf.{name}")


def prepare_sample(out: Path, task: str = "qqp", workers: int = 1, raw: Path | None = None, **settings) -> Path:
    """Prepares a bundled sample (or `raw`) with a learned vocabulary and returns the folder."""
    defaults = {"negatives": config.TASKS[task].negatives, "vocab": "learn", "vocab_size": 2000, "tagger": "builtin"}
    prepare(
        config.TASKS[task], raw or config.TASKS[task].sample, out, PreparationSettings(**{**defaults, **settings}), workers, overwrite=False
    )
    return out


@pytest.fixture(scope="session")
def qqp_folder(tmp_path_factory) -> Path:
    """The bundled questions, prepared. Tests that change files work on a copy."""
    return prepare_sample(tmp_path_factory.mktemp("prepared") / "qqp", "qqp")


@pytest.fixture(scope="session")
def douban_folder(tmp_path_factory) -> Path:
    """The bundled Chinese dialogues, prepared."""
    return prepare_sample(tmp_path_factory.mktemp("prepared") / "douban", "douban")


def fresh_copy(folder: Path, place: Path) -> Path:
    """A copy of a prepared folder, without what training of other tests has cached in it."""
    return Path(shutil.copytree(folder, place, ignore=shutil.ignore_patterns(CACHE)))


@pytest.fixture(scope="session")
def rocstories_folder(tmp_path_factory) -> Path:
    """The bundled stories, prepared."""
    return prepare_sample(tmp_path_factory.mktemp("prepared") / "rocstories", "rocstories")


@pytest.fixture(scope="session")
def trained_run(qqp_folder, tmp_path_factory) -> Path:
    """A run of a few steps on `qqp_folder`, far too small to be good. Tests that write into it work on a copy."""
    from hcl_tf.training.launch import launch

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    given = {
        "encoder": "random:1x32", "decoder_layers": 1, "latent_size": 8, "latent_hidden": 16, "batch_size": 16, "max_steps": 6,
        "graph_node_budget": 256, "learning_rate": 0.01, "warmup_steps": 1,
    }  # fmt: skip
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        launch("qqp", qqp_folder, str(folder), "tiny", given, ["hcl_tf.train"])
    finally:
        for number, handler in handlers.items():  # training takes them over
            signal.signal(number, handler)
    return folder


@pytest.fixture(scope="session")
def evaluated_run(trained_run, qqp_folder, tmp_path_factory) -> Path:
    """A copy of `trained_run` with the results of its test split."""
    from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate

    folder = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained_run, folder)
    evaluate(EvaluationRequest(folder, data_dir=qqp_folder))
    return folder


@pytest.fixture(scope="session")
def loaded_run(trained_run, qqp_folder):
    """The `TrainedRun` of `trained_run` at its best checkpoint."""
    from hcl_tf.training.trained_run import TrainedRun

    return TrainedRun(trained_run, data_dir=qqp_folder)
