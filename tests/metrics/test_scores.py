"""The one call: its values are those of the parts, its counts add up, and it is JSON."""

import json

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.word_vectors import WordVectors
from hcl_tf.data.tokenizers.words import words
from hcl_tf.metrics import embedding
from hcl_tf.metrics.scores import score
from hcl_tf.metrics.significance import confidence_interval

VECTORS = WordVectors("some", ("cat", "dog", "runs", "猫"), np.array([[1, 0], [1, 1], [0, 1], [-1, 2]], np.float32))
PREDICTIONS = ["The cat runs.", "", "quux", "a dog runs fast", "A dog runs fast"]
REFERENCES = ["the cat runs.", "a dog", "a cat", "the dog runs fast", "my dog sleeps"]
SOURCES = ["where is the cat?", "a b", "quux", "who runs fast", "the dog"]
KEYWORDS = [["cat", "dog"], ["dog"], [], ["dog"], ["sleeps"]]
TRAINING = ["The Cat runs .", "other", "a cat"]
MEANS = [
    *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "iBLEU", "Extrema", "Average", "Greedy", "source-BLEU-4"),
    *("verbatim-training-targets", "any-keyword-included", "keywords-included"),
]
WHOLE = ["sacreBLEU", "distinct-1", "distinct-2", "distinct-outputs"]


@pytest.fixture(scope="module")
def scored():
    return score(PREDICTIONS, REFERENCES, SOURCES, KEYWORDS, TRAINING, "en", VECTORS)


def test_names_and_shapes(scored):
    scores, per_example = scored
    assert list(scores) == MEANS + WHOLE
    assert [list(values) for values in per_example] == [MEANS] * 5
    for entry in scores.values():
        assert {"value", "low", "high", "signature", "sentences"} <= set(entry)
    assert len({entry["signature"] for entry in scores.values()}) == len(scores)


def test_it_is_json_and_the_same_each_time(scored):
    assert json.loads(json.dumps(scored, allow_nan=False)) == [*scored]
    assert score(PREDICTIONS, REFERENCES, SOURCES, KEYWORDS, iter(TRAINING), "en", VECTORS) == scored
    other = score(PREDICTIONS, REFERENCES, SOURCES, KEYWORDS, TRAINING, "en", VECTORS, seed=2)
    assert other[1] == scored[1]
    assert other[0] != scored[0]


def test_a_means_value_and_interval_are_those_of_its_examples(scored):
    scores, per_example = scored
    for name in MEANS:
        values = np.array([row[name] for row in per_example], np.float64)
        assert scores[name]["value"] == pytest.approx(np.nanmean(values), rel=1e-12)
        assert (scores[name]["low"], scores[name]["high"]) == pytest.approx(confidence_interval(values), rel=1e-9)
        assert scores[name]["sentences"] == np.isfinite(values).sum()
        assert scores[name]["empty_outputs"] == 1


def test_sentence_bleu_against_the_reference_and_the_source(scored):
    method = SmoothingFunction().method7
    for i, row in enumerate(scored[1]):
        output = words(PREDICTIONS[i], "en")
        for order in (1, 2, 3, 4):
            assert row[f"BLEU-{order}"] == 100 * sentence_bleu([words(REFERENCES[i], "en")], output, (1 / order,) * order, method)
        assert row["source-BLEU-4"] == 100 * sentence_bleu([words(SOURCES[i], "en")], output, (1 / 4,) * 4, method)


def test_ibleu_against_the_reference_and_the_source(scored):
    method = SmoothingFunction().method2
    for i, row in enumerate(scored[1]):
        output = words(PREDICTIONS[i], "en")
        rewarded, punished = (sentence_bleu([words(text, "en")], output, (1 / 4,) * 4, method) for text in (REFERENCES[i], SOURCES[i]))
        assert row["iBLEU"] == pytest.approx(80 * rewarded - 20 * punished, rel=1e-12)
    assert scored[1][2]["iBLEU"] < 0, "a copy of the source that has nothing of the reference"


def test_embedding_scores_count_what_is_not_covered(scored):
    scores, per_example = scored
    expected = embedding.similarities([words(t, "en") for t in PREDICTIONS], [words(t, "en") for t in REFERENCES], VECTORS)
    for column, name in enumerate(embedding.NAMES):
        assert [row[name] is None for row in per_example] == [False, True, True, False, False]
        assert (scores[name]["sentences"], scores[name]["uncovered"]) == (3, 2)
        np.testing.assert_array_equal(np.array([row[name] for row in per_example], np.float64), expected[:, column])
        assert "vectors:some" in scores[name]["signature"]


def test_copies_and_keywords(scored):
    scores, per_example = scored
    assert [row["verbatim-training-targets"] for row in per_example] == [1, 0, 0, 0, 0]
    assert [row["keywords-included"] for row in per_example] == [0.5, 0, None, 1, 0]
    assert [row["any-keyword-included"] for row in per_example] == [1, 0, None, 1, 0]
    assert (scores["keywords-included"]["value"], scores["any-keyword-included"]["value"]) == (0.375, 0.5)
    assert (scores["keywords-included"]["sentences"], scores["keywords-included"]["without_keywords"]) == (4, 1)


