"""The command line of generation and export."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hcl_tf


def run(folder: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess:
    """A command line of its own, in `folder`, with `text` as its standard input."""
    command = [sys.executable, "-m", "hcl_tf.generate", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(hcl_tf.__file__).parents[1]), "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, input=text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run_dir is needed"),
        (["--run_dir=x", "--samples=-1"], "--samples=-1"),
        (["--run_dir=x", "--overwrite"], "--overwrite belongs to --export"),
        (["--run_dir=x", "--export=y", "--keywords=diet", "--samples=2"], "leave out --keywords and --samples"),
        (["--run_dir=x", "How can I lose weight?"], "unexpected argument"),
    ],
    ids=["no run", "samples", "overwrite", "export with texts", "text as argument"],
)
def test_flags_that_can_not_be_are_refused_at_once(tmp_path, arguments, message):
    result = run(tmp_path, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_standard_output_has_a_line_for_each_line_and_nothing_else(trained_run, tmp_path):
    text = "How can I lose weight?\n\nWhy is the sky blue?\n"
    result = run(tmp_path, f"--run_dir={trained_run}", "--keywords=zyxwvut", "--samples=2", text=text)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.split("\n")
    assert [len(line.split("\t")) for line in lines] == [2, 1, 2, 1]
    assert (lines[1], lines[3]) == ("", "")
    assert all(output.strip() for line in (lines[0], lines[2]) for output in line.split("\t"))
    assert result.stderr == "note: keyword 'zyxwvut' is not in the keyword graph: it counts as unknown\n"


@pytest.mark.slow
def test_a_bad_line_of_standard_input_is_named(trained_run, tmp_path):
    (tmp_path / "in").write_bytes(b"fine\nnot \xe4 fine\n")
    with (tmp_path / "in").open("rb") as stream:
        result = subprocess.run(
            [sys.executable, "-m", "hcl_tf.generate", f"--run_dir={trained_run}"], stdin=stream, capture_output=True, text=True
        )
    assert result.returncode == 1
    assert result.stderr == "error: standard input:2: not valid UTF-8 at byte 5; convert the text to UTF-8\n"
