"""The page of a plan: what it says by rule of rows that a test chooses, and that it is there with nothing run."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_stages import result, row, stage

from hcl_tf.evaluation import rows
from hcl_tf.reporting import arms, page
from hcl_tf.reporting.comparisons import compare
from hcl_tf.reporting.measures import MARGIN, NLL
from hcl_tf.reporting.plan import ExperimentPlan


@pytest.fixture
def plan() -> ExperimentPlan:
    planned = stage(row("base"), row("better"), row("worse"), row("missing"))
    changes = ({"date": "2026-12-01", "what": "<b>seeds</b>", "why": "time"},)
    return ExperimentPlan(Path("experiments/choices/plan.yaml"), "Choices", "2026-11-29", {"tie": "printed"}, 14.0, (planned,), changes)


def keep(out: Path, *results) -> None:
    for one in results:
        rows.keep(rows.place_of(out / "arms", one.row, one.seed), one)


@pytest.mark.slow
def test_findings_name_what_lies_above_and_below(plan):
    what_if = {alpha: {name: {"value": 1.5, "low": 1.0, "high": 2.0} for name in ("nll", "margin", "moved")} for alpha in ("0", "1")}
    draws = {"of_each": 10, "means": {"BLEU-2-best": {"value": 55.5, "low": 54.0, "high": 57.0, "examples": 7}}}
    better = result("better", margin=0.5, channel={"what_if": what_if}, seconds=1800, samples_of_z=draws)
    (line,) = arms.findings(plan.stages[0], compare(plan.stages[0], [result("base"), better, result("worse", margin=-0.5)]))
    assert "with z where L_ins would have it, the margin moves by at least 0.1 nats in 1 of 1 runs" in line.lower().replace(
        "l_ins", "L_ins"
    )
    one_seed = "(by examples alone, as the base has one seed yet)"
    assert f"margin of y+ over y-, beside what each stands {one_seed}: above better; below worse; 0 of 2 undecided" in line
    assert line.endswith("1 of 4 rows have not run yet.")
    allowed = replace(plan.stages[0], counts={NLL: 0.5})
    (line,) = arms.findings(allowed, compare(allowed, [result("base"), better, result("worse", margin=-0.5, nll=90.0)]))
    assert "Rows that do not count: worse. " in line
    assert f"margin of y+ over y-, beside what each stands {one_seed}: above better; below none; 0 of 1 undecided" in line
    text = page.markdown(arms.sections(plan, [(plan.stages[0], compare(plan.stages[0], [result("base"), better]))]))
    assert "2 runs so far, 0.2 of 14 planned hours (a run" in text
    assert "1.500 [1.000, 2.000]" in text
    copied = better.record["floors"]["copy_source"]["BLEU-2"]["value"]
    assert f"BLEU-2 of the sources themselves as outputs is {copied:.1f}, of random training targets {copied:.1f}." in text
    assert "| better, seed 1 | 10 | 7 | 55.500 [54.000, 57.000] |" in text
    assert "| tie | printed |" in text


def test_of_the_test_split_every_difference_is_said_with_its_interval(plan):
    scored = replace(plan.stages[0], split="test", margins={MARGIN: 0.3})
    results = [result(name, seed, margin) for name, margin in (("base", 0.0), ("better", 0.5), ("worse", -0.01)) for seed in (1, 2, 3)]
    compared = compare(scored, [*results, result("missing", 1, -0.4)])
    first, *lines = arms.findings(scored, compared)
    assert "in margin" not in first
    assert [line.split(" differences in ")[1].split(" (")[0] for line in lines] == ["margin of y+ over y-", "NLL of y+", "BLEU-2"]
    figures = {one.name: one.differences[MARGIN.name] for one in compared if one.differences}
    said = {name: f"{name} {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" for name, gap in figures.items()}
    assert f"above: {said['better']}; " in lines[0]
    assert f"within the margin of no difference: {said['worse']}" in lines[0]
    assert f"below: {said['missing']}, 1 seed" in lines[0]
    _, line, *_ = arms.findings(scored, compare(scored, results, judged=False))
    assert f"judged on the front page alone: {said['better']}, {said['worse']}." in line
    assert "above:" not in line


def test_the_page_and_its_picture_are_written_from_kept_rows(plan, tmp_path):
    keep(tmp_path, result("base"), result("better", margin=0.5))
    arms.write(plan, tmp_path)
    assert (tmp_path / "forest-arms.png").read_bytes().startswith(b"\x89PNG")
    text, html = ((tmp_path / name).read_text() for name in ("report.md", "report.html"))
    assert "+0.5" in text
    assert "arms: rows that have not run yet (2)" in text
    assert "&lt;b&gt;seeds&lt;/b&gt;" in html, "a plan is text, never markup"


def test_a_plan_of_which_nothing_ran_has_a_page(plan, tmp_path):
    arms.write(plan, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "arms: nothing ran yet." in text
    assert not list(tmp_path.glob("*.png"))
    arms.write(replace(plan, changes=(), rules={}), tmp_path)
    assert "Changes" not in (tmp_path / "report.md").read_text()
