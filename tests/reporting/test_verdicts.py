"""Verdicts by their rule, claims by their direction, p by the paired bootstrap; what is set apart, and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import made, with_settings, without_scores, without_weights

from hcl_tf.metrics.significance import paired_bootstrap
from hcl_tf.reporting.claims import Claim, Claims, read
from hcl_tf.reporting.verdicts import CLOSE, NEAR, Table, comparable, verdict

NONE = Claims({}, {}, ())
SHIPPED = Path(__file__).parents[2] / "experiments" / "paper_claims.yaml"
ABOVE = Claim("ours above", ("hcl",), ("claps",), "above", "BLEU-1", "qqp", 2.7, ())


@pytest.mark.parametrize(
    ("paper", "ours", "expected"),
    [
        (50.0, (50.9,), "OK"), (50.0, (49.1,), "OK"), (50.0, (51.1,), "NEAR"), (50.0, (54.9,), "NEAR"), (50.0, (55.1,), "FAIL"),
        (50.0, (40.0, 70.0), "OK"), (50.0, (), "NOT RUN"), (None, (), "NOT RUN"), (None, (50.0,), ""),
    ],
)  # fmt: skip
def test_a_cell_s_verdict(paper, ours, expected):
    assert verdict(paper, ours) == expected


@given(st.floats(1, 100), st.floats(-0.5, 0.5))
def test_a_verdict_depends_on_the_relative_distance_alone(paper, away):
    expected = "OK" if abs(away) < CLOSE else "NEAR" if abs(away) < NEAR else "FAIL"
    if min(abs(abs(away) - limit) for limit in (CLOSE, NEAR)) > 1e-6:
        assert verdict(paper, (paper * (1 + away),)) == expected


def test_a_cell_has_mean_range_difference_and_p():
    results = [made("hcl", 1, 20.0), made("hcl", 2, 22.0), made("claps", 1, 20.5)]
    table = Table("qqp", results, Claims({}, {("qqp", "claps", "BLEU-1"): 25.0}, ()))
    ours = [result.score("BLEU-1") for result in results]
    cell = table.cell("hcl", "BLEU-1")
    assert cell.mean == pytest.approx(np.mean(ours[:2]))
    assert (min(cell.ours), cell.p, cell.difference, cell.verdict) == (ours[0], None, None, "")
    cell = table.cell("claps", "BLEU-1")
    assert cell.difference == pytest.approx(ours[2] - 25.0)
    assert cell.verdict == "FAIL"
    sentences = [np.array(result.record["per_sentence"]["BLEU-1"]) / 100 for result in results]
    assert cell.p == paired_bootstrap(sentences[0], sentences[2]).p_value, "claps has no seed 2"
    assert table.cell("claps", "Greedy").p is None, "no sentence scores are kept of it"
    assert table.cell("t5", "BLEU-1").verdict == "NOT RUN"


@pytest.mark.parametrize(
    ("ours", "direction", "expected"), [(21.0, "above", "OK"), (19.0, "above", "FAIL"), (19.0, "below", "OK"), (21.0, "below", "FAIL")]
)
def test_a_claim_s_direction(ours, direction, expected):
    table = Table("qqp", [made("hcl", 1, ours), made("claps", 1, 20.0)], NONE)
    checked = table.check(replace(ABOVE, direction=direction))
    assert checked.verdict == expected
    assert checked.percent == pytest.approx(100 * (checked.of / checked.to - 1))
    assert np.sign(checked.comparison.difference) == np.sign(ours - 20.0)


def test_only_seeds_that_both_rows_have_are_compared():
    results = [made("hcl", seed, score) for seed, score in ((1, 20.0), (2, 10.0), (3, 20.0))] + [
        made("claps", 3, 19.0),
        made("claps", 1, 19.0),
    ]
    table = Table("qqp", results, NONE)
    checked = table.check(ABOVE)
    assert (checked.seeds, checked.verdict) == ((1, 3), "OK"), "over all seeds hcl would be below"
    assert checked.of == pytest.approx((results[0].score("BLEU-1") + results[2].score("BLEU-1")) / 2)
    assert table.gain("claps", "BLEU-1")[0].difference == pytest.approx(checked.of - checked.to)
    apart = Table("qqp", [made("hcl", 1, 21.0), made("claps", 2, 20.0)], NONE)
    assert (apart.check(ABOVE).verdict, apart.check(ABOVE).seeds, apart.gain("claps", "BLEU-1")) == ("NOT RUN", (), (None, "NOT RUN"))
    assert apart.cell("claps", "BLEU-1").mean == pytest.approx(20.0, abs=1.0)


def test_several_rows_stand_for_their_mean_and_a_missing_one_is_not_run():
    claim = replace(ABOVE, of=("t5", "bert_gen"), to=("cvae",))
    rows = [made("t5", 1, 10.0), made("bert_gen", 1, 30.0), made("cvae", 1, 19.0)]
    checked = Table("qqp", rows, NONE).check(claim)
    assert checked.of == pytest.approx((rows[0].score("BLEU-1") + rows[1].score("BLEU-1")) / 2)
    assert checked.verdict == "OK"
    missing = Table("qqp", rows[1:], NONE).check(claim)
    assert (missing.verdict, missing.percent, missing.comparison) == ("NOT RUN", None, None)


@pytest.mark.parametrize("paper", [20.0, 90.0])
def test_a_row_without_the_weights_that_define_it_has_no_verdict(paper):
    """Neither OK nor FAIL, whatever it scores; where there is no run or no cell, that is said as ever."""
    cells = {("qqp", row, "BLEU-1"): paper for row in ("claps", "hcl", "t5")}
    judged = {}
    for name, run in (("with", made("claps")), ("without", without_weights(made("claps")))):
        table = Table("qqp", [made("hcl"), run], Claims({}, cells, ()))
        judged[name] = [table.cell(row, "BLEU-1").verdict for row in ("claps", "hcl", "t5")] + [table.cell("claps", "BLEU-2").verdict]
    assert judged["with"] == [*["OK" if paper == 20.0 else "FAIL"] * 2, "NOT RUN", ""]
    assert judged["without"] == ["NOT COMPARABLE", *judged["with"][1:]]


@pytest.mark.parametrize("score", [19.0, 21.0])
def test_a_claim_about_a_row_without_its_weights_is_not_judged(score):
    runs = [made("hcl", 1, score), without_weights(made("claps", 1, 20.0)), made("t5", 1, 20.0)]
    table = Table("qqp", runs, NONE)
    assert table.check(ABOVE).verdict == table.check(replace(ABOVE, to=("t5", "claps"))).verdict == "NOT COMPARABLE"
    assert table.check(replace(ABOVE, of=("claps",), to=("hcl",))).verdict == "NOT COMPARABLE"
    assert table.check(replace(ABOVE, to=("t5",))).verdict == ("OK" if score > 20 else "FAIL")
    assert table.check(replace(ABOVE, to=("claps", "gone"))).verdict == "NOT RUN"
    assert table.check(ABOVE).comparison is not None, "by how much is shown all the same"


BERT = {
    "published": "encoder: bert-base-uncased",
    "equal": "encoder: folder b, equal pretraining (mlm, 9 texts)",
    "random": "encoder: random weights",
}
T5 = {
    "published": ("t5-small", "pretrained: t5-small"),
    "equal": ("w", "pretrained: folder w, equal pretraining (span)"),
    "random": ("", "none"),
}


@pytest.mark.parametrize("ours", BERT)
@pytest.mark.parametrize("theirs", T5)
def test_rows_whose_weights_differ_in_kind_are_not_compared(ours, theirs):
    """Which is above says something of the systems only where both began with weights of one kind; of the paper's cells, never."""
    pretrained, note = T5[theirs]
    claps = with_settings(made("claps", 1, 20.0, encoder=note), pretrained=pretrained)
    table = Table("qqp", [made("hcl", 1, 21.0, encoder=BERT[ours]), claps], Claims({}, {("qqp", "claps", "BLEU-1"): 20.0}, ()))
    assert table.check(ABOVE).verdict == ("OK" if ours == theirs else "NOT COMPARABLE")
    assert table.cell("claps", "BLEU-1").verdict == ("OK" if theirs == "published" else "NOT COMPARABLE")
    assert len(table.weights(["hcl", "claps"])) == (1 if ours == theirs else 2)


