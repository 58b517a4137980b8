"""python -m hcl_tf.pretrain: what it refuses, what it makes, and that killing it changes nothing."""

import json
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from commands import command_in, environment

from hcl_tf.training.run_folder import load_run

SMALL = (
    "--layers=1", "--width=16", "--decoder_layers=1", "--row_length=64", "--batch_size=4", "--max_steps=12", "--checkpoint_every=3",
    "--log_every=2", "--validate_every=6", "--warmup_steps=0",
)  # fmt: skip


@pytest.fixture
def run_here(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)  # it would stay on for other tests
    return command_in(tmp_path, "pretrain", monkeypatch, capsys)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--out is needed"),
        (("--out=w",), "--data_dir is needed"),
        (("--out=w", "--data_dir=d", "--width=200"), "--width=200: a multiple of 64"),
        (("--out=w", "--data_dir=d", "--corrupted=0.95"), "--corrupted=0.95: at most 0.9"),
        (("--out=w", "--data_dir=d", "--batch_size=6", "--micro_batch=4"), "--micro_batch=4: --batch_size=6 is no multiple"),
        (("--out=w", "--data_dir=d", "--embedding_rate=9"), "--embedding_rate=9.0: it is of a T5, and --objective=mlm trains none"),
        (("--out=w", "--data_dir=d"), "d: not a prepared folder"),
        (("--out=w", "--data_dir=d", "extra"), "unexpected argument 'extra'"),
    ],
)
def test_impossible_flags_are_refused_before_anything_is_written(run_here, tmp_path, flags, said):
    result = run_here(*flags)
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--strategy=mirrored", "--init_from=x", "--model=hcl", "--objective=chess"])
def test_flags_of_other_commands_are_unknown(run_here, flag):
    assert run_here("--out=w", "--data_dir=d", flag).returncode == 1


def test_a_folder_that_is_something_else_is_left_alone(run_here, tmp_path, qqp_folder):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.txt").write_text("mine")
    result = run_here("--out=w", f"--data_dir={qqp_folder}", *SMALL)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "exists and is not a folder of hcl_tf.pretrain, so it is left alone" in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["thesis.txt", "w"]


@pytest.mark.slow
def test_weights_are_made_once_and_other_settings_refused(run_here, tmp_path, qqp_folder):
    flags = ("--objective=causal", f"--data_dir={qqp_folder}", "--out=weights/small", *SMALL)
    result = run_here(*flags)
    assert result.returncode == 0, result.stderr
    for said in (
        "distinct texts",
        "padding",
        "trainable parameters",
        "validation loss",
        "pairs of pieces lose",
        "pieces/s",
        "wrote weights/small",
    ):
        assert said in result.stdout
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "weights" / "small").iterdir()}
    again = run_here(*flags)
    assert (again.returncode, "are there already" in again.stdout) == (0, True)
    other = run_here(*flags, "--width=8")
    assert other.returncode == 1
    assert "has weights of other settings (width: was 16, now 8); choose another folder" in other.stderr
    texts = run_here(*flags, f"--exclude={qqp_folder}")
    assert texts.returncode == 1
    assert "has weights that were trained on other texts" in texts.stderr
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "weights" / "small").iterdir()} == before
    run = load_run(tmp_path / "runs" / "pretraining" / "small")
    assert run.finished["step"] == 12
    steps = [record["step"] for record in run.read_metrics() if record["kind"] == "validation"]
    assert steps == [0, 6, 12]
    losses = [record["nll_token"] for record in run.read_metrics() if record["kind"] == "validation"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("objective", "content", "said"),
    [
        ("span", {"model_type": "gpt2"}, "of a 'gpt2', but --objective=span pretrains a 't5'"),
        ("span", {"model_type": "t5", "tie_word_embeddings": False}, "its output layer is not tied"),
        ("causal", {"model_type": "gpt2", "n_positions": 32}, "the model has 32 positions; give --row_length=32 or less"),
        ("causal", "{", "can't be read as a JSON object"),
        ("mlm", {"model_type": "roberta"}, "model_type is 'roberta'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(run_here, tmp_path, qqp_folder, objective, content, said):
    (tmp_path / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    result = run_here(f"--objective={objective}", f"--data_dir={qqp_folder}", "--out=w", "--config=config.json", *SMALL)
    assert result.returncode == 1
    assert said in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"], "nothing else was written"


@pytest.mark.slow
def test_a_body_takes_the_sizes_of_a_published_one(run_here, tmp_path, qqp_folder):
    config = {"model_type": "gpt2", "n_embd": 24, "n_head": 3, "n_layer": 2, "n_positions": 80, "vocab_size": 50257, "n_inner": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = run_here("--objective=causal", f"--data_dir={qqp_folder}", "--out=w", "--config=config.json", *SMALL)
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "w" / "config.json").read_text())
    assert [written[key] for key in ("n_embd", "n_head", "n_layer", "n_positions")] == [24, 3, 2, 80]
    assert written["vocab_size"] < 50257


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mlm", "span", "causal"])
def test_a_killed_pretraining_ends_in_the_same_bits(tmp_path, qqp_folder, objective):
    def command(name: str) -> list[str]:
        flags = (
            f"--objective={objective}",
            f"--data_dir={qqp_folder}",
            f"--out={tmp_path / name}",
            f"--run_dir={tmp_path / 'run' / name}",
            *SMALL,
        )
        return [sys.executable, "-m", "hcl_tf.pretrain", *flags]

    subprocess.run(command("whole"), env=environment(), check=True, capture_output=True)
    kills = 0
    while True:
        process = subprocess.Popen(command("killed"), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = tmp_path / "run" / "killed" / "metrics.jsonl"
        lines = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
        while process.poll() is None and kills < 3:
            time.sleep(0.05)
            if metrics.exists() and len(metrics.read_bytes().splitlines()) > lines + 1:
                process.send_signal(signal.SIGKILL)
                kills += 1
        if process.wait() == 0:
            break
    assert kills
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, killed = ((tmp_path / "run" / name / "metrics.jsonl").read_bytes() for name in ("whole", "killed"))
    assert whole == killed
