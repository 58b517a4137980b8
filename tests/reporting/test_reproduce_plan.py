"""Rows of a plan: trunks first, each once, what is kept is done, and a trunk whose folder is gone is trained again."""

import hashlib
import json
import shutil
from pathlib import Path

import made_evidence
import pytest

from hcl_tf.errors import UserError
from hcl_tf.reporting import plan as plans
from hcl_tf.reporting import reproduction
from hcl_tf.reporting.reproduction import listed, reproduce_plan
from hcl_tf.reporting.series import series_of

TEXT = """
title: A question
written: 2026-11-29
stages:
  arms:
    task: qqp
    preset: tiny
    data: {data}
    base: base
    rows:
      trunk: {{asks: the trunk}}
      base: {{asks: nothing added, from: trunk-1, seeds: [1, 2]}}
      plain: {{asks: no latent variable}}
      slot: {{asks: keywords, from: trunk-1, studies: [channel, keyword_control]}}
"""
MODELS = {"trunk": "bert_cvae", "base": "bert_cvae", "plain": "bert_gen", "slot": "hcl"}
Call = tuple[str, str, list[str]]


@pytest.fixture
def plan(tmp_path, qqp_folder) -> plans.ExperimentPlan:
    (tmp_path / "arms").mkdir()
    for row, model in MODELS.items():
        (tmp_path / "arms" / f"{row}.flags").write_text(f"--model={model}\n")
    (tmp_path / "arms" / "all.flags").write_text("--encoder=random:1x32\n--max_steps=6\n--free_bits=0.1\n")
    (tmp_path / "plan.yaml").write_text(TEXT.format(data=qqp_folder))
    return plans.read(tmp_path / "plan.yaml")


@pytest.fixture
def calls(monkeypatch, plan, evaluated_run, tmp_path) -> list[Call]:
    """Commands of the package that were called, as (module, run, flags); training puts a finished, evaluated run in place."""
    found: list[Call] = []
    series = series_of(plan, plan.stages[0], tmp_path / "runs", tmp_path / "out")

    def call(module: str, flags: list[str]) -> int:
        run = Path(next(flag for flag in flags if flag.startswith("--run_dir=")).removeprefix("--run_dir="))
        found.append((module.removeprefix("hcl_tf."), run.name, flags))
        if module == "hcl_tf.train":
            shutil.copytree(evaluated_run, run)
            row, seed = run.name.rsplit("-", 1)
            config, files = (json.loads((run / name).read_text()) for name in ("config.json", "files.json"))
            config["settings"] |= {**series.settings(row), "seed": int(seed)}
            (run / "config.json").write_text(json.dumps(config))
            files["config.json"] = hashlib.sha256((run / "config.json").read_bytes()).hexdigest()
            (run / "files.json").write_text(json.dumps(files))
        return 0

    monkeypatch.setattr(reproduction, "_call", call)
    return found


def names(calls: list[Call]) -> list[tuple[str, str]]:
    return [(module, run) for module, run, _ in calls]


@pytest.mark.slow
def test_rows_are_made_in_order_with_their_studies_and_kept_with_a_page(plan, calls, tmp_path):
    assert reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out") == 0
    assert names(calls) == [(step, run) for run in ("trunk-1", "base-1", "plain-1", "slot-1", "base-2") for step in ("train", "evaluate")]
    studies = {run: [flag for flag in flags if flag.startswith("--study=")] for module, run, flags in calls if module == "evaluate"}
    channel, both = ["--study=channel"], ["--study=channel", "--study=keyword_control"]
    assert studies == {"trunk-1": channel, "base-1": channel, "plain-1": [], "slot-1": both, "base-2": channel}
    given = {run: flags for module, run, flags in calls if module == "train"}
    trunk = f"--init_from={tmp_path / 'runs' / 'arms' / 'trunk-1'}"
    assert [run for run, flags in given.items() if trunk in flags] == ["base-1", "slot-1", "base-2"]
    assert "--free_bits=0.1" in given["base-1"]
    assert not any("free_bits" in flag for flag in given["plain-1"]), "a row gets of all.flags what its system uses"
    assert {path.stem for path in (tmp_path / "out" / "arms" / "rows").iterdir()} == {"trunk-1", "base-1", "plain-1", "slot-1", "base-2"}
    kept = json.loads((tmp_path / "out" / "arms" / "rows" / "base-1.json").read_text())
    assert (kept["split"], kept["checkpoint"]) == ("test", "best_loss")
    assert 0 <= kept["seconds"] < 600
    assert "A question" in (tmp_path / "out" / "report.md").read_text()
    calls.clear()
    assert reproduce_plan(plan, [], tmp_path / "elsewhere", tmp_path / "out") == 0, "kept rows are of no run folder"
    assert not calls


@pytest.mark.slow
def test_rows_are_made_by_turn_over_all_stages_and_a_stage_can_score_another_s_runs(plan, calls, tmp_path):
    rows = "rows: {base: {}, plain: {turn: 3}}"
    again = f"  again: {{task: qqp, preset: tiny, data: {plan.stages[0].data}, base: base, runs_of: arms, {rows}}}\n"
    text = plan.path.read_text().replace("plain: {", "plain: {turn: 2, ") + again
    plan.path.write_text(text)
    assert reproduce_plan(plans.read(plan.path), [], tmp_path / "runs", tmp_path / "out") == 0
    steps = [(module, run) for module, run in names(calls) if module in ("train", "evaluate")]
    assert [run for module, run in steps if module == "train"] == ["trunk-1", "base-1", "slot-1", "base-2", "plain-1"], "none twice"
    assert [run for module, run in steps if module == "evaluate"][-3:] == ["base-1", "plain-1", "plain-1"]
    assert {path.stem for path in (tmp_path / "out" / "again" / "rows").iterdir()} == {"base-1", "plain-1"}


