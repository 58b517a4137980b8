"""A plan's file: what it says, and what is refused, by name."""

from pathlib import Path

import pytest

from hcl_tf.errors import UserError
from hcl_tf.reporting.plan import read

ROWS = ("trunk", "base", "hcl")
TEXT = """
title: A question
written: 2026-11-29
hours: 2
rules: {tie: the printed form}
stages:
  arms:
    about: Which arm.
    task: qqp
    data: tfrecords/qqp
    split: validation
    base: base
    rows:
      trunk: {asks: the trunk}
      base: {asks: nothing added, from: trunk-1, seeds: [1, 2, 3]}
      hcl: {asks: contrasts, from: trunk-1, seeds: [1, 2], beside: trunk}
changes: [{date: 2026-11-30, what: hcl, why: a reason}]
"""


@pytest.fixture
def write(tmp_path):
    def written(text: str = TEXT, rows=ROWS) -> Path:
        (tmp_path / "arms").mkdir(exist_ok=True)
        for row in (*rows, "all"):
            (tmp_path / "arms" / f"{row}.flags").write_text("--model=hcl\n")
        (tmp_path / "plan.yaml").write_text(text)
        return tmp_path / "plan.yaml"

    return written


def test_rows_that_come_last_are_made_after_the_others(write):
    (stage,) = read(write(TEXT.replace("beside: trunk}", "beside: trunk, last: true}"))).stages
    assert stage.runs() == [("trunk", 1), ("base", 1), ("base", 2), ("base", 3), ("hcl", 1), ("hcl", 2)]
    assert stage.runs(last=True) == [("hcl", 1), ("hcl", 2)]
    assert stage.runs(last=False) == [("trunk", 1), ("base", 1), ("base", 2), ("base", 3)]


def test_what_it_says(write, tmp_path):
    plan = read(write())
    (stage,) = plan.stages
    assert (plan.name, plan.title, plan.written, plan.hours) == (tmp_path.name, "A question", "2026-11-29", 2)
    assert plan.changes == ({"date": "2026-11-30", "what": "hcl", "why": "a reason"},)
    assert (stage.split, stage.checkpoint, stage.preset, stage.limit, stage.samples) == ("validation", "best_loss", "small", None, 0)
    assert [row.begins for row in stage.rows] == ["", "trunk-1", "trunk-1"]
    assert [stage.beside(row) for row in ROWS] == ["base", "base", "trunk"]
    assert plan.flag_files(stage) == tmp_path / "arms"


def test_every_row_once_before_any_twice(write):
    (stage,) = read(write()).stages
    assert stage.runs() == [("trunk", 1), ("base", 1), ("hcl", 1), ("base", 2), ("hcl", 2), ("base", 3)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: A question\n", "", "the plan has no title"),
        ("hours: 2", "hour: 2", "the plan has hour, which means nothing; changes, hours, rules, stages, title, written do"),
        ("task: qqp", "task: quora", "stage arms: task quora is none of"),
        ("split: validation", "split: dev", "stage arms: split dev is none of"),
        ("    base: base\n", "    base: other\n", "stage arms: its base other is none of its rows"),
        ("from: trunk-1, seeds: [1, 2, 3]", "from: trunk-2", "base begins from trunk-2, which is no run of the stage"),
        ("beside: trunk", "beside: tree", "hcl stands beside tree, which is none of its rows"),
        ("[1, 2, 3]", "[1, 2, 2]", r"base: seeds \[1, 2, 2\]; whole numbers are expected, none of them twice"),
        ("[1, 2, 3]", "[]", r"base: seeds \[\]"),
        ("hcl: {", "hcl2: {", r"hcl2 has no flag file .*arms/hcl2\.flags"),
        ("      trunk: {asks: the trunk}\n", "", r"trunk\.flags is no row of the plan"),
        ("trunk: {asks: the trunk}", "trunk: {asks: a}\n      trunk: {asks: b}", "line 1[0-9]: trunk stands twice"),
        ("stages:", "stages: [", "no YAML"),
        (TEXT, "", "the plan: names with values are expected, found NoneType"),
    ],
)
def test_what_can_t_be_is_refused_by_name(write, old, new, said):
    assert old in TEXT
    with pytest.raises(UserError, match=rf"^--plan=.*plan\.yaml: .*{said}"):
        read(write(TEXT.replace(old, new)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"can't be read \(No such file"):
        read(tmp_path / "plan.yaml")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "experiments").glob("*/plan.yaml")), ids=lambda path: path.parent.name)
def test_the_plans_of_the_project(path):
    plan = read(path)
    assert all(row.asks for stage in plan.stages for row in stage.rows)
