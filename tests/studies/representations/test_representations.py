"""The command line of Figure 3."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hcl_tf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run_dir is needed"),
        (["--run_dir=x", "--examples=1"], "--examples=1"),
        (["--run_dir=x", "--perplexity=0.5"], "--perplexity=0.5"),
        (["--run_dir=x", "--space=both"], "--space=both"),
        (["--run_dir=x", "--seed=-1"], "--seed=-1"),
    ],
    ids=["no run", "examples", "perplexity", "space", "seed"],
)
def test_flags_that_can_not_be_are_refused_at_once(tmp_path, arguments, message):
    command = [sys.executable, "-m", "hcl_tf.studies.representations", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(hcl_tf.__file__).parents[1])}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
