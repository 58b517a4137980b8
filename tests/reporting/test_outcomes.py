"""The tests of a plan: verdicts by rule, corrected together, and none where seeds are missing or z does not reach the text."""

from dataclasses import replace

import made_evidence
import numpy as np
import pytest
from made_evidence import FEW, MANY, questions, result

from hcl_tf.metrics import decision
from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.reporting import outcomes
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.measures import BLEU, NLL


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return made_evidence.plan(tmp_path_factory.mktemp("plans") / "evidence")


def kept(plan, results, stage="questions") -> KeptStage:
    planned = plan.stage(stage)
    return KeptStage(planned, {row.name: [one for one in results if one.row == row.name] for row in planned.rows}, [], {})


def test_a_gain_has_its_interval_and_the_corrected_p_of_both_measures(plan):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    first, second = outcomes.outcomes(plan.primary, kept(plan, results))
    values = [[np.array(one.record["per_sentence"]["BLEU-2"]) / 100 for one in results if one.row == row] for row in ("hcl", "bert_cvae")]
    expected = crossed_mean(np.stack(values[0]) - np.stack(values[1]))
    assert (first.measure, second.measure) == (BLEU, NLL)
    assert (first.value, first.low, first.high) == tuple(map(pytest.approx, (expected.value, expected.low, expected.high)))
    assert (first.verdict, first.seeds, first.sentences, first.margin) == (decision.YES, 5, made_evidence.N, 0.5)
    assert second.verdict == decision.NO, "the same NLL"
    assert first.correlation == pytest.approx(np.corrcoef(np.array(values).mean(2))[0, 1])
    assert (first.corrected, second.corrected) == tuple(map(pytest.approx, decision.holm([first.p, second.p])))
    assert not first.because


def test_a_p_that_holm_lifts_over_the_level_says_nothing(plan, monkeypatch):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    monkeypatch.setattr(decision, "holm", lambda ps, planned: [0.07 for _ in ps])
    first, _ = outcomes.outcomes(plan.primary, kept(plan, results))
    assert (first.verdict, first.because) == (decision.UNDECIDED, "p is 0.070 after Holm's correction")
    first, _ = outcomes.outcomes(replace(plan.primary, margins={BLEU: 2.0, NLL: 2.0}), kept(plan, results))
    assert first.verdict == decision.NO, "the 90% interval lies within the margin, so these are two one-sided tests all the same"


def test_a_gain_within_the_margin_says_so(plan):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    first, _ = outcomes.outcomes(replace(plan.primary, margins={BLEU: 2.0, NLL: 2.0}), kept(plan, results))
    assert (first.verdict, first.because) == (decision.YES, "within 2, the margin of no difference")


def test_holm_counts_what_is_planned_and_did_not_run(plan):
    """Of the family of two one did not run: its place is kept."""
    stage = kept(plan, questions({"hcl": 31.0, "bert_cvae": 30.0, "claps": 28.0}))
    claps, bert_gen = outcomes.outcomes(plan.secondary[0], stage)
    assert bert_gen.verdict == outcomes.NOT_RUN
    assert claps.corrected == pytest.approx(min(1, 2 * claps.p))


def test_a_seed_that_is_not_planned_counts_for_nothing(plan):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    stray = [result("hcl", 9, 90.0), result("bert_cvae", 9, 10.0)]
    assert outcomes.outcomes(plan.primary, kept(plan, results + stray)) == outcomes.outcomes(plan.primary, kept(plan, results))


def test_a_larger_nll_is_a_loss(plan):
    results = questions({"bert_cvae": 30.0}) + questions({"hcl": 30.0}, nll=42.0)
    _, of_nll = outcomes.outcomes(plan.primary, kept(plan, results))
    assert of_nll.verdict == decision.LOSS
    assert of_nll.value == pytest.approx(-2, abs=0.2)


def test_nothing_is_judged_before_all_planned_seeds_of_both_are_there(plan):
    results = questions({"hcl": 31.0}) + questions({"bert_cvae": 30.0}, FEW)
    first, _ = outcomes.outcomes(plan.primary, kept(plan, results))
    assert (first.verdict, first.because, first.seeds, first.corrected) == (outcomes.NOT_YET, "3 of 5 paired seeds", 3, None)
    assert first.value == pytest.approx(1, abs=0.2), "shown all the same"


def test_a_run_that_lacks_a_measure_is_not_there_yet(plan):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    del results[0].record["figures"]["per_example"]["nll"]
    bleu, nll = outcomes.outcomes(plan.primary, kept(plan, results))
    assert bleu.verdict == decision.YES
    assert (nll.verdict, nll.because) == (outcomes.NOT_YET, "4 of 5 paired seeds")


