"""Several rows at once: each on its cores, in order, with its own log; a signal lets no further one begin."""

import os
import threading
import time

import pytest

from hcl_tf.reporting import at_once

ROWS = [(name, 1) for name in "abcdef"]


def made(rows, make, logs, jobs=2):
    return list(at_once.run(rows, make, logs, lambda row: row[0], jobs))


def test_so_many_run_at_once_and_all_end(tmp_path, capsys):
    running, most, lock = [0], [0], threading.Lock()

    def make(row, call):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return 3 if row[0] == "c" else 0

    found = made(ROWS, make, tmp_path / "logs")
    assert most == [2]
    assert sorted((row, code) for row, code, _ in found) == [(row, 3 if row[0] == "c" else 0) for row in ROWS]
    assert all(seconds >= 0.05 for *_, seconds in found)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 * len(ROWS)
    assert all(line.startswith("== ") for line in said), "a row's line is not cut by another's"
    assert said[-1].endswith("0 to come, 0 minutes")


def test_after_a_signal_no_further_one_begins(tmp_path):
    begun, both = [], threading.Barrier(2)

    def make(row, call):
        begun.append(row)
        if row in ROWS[:2]:
            both.wait(timeout=60)  # The signal comes while another row is under way, however slowly threads start.
        time.sleep(0.01 if row[0] == "b" else 0.2)
        return 143 if row[0] == "b" else 0

    found = made(ROWS, make, tmp_path)
    assert len(begun) < len(ROWS)
    assert sorted(begun) == ROWS[: len(begun)]
    assert sorted((row, code) for row, code, _ in found) == [(row, 143 if row[0] == "b" else 0) for row in sorted(begun)]


def test_commands_run_on_their_cores_with_their_output_in_a_log(tmp_path, monkeypatch):
    program = tmp_path / "told.py"
    lines = ["import os, sys", "print(sorted(os.sched_getaffinity(0)), sys.argv[1:])", "print('oops', file=sys.stderr)", "sys.exit(5)"]
    program.write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = made(ROWS[:2], lambda row, call: call("told", [f"--row={row[0]}"]), tmp_path / "logs")
    assert [code for _, code, _ in found] == [5, 5]
    said = {name: (tmp_path / "logs" / f"{name}-1.log").read_text() for name in "ab"}
    assert all(f"['--row={name}']" in text and "oops" in text for name, text in said.items())
    if len(os.sched_getaffinity(0)) > 1:
        cores = [eval(text.split("]")[0] + "]") for text in said.values()]
        assert set(cores[0]).isdisjoint(cores[1])


@pytest.mark.parametrize(
    ("cores", "jobs", "expected"),
    [
        ([0, 1], 2, [{0}, {1}]), ([0, 1, 2, 3], 2, [{0, 2}, {1, 3}]), ([0, 1, 2], 2, [{0, 2}, {1}]), ([4], 3, [{4}] * 3),
        ([0, 1], 3, [{0}, {1}, {0}]), ([0, 1, 2], 1, [{0, 1, 2}]),
    ],
)  # fmt: skip
def test_cores_are_shared_evenly(cores, jobs, expected):
    assert at_once.shares(cores, jobs) == expected
