"""Devices and micro-batches change no digit that matters: the first three steps, with dropout and latent noise on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hcl_tf
from hcl_tf.training.checkpoints import Checkpoints
from hcl_tf.training.run_folder import load_run

HELPERS = Path(__file__).parents[1] / "helpers"
PATHS = os.pathsep.join([str(Path(hcl_tf.__file__).parents[1]), str(HELPERS), str(Path(__file__).parents[1])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
TOLERANCE = 1e-5
TINY = (
    "--task=qqp", "--encoder=random:1x16", "--decoder_layers=1", "--latent_size=8", "--latent_hidden=16", "--batch_size=16",
    "--graph_fanout=4,2", "--graph_node_budget=512", "--maximum_length=5", "--beams=2", "--log_every=1", "--checkpoint_every=1",
)  # fmt: skip


def steps_of(folder: Path, out: Path, kind: str, modes: list[str]) -> dict[str, dict[str, np.ndarray]]:
    script = HELPERS / "strategy_steps.py"
    done = subprocess.run([sys.executable, script, folder, out, kind, *modes], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {mode: dict(np.load(f"{out}.{mode}.npz")) for mode in modes}


def check_agree(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Scalars each within the tolerance; gradients, as Adam's first moments keep them, within it of their whole length.

    Not weight by weight: where a gradient is zero but for rounding (a key's bias shifts all scores alike), Adam makes a full
    step of the rounding.
    """
    scalars = [name for name in wanted if name.startswith("scalar/")]
    assert len({name.split("/")[1] for name in scalars}) == 3
    for name in scalars:
        assert found[name] == pytest.approx(wanted[name], rel=TOLERANCE, abs=1e-7), name
    names = [name for name in wanted if name.startswith("optimizer/") and wanted[name].ndim]
    ours, theirs = (np.concatenate([arrays[name].ravel() for name in names]) for arrays in (found, wanted))
    assert np.linalg.norm(theirs) > 0
    assert np.linalg.norm(ours - theirs) <= TOLERANCE * np.linalg.norm(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", pytest.param("hcl", marks=pytest.mark.slow)])
def test_two_devices_and_micro_batches_agree_with_one(qqp_folder, tmp_path, kind) -> None:
    modes = ["mirrored", "one", "micro", "both", "mixed"]
    found = steps_of(qqp_folder, tmp_path / "steps", kind, modes)
    assert {mode: int(found[mode]["replicas"]) for mode in modes} == {"mirrored": 2, "one": 1, "micro": 1, "both": 2, "mixed": 2}
    assert all(found[mode]["traces"] == 1 for mode in modes)
    for mode in ("micro", "mirrored", "both"):
        check_agree(found[mode], found["one"])
    norms = [{name: float(value) for name, value in found[mode].items() if name.startswith("norm/")} for mode in ("both", "micro")]
    assert len(norms[1]) >= 3
    assert norms[0] == pytest.approx(norms[1], rel=1e-3), "of the same eight rows"
    if kind == "toy":
        check_agree(found["mixed"], found["one"])  # the toy computes in float32 all the same
        for name in ("model/slope", "model/level"):
            np.testing.assert_allclose(found["mirrored"][name], found["one"][name], rtol=TOLERANCE)
    else:
        assert found["mixed"]["loss_scale"] <= 2.0**15
        assert found["mixed"]["scalar/0/nll"] == pytest.approx(found["one"]["scalar/0/nll"], rel=1e-2)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def train(folder: Path, run: Path, *flags: str, workers: int = 0) -> list[str]:
    """The command, in one process or as so many workers; what each printed."""
    ports = free_ports(workers)
    environments = [ENVIRONMENT]
    if workers:
        cluster = {"worker": [f"localhost:{port}" for port in ports]}
        configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(workers)]
        environments = [{**ENVIRONMENT, "TF_CONFIG": config} for config in configs]
    command = [sys.executable, "-m", "hcl_tf.train", *TINY, f"--data_dir={folder}", f"--run_dir={run}", *flags]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=run.parent)
        for environment in environments
    ]
    try:
        said = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n====\n".join(text[-3000:] for text in said)
    return said


def state(run: Path, step: int) -> dict[str, np.ndarray]:
    scalars = {
        f"scalar/{line['step']}/{name}": np.array(value)
        for line in load_run(run).read_metrics()
        for name, value in line.items()
        if line["kind"] == "train" and isinstance(value, float)
    }
    return scalars | Checkpoints(run / "checkpoints").read(f"step-{step:08}").arrays


@pytest.mark.slow
def test_two_workers_agree_with_one_process_and_only_the_chief_writes(qqp_folder, tmp_path) -> None:
    train(qqp_folder, tmp_path / "one", "--max_steps=3")
    said = train(qqp_folder, tmp_path / "two", "--max_steps=3", "--strategy=multi_worker", workers=2)
    check_agree(state(tmp_path / "two", 3), state(tmp_path / "one", 3))
    assert "validation loss" in said[0]
    assert "validation loss" not in said[1]
    assert len((tmp_path / "two" / "command.txt").read_text().splitlines()) == 1
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    said = train(qqp_folder, tmp_path / "two", "--max_steps=3", "--strategy=multi_worker", workers=2)
    assert all("this run is finished" in text for text in said), "the workers know it too"


@pytest.mark.slow
def test_two_workers_go_on_from_the_chiefs_checkpoint(qqp_folder, tmp_path) -> None:
    """What a run looks like that was killed after its second step: the third is not there yet."""
    flags = ("--max_steps=3", "--strategy=multi_worker", "--keep_checkpoints=3")
    train(qqp_folder, tmp_path / "run", *flags, workers=2)
    wanted, metrics = state(tmp_path / "run", 3), (tmp_path / "run" / "metrics.jsonl").read_bytes()
    (tmp_path / "run" / "done.json").unlink()
    (tmp_path / "run" / "checkpoints" / "step-00000003").rename(tmp_path / "kept")
    said = train(qqp_folder, tmp_path / "run", *flags, workers=2)
    assert all("going on from step 2 " in text for text in said)
    found = state(tmp_path / "run", 3)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