@pytest.mark.parametrize(("value", "count"), [(np.inf, 3), (np.nan, 120)])
def test_a_score_that_is_no_number_is_named_and_never_left_out(plan, value, count):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    results[0].record["figures"]["per_example"]["nll"][:count] = [value] * count
    bleu, nll = outcomes.outcomes(plan.primary, kept(plan, results))
    assert bleu.verdict == decision.YES
    assert (nll.verdict, nll.value, nll.corrected) == (outcomes.FAILED, None, None)
    assert nll.because == f"NLL of y+ of hcl seed 21 is no number for {count} of 120 sentences"


def test_what_did_not_run_has_no_number(plan):
    for results in ([], questions({"hcl": 31.0})):
        for one in outcomes.outcomes(plan.primary, kept(plan, results)):
            assert one.verdict == outcomes.NOT_RUN
            assert {one.value, one.low, one.high, one.p, one.narrow} == {None}
    assert one.because == "hcl 5 of 5 seeds, bert_cvae 0 of 5 seeds"


def test_a_closed_channel_lets_nothing_be_said_of_the_base_alone(plan):
    results = questions({"hcl": 31.0}, open_links=False) + questions({"bert_cvae": 30.0, "claps": 28.0, "bert_gen": 28.0})
    stage = kept(plan, results)
    first, _ = outcomes.outcomes(plan.primary, stage)
    assert (first.verdict, first.because) == (outcomes.CLOSED, "z does not reach the text in hcl")
    assert [one.verdict for one in outcomes.outcomes(plan.secondary[0], stage)] == [decision.YES] * 2
    assert outcomes.outcomes(replace(plan.primary, open_channel=False), stage)[0].verdict == decision.YES


def test_rows_that_begin_with_weights_made_twice_are_not_judged(plan):
    """One seed of five is enough; where both rows of a seed begin alike, it may differ between seeds."""

    def begin(results, bits):
        for one in results:
            one.record["settings"] |= {"encoder": "weights/bert"}
            one.record["encoder"] = f"encoder: folder bert, equal pretraining (mlm, recipe aaaaaaaa, weights {bits[one.seed]})"
        return results

    alike = dict.fromkeys(MANY, "11111111") | {MANY[0]: "22222222"}
    for apart, verdict, because in (
        (alike, decision.YES, ""),
        (alike | {MANY[1]: "33333333"}, outcomes.OTHER_BITS, f"weights/bert was made twice, of seed {MANY[1]}"),
    ):
        results = begin(questions({"hcl": 31.0}), alike) + begin(questions({"bert_cvae": 30.0}), apart)
        first, _ = outcomes.outcomes(plan.primary, kept(plan, results))
        assert (first.verdict, first.because) == (verdict, because)


def test_rows_of_one_architecture_have_to_begin_with_weights_of_one_name(plan):
    results = questions({"hcl": 31.0, "bert_cvae": 30.0})
    for one in results:
        one.record["settings"] |= {"encoder": f"weights/{one.row}"}
        one.record["encoder"] = "encoder: folder bert, equal pretraining (mlm, recipe aaaaaaaa, weights 11111111)"
    first, _ = outcomes.outcomes(plan.primary, kept(plan, results))
    because = "weights/bert_cvae and weights/hcl are two, of seed 21, 22, 23, 24, 25"
    assert (first.verdict, first.because) == (outcomes.OTHER_BITS, because)
    first, _ = outcomes.outcomes(replace(plan.primary, open_channel=False), kept(plan, results))
    assert first.verdict == decision.YES, "a BERT and a T5 have two names"


def test_another_checkpoint_of_the_same_step_is_no_second_look(plan):
    """One run of ten at another step is enough to be asked."""
    own, other = (questions({"hcl": 31.0, "bert_cvae": 30.0}) for _ in range(2))
    first, _ = outcomes.outcomes(plan.primary, kept(plan, own), kept(plan, other))
    assert (first.verdict, first.because) == (outcomes.SAME_STEPS, "those of stage questions, which judges them")
    assert first.value is not None
    assert first.corrected is None
    own[-1].record["step"] += 1
    first, _ = outcomes.outcomes(plan.primary, kept(plan, own), kept(plan, other))
    assert (first.verdict, first.because) == (decision.YES, f"{len(own) - 1} of {len(own)} runs have the checkpoints of stage questions")


def test_few_seeds_are_descriptive_and_one_has_the_interval_over_sentences(plan):
    test = plan.secondary[1]
    stage = kept(
        plan, [result(row, seed, bleu, task="rocstories") for row, bleu in (("hcl", 20), ("bert_cvae", 10)) for seed in FEW], "stories"
    )
    (one,) = outcomes.outcomes(test, stage)
    assert (one.verdict, one.corrected, one.seeds) == (decision.DESCRIPTIVE, None, 3)
    stage.rows["hcl"][1:] = []
    (one,) = outcomes.outcomes(test, stage)
    assert (one.verdict, one.seeds, one.narrow, one.p) == (outcomes.NOT_YET, 1, None, None)
    assert one.low < one.value < one.high
