"""Waiting for the other workers: who is missing is said, it ends by itself, and signals end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.training import workers
from hcl_tf.training.workers import Workers

TWO = {"worker": ["localhost:1", "localhost:2"]}


def given(monkeypatch, cluster: dict, **task) -> Workers | None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    return workers.read()


def test_who_the_workers_are(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert workers.read() is None
    first, second = (given(monkeypatch, TWO, type="worker", index=index) for index in (0, 1))
    assert (first.others, first.is_chief) == (["localhost:2"], True)
    assert (second.others, second.is_chief) == (["localhost:1"], False)
    cluster = {"chief": ["localhost:9"], **TWO}
    chief, worker = given(monkeypatch, cluster, type="chief", index=0), given(monkeypatch, cluster, type="worker", index=0)
    assert (chief.addresses, chief.is_chief) == (("localhost:9", "localhost:1", "localhost:2"), True)
    assert (worker.index, worker.is_chief) == (1, False), "beside a chief the first worker is none"


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"cluster": {}, "task": {}}', '{"cluster": {"worker": ["a:1"]}, "task": {"index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator"}}', '{"cluster": {"worker": ["a"]}, "task": {"index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"index": "x"}}',
    ],
)  # fmt: skip
def test_a_configuration_that_can_t_be_is_refused_with_an_example(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=r"TF_CONFIG can't be used .*; it has to be like \{\"cluster\""):
        workers.read()


PROGRAM = """
import time
from hcl_tf import cli
from hcl_tf.training import workers
workers.EVERY = 0.2

def main():
    print("begun", flush=True)
    with workers.waiting(workers.Workers(({addresses}), 0, True), {timeout}):
        time.sleep({seconds})
    print("all there", flush=True)

cli.run(main)
"""


def start(addresses: list[str], timeout: float, seconds: float) -> subprocess.Popen:
    text = PROGRAM.format(addresses=", ".join(map(repr, ["localhost:1", *addresses])), timeout=timeout, seconds=seconds)
    environment = os.environ | {"PYTHONPATH": str(Path(hcl_tf.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_missing_one_is_named_until_time_is_up():
    with socket.create_server(("localhost", 0)) as there:
        present, absent = f"localhost:{there.getsockname()[1]}", "localhost:2"
        said, error = (process := start([present, absent], 1.5, 60)).communicate(timeout=60)
    assert process.returncode == 1
    assert f"waiting for workers, 0 s so far: {absent}" in said
    assert present not in said
    assert error.startswith("error: after ")
    assert f"worker {absent} is still missing" in error
    assert error.count("\n") == 1


def test_when_all_are_there_the_work_goes_on():
    said, error = (process := start(["localhost:2"], 30, 0.5)).communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert said.splitlines()[-1] == "all there"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting(number):
    process = start(["localhost:2"], 60, 60)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(10) == -number
    process.communicate()


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with workers.waiting(Workers(("localhost:1",), 0, True), 60):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == before