@pytest.mark.slow
def test_a_trunk_whose_folder_is_gone_is_trained_again_for_a_missing_row(plan, calls, tmp_path):
    reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out")
    (tmp_path / "out" / "arms" / "rows" / "slot-1.json").unlink()
    shutil.rmtree(tmp_path / "runs")
    calls.clear()
    assert reproduce_plan(plan, ["arms"], tmp_path / "runs", tmp_path / "out") == 0
    assert names(calls)[:3] == [("train", "trunk-1"), ("train", "slot-1"), ("evaluate", "slot-1")]


def test_a_failed_trunk_fails_what_begins_with_it_and_nothing_else(plan, calls, monkeypatch, tmp_path, capsys):
    working = reproduction._call
    monkeypatch.setattr(
        reproduction, "_call", lambda module, flags: 1 if any(flag.endswith("trunk-1") for flag in flags[-1:]) else working(module, flags)
    )
    assert reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out") == 1
    assert "failed: trunk seed 1, base seed 1, slot seed 1, base seed 2" in capsys.readouterr().err
    assert {run for _, run in names(calls)} == {"plain-1"}


def test_a_signal_ends_it(plan, calls, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduction, "_call", lambda module, flags: 143)
    assert reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out") == 143


def test_the_list_of_rows_needs_neither_data_nor_runs(tmp_path):
    planned = made_evidence.plan(tmp_path / "evidence")
    made_evidence.keep(tmp_path / "reports", planned, "stories", *(made_evidence.result(row, 21) for row in ("hcl", "bert_cvae")))
    stories, chat = listed(planned, ["stories", "chat"], tmp_path / "reports" / "evidence")
    assert stories == "turn 1, stories: 2 of 6 rows are there, missing: hcl seed 22, bert_cvae seed 22, hcl seed 23, bert_cvae seed 23"
    assert chat == "turn 1, chat: 0 of 2 rows are there, missing: hcl seed 21, bert_cvae seed 21"
    with pytest.raises(UserError, match="--stages: gossip is no stage"):
        listed(planned, ["gossip"], tmp_path)
    (planned.path.parent / "chat" / "hcl.flags").write_text("--model=hcl\n--recurrent_layers=2\n")
    with pytest.raises(UserError, match="--recurrent_layers: --model=hcl does not use it"):
        listed(planned, ["chat"], tmp_path)


def test_what_can_t_be_is_refused_before_anything_runs(plan, calls, tmp_path):
    with pytest.raises(UserError, match=r"--stages: leaves is no stage of .*plan\.yaml; there are: arms"):
        reproduce_plan(plan, ["leaves"], tmp_path / "runs", tmp_path / "out")
    (tmp_path / "arms" / "slot.flags").write_text("--model=hcl\n--recurrent_layers=2\n")
    with pytest.raises(UserError, match="--recurrent_layers: --model=hcl does not use it"):
        reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out")
    (tmp_path / "arms" / "slot.flags").write_text("--model=hcl\n--data_dir=tfrecords/qqp\n--seed=3\n")
    with pytest.raises(UserError, match=r"arms/slot\.flags: --seed: this command, or the plan's stage, says that for every row; remove"):
        reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out")
    assert not calls


@pytest.mark.slow
def test_rows_that_were_scored_otherwise_are_refused(plan, calls, tmp_path):
    reproduce_plan(plan, [], tmp_path / "runs", tmp_path / "out")
    path = tmp_path / "plan.yaml"
    path.write_text(path.read_text().replace("    base: base\n", "    base: base\n    checkpoint: best_nll\n"))
    with pytest.raises(UserError, match=r"\.json: scored on test at best_loss, and test at best_nll are asked for; choose another --out"):
        reproduce_plan(plans.read(path), [], tmp_path / "runs", tmp_path / "out")


def test_a_row_is_refused_before_the_trials_that_are_to_choose_its_settings(plan, calls, tmp_path):
    """Of a plan with a test that decides; rows of an earlier turn are made."""
    text = plan.path.read_text().replace("{asks: no latent variable}", "{asks: no latent variable, trials: 8, turn: 2}")
    text += "primary: {stage: arms, row: base, beside: [trunk], margins: {BLEU-2: 0.5}}\nopened: 2026-11-30\n"
    plan.path.write_text(text)
    with pytest.raises(
        UserError, match=r"plain is planned with 8 trials .* none are kept; .* keep the study's trials\.md as .*trials/plain\.md"
    ):
        reproduce_plan(plans.read(plan.path), [], tmp_path / "runs", tmp_path / "out")
    assert ("train", "base-1") in names(calls)
    assert ("train", "plain-1") not in names(calls)
    (tmp_path / "out" / "arms" / "trials").mkdir()
    (tmp_path / "out" / "arms" / "trials" / "plain.md").write_text("1 trials\n")
    assert reproduce_plan(plans.read(plan.path), [], tmp_path / "runs", tmp_path / "out") == 0
    assert ("train", "plain-1") in names(calls)
