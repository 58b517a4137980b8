"""Command lines of the package, in this process, which has TensorFlow imported already, or in one of their own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl.testing import flagsaver
from conftest import entry_point

import hcl_tf
from hcl_tf import cli

PACKAGE = str(Path(hcl_tf.__file__).parents[1])


def environment() -> dict[str, str]:
    """That of a command line of its own: this package, one thread."""
    return {**os.environ, "PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command_in(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., SimpleNamespace]:
    """A function of flags that runs `python -m hcl_tf.NAME` in a folder. Returns its exit code, and what it said."""
    program = entry_point(name)

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [f"hcl_tf.{name}", *map(str, arguments)])
        capsys.readouterr()
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
            cli.run(program.main)
        said = capsys.readouterr()
        return SimpleNamespace(returncode=stopped.value.code, stdout=said.out, stderr=said.err)

    return run
