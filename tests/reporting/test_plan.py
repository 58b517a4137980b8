"""A plan's file: what it says, and what is refused, by name."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from hcl_tf.config import TASKS
from hcl_tf.errors import UserError
from hcl_tf.metrics.power import Components
from hcl_tf.reporting.kept import of_plan
from hcl_tf.reporting.plan import read
from hcl_tf.reporting.series import series_of
from hcl_tf.reporting.verdicts import differing

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


def test_what_it_says(write, tmp_path):
    plan = read(write())
    (stage,) = plan.stages
    assert (plan.name, plan.title, plan.written, plan.hours) == (tmp_path.name, "A question", "2026-11-29", 2)
    assert plan.changes == ({"date": "2026-11-30", "what": "hcl", "why": "a reason"},)
    assert (stage.split, stage.checkpoint, stage.preset, stage.limit, stage.samples) == ("validation", "best_loss", "small", None, 0)
    assert [row.begins for row in stage.rows] == ["", "trunk-1", "trunk-1"]
    assert [stage.beside(row) for row in ROWS] == ["base", "base", "trunk"]
    assert plan.flag_files(stage) == tmp_path / "arms"


def test_data_of_one_s_own_can_be_planned(write):
    (stage,) = read(write(TEXT.replace("task: qqp", "task: custom"))).stages
    assert "--task=custom" in series_of(read(write()), stage, Path("runs"), Path("out")).train("hcl", 1)


def test_every_row_once_before_any_twice(write):
    (stage,) = read(write()).stages
    assert stage.runs() == [("trunk", 1), ("base", 1), ("hcl", 1), ("base", 2), ("hcl", 2), ("base", 3)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: A question\n", "", "the plan has no title"),
        ("rules: {tie:", "rules: {no:", "rules: a name is read as False, as YAML reads yes, no and numbers; put it in quotes"),
        (
            "hours: 2",
            "hour: 2",
            "the plan has hour, which means nothing; .*, hours, limits, opened, primary, rules, ",
        ),
        ("task: qqp", "task: quora", "stage arms: task quora is none of .*custom"),
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


EVIDENCE = """
primary: {stage: arms, row: hcl, beside: base, margins: {BLEU-2: 0.5, NLL of y+: 1}, open_channel: true}
secondary: {others: {stage: arms, row: hcl, beside: [trunk, base], margins: {iBLEU: 0.5}}}
variances: {of_seeds: 0.3, of_sentences: 60, of_rest: 150, from: assumed}
limits: [Nothing else.]
causes: {"qqp: a claim": a cause}
"""


def test_what_a_plan_of_evidence_says_besides(write):
    text = TEXT.replace("    base: base\n", "    base: base\n    stop: 300 steps\n    hours: 1\n    at_least: 9\n")
    again = "  again: {task: qqp, data: d, checkpoint: best_nll, base: base, runs_of: arms, rows: {base: {turn: 2}}}\nchanges:"
    text = text.replace("asks: contrasts,", "asks: contrasts, trials: 8, turn: 2,").replace("changes:", again)
    plan = read(write(text + EVIDENCE))
    arms, scored_again = plan.stages
    assert (arms.stop, arms.hours, arms.at_least, arms.row("hcl").trials, arms.row("base").trials) == ("300 steps", 1, 9, 8, 0)
    assert plan.turns == [1, 2]
    assert (arms.runs(2), scored_again.runs(1), scored_again.runs(2)) == ([("hcl", 1), ("hcl", 2)], [], [("base", 1)])
    assert plan.flag_files(scored_again) == plan.flag_files(arms) == plan.path.parent / "arms"
    test = plan.primary
    assert (test.name, test.stage, test.row, test.beside, test.open_channel) == ("primary", "arms", "hcl", ("base",), True)
    assert {measure.name: margin for measure, margin in test.margins.items()} == {"BLEU-2": 0.5, "NLL of y+": 1.0}
    assert [(one.name, one.beside, one.open_channel) for one in plan.secondary] == [("others", ("trunk", "base"), False)]
    assert plan.variances == (Components(0.3, 60.0, 150.0), "assumed")
    assert (plan.limits, plan.causes) == (("Nothing else.",), {"qqp: a claim": "a cause"})


def test_a_test_split_is_scored_only_once_it_is_opened(write):
    """Only of a plan with a test that decides; its validation split may be scored before."""
    with_test = TEXT.replace("split: validation", "split: test")
    closed = read(write(with_test + EVIDENCE))
    with pytest.raises(UserError, match="stage arms scores the test split, which this plan has not opened; fix trials"):
        closed.check_opened(closed.stages)
    today = date.today()
    for text in (with_test + EVIDENCE + f"opened: {today}\n", TEXT + EVIDENCE, with_test):
        plan = read(write(text))
        plan.check_opened(plan.stages)
    early = read(write(with_test + EVIDENCE + f"opened: {today + timedelta(2)}\n"))
    with pytest.raises(UserError, match=f"stage arms scores the test split, which this plan opens on {today + timedelta(2)}"):
        early.check_opened(early.stages)
    with pytest.raises(UserError, match="opened: 'soon' is no date; write it as 2026-12-01"):
        read(write(with_test + EVIDENCE + "opened: soon\n"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("stage: arms, row: hcl, beside: base", "stage: legs, row: hcl, beside: base", "primary: stage legs is none of arms"),
        ("row: hcl, beside: base", "row: t6, beside: base", "primary: t6 is no row of stage arms"),
        ("beside: [trunk, base]", "beside: [trunk, gpt9]", "secondary others: gpt9 is no row of stage arms"),
        ("BLEU-2: 0.5", "BLEU-9: 0.5", "primary: measure BLEU-9 is none of"),
        ("iBLEU: 0.5", "iBLEU: 0", "secondary others: the margin of iBLEU is 0; a number above 0"),
        ("margins: {iBLEU: 0.5}", "margin: {iBLEU: 0.5}", "secondary others has no margins"),
        ("of_rest: 150", "of_rest: -1", "variances: of_rest is -1; a number that is not negative"),
        (", from: assumed", "", "variances has no from"),
    ],
)
def test_a_test_that_can_t_be_is_refused_by_name(write, old, new, said):
    assert old in EVIDENCE
    with pytest.raises(UserError, match=rf"^--plan=.*plan\.yaml: {said}"):
        read(write(TEXT + EVIDENCE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("asks: contrasts", "trials: -1", "stage arms: hcl: trials -1; a whole number is expected"),
        ("asks: contrasts", "turn: first", "stage arms: hcl: turn first; a whole number is expected"),
        ("seeds: [1, 2, 3]", "seeds: 1", "stage arms: base: seeds 1; a list is expected"),
        ("asks: contrasts", "asks: [contrasts]", "stage arms: hcl: asks .*; a text is expected"),
        ("    base: base\n", "    base: base\n    sampled_sources: 9\n", "stage arms: sampled_sources 9; .* of a stage with samples"),
        ("    base: base\n", "    base: base\n    samples: ten\n", "stage arms: samples ten; a whole number is expected"),
        ("    base: base\n", "    base: base\n    limit: true\n", "stage arms: limit True; a whole number is expected"),
        ("    base: base\n", "    base: base\n    hours: long\n", "stage arms: hours long; a number is expected"),
        ("    base: base\n", "    base:\n", "stage arms has no base"),
        (
            "changes: [{date: 2026-11-30, what: hcl, why: a reason}]",
            "changes: [a text]",
            "change 1: names with values are expected, found str",
        ),
        ("title:", "limits: none\ntitle:", "the plan: limits none; a list is expected"),
        ("    base: base\n", "    base: base\n    runs_of: legs\n", r"hcl has no flag file .*legs/|trunk has no flag file .*legs/"),
        ("    base: base\n", "    base: base\n    runs_of: arms\n", "stage arms: runs_of arms, which is no stage that trains"),
    ],
)
def test_rows_and_stages_that_can_t_be(write, old, new, said):
    with pytest.raises(UserError, match=said):
        read(write(TEXT.replace(old, new)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"can't be read \(No such file"):
        read(tmp_path / "plan.yaml")


PLANS = sorted((Path(__file__).parents[2] / "experiments").glob("*/plan.yaml"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_the_plans_of_the_project(path):
    plan = read(path)
    assert all(row.asks for stage in plan.stages for row in stage.rows)


@pytest.mark.slow
@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_the_flags_of_their_rows_are_those_of_train(path):
    plan = read(path)
    for stage in plan.stages:
        series = series_of(plan, stage, Path("runs"), Path("out"))
        series.check_budget()
        for row in stage.rows:
            series.settings(row.name)


def test_the_evidence_gives_the_same_trials_to_what_is_compared_and_decides_by_seeds_that_screened_nothing():
    plan = read(Path(__file__).parents[2] / "experiments" / "evidence" / "plan.yaml")
    stage = plan.stage(plan.primary.stage)
    compared = [plan.primary.row, *plan.primary.beside, *(row for test in plan.secondary[:1] for row in test.beside)]
    assert compared == ["hcl", "bert_cvae", "claps", "bert_gen"]
    assert len({stage.row(name).trials for name in compared}) == 1
    assert stage.row("hcl").seeds == stage.row("bert_cvae").seeds
    assert min(min(row.seeds) for one in plan.stages for row in one.rows) > 20
    assert {one.task for one in plan.stages} == set(TASKS)


OF_CONTRASTS = {
    "model",
    "weight_ins",
    "weight_key",
    "weight_ma",
    "contrast_scale",
    "impostor",
    "ablate",
    "in_batch_negatives",
    "contrast_ramp",
}
OF_THE_SLOT = {"decoder_keyword", "decoder_keyword_to", "decoder_keyword_of"}
OF_A_STAGE = {
    "encoder", "pretrained", "encoder_learning_rate", "trainable_layers", "max_steps", "cooldown_steps", "epochs", "kl_delay", "kl_ramp",
    "validate_every", "validate_examples",
}  # fmt: skip


def test_the_evidence_compares_rows_that_differ_in_what_is_asked_alone():
    """What trials find is laid into many flag files by hand."""
    plan = read(Path(__file__).parents[2] / "experiments" / "evidence" / "plan.yaml")
    of_questions: dict[str, dict] = {}
    for stage in plan.stages:
        settings = {row.name: series_of(plan, stage, Path("runs"), Path("out")).settings(row.name) for row in stage.rows}
        for name in settings.keys() & {*(row for row in settings if row.startswith("hcl")), "bert_cvae_ins"}:
            allowed = OF_CONTRASTS | {"hcl_keyword_slot": OF_THE_SLOT, "hcl_copy": {"copy", "attention_init"}}.get(name, set())
            beside = stage.row(name).beside or "bert_cvae"
            assert set(differing(settings[beside], settings[name])) <= allowed, f"{stage.name}: {name} beside {beside}"
        if "hcl_ramped" in settings:
            assert set(differing(settings["hcl"], settings["hcl_ramped"])) == {"contrast_ramp"}
        for name in settings.keys() & {"hcl", "bert_cvae", "claps", "bert_gen"}:
            other = set(differing(of_questions.setdefault(name, settings[name]), settings[name]))
            assert other <= OF_A_STAGE, f"{name} of {stage.name} beside that of questions"


TOGETHER = ("hcl", "bert_cvae")  # which take the setting whose two values have the smallest sum


def test_the_evidence_has_the_settings_that_its_kept_trials_chose():
    """Rows whose trials are not kept yet are left out."""
    folder = Path(__file__).parents[2] / "experiments"
    plan = read(folder / "evidence" / "plan.yaml")
    stage = plan.stage("questions")
    kept = next(one for one in of_plan(plan, folder / "reports" / "evidence") if one.stage is stage).trials
    chosen = {}
    for rows in (TOGETHER, ("claps",), ("bert_gen",)):
        values: dict[tuple, list[float]] = {}
        for trial in (trial for row in rows for trial in kept[row]):
            setting = tuple(sorted((name, value) for name, value in trial.items() if name not in ("trial", "value")))
            values.setdefault(setting, []).append(float(trial["value"]))
        whole = {setting: sum(found) for setting, found in values.items() if len(found) == len(rows)}
        assert bool(whole) == any(kept[row] for row in rows), f"{rows} tried other settings"
        chosen |= {row: dict(min(whole, key=whole.get)) for row in rows if whole}
    chosen |= {row.name: chosen["hcl"] for row in stage.rows if row.name.startswith(TOGETHER) and "hcl" in chosen}
    series = series_of(plan, stage, Path("runs"), Path("out"))
    for row, settings in chosen.items():
        laid = series.settings(row)
        for name, value in settings.items():
            found = laid[name]
            assert (f"{found:.3g}" if isinstance(found, float) else str(found)) == value, f"{row}: --{name}"
