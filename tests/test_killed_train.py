"""python -m hcl_tf.train: that killing it changes nothing."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import SMALL

from hcl_tf.training.checkpoints import Checkpoints
from hcl_tf.training.run_folder import load_run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hcl_tf.train", *map(str, arguments)]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A command line of its own, in `folder`."""
    return subprocess.run(command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True)


def result_of(path: Path) -> dict:
    """What has to be equal bit for bit: weights, optimiser state, position, both best checkpoints, metrics, outputs."""
    saved = Checkpoints(path / "checkpoints")
    found = {name: saved.read(name) for name in ("step-00000030", "best_loss", "best_nll")}
    arrays = {name: {key: (a.dtype.str, a.tobytes()) for key, a in each.arrays.items()} for name, each in found.items()}
    states = {name: (each.step, each.state) for name, each in found.items()}
    return {"arrays": arrays, "states": states} | {
        name: (path / name).read_bytes() for name in ("metrics.jsonl", "samples.md", "done.json")
    }


@pytest.fixture(scope="module")
def uninterrupted(qqp_folder, tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("whole")
    result = run(path, "--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL)
    assert result.returncode == 0, result.stderr
    return result_of(path / "run")


def start(folder: Path, data: Path, *more: str) -> subprocess.Popen:
    words = command("--task=qqp", f"--data_dir={data}", "--run_dir=run", *SMALL, *more)
    return subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines_of(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_bits(qqp_folder, tmp_path, uninterrupted) -> None:
    """SIGKILL at ten random moments, each some tenths of a second after a line of metrics or while there is none yet."""
    draw, metrics = random.Random(11), tmp_path / "run" / "metrics.jsonl"
    for _ in range(10):
        process = start(tmp_path, qqp_folder)
        lines = draw.choice([0, 0, 1, 1, 2])
        # A resumed run first drops what its checkpoint does not cover, then writes on.
        while "first step" not in (said := process.stdout.readline()) and said:
            pass
        begun = lines_of(metrics)
        while process.poll() is None and lines_of(metrics) < begun + lines:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    result = run(tmp_path, "--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL)
    assert result.returncode == 0, result.stderr
    assert result_of(tmp_path / "run") == uninterrupted
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    logged = [line["step"] for line in load_run(tmp_path / "run").read_metrics() if line["kind"] == "train"]
    assert [event.step for event in events.Tensors("train/objective")] == logged, "each step once"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_ends_the_same(qqp_folder, tmp_path, uninterrupted, number, code) -> None:
    process = start(tmp_path, qqp_folder)
    while lines_of(tmp_path / "run" / "metrics.jsonl") < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert f"{number.name}: saving after this step" in said
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest().step
    result = run(tmp_path, "--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL)
    assert result.returncode == 0, result.stderr
    assert f"going on from step {newest} " in result.stdout
    assert result_of(tmp_path / "run") == uninterrupted


@pytest.mark.slow
def test_damaged_checkpoint_then_the_same_bits(qqp_folder, tmp_path, uninterrupted) -> None:
    process = start(tmp_path, qqp_folder)
    while not (tmp_path / "run/checkpoints/step-00000015").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    newest = max((tmp_path / "run/checkpoints").glob("step-*"))
    data = bytearray((newest / "variables.safetensors").read_bytes())
    data[-5] ^= 64
    (newest / "variables.safetensors").write_bytes(data)
    result = run(tmp_path, "--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL)
    assert result.returncode == 0, result.stderr
    assert "checkpoint refused" in result.stdout
    assert result_of(tmp_path / "run") == uninterrupted


@pytest.mark.slow
def test_mixed_precision_trains_and_resumes_with_its_loss_scale(qqp_folder, tmp_path) -> None:
    flags = ("--task=qqp", f"--data_dir={qqp_folder}", *SMALL, "--mixed_precision")
    assert run(tmp_path, *flags, "--run_dir=whole").returncode == 0
    process = start(tmp_path, qqp_folder, "--mixed_precision")
    while lines_of(tmp_path / "run" / "metrics.jsonl") < 3 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    result = run(tmp_path, *flags, "--run_dir=run")
    assert result.returncode == 0, result.stderr
    assert "going on from step" in result.stdout
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")
    arrays = Checkpoints(tmp_path / "run/checkpoints").read("step-00000030").arrays
    assert arrays["loss_scale"] >= 1
    lines = [line for line in load_run(tmp_path / "run").read_metrics() if line["kind"] == "train"]
    assert all(np.isfinite(line["objective"]) for line in lines)
    assert lines[-1]["nll"] < lines[0]["nll"]
