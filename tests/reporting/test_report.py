"""The report's pages: what stands in them, that generated text can't break them, and what --check says of them."""

import csv
import io
import json
import re
from pathlib import Path

import made_evidence
import numpy as np
import pytest
from conftest import entry_point
from html_page import Page
from made_results import made, without_weights
from toy_study import toy_study

from hcl_tf import cli
from hcl_tf.evaluation import rows
from hcl_tf.metrics import power
from hcl_tf.reporting import claims as claims_module
from hcl_tf.reporting import page, report
from hcl_tf.reporting import sections as report_sections
from hcl_tf.reporting.build_notes import BuildNotes
from hcl_tf.reporting.claims import METRICS, Claims, read
from hcl_tf.reporting.verdicts import SCALED, Table
from hcl_tf.studies.human_evaluation.results import summarise
from hcl_tf.studies.human_evaluation.study import SCALES

SHIPPED = Path(__file__).parents[2] / "experiments" / "paper_claims.yaml"
ROWS = ("hcl", "claps", "bert_cvae", "hcl_without_graph")
NO_NOTES = BuildNotes({})


@pytest.fixture(scope="module")
def table():
    found = [made(row, seed, 20.0 + place, preset="small") for place, row in enumerate(ROWS) for seed in (1, 2)]
    return report.table_of("qqp", found, read(SHIPPED))[0]


@pytest.fixture(scope="module")
def sections(table):
    return report_sections.sections(table, [("runs/old", "other raw files than runs/hcl-1")], NO_NOTES)


def test_the_html_is_whole_needs_no_network_and_escapes_what_is_generated(sections):
    text = page.html(sections)
    shown = Page(text)
    assert shown.open == []
    assert "script" not in shown.tags
    assert "b" not in shown.tags, "the source's own <b> is text"
    assert "Is <b>" in shown.text
    assert shown.links
    assert all(link.startswith("data:image/png;base64,") for link in shown.links)
    assert "http" not in re.sub('base64,[^"]*', "", text)
    for section in sections:
        assert section.title in shown.text


def test_every_row_and_score_stands_in_both_pages(sections, table):
    for text in (page.markdown(sections).replace("\\_", "_"), Page(page.html(sections)).text):
        for row in ROWS:
            assert f"{table.cell_mean(row, 'BLEU-1'):.2f}" in text
        for wanted in ("SCALED DOWN", "NOT RUN", "other raw files than runs/hcl-1", "T5-CLAPS", "python -m hcl_tf.train --task=qqp"):
            assert wanted in text


@pytest.mark.slow
def test_a_run_of_the_paper_s_size_is_not_marked():
    table, _ = report.table_of("qqp", [made("hcl")], read(SHIPPED))
    assert SCALED not in page.markdown(report_sections.sections(table, [], NO_NOTES))
    part, _ = report.table_of("qqp", [made("hcl", whole=False)], read(SHIPPED))
    assert SCALED in page.markdown(report_sections.sections(part, [], NO_NOTES))


@pytest.mark.slow
def test_a_page_of_training_pairs_says_so():
    text = {split: page.markdown(report_sections.sections(report.table_of("qqp", [made(split=split)], read(SHIPPED))[0], [], NO_NOTES))
            for split in ("train", "test")}  # fmt: skip
    assert ["SCORED ON TRAINING PAIRS" in text[split] for split in text] == [True, False]
    assert [" train examples." in text[split] for split in text] == [True, False]


def test_a_run_that_the_clock_cut_off_and_an_exported_one_are_named():
    where = made("hcl").record["environment"]
    exported = where | {"gpus": ["GPU 1"], "exported": True, "packages": where["packages"] | {"jaxlib": "0.11"}}
    cut = made("hcl", finished={"best_step": 20, "step": 1234, "ended": "time"}, environment=exported)
    whole = made("claps", finished={"best_step": 20, "step": 99, "ended": "patience"})
    assert [cut.scaled, whole.scaled] == [True, False]
    text = page.markdown(report_sections.sections(Table("qqp", [cut, whole], read(SHIPPED)), [], NO_NOTES))
    assert "cut off by the clock, not by the budget: hcl seed 1 after 1,234 steps." in text
    assert "99 steps, ended by patience" in text
    assert (
        "GPUs: GPU 1; Python 3.11, TensorFlow 2, hcl_tf 0, trained and decoded as exported XLA programs through jaxlib 0.11: hcl seed 1."
        in text
    )
    assert "GPUs: none; Python 3.11, TensorFlow 2, hcl_tf 0: claps seed 1." in text


