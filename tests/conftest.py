"""What the tests share: no hub, quiet libraries, and folders prepared once a session from the bundled samples."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: tests behave alike with and without a network

from pathlib import Path

import pytest

from hcl_tf import cli, config

cli.quieten_libraries()
cli.import_tensorflow()

from hcl_tf.data.preparation import Settings, prepare  # noqa: E402


def prepare_sample(out: Path, task: str = "qqp", workers: int = 1, raw: Path | None = None, **settings) -> Path:
    """Prepares a bundled sample (or `raw`) with a learned vocabulary and returns the folder."""
    defaults = {"negatives": config.TASKS[task].negatives, "vocab": "learn", "vocab_size": 2000, "tagger": "builtin"}
    prepare(config.TASKS[task], raw or config.TASKS[task].sample, out, Settings(**{**defaults, **settings}), workers, overwrite=False)
    return out


@pytest.fixture(scope="session")
def qqp_folder(tmp_path_factory) -> Path:
    """The bundled questions, prepared. Tests that change files work on a copy."""
    return prepare_sample(tmp_path_factory.mktemp("prepared") / "qqp", "qqp")


@pytest.fixture(scope="session")
def douban_folder(tmp_path_factory) -> Path:
    """The bundled Chinese dialogues, prepared."""
    return prepare_sample(tmp_path_factory.mktemp("prepared") / "douban", "douban")


@pytest.fixture(scope="session")
def rocstories_folder(tmp_path_factory) -> Path:
    """The bundled stories, prepared."""
    return prepare_sample(tmp_path_factory.mktemp("prepared") / "rocstories", "rocstories")
