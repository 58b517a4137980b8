"""A page from evaluated runs, what it refuses, and that a refusal leaves nothing behind."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from hcl_tf.analysis.evidence import CURVES, PAGE, write_page
from hcl_tf.errors import UserError

NASTY = "a | b *c* _d_ `e` <img src=x>\nnext"


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def reconfigure(run: Path, settings: dict | None = None, **values) -> None:
    """Changes config.json as if the run had been begun with it."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    change(run / "config.json", settings={**config["settings"], **(settings or {})}, **values)
    change(run / "files.json", **{"config.json": hashlib.sha256((run / "config.json").read_bytes()).hexdigest()})


@pytest.fixture
def runs(evaluated_run, tmp_path) -> list[Path]:
    """hcl, and the same results under the name of bert_cvae."""
    folders = [tmp_path / name for name in ("hcl", "base")]
    for folder in folders:
        shutil.copytree(evaluated_run, folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    reconfigure(folders[1], {"model": "bert_cvae", "weight_ins": 0.0, "weight_key": 0.0, "weight_ma": 0.0})
    return folders


def page_of(runs: list[Path], out: Path) -> str:
    write_page(runs, out, overwrite=False)
    return (out / PAGE).read_text(encoding="utf-8")


def table(page: str, heading: str) -> list[dict[str, str]]:
    """The first table below a heading."""
    lines = [line for line in page.split(f"## {heading}")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    names, _, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_page_of_two_runs(runs, tmp_path):
    page = page_of(runs, tmp_path / "deep" / "page")
    assert sorted(path.name for path in (tmp_path / "deep" / "page").iterdir()) == [CURVES, PAGE]
    assert (tmp_path / "deep" / "page" / CURVES).read_bytes()[:4] == b"\x89PNG"
    assert page.startswith("# qqp: hcl, bert_cvae\n\n**SCALED DOWN**")
    scores = json.loads((runs[0] / "scores.test.json").read_text())["scores"]
    rows = table(page, "Scores")
    assert [row["test"] for row in rows] == list(scores)
    for row, entry in zip(rows, scores.values(), strict=True):
        assert row["hcl"].split(" ")[0] == ("" if entry["value"] is None else f"{entry['value']:.3f}")
    predictions = [json.loads(line) for line in (runs[0] / "predictions.test.jsonl").read_bytes().splitlines()]
    samples = table(page, "20 test examples")
    assert samples[0]["source"] == predictions[0]["source"]
    assert samples[-1]["reference"] == predictions[-1]["reference"]


def test_order_accuracies_before_training_stand_beside_the_final_ones(runs, tmp_path):
    start = json.loads((runs[1] / "metrics.jsonl").read_bytes().splitlines()[0])
    assert (start["step"], start["kind"]) == (0, "validation")
    means = json.loads((runs[1] / "figures.test.json").read_text())["figures"]["means"]
    rows = table(page_of(runs, tmp_path / "page"), "Contrasts")
    assert len(rows) == 9
    for row, name in ((rows[0], "order_ins"), (rows[4], "order_key_random"), (rows[8], "order_ma_differ")):
        assert row["bert\\_cvae, before training"] == f"{start[f'examined/{name}']:.3f}"
        assert row["bert\\_cvae, trained"].split(" ")[0] == f"{means[name]['value']:.3f}"


def test_text_is_escaped(runs, tmp_path):
    lines = [json.loads(line) for line in (runs[1] / "predictions.test.jsonl").read_bytes().splitlines()]
    lines[0]["prediction"], lines[1]["source"] = NASTY, "a line \u2028 separator"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (runs[1] / "predictions.test.jsonl").write_text(text, encoding="utf-8")
    row = table(page_of(runs, tmp_path / "page"), "20 test examples")[0]
    assert row["bert\\_cvae"] == "a \\| b \\*c\\* \\_d\\_ \\`e\\` &lt;img src=x> / next"


def test_weights_other_than_the_systems_own_are_in_its_name(runs, tmp_path):
    reconfigure(runs[1], {"model": "hcl"})
    assert page_of(runs, tmp_path / "page").startswith("# qqp: hcl, hcl weight_ins=0 weight_key=0 weight_ma=0\n")


def test_a_system_without_latent_and_contrasts_has_a_page(runs, tmp_path):
    change(runs[0] / "figures.test.json", figures={"means": {}, "differences": {}, "collapsed": None})
    lines = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_bytes().splitlines()]
    kept = [{k: v for k, v in line.items() if k != "kl" and not k.startswith("examined/")} for line in lines]
    (runs[0] / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    page = page_of(runs, tmp_path / "page")
    assert "- hcl: no verdict" in page
    assert table(page, "Contrasts")[0]["hcl, trained"] == ""


REFUSALS = {
    "other data": (lambda run: reconfigure(run, data="0" * 64), "trained on other data"),
    "other budget": (lambda run: reconfigure(run, {"max_steps": 7}), "another max_steps"),
    "a setting that only one has": (lambda run: reconfigure(run, {"later": 1}), "another later"),
    "same system": (lambda run: reconfigure(run, {"model": "hcl", "weight_ins": 1.0, "weight_key": 1.0, "weight_ma": 1.0}), "a second hcl"),
    "unfinished": (lambda run: (run / "done.json").unlink(), "not finished"),
    "evaluated earlier": (lambda run: change(run / "done.json", best_step=999), "its best is of step 999; evaluate it again"),
    "no scores": (lambda run: (run / "scores.test.json").unlink(), r"scores\.test\.json: .*hcl_tf\.evaluate"),
    "no predictions": (lambda run: (run / "predictions.test.jsonl").unlink(), r"predictions\.test\.jsonl: .*hcl_tf\.evaluate"),
    "damaged figures": (lambda run: (run / "figures.test.json").write_text('{"a": '), r"figures\.test\.json: damaged"),
    "damaged predictions": (lambda run: (run / "predictions.test.jsonl").write_text("{}\n{"), r"predictions\.test\.jsonl: damaged"),
    "changed settings": (lambda run: change(run / "config.json", task="x"), r"config\.json: changed since"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_runs_that_can_not_be_compared_are_refused(runs, tmp_path, case):
    harm, message = REFUSALS[case]
    harm(runs[1])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message) as error:
        write_page(runs, tmp_path / "new" / "page", overwrite=False)
    assert str(runs[1]) in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_scores_taken_with_other_vectors_are_refused(runs, tmp_path):
    scores = json.loads((runs[1] / "scores.test.json").read_text())["scores"]
    scores["Average"]["signature"] += "|other"
    change(runs[1] / "scores.test.json", scores=scores)
    with pytest.raises(UserError, match="scored otherwise"):
        write_page(runs, tmp_path / "page", overwrite=False)


def test_a_page_that_fails_half_way_leaves_the_earlier_one(runs, tmp_path, monkeypatch):
    earlier, out = page_of(runs, tmp_path / "page"), tmp_path / "page"
    with pytest.raises(UserError, match="--overwrite"):
        write_page(runs, out, overwrite=False)
    monkeypatch.setattr("hcl_tf.analysis.evidence._origin", lambda runs: 1 / 0)  # the picture is drawn by then
    with pytest.raises(ZeroDivisionError):
        write_page(runs[:1], out, overwrite=True)
    assert (out / PAGE).read_text(encoding="utf-8") == earlier
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "hcl", "page"]
    monkeypatch.undo()
    write_page(runs[:1], out, overwrite=True)
    assert (out / PAGE).read_text(encoding="utf-8").startswith("# qqp: hcl\n")
