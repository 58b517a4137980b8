"""An array that is filled on disk: whole after any interruption, never used damaged, refused where there is no space."""

import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from hcl_tf.errors import UserError
from hcl_tf.files import growing_array
from hcl_tf.files.growing_array import grown

SHAPE = (40, 3)
BLOCKS = list(np.arange(40).reshape(20, 2))


class Filling:
    """Puts row numbers into rows, counts its calls, and can stop like a process that is killed."""

    def __init__(self, most: int = 100) -> None:
        self.calls, self.most = 0, most

    def __call__(self, array: np.ndarray, rows: np.ndarray) -> None:
        if self.calls == self.most:
            raise KeyboardInterrupt
        self.calls += 1
        array[rows] = rows[:, None] + np.arange(array.shape[1])


def fill(folder: Path, filling: Filling, shape: tuple = SHAPE, dtype: type = np.float32) -> np.ndarray:
    return grown(folder, "rows.npy", shape, dtype, BLOCKS, filling, "the rows", "free space")


EXPECTED = np.arange(40, dtype=np.float32)[:, None] + np.arange(3)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(growing_array, "SYNC_EVERY", 3)


def test_it_is_filled_once_and_read_again(tmp_path):
    filling = Filling()
    np.testing.assert_array_equal(fill(tmp_path / "kept", filling), EXPECTED)
    again = fill(tmp_path / "kept", filling)
    np.testing.assert_array_equal(again, EXPECTED)
    assert filling.calls == 20
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    assert sorted(os.listdir(tmp_path / "kept")) == ["rows.npy", "sums.json"]
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("killed_after", [0, 1, 7, 19])
def test_what_was_interrupted_goes_on_where_it_was(tmp_path, killed_after):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "kept", Filling(killed_after))
    assert not (tmp_path / "kept").exists()
    rest = Filling()
    np.testing.assert_array_equal(fill(tmp_path / "kept", rest), EXPECTED)
    assert rest.calls == 20 - killed_after // 3 * 3


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "sums"])
def test_a_damaged_one_is_filled_anew(tmp_path, harm):
    fill(tmp_path / "kept", Filling())
    path = tmp_path / "kept" / "rows.npy"
    whole = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "sums":
        (tmp_path / "kept" / "sums.json").write_text(json.dumps({"rows.npy": "0"}))
    else:
        path.write_bytes(whole[:-1] if harm == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    filling = Filling()
    np.testing.assert_array_equal(fill(tmp_path / "kept", filling), EXPECTED)
    assert filling.calls == 20
    assert path.read_bytes() == whole


@pytest.mark.parametrize("harm", ["cut", "done", "other"])
def test_an_unfinished_one_that_is_damaged_or_another_is_begun_anew(tmp_path, harm):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "kept", Filling(9), np.shape(EXPECTED) if harm != "other" else (40, 2))
    (partial,) = tmp_path.iterdir()
    if harm == "cut":
        (partial / "rows.npy").write_bytes((partial / "rows.npy").read_bytes()[:200])
    elif harm == "done":
        (partial / "done").write_text("many")
    filling = Filling()
    np.testing.assert_array_equal(fill(tmp_path / "kept", filling), EXPECTED)
    assert filling.calls == 20


def test_a_disk_that_is_too_small_is_told_before_work_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(growing_array.shutil, "disk_usage", lambda _: namedtuple("usage", "free")(400))
    filling = Filling()
    with pytest.raises(UserError, match=r"the rows take 0.0 MiB, and .* has 0.0 MiB free; free space"):
        fill(tmp_path / "kept", filling)
    assert filling.calls == 0


@pytest.mark.slow
def test_a_process_waits_for_another_that_fills_it_and_a_killed_one_holds_nobody_up(tmp_path):
    program = (
        "import sys, time, numpy as np; sys.path.insert(0, sys.argv[1]); from hcl_tf.files.growing_array import grown\n"
        "def slow(array, rows): print('at work', flush=True); time.sleep(60)\n"
        "from pathlib import Path\n"
        "grown(Path(sys.argv[2]), 'rows.npy', (40, 3), np.float32, [np.arange(2)] * 20, slow, 'the rows', 'free space')"
    )
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", program, root, str(tmp_path / "kept")]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while "at work" not in first.stdout.readline():
        pass
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert f"waiting for process {first.pid}, which is at work on it now" in second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    assert "at work" in second.stdout.readline()
    second.kill()
    for process in (first, second):
        process.communicate()
