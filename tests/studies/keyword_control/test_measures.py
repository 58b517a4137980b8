"""Figures of keyword control against values computed by hand."""

import numpy as np
import pytest

from hcl_tf.data.tokenizers.words import words
from hcl_tf.metrics import bleu, diversity
from hcl_tf.studies.keyword_control import measures
from hcl_tf.studies.keyword_control.measures import Measured, faithfulness, inclusion, prior_kl, prior_shift


def measured(**given) -> Measured:
    """Two inputs, two swaps each."""
    random = np.random.default_rng(0)
    prior = lambda draws: (random.normal(size=(draws, 2, 3)), random.uniform(0.5, 2, (draws, 2, 3)))  # noqa: E731
    values = {
        "language": "en",
        "sources": ["how do i lose belly fat ?", "why is the sky blue ?"],
        "own": [[("fat", "fats"), ("belly",)], [("sky", "skies")]],
        "swaps": [[("dog", "dogs"), ("tea",)], [("car",), ("moon", "moons")]],
        "outputs": {
            "own": [["how can i lose fats ?", "why are skies blue with tea ?"]],
            "swapped": [["how do dogs lose fat ?", "why are skies blue with tea ?"], ["how is the car ?", "is the moon blue ?"]],
            "none": [["how can i lose fats ?", "what is a dog ?"]],
        },
        "priors": {"own": prior(1), "swapped": prior(2), "none": prior(1)},
    }
    return Measured(**{**values, **given})


def values_of(found: dict, name: str) -> dict[str, float]:
    return {condition: entry["value"] for condition, entry in found[name]["values"].items()}


def test_a_keyword_is_there_in_any_of_its_forms_and_only_as_a_word():
    found = inclusion(["the dogs bark", "Dog!", "dogma", "no pets", "x"], [[("dog", "dogs")]] * 3 + [[("dog",), ("pets", "pet")], []], "en")
    np.testing.assert_array_equal(found, [1, 1, 0, 0.5, np.nan])
    np.testing.assert_array_equal(inclusion(["我很喜欢小猫咪"], [[("小猫",), ("狗",)]], "zh"), [0.5])


def test_inclusion_of_swapped_in_keywords_is_the_mean_over_swaps_paired_with_the_own_output():
    found = faithfulness(measured())
    # --> swapped: input 0 has dogs, car: (1 + 1) / 2; input 1 has tea, moon: 1. own: 0; tea alone: 1/2. none: 0, 0.
    values = values_of(found, "swapped-keyword-included")
    assert values == {"own": 0.25, "swapped": 1.0, "none": 0.0, "swapped minus own": 0.75, "swapped minus none": 1.0}
    entry = found["swapped-keyword-included"]["values"]["swapped minus own"]
    assert (entry["low"], entry["high"], entry["examples"]) == (0.5, 1.0, 2)


def test_inclusion_of_the_own_keywords_under_each_condition():
    # --> own: 1/2 (fats, no belly), 1. swapped: (1/2 + 0) / 2, (1 + 0) / 2. none: 1/2, 0.
    values = values_of(faithfulness(measured()), "own-keywords-included")
    assert values == {"own": 0.75, "swapped": 0.375, "none": 0.25, "own minus swapped": 0.375, "own minus none": 0.5}


def test_inputs_that_share_a_text_are_resampled_together():
    apart, together = (faithfulness(measured(units=units))["swapped-keyword-included"]["values"] for units in (None, np.array([0, 0])))
    for name, entry in together.items():
        assert entry["value"] == entry["low"] == entry["high"] == apart[name]["value"], "of one unit nothing is known about others"
    assert apart["own"]["low"] < apart["own"]["high"]


def test_an_input_without_keywords_counts_only_where_it_can():
    found = faithfulness(measured(own=[[("fat", "fats"), ("belly",)], []]))
    assert found["own-keywords-included"]["values"]["own"]["value"] == 0.5
    assert found["own-keywords-included"]["values"]["own"]["examples"] == 1
    assert found["swapped-keyword-included"]["values"]["own"]["examples"] == 2


def test_share_of_changed_outputs():
    assert values_of(faithfulness(measured()), "outputs-changed") == {"swapped": 0.75, "none": 0.5}


def test_overlap_and_distinct_are_those_of_the_metrics():
    m = measured()
    found = faithfulness(m)
    tokens = {c: [[words(text, "en") for text in draw] for draw in draws] for c, draws in m.outputs.items()}
    sources = [words(text, "en") for text in m.sources]
    for condition, draws in tokens.items():
        overlap = [score for draw in draws for score in bleu.sentence_scores(draw, sources)[:, 3]]
        assert found["source-BLEU-4"]["values"][condition]["value"] == pytest.approx(np.mean(overlap))
        for order in (1, 2):
            share = np.mean([diversity.distinct(draw, order) for draw in draws])
            assert values_of(found, f"distinct-{order}")[condition] == pytest.approx(share)
    assert found["distinct-2"]["values"]["own"]["low"] is None


def test_movement_of_the_prior():
    m = measured()
    found = faithfulness(m)
    mean, stddev = m.priors["own"]
    for condition in ("swapped", "none"):
        shifts, divergences = [], []
        for draw in range(len(m.outputs[condition])):
            for row in range(2):
                mu, sigma = (part[draw, row] for part in m.priors[condition])
                mu0, sigma0 = mean[0, row], stddev[0, row]
                shifts.append(sum(abs(mu[z] - mu0[z]) / sigma0[z] for z in range(3)) / 3)
                terms = (
                    np.log(sigma0[z] / sigma[z]) + (sigma[z] ** 2 + (mu[z] - mu0[z]) ** 2) / (2 * sigma0[z] ** 2) - 0.5 for z in range(3)
                )
                divergences.append(sum(terms))
        assert values_of(found, "prior-shift")[condition] == pytest.approx(np.mean(shifts))
        assert values_of(found, "prior-KL")[condition] == pytest.approx(np.mean(divergences))
    other = np.mean([np.abs(mean[0, 1] - mean[0, 0]) / stddev[0, row] for row in range(2)])
    assert values_of(found, "prior-shift")["another input"] == pytest.approx(other)


def test_one_dimension_by_hand():
    own = (np.array([1.0]), np.array([2.0]))
    assert prior_shift(np.array([4.0]), *own) == 1.5
    assert prior_kl((np.array([4.0]), np.array([2.0])), own) == pytest.approx(9 / 8)
    assert prior_kl(own, own) == 0.0


def test_one_input_has_no_other_and_a_system_without_latent_no_prior():
    one = measured(
        sources=["a"], own=[[("a",)]], swaps=[[("b",)]], outputs={"own": [["a"]], "swapped": [["b"]], "none": [["a"]]},
        priors={c: (np.zeros((1, 1, 2)), np.ones((1, 1, 2))) for c in measures.CONDITIONS},
    )  # fmt: skip
    found = faithfulness(one)
    assert values_of(found, "prior-KL") == {"swapped": 0.0, "none": 0.0}
    assert found["distinct-2"]["values"]["own"]["value"] is None
    assert "prior-KL" not in faithfulness(measured(priors=None))


def test_every_figure_is_signed():
    found = faithfulness(measured())
    assert all(measure["signature"] for measure in found.values())
    assert "2 swaps" in found["outputs-changed"]["signature"]
