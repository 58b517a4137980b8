"""Where runs departed from their plan: each kind once, and none where there is none."""

from dataclasses import replace

import made_evidence
import pytest
from made_evidence import N, result

from hcl_tf.evaluation.rows import Result
from hcl_tf.reporting.departures import departures
from hcl_tf.reporting.kept import KeptStage


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return made_evidence.plan(tmp_path_factory.mktemp("plans") / "evidence")


OTHER = {"raw_files": {"pairs.tsv": "cccc0000"}, "tokenizer": {"name": "vocab.txt"}, "whole": True}


def sampled(of_each: int, sources: int) -> dict:
    return {"of_each": of_each, "means": {"BLEU-2-best": {"value": 50.0, "low": 49.0, "high": 51.0, "examples": sources}}}


def found(plan, *results: Result, trials: int = 2, planned: dict | None = None) -> list[tuple[str, str]]:
    stage = plan.stage("questions")
    by_row = {row.name: [one for one in results if one.row == row.name] for row in stage.rows}
    of_rows = {row.name: [{"trial": "1"}] * (trials if row.trials else 0) for row in stage.rows}
    return departures(plan, [KeptStage(stage, by_row, [], of_rows)], {"questions": planned or {}})


def test_runs_as_planned_depart_nowhere(plan):
    settings = result("hcl", 21).settings
    assert found(plan, result("hcl", 21), result("bert_cvae", 21), planned={"hcl": settings}) == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (result("hcl", 21, finished={"ended": "time", "step": 1200}), "training was cut off by the clock after 1,200 steps"),
        (result("hcl", 21, corpus=OTHER), "of other raw files (cccc0000), planned r"),
        (result("hcl", 21, examples=99), "99 examples were scored, at least 100 planned"),
        (result("hcl", 21, samples_of_z=sampled(5, N)), "5 outputs a source under drawn z, planned 0"),
        (result("hcl", 21, samples_of_z=sampled(0, 60)), f"outputs under drawn z are of 60 sources, planned {N}"),
    ],
)
def test_a_run_that_departs_is_named(plan, changed, what):
    assert found(plan, changed) == [(f"questions: hcl seed {changed.seed}", what)]


def test_a_score_that_one_run_lacks_is_named(plan):
    whole, without = result("hcl", 21), result("bert_cvae", 21)
    without.record["scores"]["iBLEU"] = without.record["scores"]["iBLEU"] | {"value": None}
    assert found(plan, whole, without) == [("questions", "bert_cvae seed 21 lacks iBLEU, which others have")]


def test_other_settings_trials_machines_and_hours_are_named(plan):
    assert found(plan, result("hcl", 21), planned={"hcl": {"max_steps": 300}}) == [("questions: hcl seed 21", "--max_steps=0, planned 300")]
    early = found(plan, result("hcl", 21, finished={"ended": "epochs", "step": 624}), planned={"hcl": {"max_steps": 625, "patience": 0}})
    assert ("questions: hcl seed 21", "training ended after 624 of 625 steps") in early
    assert found(plan, result("hcl", 21), trials=0) == [("questions", "hcl: 0 trials are kept, 2 planned")]
    other = result("bert_cvae", 21)
    other.record["environment"] |= {"gpus": ["A card"], "exported": True}
    ((where, what),) = found(plan, result("hcl", 21), other)
    assert where == "questions"
    assert what == "runs of 2 machines or backends stand beside each other: cpu, GPUs A card, exported programs; cpu, GPUs none"
    newer = result("bert_cvae", 21)
    newer.record["environment"] |= {"arithmetic": 9, "packages": {"tensorflow": "2.99"}}
    ((_, what),) = found(plan, result("hcl", 21), newer)
    assert what.startswith("runs of 2 arithmetics or versions of TensorFlow stand beside each other: arithmetic ")
    assert "arithmetic 9, TensorFlow 2.99" in what
    again, first = result("bert_cvae", 21), result("hcl", 21)
    for one, bits in ((first, "11111111"), (again, "22222222")):
        one.record["settings"] |= {"encoder": "weights/bert"}
        one.record["encoder"] = f"encoder: folder bert, equal pretraining (mlm, recipe aaaaaaaa, weights {bits})"
    said = "weights/bert was made 2 times, with other bits: 11111111 (hcl seed 21); 22222222 (bert_cvae seed 21)"
    assert found(plan, first, again) == [("questions", said)]
    whole, half = result("hcl", 21), result("hcl", 21)
    for one, cores in ((whole, 2), (half, 1)):
        one.record["environment"] |= {"cpu": {"name": "A", "cores": 2, "cores_usable": cores}}
    assert found(replace(plan, hours=0.1), half) == [], "ten minutes on one core of two are five of the machine"
    assert found(replace(plan, hours=0.1), whole) == [("plan.yaml", "0.2 hours were spent, 0.1 planned")]
