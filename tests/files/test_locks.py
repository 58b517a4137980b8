"""Two processes at one thing: the second is told who the first is, or waits for it; a killed one leaves no lock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.files import locks
from hcl_tf.files.array_cache import cached
from hcl_tf.files.whole_folder import whole_or_nothing

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(hcl_tf.__file__).parents[1])}
HOLD = """
import sys, time
from hcl_tf.files import locks
lock = open(sys.argv[1], "a+b")
locks.take(lock)
print("held", flush=True)
time.sleep(60)
"""
COMPUTE = """
import sys, time
from pathlib import Path
import numpy as np
from hcl_tf.files.array_cache import cached

def compute():
    print("computing", flush=True)
    time.sleep(float(sys.argv[2]))
    return (np.arange(3),)

print(cached(Path(sys.argv[1]), ("a.npy",), compute)[0].tolist(), flush=True)
"""


def start(program: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def held(tmp_path):
    """A lock that another process has."""
    process = start(HOLD, tmp_path / "lock")
    assert process.stdout.readline() == "held\n"
    yield tmp_path / "lock", process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_the_first_is(held):
    path, process = held
    with path.open("a+b") as lock, pytest.raises(locks.Taken, match=f"^process {process.pid}$"):
        locks.take(lock)


def test_a_killed_process_leaves_no_lock(held):
    path, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    with path.open("a+b") as lock:
        locks.take(lock)
        assert locks.holder(lock) == f"process {os.getpid()}"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"12 34", b"-1"])
def test_what_nobody_wrote_is_no_name(tmp_path, content):
    path = tmp_path / "lock"
    path.write_bytes(content)
    with path.open("a+b") as lock:
        assert locks.holder(lock) == "another process"


def test_a_folder_that_is_being_written_names_the_process(tmp_path):
    with whole_or_nothing(tmp_path / "out", "marker", overwrite=False) as content:
        (content / "marker").touch()
        message = f"process {os.getpid()} is writing it now"
        with pytest.raises(UserError, match=message), whole_or_nothing(tmp_path / "out", "marker", overwrite=False):
            pass


@pytest.mark.slow
def test_the_second_of_two_waits_for_a_cache_and_computes_nothing(tmp_path):
    first = start(COMPUTE, tmp_path / "cache" / "states", 1.5)
    assert first.stdout.readline() == "computing\n"
    second = start(COMPUTE, tmp_path / "cache" / "states", 0)
    said = second.communicate(timeout=60)[0].splitlines()
    assert said == [f"states in the cache: waiting for process {first.pid}, which is at work on it now", "[0, 1, 2]"]
    assert first.communicate(timeout=60)[0].splitlines() == ["[0, 1, 2]"]


def test_the_second_computes_where_the_first_was_killed(tmp_path):
    first = start(COMPUTE, tmp_path / "cache" / "states", 60)
    assert first.stdout.readline() == "computing\n"
    second = start(COMPUTE, tmp_path / "cache" / "states", 0)
    assert second.stdout.readline().endswith("which is at work on it now\n")
    first.kill()
    assert second.communicate(timeout=60)[0].splitlines() == ["computing", "[0, 1, 2]"]
    first.communicate()
    found = cached(tmp_path / "cache" / "states", ("a.npy",), lambda: pytest.fail("it is there"))
    np.testing.assert_array_equal(found[0], [0, 1, 2])
