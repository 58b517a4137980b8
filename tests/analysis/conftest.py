"""One evaluation and one loaded system for all tests of this folder."""

import shutil
from pathlib import Path

import pytest

from hcl_tf.analysis.evaluation import Request, evaluate
from hcl_tf.training import assembly
from hcl_tf.training.assembly import TrainedRun
from hcl_tf.training.run_folder import load_run


@pytest.fixture(scope="session")
def evaluated_run(trained_run, qqp_folder, tmp_path_factory) -> Path:
    """A copy of `trained_run` with the results of its test split."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained_run, folder)
    evaluate(Request(folder, data_dir=qqp_folder))
    return folder


@pytest.fixture(scope="session")
def loaded_run(trained_run) -> TrainedRun:
    """The system of `trained_run` at its best checkpoint."""
    return assembly.load_trained(load_run(trained_run), "best_loss")