@pytest.mark.slow
def test_what_can_t_be_taken_at_face_value_is_said_with_its_reason_above_the_tables_and_in_the_csv():
    old = {"environment": {**made().record["environment"], "arithmetic": 1}}
    table, _ = report.table_of("qqp", [made("hcl"), without_weights(made("claps", **old)), without_weights(made("t5"))], read(SHIPPED))
    text = page.markdown(report_sections.sections(table, [], NO_NOTES))
    (line,) = (line for line in text.splitlines() if line.startswith("NO WEIGHTS: "))
    assert line.endswith(("only rows with weights of its kind stand beside it: t5, claps.", "stand beside it: claps, t5."))
    assert any(line.startswith("WEAK: ") and line.endswith(": claps.") for line in text.splitlines())
    assert "SPOILT" not in text
    lines = {line["system"]: line for line in csv.DictReader(io.StringIO(report.csv_of(table))) if line["metric"] == "BLEU-1"}
    assert [lines[row]["cautions"] for row in ("hcl", "claps", "t5")] == ["", "NO WEIGHTS WEAK", "NO WEIGHTS"]


@pytest.mark.slow
def test_the_share_of_each_kind_of_negative_stands_above_the_tables():
    def head(negatives) -> str:
        corpus = made().record["corpus"] | ({} if negatives is None else {"negatives": negatives})
        return page.markdown(report_sections.sections(Table("qqp", [made("hcl", corpus=corpus)], read(SHIPPED)), [], NO_NOTES))

    assert "Negatives in training: bm25 30.9%, labelled 69.1%." in head({"labelled": 0.691, "bm25": 0.309})
    for unknown in (None, {}):
        assert "Negatives in training" not in head(unknown)


def test_the_csv_has_a_line_for_every_cell(table):
    lines = list(csv.DictReader(io.StringIO(report.csv_of(table))))
    assert len(lines) == len(METRICS) * sum(map(len, table.claims.tables.values()))
    line = next(line for line in lines if (line["system"], line["metric"]) == ("claps", "BLEU-2"))
    assert float(line["ours"]) == pytest.approx(table.cell_mean("claps", "BLEU-2"), abs=1e-4)
    assert float(line["smallest"]) < float(line["ours"]) < float(line["largest"])
    assert (line["paper"], line["verdict"], line["scaled"], line["seeds"]) == ("", "", "SCALED", "2")
    assert line["signature"] == "BLEU-2|made"
    assert line["p_against_hcl"]
    assert [line["verdict"] for line in lines if line["system"] == "t5"] == ["NOT RUN"] * len(METRICS)


@pytest.mark.slow
def test_a_filled_cell_is_shown_with_its_verdict_and_the_mark():
    claims = read(SHIPPED)
    filled = Claims(claims.tables, {("qqp", "hcl", "BLEU-1"): 20.0, ("qqp", "t5", "BLEU-1"): 33.0}, claims.claims)
    table, _ = report.table_of("qqp", [made("hcl", preset="small")], filled)
    text = page.markdown(report_sections.sections(table, [], NO_NOTES))
    assert re.search(r"paper 20\.00: OK SCALED", text)
    assert "paper 33.00: NOT RUN" in text


@pytest.mark.slow
def test_keyword_control_and_figure_3_are_shown_where_a_run_has_them(tmp_path):
    entry = {"value": 0.25, "low": 0.2, "high": 0.3}
    space = {"cosine": {"distances": {"keyword-source": entry}, "differences": {}, "nearer": {}}}
    row = {"id": "1", "source": "s", "reference": "r", "outputs": [{"condition": "swapped", "keywords": ["snow"], "output": "snow falls"}]}
    control = {"figures": {"prior-shift": {"values": {"swapped": entry}}}, "rows": [row]}
    ours = made("hcl", keyword_control=control, figure3={"before": space, "after": space})
    rows.keep(tmp_path / "rows" / "hcl-1.json", ours)
    (tmp_path / "rows" / "hcl-1.png").write_bytes(b"picture")
    rows.keep(tmp_path / "rows" / "claps-1.json", made("claps"))
    table, _ = report.table_of("qqp", rows.collect([tmp_path])[0], read(SHIPPED))
    text = page.markdown(report_sections.sections(table, [], NO_NOTES))
    assert "0.250 [0.200, 0.300]" in text
    assert "| hcl, swapped (snow) | snow falls |" in text
    assert "| claps | rain by claps & co |" in text.partition("Table 4")[2], "another system's output for the same example"
    assert "![rows/hcl-1](rows/hcl-1.png)" in text
    assert "Figure 3" not in page.markdown(report_sections.sections(report.table_of("qqp", [made()], read(SHIPPED))[0], [], NO_NOTES))


