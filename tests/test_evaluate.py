"""The command line of evaluation."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hcl_tf


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A command line of its own, in `folder`."""
    command = [sys.executable, "-m", "hcl_tf.evaluate", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(hcl_tf.__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run_dir is needed"),
        (["--run_dir=x", "--split=tests"], "--split=tests"),
        (["--run_dir=x", "--checkpoint=last"], "--checkpoint=last"),
        (["--run_dir=x", "--limit=0"], "--limit=0"),
        (["--run_dir=x", "--samples=-1"], "--samples=-1"),
    ],
    ids=["no run", "split", "checkpoint", "limit", "samples"],
)
def test_flags_that_can_not_be_are_refused_at_once(tmp_path, arguments, message):
    result = run(tmp_path, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_a_part_of_a_split_from_the_other_checkpoint(trained_run, qqp_folder, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    before = {path.name for path in (tmp_path / "run").iterdir()}
    result = run(tmp_path, "--run_dir=run", f"--data_dir={qqp_folder}", "--split=validation", "--checkpoint=best_nll", "--limit=3")
    assert result.returncode == 0, result.stderr
    label = "validation.best_nll.first3"
    names = {f"predictions.{label}.jsonl", f"samples.{label}.md", f"figures.{label}.json", f"scores.{label}.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} - before == names
    scores = json.loads((tmp_path / "run" / f"scores.{label}.json").read_text(encoding="utf-8"))
    assert (scores["examples"], scores["checkpoint"]) == (3, "best_nll")
    assert f"BLEU-2{scores['scores']['BLEU-2']['value']:.3f}" in result.stdout.replace(" ", "")


@pytest.mark.slow
def test_samples_of_z_are_written_scored_and_shown(trained_run, qqp_folder, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    before = {path.name for path in (tmp_path / "run").iterdir()}
    result = run(tmp_path, "--run_dir=run", f"--data_dir={qqp_folder}", "--limit=4", "--samples=3")
    assert result.returncode == 0, result.stderr
    kinds = ("predictions.{}.jsonl", "sampled.{}.jsonl", "samples.{}.md", "figures.{}.json", "scores.{}.json")
    assert {path.name for path in (tmp_path / "run").iterdir()} - before == {kind.format("test.first4") for kind in kinds}
    rows = [json.loads(line) for line in (tmp_path / "run" / "sampled.test.first4.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [len(row["outputs"]) for row in rows] == [3] * 4
    found = json.loads((tmp_path / "run" / "figures.test.first4.json").read_text(encoding="utf-8"))["samples"]
    for name, entry in found["means"].items():
        assert f"{name}{entry['value']:.3f}[{entry['low']:.3f},{entry['high']:.3f}]" in result.stdout.replace(" ", "")
    assert "decoded 12 samples" in result.stdout