def test_a_row_that_never_has_published_weights_is_compared_with_all():
    runs = [made("hcl", 1, 21.0), made("transformer", 1, 20.0, encoder="no BERT encoder and no pretrained weights, width 256")]
    assert Table("qqp", runs, NONE).check(replace(ABOVE, to=("transformer",))).verdict == "OK"


def test_one_run_of_a_row_is_enough_for_its_caution():
    table = Table("qqp", [made("claps", 1), without_weights(made("claps", 2)), made("hcl")], NONE)
    assert list(table.cautions(["claps", "gone"])) == ["NO WEIGHTS"]
    assert table.cautions(["hcl"]) == {}


def test_claims_of_other_tasks_are_not_asked():
    tasks = {checked.claim.task for checked in Table("douban", [made()], read(SHIPPED)).checked()}
    assert tasks == {"douban", None}


def corpus(**changes):
    return {"corpus": made().record["corpus"] | changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (corpus(raw_files={"raw.tsv": "other"}), "other raw files"), ({"references": "x"}, "other test examples"),
        ({"task": "douban"}, "other task"), ({"scores": {"BLEU-1": {"value": 1.0, "signature": "another"}}}, "other metric signatures"),
    ],
)  # fmt: skip
def test_what_can_t_be_compared_is_set_apart_with_the_reason(changes, why):
    kept, apart = comparable([made("claps", **changes), made("hcl"), made("t5")])
    assert [result.row for result in kept] == ["hcl", "t5"], "ours is the measure, whatever comes first"
    ((result, reason),) = apart
    assert result.row == "claps"
    assert why in reason


@pytest.mark.parametrize("older", ["hcl", "t5"])
def test_a_score_that_an_earlier_version_had_not_is_no_reason(older):
    results = [without_scores(result, "iBLEU") if result.row == older else result for result in (made("hcl"), made("t5"))]
    kept, apart = comparable(results)
    assert (len(kept), apart) == (2, [])


def test_another_tokeniser_is_no_reason():
    kept, apart = comparable([made("hcl"), made("t5", **corpus(tokenizer={"name": "t5-small"}))])
    assert (len(kept), apart) == (2, [])


def test_one_row_has_one_run_a_seed_and_one_setting():
    other = made("hcl", 2)
    other.record["settings"]["batch_size"] = 7
    kept, apart = comparable([made("hcl", 1), made("hcl", 1), other, made("hcl", 3)])
    assert [result.seed for result in kept] == [1, 3]
    assert ["a second hcl with seed 1" in apart[0][1], "another batch_size" in apart[1][1]] == [True, True]


def test_how_a_seed_was_computed_sets_it_not_apart():
    other = made("hcl", seed=2)
    other.record["settings"] |= {"jit_compile": "true", "micro_batch": 64}
    assert len(comparable([made("hcl"), other])[0]) == 2