def test_check(table, capsys):
    assert report.check(table) == 1, "hcl is below claps"
    good, _ = report.table_of("qqp", [made("hcl", score=30.0), made("claps")], read(SHIPPED))
    assert report.check(good) == 0
    nothing, _ = report.table_of("qqp", [made("hcl")], read(SHIPPED))
    assert report.check(nothing) == 2
    assert "nothing checked" in capsys.readouterr().out
    weightless, _ = report.table_of("qqp", [made("hcl", score=1.0), without_weights(made("claps"))], read(SHIPPED))
    assert report.check(weightless) == 2, "what can't be compared is neither right nor wrong"
    claims = read(SHIPPED)
    failing, _ = report.table_of("qqp", [made("hcl")], Claims(claims.tables, {("qqp", "hcl", "BLEU-1"): 90.0}, claims.claims))
    assert report.check(failing) == 1


# -- the command ------------------------------------------------------------------------------------------------------


def run(monkeypatch, *flags: str) -> int:
    """The command's exit code."""
    module = entry_point("report")
    monkeypatch.setattr("sys.argv", ["report", *flags])
    with pytest.raises(SystemExit) as ended:
        cli.run(module.main)
    return ended.value.code


@pytest.fixture
def kept(tmp_path) -> Path:
    for row in ROWS:
        rows.keep(tmp_path / "kept" / "rows" / f"{row}-1.json", made(row, score=20.0 + len(row), preset="small"))
    return tmp_path / "kept"


@pytest.mark.slow
def test_the_command_writes_the_pages_and_checks(kept, tmp_path, monkeypatch, capsys):
    flags = ["--task=qqp", f"--runs={kept}", f"--out={tmp_path / 'out'}", f"--claims={SHIPPED}"]
    assert not run(monkeypatch, *flags)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.md", "report.html", "table1.csv", "scores.png", "losses.png", "contrasts.png",
    }  # fmt: skip
    assert "4 rows, 0 runs set apart" in capsys.readouterr().out
    assert run(monkeypatch, *flags, "--check") == 1


@pytest.mark.slow
def test_rows_are_kept_if_asked_and_make_the_same_report(kept, tmp_path, monkeypatch):
    first, again = tmp_path / "first", tmp_path / "again"
    run(monkeypatch, "--task=qqp", f"--runs={kept}", f"--out={first}", f"--claims={SHIPPED}", "--keep")
    run(monkeypatch, "--task=qqp", f"--runs={first}", f"--out={again}", f"--claims={SHIPPED}")
    assert {path.name for path in (first / "rows").glob("*.json")} == {f"{row}-1.json" for row in ROWS}
    assert (again / "report.md").read_bytes() == (first / "report.md").read_bytes()
    assert not (again / "rows").exists()


