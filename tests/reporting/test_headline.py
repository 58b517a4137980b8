"""The sentences at the top of the front page: one for each verdict there can be, and none that a verdict does not say."""

from dataclasses import replace

import made_evidence
import pytest
from made_evidence import questions

from hcl_tf.metrics.decision import DESCRIPTIVE, LOSS, NO, UNDECIDED, YES
from hcl_tf.reporting import headline, outcomes
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.outcomes import CLOSED, FAILED, NOT_RUN, NOT_YET, OTHER_BITS, UNJUDGED

VERDICTS = (YES, NO, LOSS, UNDECIDED, DESCRIPTIVE, *UNJUDGED)


@pytest.fixture(scope="module")
def primary(tmp_path_factory):
    """BLEU-2 and NLL of rows that ran, to be given other verdicts."""
    plan = made_evidence.plan(tmp_path_factory.mktemp("plans") / "evidence")
    results, stage = questions({"hcl": 31.0, "bert_cvae": 30.0}), plan.stage("questions")
    kept = KeptStage(stage, {row.name: [one for one in results if one.row == row.name] for row in stage.rows}, [], {})
    return outcomes.outcomes(plan.primary, kept)


def points(first, second=()):
    return headline.headline(first, second, [], [])


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_words(primary, verdict):
    bleu, *_ = points([replace(one, verdict=verdict, because="for a reason") for one in primary])
    assert bleu.startswith("On questions, hcl beside bert_cvae in BLEU-2")
    assert "for a reason" in bleu
    assert ("a gain" in bleu, "a loss" in bleu) == (verdict == YES, verdict == LOSS)
    assert ("+0.9" in bleu) == (verdict not in (NOT_RUN, FAILED)), "what has no number shows none"


@pytest.mark.parametrize(
    ("bleu", "nll", "said"),
    [
        (YES, YES, "what it adds helps."),
        (NO, NO, "what it adds makes no difference."),
        (LOSS, LOSS, "what it adds harms."),
        (UNDECIDED, UNDECIDED, "undecided."),
        *((one, other, "they do not agree, so nothing is said of both.") for one, other in ((YES, NO), (YES, LOSS), (NO, UNDECIDED))),
        *((YES, unjudged, "") for unjudged in (*UNJUDGED, DESCRIPTIVE)),
    ],
)
def test_both_measures_are_summed_up_only_where_they_say_the_same(primary, bleu, nll, said):
    first = [replace(one, verdict=verdict) for one, verdict in zip(primary, (bleu, nll), strict=True)]
    both = [point for point in points(first) if "together" in point]
    assert both == ([f"hcl beside bert_cvae, by BLEU-2 and NLL of y+ together: {said}"] if said else [])
    assert not [point for point in points(first[:1]) if "together" in point], "one measure says it already"


def test_further_comparisons_have_their_margin_and_reason_and_are_counted_by_what_became_of_them(primary):
    (bleu, _) = primary
    others = [
        replace(bleu, beside="claps", verdict=YES, because="within 1.5, the margin of no difference"),
        replace(bleu, beside="bert_gen", verdict=NO), replace(bleu, beside="t5", verdict=LOSS), replace(bleu, verdict=UNDECIDED),
        replace(bleu, verdict=CLOSED), replace(bleu, verdict=NOT_YET), replace(bleu, verdict=OTHER_BITS), replace(bleu, verdict=NOT_RUN),
    ]  # fmt: skip
    assert points([], others)[0] == (
        "Of 8 further planned comparisons: hcl is above claps (questions, BLEU-2, within 1.5, the margin of no difference), below t5 "
        "(questions, BLEU-2), no different from bert_gen beyond 0.5 points (questions, BLEU-2); 1 undecided; 3 not judged; 1 NOT RUN."
    )
    assert points([], others[3:4])[0] == "Of 1 further planned comparisons: 1 undecided."
