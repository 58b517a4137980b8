"""The command: runs in, a study out; filled sheets in, results out; what it refuses."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from absl.testing import flagsaver
from conftest import entry_point
from toy_study import filled, ones

from hcl_tf.errors import UserError
from hcl_tf.studies.human_evaluation.sheets import to_csv
from hcl_tf.studies.human_evaluation.study import read_key


@pytest.fixture
def runs(evaluated_run, tmp_path) -> list[Path]:
    """hcl, and the same results under another name and another budget."""
    folders = [tmp_path / "runs" / name for name in ("hcl-1", "bert_cvae-1")]
    for folder in folders:
        shutil.copytree(evaluated_run, folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    config = json.loads((folders[1] / "config.json").read_text(encoding="utf-8"))
    settings = {**config["settings"], "model": "bert_cvae", "max_steps": 9, **dict.fromkeys(WEIGHTS, 0.0)}
    reconfigure(folders[1], settings=settings, row="bert_cvae")
    return folders


WEIGHTS = ("weight_ins", "weight_key", "weight_ma")


def reconfigure(run: Path, **values) -> None:
    """Changes config.json as if the run had been begun with it."""
    merge(run / "config.json", values)
    merge(run / "files.json", {"config.json": hashlib.sha256((run / "config.json").read_bytes()).hexdigest()})


def merge(path: Path, values: dict) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def run(**flags) -> None:
    module = entry_point("studies.human_evaluation.__main__")
    with flagsaver.flagsaver():
        from absl.flags import FLAGS

        FLAGS(["program", *(f"--{name}={value}" for name, value in flags.items())])
        module.main()


def test_from_runs_to_results(runs, tmp_path, capsys):
    out = tmp_path / "study"
    run(runs=tmp_path / "runs", rows="bert_cvae-1,hcl-1", out=out, items=5, annotators=2)
    assert "5 items, 2 systems, 2 sheets" in capsys.readouterr().out
    study = read_key(out)
    assert study.systems == ["bert_cvae", "hcl"]
    predictions = {row["id"]: row for row in map(json.loads, (runs[0] / "predictions.test.jsonl").read_bytes().splitlines())}
    for item in study.items:
        assert item.source == predictions[item.id]["source"]
        assert set(item.outputs.values()) == {predictions[item.id]["prediction"].lower()}
    for annotator in (1, 2):
        (out / "filled" / f"{annotator}.csv").write_bytes(to_csv(filled(study, annotator, ones)))
    run(sheets=out)
    found = json.loads((out / "results" / "results.json").read_text(encoding="utf-8"))
    assert found["systems"]["hcl"]["means"]["Fluency"]["value"] == 1
    with pytest.raises(UserError, match="holds filled sheets, which are never replaced"):
        run(runs=",".join(map(str, runs)), out=out, items=5, overwrite=True)


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "predictions.test.jsonl").read_bytes().splitlines()]


def put_lines(run: Path, lines: list[dict]) -> None:
    (run / "predictions.test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def other_source(run: Path) -> None:
    lines = lines_of(run)
    lines[2]["source"] += "?"
    put_lines(run, lines)


REFUSALS = {
    "other data": (lambda run: reconfigure(run, data="0" * 64), "trained on other data"),
    "fewer predictions": (lambda run: put_lines(run, lines_of(run)[:-1]), r"predictions\.test\.jsonl: .* predictions, .* has"),
    "another order": (lambda run: put_lines(run, lines_of(run)[::-1]), r"predictions\.test\.jsonl:1: another id"),
    "another source": (other_source, r"predictions\.test\.jsonl:3: another source"),
    "same system": (lambda run: reconfigure(run, **json.loads((run.parent / "hcl-1" / "config.json").read_bytes())), "a second hcl"),
    "not evaluated": (lambda run: (run / "predictions.test.jsonl").unlink(), r"hcl_tf\.evaluate"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_runs_of_other_items_are_refused(runs, tmp_path, case):
    change, message = REFUSALS[case]
    change(runs[1])
    with pytest.raises(UserError, match=message) as error:
        run(runs=",".join(map(str, runs)), out=tmp_path / "study", items=5)
    assert str(runs[1]) in str(error.value)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "either --runs"), ({"runs": "a", "sheets": "b"}, "either --runs"), ({"runs": "a,b"}, "--out is needed")],
)
def test_flags_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        run(**given)
