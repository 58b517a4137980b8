"""Scores of several outputs of each source, against their parts."""

import json

import numpy as np
import pytest

from hcl_tf.data.tokenizers.words import words
from hcl_tf.metrics import bleu
from hcl_tf.metrics.diversity import pairwise_distinctness
from hcl_tf.metrics.samples import score_samples
from hcl_tf.metrics.significance import confidence_interval

SAMPLES = [["The cat runs.", "a dog runs", ""], ["the cat runs.", "my dog sleeps", "no"], ["a cat", "A dog runs", "yes"]]
REFERENCES = ["the cat runs.", "my dog sleeps", "maybe"]
SOURCES = ["where is the cat?", "the dog", "a b"]
BY_SOURCE = [[words(texts[i], "en") for texts in SAMPLES] for i in range(3)]


@pytest.fixture(scope="module")
def scored():
    return score_samples(SAMPLES, REFERENCES, SOURCES, "en")


def of_each(name: str) -> list[float]:
    """A score of each source."""
    targets, inputs = ([words(text, "en") for text in texts] for texts in (REFERENCES, SOURCES))
    bleus = [bleu.sentence_scores(own, [target] * 3, (2,))[:, 0] for own, target in zip(BY_SOURCE, targets, strict=True)]
    return {
        "BLEU-2-mean": [values.mean() for values in bleus],
        "BLEU-2-best": [values.max() for values in bleus],
        "iBLEU-mean": [bleu.ibleu(own, [t] * 3, [s] * 3).mean() for own, t, s in zip(BY_SOURCE, targets, inputs, strict=True)],
        "pairwise-distinctness": list(map(pairwise_distinctness, BY_SOURCE)),
        "distinct-samples": [2 / 3, 2 / 3, 1],
    }[name]


@pytest.mark.parametrize("name", ["BLEU-2-mean", "BLEU-2-best", "iBLEU-mean", "pairwise-distinctness", "distinct-samples"])
def test_a_score_and_its_interval_are_those_of_the_sources(scored, name):
    entry, values = scored[name], np.array(of_each(name))
    assert entry["value"] == pytest.approx(values.mean(), rel=1e-12)
    assert (entry["low"], entry["high"]) == pytest.approx(confidence_interval(values), rel=1e-9)
    assert entry["examples"] == 3
    assert "of 3 outputs of each source" in entry["signature"]


def test_the_best_is_no_worse_than_the_mean_and_all_is_json(scored):
    assert scored["BLEU-2-best"]["value"] > scored["BLEU-2-mean"]["value"]
    assert json.loads(json.dumps(scored, allow_nan=False)) == scored
    assert len({entry["signature"] for entry in scored.values()}) == len(scored)
    for part in ("BLEU-2", "nltk.method2", "equal:0"):
        assert part in scored["pairwise-distinctness"]["signature"]


def test_equal_samples_are_as_good_as_one_and_not_distinct():
    one, three = (score_samples(SAMPLES[:1] * times, REFERENCES, SOURCES, "en") for times in (1, 3))
    for name in ("BLEU-2-mean", "BLEU-2-best", "iBLEU-mean"):
        assert three[name]["value"] == pytest.approx(one[name]["value"])
    assert (three["pairwise-distinctness"]["value"], three["distinct-samples"]["value"]) == (0, pytest.approx(1 / 3))
    assert one["pairwise-distinctness"] == {
        "value": None, "low": None, "high": None, "examples": 0, "signature": one["pairwise-distinctness"]["signature"],
    }  # fmt: skip


def test_further_references_count_and_signatures_name_them_and_the_normalisation(scored):
    found = score_samples(SAMPLES, REFERENCES, SOURCES, "en", "some-form", [[], [], ["yes"]])
    assert found["BLEU-2-best"]["value"] > scored["BLEU-2-best"]["value"]
    assert found["pairwise-distinctness"]["value"] == scored["pairwise-distinctness"]["value"]
    assert all(entry["signature"].endswith("|text:some-form") for entry in found.values())
    assert ["references:one or more" in entry["signature"] for entry in found.values()] == [True, True, True, False, False]


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError):
        score_samples([SAMPLES[0], SAMPLES[1][:2]], REFERENCES, SOURCES, "en")
    with pytest.raises(ValueError):
        score_samples(SAMPLES, REFERENCES[:2], SOURCES, "en")