def test_scores_of_the_outputs_as_a_whole(scored):
    scores, _ = scored
    metric = sacrebleu.BLEU(tokenize="13a", lowercase=True)
    assert scores["sacreBLEU"]["value"] == pytest.approx(metric.corpus_score(PREDICTIONS, [REFERENCES]).score, rel=1e-12)
    assert str(metric.get_signature()) in scores["sacreBLEU"]["signature"]
    assert scores["sacreBLEU"]["low"] < scores["sacreBLEU"]["value"] < scores["sacreBLEU"]["high"]
    assert scores["distinct-1"]["value"] == 8 / 13  # the cat runs . / quux / a dog runs fast, twice
    assert scores["distinct-2"]["value"] == 6 / 9
    assert scores["distinct-outputs"]["value"] == 4 / 5
    assert scores["distinct-outputs"]["sources"] == len(set(SOURCES))
    for name in ("distinct-1", "distinct-2", "distinct-outputs"):  # resampling repeats sentences, which such a share counts
        assert scores[name]["low"] is scores[name]["high"] is None


def test_only_empty_outputs_score_nothing_and_stay_json():
    scores, per_example = score(["", " "], ["a", "b"], ["c", "d"], [[], []], [], "en", VECTORS)
    json.dumps([scores, per_example], allow_nan=False)
    for name in ("BLEU-1", "BLEU-4", "iBLEU", "source-BLEU-4", "sacreBLEU", "verbatim-training-targets"):
        assert (scores[name]["value"], scores[name]["low"], scores[name]["high"]) == (0, 0, 0)
    for name in ("Extrema", "keywords-included", "any-keyword-included", "distinct-1", "distinct-2"):
        assert (scores[name]["value"], scores[name]["low"], scores[name]["high"]) == (None, None, None)
    assert (scores["Extrema"]["uncovered"], scores["BLEU-1"]["empty_outputs"], scores["distinct-outputs"]["value"]) == (2, 2, 0.5)


def test_chinese():
    scores, per_example = score(["我爱猫", "猫"], ["我爱猫", "狗"], ["你爱什么", "猫"], [["爱猫"], ["小猫"]], ["猫"], "zh", VECTORS)
    method = SmoothingFunction().method7
    assert per_example[0]["BLEU-2"] == 100 * sentence_bleu([list("我爱猫")], list("我爱猫"), (0.5, 0.5), method)
    assert per_example[1]["BLEU-2"] == 0
    assert [row["keywords-included"] for row in per_example] == [1, 0]
    assert [row["verbatim-training-targets"] for row in per_example] == [0, 1]
    assert [row["Average"] for row in per_example] == [pytest.approx(1), None]
    assert "|tok:zh|" in scores["sacreBLEU"]["signature"]
    assert "tok:bert-basic-chars" in scores["BLEU-1"]["signature"]


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(5)))
def test_the_order_of_the_examples_changes_no_value(order):
    lists = [[part[i] for i in order] for part in (PREDICTIONS, REFERENCES, SOURCES, KEYWORDS)]
    scores, per_example = score(*lists, TRAINING, "en", VECTORS)
    expected, rows = score(PREDICTIONS, REFERENCES, SOURCES, KEYWORDS, TRAINING, "en", VECTORS)
    assert per_example == [rows[i] for i in order]
    for name in expected:
        assert scores[name]["value"] == pytest.approx(expected[name]["value"], rel=1e-12)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_lists_of_different_lengths_are_refused(cut):
    lists = [PREDICTIONS, REFERENCES, SOURCES, KEYWORDS]
    lists[cut] = lists[cut][:-1]
    with pytest.raises(ValueError, match=r"lengths \[4, 5\]"):
        score(*lists, TRAINING, "en", VECTORS)


def test_no_prediction_is_refused():
    with pytest.raises(ValueError, match="one or more"):
        score([], [], [], [], [], "en", VECTORS)


@pytest.mark.parametrize(("task", "language"), [("qqp", "en"), ("douban", "zh")])
def test_references_and_sources_of_a_prepared_folder_as_outputs(task, language, request):
    data = PreparedData(request.getfixturevalue(f"{task}_folder"))
    records = list(data.records("test"))
    sources, targets = [r.source.raw for r in records], [r.target.raw for r in records]
    marked = [[r.target.raw[k.start : k.end] for k in r.target.keywords] for r in records]
    rest = (targets, sources, marked, [r.target.raw for r in data.records("train")], language, data.word_vectors)
    perfect, _ = score(targets, *rest)
    copied, _ = score(sources, *rest)
    for name in ("Extrema", "Average", "Greedy", "keywords-included"):
        assert perfect[name]["value"] == pytest.approx(1.0)
        assert copied[name]["value"] < 1
    assert perfect["sacreBLEU"]["value"] == pytest.approx(100.0)
    assert copied["sacreBLEU"]["value"] < 100
    assert copied["source-BLEU-4"]["value"] > perfect["source-BLEU-4"]["value"]
    assert perfect["BLEU-4"]["value"] > 100  # method 7


def test_further_references_reach_the_scores_that_have_references_and_no_other(scored):
    further = [[prediction] for prediction in PREDICTIONS]
    scores, rows = score(PREDICTIONS, REFERENCES, SOURCES, KEYWORDS, TRAINING, "en", VECTORS, further=further)
    with_references = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "iBLEU", "Extrema", "Average", "Greedy", "sacreBLEU"}
    for name, entry in scores.items():
        assert (entry != scored[0][name]) == (name in with_references), name
        assert ("references:one or more" in entry["signature"] or "nrefs:var" in entry["signature"]) == (name in with_references)
    for row, prediction in zip(rows, PREDICTIONS, strict=True):
        assert not prediction or row["Average"] is None or row["Average"] == pytest.approx(1.0)


def test_no_further_reference_at_all_changes_nothing(scored):
    assert score(PREDICTIONS, REFERENCES, SOURCES, KEYWORDS, TRAINING, "en", VECTORS, further=None) == scored
