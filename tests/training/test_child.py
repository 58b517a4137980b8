"""A command's own commands end with it: who tells the first to end has told all, and each saves before it leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import hcl_tf

# Says that it is there, and when it is told to end writes that down and leaves as a training does.
CHILD = """
import pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path("saved").write_text(sys.argv[1])
    sys.exit(int(sys.argv[2]))
if int(sys.argv[2]):
    signal.signal(signal.SIGTERM, save)
print("there", flush=True)
time.sleep(60)
"""
PARENT = """
import sys
from hcl_tf.training import child
child.pass_sigterm_on()
code = child.call("told", sys.argv[1:])
again = child.call("told", ["second", "143"])
print(code, again)
sys.exit(code)
"""


def start(folder: Path, code: str, child: str = CHILD) -> subprocess.Popen:
    """A caller whose command leaves with a code (0: dies of the signal)."""
    (folder / "told.py").write_text(child)
    (folder / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(hcl_tf.__file__).parents[1])])}
    words = [sys.executable, "parent.py", "first", code]
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    return process


def told(folder: Path, code: str) -> tuple[int, str]:
    """A caller is told to end; its exit code and its last line."""
    process = start(folder, code)
    process.send_signal(signal.SIGTERM)  # to the caller alone
    said, _ = process.communicate(timeout=30)
    return process.returncode, said.split("\n")[-2]


def test_a_command_that_saves_is_waited_for_and_no_other_begins(tmp_path):
    assert told(tmp_path, "143") == (143, "143 143")
    assert (tmp_path / "saved").read_text() == "first"


def test_a_command_that_dies_of_the_signal_counts_as_interrupted(tmp_path):
    assert told(tmp_path, "0") == (143, "143 143")
    assert not (tmp_path / "saved").exists()


def test_a_command_is_told_to_end_where_its_caller_is_killed(tmp_path):
    """By SIGKILL, of which the caller can tell nobody."""
    process = start(tmp_path, "143", CHILD.replace('print("there"', 'from hcl_tf import cli\ncli._end_with_caller()\nprint("there"'))
    process.kill()
    process.communicate(timeout=30)  # the command writes there, too, so that this waits for both
    assert (tmp_path / "saved").read_text() == "first"
