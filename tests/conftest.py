"""What the tests share: no hub, quiet libraries, and folders prepared once a session from the bundled samples."""

import fcntl
import gc
import importlib
import os
import shutil
import signal
import sys

# Before transformers is imported: tests behave alike with and without a network, but for those of layers/test_published_numbers.py.
os.environ["HF_HUB_OFFLINE"] = "0" if os.environ.get("HCL_TF_TEST_HUB") == "1" else "1"

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from absl import flags

from hcl_tf import cli, config

cli.quieten_libraries()
cli.import_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402
from tensorflow.python.framework import ops  # noqa: E402
from tensorflow.python.util import tf_stack  # noqa: E402

from hcl_tf.data.corpora import generated  # noqa: E402
from hcl_tf.data.preparation import PreparationSettings, prepare  # noqa: E402
from hcl_tf.files.array_cache import CACHE  # noqa: E402
from hcl_tf.training import run_folder  # noqa: E402

pytest_plugins = ["hcl_fixtures"]

# Tests run each graph a few times only, so it costs more to improve a graph than its improvement gains.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# TensorFlow notes by which calls each operation of a graph was made. Below pytest these are many, and it took an eighth of all time.
_NOWHERE = tf_stack.extract_stack()
tf_stack.extract_stack = lambda *_args, **_kwargs: _NOWHERE
# What the libraries have made by now stays, so the collector need not look at it again and again while graphs are traced.
gc.collect()
gc.freeze()
gc.set_threshold(200_000, 20, 50)


@pytest.fixture(autouse=True, scope="module")
def _single_precision():
    """Takes back the policy that a system in mixed precision leaves to the whole process, and so to the next module of tests."""
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def quick_environment():
    """Runs record a made machine: to ask git, packages and processor for each of a hundred runs would take longer than training."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_folder, "describe_environment", lambda: {"python": "3"})
        yield


@pytest.fixture(autouse=True)
def _no_graph_outlives_its_test():
    """Takes custom gradients out of TensorFlow's register, which would keep the graph of each for ever: 14 GB in the models' slow tests."""
    yield
    registered = ops.gradient_registry._registry
    if mine := [name for name in registered if name.startswith("CustomGradient-")]:
        for name in mine:
            del registered[name]
        gc.collect()


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
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that gives the folder of a name, which it has made once for all processes of the test run: (name, make) -> folder."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def qqp_folder(once) -> Path:
    """The bundled questions, prepared. Tests that change files work on a copy."""
    return once("prepared/qqp", prepare_sample)


@pytest.fixture(scope="session")
def douban_folder(once) -> Path:
    """The bundled Chinese dialogues, prepared."""
    return once("prepared/douban", lambda folder: prepare_sample(folder, "douban"))


def fresh_copy(folder: Path, place: Path) -> Path:
    """A copy of a prepared folder, without what training of other tests has cached in it."""
    return Path(shutil.copytree(folder, place, ignore=shutil.ignore_patterns(CACHE)))


@pytest.fixture(scope="session")
def rocstories_folder(once) -> Path:
    """The bundled stories, prepared."""
    return once("prepared/rocstories", lambda folder: prepare_sample(folder, "rocstories"))


@pytest.fixture(scope="session")
def generated_folder(once) -> Path:
    """A small part of the generated questions, prepared."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generated, "GROUPS", {"train": 5, "validation": 1, "test": 1})
            raw = generated.write("qqp", generated.folder_beside(folder))
        settings = PreparationSettings("labelled", vocab="learn", tagger="builtin")
        prepare(config.TASKS["qqp"], raw, folder, settings, 1, overwrite=False, made_by=generated.about("qqp"))

    return once("prepared/generated", make)


@pytest.fixture(scope="session")
def trained_run(qqp_folder, once) -> Path:
    """A run of a few steps on `qqp_folder`, far too small to be good. Tests that write into it work on a copy."""

    def train(folder: Path) -> None:
        from hcl_tf.training.launch import launch

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

    return once("runs/tiny", train)


@pytest.fixture(scope="session")
def evaluated_run(trained_run, qqp_folder, once) -> Path:
    """A copy of `trained_run` with the results of its test split."""

    def score(folder: Path) -> None:
        from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate

        shutil.copytree(trained_run, folder)
        evaluate(EvaluationRequest(folder, data_dir=qqp_folder))

    return once("evaluated/run", score)


@pytest.fixture(scope="session")
def exported_run(evaluated_run, once) -> Path:
    """The folder that `evaluated_run` was exported to."""

    def write(folder: Path) -> None:
        from hcl_tf.serving.export import export

        export(evaluated_run, "best_loss", folder, overwrite=False)

    return once("exported/run", write)


@pytest.fixture(scope="session")
def loaded_run(trained_run, qqp_folder):
    """The `TrainedRun` of `trained_run` at its best checkpoint."""
    from hcl_tf.training.trained_run import TrainedRun

    return TrainedRun(trained_run, data_dir=qqp_folder)
