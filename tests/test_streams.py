"""Standard streams that are full, closed, left by their reader, or can't hold a character."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hcl_tf

PROGRAM = """
import sys
from pathlib import Path
from hcl_tf import cli
from hcl_tf.errors import UserError

def main():
    for number in range(2000):
        print(f"line {number} of a long work 工作", flush=number % 10 == 0)
        print("a note", file=sys.stderr)
    Path(OUT).write_text("done")

cli.run(main, product=PRODUCT)
"""


def command(out: Path, product: bool = False) -> list[str]:
    return [sys.executable, "-c", f"OUT, PRODUCT = {str(out)!r}, {product}\n{PROGRAM}"]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(hcl_tf.__file__).parents[1]), **changes}


def shell(out: Path, redirection: str, product: bool = False, **changes: str) -> subprocess.CompletedProcess:
    """The program below a shell, which redirects its streams; `status` is its exit code."""
    line = f'"$@" {redirection}; echo "status ${{PIPESTATUS[0]}}" >&3'
    words = ["bash", "-c", f"exec 3>&1; {line}", "-", *command(out, product)]
    return subprocess.run(words, env=environment(**changes), capture_output=True, text=True, timeout=120)


def test_a_reader_that_left_does_not_end_the_work(tmp_path):
    found = shell(tmp_path / "out", "2>/dev/null | head -1 >/dev/null")
    assert found.stdout == "status 0\n"
    assert (tmp_path / "out").read_text() == "done"


def test_a_reader_of_the_product_that_left_ends_it_quietly(tmp_path):
    found = shell(tmp_path / "out", "| head -1 >/dev/null", product=True)
    assert found.stdout == "status 0\n"
    assert "Error" not in found.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("product", [False, True])
def test_a_full_disk_is_one_line_and_an_exit_code(tmp_path, product):
    found = shell(tmp_path / "out", ">/dev/full", product)
    assert found.stdout == "status 1\n"
    errors = [line for line in found.stderr.splitlines() if line != "a note"]
    assert len(errors) == 1
    assert errors[0].startswith("error: standard output can't be written (No space left on device)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(tmp_path, closed):
    found = shell(tmp_path / "out", closed)
    assert found.stdout.endswith("status 0\n")
    assert (tmp_path / "out").read_text() == "done", "no opened file was taken for a stream"
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("product", [False, True])
def test_a_character_that_the_encoding_lacks_is_spelt_out(tmp_path, product):
    found = shell(tmp_path / "out", "", product, PYTHONIOENCODING="ascii")
    assert "status 0" in found.stdout
    assert "line 7 of a long work \\u5de5\\u4f5c" in found.stdout
    assert (tmp_path / "out").exists()


def test_a_refused_flag_is_said_although_standard_output_is_closed(tmp_path):
    found = subprocess.run(
        ["bash", "-c", '"$@" >&-; echo "status $?" >&2', "-", sys.executable, "-m", "hcl_tf.train", "--task=chess"],
        env=environment(), capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert "status 1" in found.stderr
    assert "chess" in found.stderr
