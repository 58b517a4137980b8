"""The first run, as a stranger types it in an empty folder: it speaks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hcl_tf
from hcl_tf.config import TASKS

PACKAGE = str(Path(hcl_tf.__file__).parents[1])


def run(folder: Path, command: str, *flags: str) -> str:
    """What a command says. It must end well."""
    environment = {**os.environ, "PYTHONPATH": PACKAGE, "PYTHONUNBUFFERED": "1"}
    result = subprocess.run(
        [sys.executable, "-m", f"hcl_tf.{command}", *flags], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_first_run_writes_sentences_that_fit_their_sources(task, tmp_path):
    said = run(tmp_path, "train", f"--task={task}", "--run_dir=run")
    assert f"no prepared data in tfrecords/{task}: generating a sample" in said
    first = re.search(r"^step (\d+): .*\n  .+ => .+$", said, re.M)
    assert 0 < int(first[1]) <= 250, "an output is shown early"
    print(run(tmp_path, "evaluate", "--run_dir=run"))
    found = json.loads((tmp_path / "run" / "figures.test.json").read_text())["derivations"]
    assert found["outputs"]["parse"] >= 0.9
    assert found["outputs"]["distinct"] >= 0.6
    assert found["outputs"]["topic kept"] >= 0.6
    # What says nothing is seen to say nothing.
    assert found["copy source"]["fit"] == 0
    assert found["one target"]["distinct"] < 0.01
    assert found["outputs"]["fit"] > 10 * found["one target"]["fit"]