@pytest.mark.slow
def test_rows_that_the_report_does_not_show_are_not_left_beside_it(kept, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    rows.keep(out / "rows" / "t5-1.json", made("t5"))
    flags = ["--task=qqp", f"--out={out}", f"--claims={SHIPPED}", "--keep"]
    assert run(monkeypatch, *flags, f"--runs={kept}") == 1
    assert re.search(rf"{out}/rows/t5-1\.json: .* another --out, or give {out} under --runs", capsys.readouterr().err)
    assert [path.relative_to(out).as_posix() for path in out.rglob("*")] == ["rows", "rows/t5-1.json"]
    assert not run(monkeypatch, *flags, f"--runs={kept},{out}")
    assert {path.name for path in (out / "rows").glob("*.json")} == {f"{row}-1.json" for row in (*ROWS, "t5")}
    assert not run(monkeypatch, *flags, f"--runs={out}"), "the same rows are kept again"


@pytest.mark.slow
def test_the_command_takes_a_study(kept, tmp_path, monkeypatch, capsys):
    study = toy_study(items=4)
    found = summarise(study, {1: np.full((4, len(study.systems), len(SCALES)), 2)}, "hcl")
    (results_file := tmp_path / "results.json").write_text(json.dumps(found))
    flags = ["--task=qqp", f"--runs={kept}", f"--out={tmp_path / 'out'}", f"--claims={SHIPPED}"]
    assert run(monkeypatch, *flags, f"--human={tmp_path / 'none'}") == 1
    assert "human_evaluation --sheets" in capsys.readouterr().err
    assert run(monkeypatch, *flags, f"--human={results_file}") == 1
    assert "other data than the runs'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    rows.keep(kept / "rows" / "hcl-1.json", made("hcl", score=90.0, preset="small", data=study.origin["data"]))
    assert not run(monkeypatch, *flags, f"--human={results_file}")
    assert f"Study {study.id}: 4 test examples, 1 annotators." in (tmp_path / "out" / "report.md").read_text()
    assert run(monkeypatch, *flags, f"--human={results_file}", "--check") == 1, "all systems are level, so ours is not the best"


@pytest.mark.slow
def test_the_command_makes_the_report_of_a_task_of_one_s_own(tmp_path, monkeypatch, capsys):
    for row in ("hcl", "bert_cvae"):
        rows.keep(tmp_path / "kept" / "rows" / f"{row}-1.json", made(row, preset="small", task="custom"))
    flags = ["--task=custom", f"--runs={tmp_path / 'kept'}"]
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as installed:
        installed.setattr(claims_module, "__file__", str(tmp_path / "lib" / "hcl_tf" / "reporting" / "claims.py"))
        assert not run(monkeypatch, *flags), "an installed package has no claims file"
    assert "wrote reports/custom/report.md, report.html and table1.csv: 2 rows, 0 runs set apart" in capsys.readouterr().out
    assert (tmp_path / "reports" / "custom" / "report.md").is_file()
    flags += [f"--claims={SHIPPED}"]
    assert run(monkeypatch, *flags, "--check") == 2
    assert "nothing checked" in capsys.readouterr().out
    rows.keep(tmp_path / "kept" / "rows" / "claps-1.json", made("claps"))
    assert run(monkeypatch, *flags) == 1
    assert re.search(r"claps-1\.json: a run of qqp among those of custom", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda kept: (kept / "rows" / "hcl-1.json").write_text("{"), r"hcl-1\.json: damaged"),
        (lambda kept: (kept / "rows" / "hcl-1.json").write_text('{"system": "hcl"}'), r"hcl-1\.json: has no"),
        (lambda kept: [path.unlink() for path in (kept / "rows").iterdir()], "no run there"),
    ],
)
def test_what_can_t_be_used_is_refused_and_no_page_is_written(kept, tmp_path, monkeypatch, capsys, damage, why):
    damage(kept)
    assert run(monkeypatch, "--task=qqp", f"--runs={kept}", f"--out={tmp_path / 'out'}", f"--claims={SHIPPED}") == 1
    assert re.search(why, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_no_run_of_the_task(kept, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--task=douban", f"--runs={kept}", f"--out={tmp_path / 'out'}", f"--claims={SHIPPED}") == 1
    assert "no evaluated run of douban" in capsys.readouterr().err


@pytest.mark.slow
def test_a_page_that_fails_half_way_leaves_the_earlier_one(table, tmp_path, monkeypatch):
    report.write(table, [], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(report, "csv_of", lambda table: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(report.table_of("qqp", [made("hcl")], read(SHIPPED))[0], [], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_front_page_is_written_of_a_plan(tmp_path, monkeypatch, capsys):
    plan = made_evidence.plan(tmp_path / "evidence")
    monkeypatch.setattr(power.smallest_found, "__defaults__", (0.8, 0.95, 20))
    assert not run(monkeypatch, "--all", f"--plan={plan.path}", f"--out={tmp_path / 'out'}", f"--claims={SHIPPED}")
    said = capsys.readouterr().out
    assert said.startswith("On questions, hcl beside bert_cvae in BLEU-2, the test that decides: NOT RUN")
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")} == {
        "README.md", "index.html", "evidence/report.md", "evidence/report.html",
    }  # fmt: skip


def test_a_plan_of_which_nothing_is_kept_has_no_page(tmp_path, monkeypatch, capsys):
    plan = made_evidence.plan(tmp_path / "evidence")
    assert run(monkeypatch, f"--plan={plan.path}", f"--out={tmp_path / 'out'}")
    assert f"no row of {plan.path} is kept there; make them with python -m hcl_tf.reproduce" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--all", "--task=qqp"], "or --plan or --all is needed, and not two of them"),
        ([], "--task, one of qqp, douban, rocstories, custom, or --plan or --all is needed"),
        (["--all", "--check"], "--check is of a task's report, and a plan has none of it"),
    ],
)
def test_flags_of_one_report_are_refused_for_another(flags, said, monkeypatch, capsys):
    assert run(monkeypatch, *flags)
    assert said in capsys.readouterr().err
