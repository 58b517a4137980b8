"""BLEU against NLTK and sacreBLEU themselves, and against methods 7 and 2 written out by hand; iBLEU from these."""

import json
import logging
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from hcl_tf.metrics.bleu import ADD_ONE, CorpusBleu, ibleu, ibleu_signature, score, sentence_scores, signature

TOKENS = st.lists(st.sampled_from("abcde"), max_size=9)


def matches(hypothesis, reference, n):
    """How many n-grams of the hypothesis the reference has, among how many."""
    grams, of_reference = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in (hypothesis, reference))
    return sum((grams & of_reference).values()), max(1, grams.total())


def brevity_penalty(hypothesis, reference):
    return 1.0 if len(hypothesis) > len(reference) else math.exp(1 - len(reference) / len(hypothesis))


def by_hand(hypothesis, reference, order):
    """Sentence BLEU with NLTK 3.9's method 7 (method 4, then method 5), in n-gram counts."""
    if not matches(hypothesis, reference, 1)[0]:
        return 0.0
    precisions, missing = [], 0
    for n in range(1, order + 1):
        correct, total = matches(hypothesis, reference, n)
        if not correct and len(hypothesis) > 1:  # method 4, with K = 5
            missing += 1
            correct = math.log(len(hypothesis)) / (5 * 2**missing)
        precisions.append(correct / total)
    following = [*precisions[1:], Fraction(*matches(hypothesis, reference, 5))]
    smoothed, before = [], precisions[0] + 1
    for precision, after in zip(precisions, following, strict=True):  # method 5
        before = (before + precision + after) / 3
        smoothed.append(before)
    return brevity_penalty(hypothesis, reference) * math.exp(sum(math.log(p) for p in smoothed) / order)


def add_one_by_hand(hypothesis, reference, order):
    """Sentence BLEU whose counts are one more each, but for the first order's (Lin and Och 2004)."""
    correct, total = matches(hypothesis, reference, 1)
    if not correct:
        return 0.0
    product = Fraction(correct, total)
    for n in range(2, order + 1):
        correct, total = matches(hypothesis, reference, n)
        product *= Fraction(correct + 1, total + 1)
    return brevity_penalty(hypothesis, reference) * float(product) ** (1 / order)


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS)
def test_sentence_bleu_is_nltks_and_method_7_by_hand(hypothesis, reference):
    (found,) = sentence_scores([hypothesis], [reference])
    for order, value in enumerate(found, 1):
        weights = (1 / order,) * order
        assert value == 100 * sentence_bleu([reference], hypothesis, weights=weights, smoothing_function=SmoothingFunction().method7)
        assert value == pytest.approx(100 * by_hand(hypothesis, reference, order), rel=1e-12)


def test_an_identical_sentence_of_nine_words():
    nine = ["what", "is", "the", "best", "way", "to", "learn", "a", "language"]
    np.testing.assert_allclose(sentence_scores([nine], [nine]), [[133.3, 121.7, 115.4, 111.7]], atol=0.06)


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [("", "a b c"), ("a b c", ""), ("", ""), ("x y", "a b c")],
    ids=["empty hypothesis", "empty reference", "both empty", "no overlap"],
)
def test_nothing_in_common_scores_zero(hypothesis, reference):
    np.testing.assert_array_equal(sentence_scores([hypothesis.split()], [reference.split()]), np.zeros((1, 4)))


def test_one_right_word():
    # p_1 = (2 + 1 + 0) / 3 = 1, p_2 = (1 + 0 + 0) / 3: the logarithm of one word gives method 4 nothing to add.
    np.testing.assert_allclose(sentence_scores([["yes"]], [["yes"]])[0, :2], [100.0, 100 * math.sqrt(1 / 3)])


def test_chosen_orders_and_no_sentences():
    texts = [list("abcab"), list("ab")], [list("abca"), list("ba")]
    np.testing.assert_array_equal(sentence_scores(*texts, orders=(4, 2)), sentence_scores(*texts)[:, [3, 1]])
    assert sentence_scores([], []).shape == (0, 4)
    with pytest.raises(ValueError):
        sentence_scores([["a"]], [])


def test_the_signature_names_every_choice():
    found = signature(2, "en").split("|")
    for part in ("BLEU-2", "smooth:nltk.method7", "weights:(1/2,)*2", "case:lc", "nltk:3.9.1"):
        assert part in found
    assert any(part.startswith("tok:") for part in found)
    assert signature(2, "en") != signature(2, "zh") != signature(3, "zh")


# -- iBLEU ------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS, TOKENS)
def test_ibleu_is_the_bounded_bleu_of_the_reference_less_that_of_the_source(hypothesis, reference, source):
    bounded = sentence_scores([hypothesis], [reference], smoothing=ADD_ONE)[0]
    for order, value in enumerate(bounded, 1):
        assert value == pytest.approx(100 * add_one_by_hand(hypothesis, reference, order), rel=1e-12)
        assert 0 <= value <= 100 * (1 + 1e-12)
    (found,) = ibleu([hypothesis], [reference], [source])
    expected = 80 * add_one_by_hand(hypothesis, reference, 4) - 20 * add_one_by_hand(hypothesis, source, 4)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_ibleu_counted_on_paper():
    hypothesis, reference, source = (t.split() for t in ("how do i learn french", "how can i learn french", "how do i study french now"))
    # Of either text the hypothesis has 4 of 5 words, 2 of 4 bigrams, 1 of 3 trigrams and 0 of 2 4-grams; the source is a word longer.
    bleu = (4 / 5 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    np.testing.assert_allclose(ibleu([hypothesis], [reference], [source]), [80 * bleu - 20 * math.exp(1 - 6 / 5) * bleu])


def test_the_ends_of_ibleu():
    right, source, other = list("abcde"), list("vwxyz"), list("lmnop")
    np.testing.assert_allclose(
        ibleu([right, source, other, source, []], [right, right, right, source, right], [source] * 5), [80, -20, 0, 60, 0]
    )
    np.testing.assert_allclose(ibleu([right], [other], [source], further=[[right]]), [80])
    assert ibleu([], [], []).shape == (0,)


def test_the_signature_of_ibleu_names_every_choice():
    found = ibleu_signature("en").split("|")
    for part in ("iBLEU", "alpha:0.8", "BLEU-4", "smooth:nltk.method2", "weights:(1/4,)*4", "scale:100", "nltk:3.9.1"):
        assert part in found
    assert any(part.startswith("tok:") for part in found)
    assert ibleu_signature("en") != ibleu_signature("zh")


# -- sacreBLEU --------------------------------------------------------------------------------------------------------

ENGLISH = st.lists(st.sampled_from(["The", "cat", "sat.", "what's", "on", "a", "mat,", "3.5", "Mat"]), max_size=12).map(" ".join)
CHINESE = st.text(st.sampled_from("我爱你猫，iP1 "), max_size=14)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["en", "zh"]))
def test_corpus_bleu_is_sacrebleus(data, language):
    text = ENGLISH if language == "en" else CHINESE
    pairs = data.draw(st.lists(st.tuples(text, text), min_size=1, max_size=6))
    hypotheses, references = map(list, zip(*pairs, strict=True))
    ours = CorpusBleu(language)
    statistics = ours.statistics(hypotheses, references)
    theirs = sacrebleu.BLEU(tokenize={"en": "13a", "zh": "zh"}[language], lowercase=True)
    expected = theirs.corpus_score(hypotheses, [references])
    assert statistics.shape == (len(pairs), 10)
    assert ours.of(statistics.sum(axis=0, keepdims=True)) == pytest.approx(expected.score, rel=1e-12)
    assert ours.signature() == f"BLEU|{theirs.get_signature()}"


def test_the_sums_of_any_resample_are_scored_as_that_corpus(caplog):
    hypotheses, references = ["The cat sat on the mat.", "a dog", ""], ["the cat sat on a mat.", "The dog ran", "x"]
    ours, rows = CorpusBleu("en"), np.array([[2, 1, 0], [0, 1, 2], [1, 1, 1], [0, 0, 3]])
    with caplog.at_level(logging.WARNING):
        statistics = ours.statistics(hypotheses, references)
    assert not caplog.records
    expected = []
    for row in rows:
        chosen = [i for i, times in enumerate(row) for _ in range(times)]
        metric = sacrebleu.BLEU(tokenize="13a", lowercase=True)
        expected.append(metric.corpus_score([hypotheses[i] for i in chosen], [[references[i] for i in chosen]]).score)
    np.testing.assert_allclose(ours.of(rows @ statistics), expected, rtol=1e-12)
    assert expected[0] > 0 == expected[3]


def test_signatures_name_the_tokeniser_of_the_language():
    assert "|tok:13a|" in CorpusBleu("en").signature()
    assert "|case:lc|" in CorpusBleu("en").signature()
    assert "|tok:zh|" in CorpusBleu("zh").signature()


@settings(max_examples=60, deadline=None)
@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=3))
def test_several_references_are_nltks(hypothesis, references):
    (found,) = sentence_scores([hypothesis], references[:1], further=[references[1:]])
    for order, value in enumerate(found, 1):
        weights = (1 / order,) * order
        assert value == 100 * sentence_bleu(references, hypothesis, weights=weights, smoothing_function=SmoothingFunction().method7)


def test_an_equal_text_among_several_references_scores_as_one_alone():
    right, other = ["a", "b", "c", "d", "e"], ["e", "e", "c"]
    np.testing.assert_allclose(sentence_scores([right], [other], further=[[right]]), sentence_scores([right], [right]))


def test_corpus_bleu_with_several_references_is_sacrebleus():
    hypotheses = ["the cat sat on a mat", "a dog ran"]
    references, further = ["the cat sat on the mat", "dogs run"], [["a cat sat on a mat", "one cat"], []]
    streams = [references, ["a cat sat on a mat", None], ["one cat", None]]
    ours, theirs = CorpusBleu("en"), sacrebleu.BLEU(tokenize="13a", lowercase=True)
    (value,) = ours.of(ours.statistics(hypotheses, references, further).sum(axis=0, keepdims=True))
    assert value == pytest.approx(theirs.corpus_score(hypotheses, streams).score)
    assert ours.signature(several=True) == f"BLEU|{theirs.get_signature()}"
    assert "nrefs:var" in ours.signature(several=True)


def test_scores_of_raw_texts_are_those_of_the_evaluation(evaluated_run):
    rows = [json.loads(line) for line in (evaluated_run / "predictions.test.jsonl").read_text(encoding="utf-8").splitlines()]
    wanted = json.loads((evaluated_run / "scores.test.json").read_text(encoding="utf-8"))["scores"]
    found = score([row["prediction"] for row in rows], [row["reference"] for row in rows])
    for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"):
        assert [found[name][part] for part in ("value", "low", "high")] == [wanted[name][part] for part in ("value", "low", "high")]
        assert wanted[name]["signature"].startswith(found[name]["signature"])


def test_raw_texts_with_several_references_and_in_chinese():
    found = score(["The cat, sat."], [["a dog", "the cat , sat ."]])["BLEU-1"]
    hypothesis = ["the", "cat", ",", "sat", "."]
    assert found["value"] == 100 * sentence_bleu([["a", "dog"], hypothesis], hypothesis, (1,), SmoothingFunction().method7)
    assert found["signature"].endswith("|references:one or more")
    chinese = score(["\u4f60\u597d\u5417"], ["\u4f60\u597d"], language="zh")["BLEU-2"]
    assert chinese["value"] == pytest.approx(100 * by_hand(["\u4f60", "\u597d", "\u5417"], ["\u4f60", "\u597d"], 2))
    assert "chars" in chinese["signature"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a text", ["its reference"]), "not a single string"),
        (([], []), "got 0 for 0"),
        ((["a"], ["b", "c"]), "got 2 for 1"),
        ((["a"], [[]]), r"references\[0\]: an empty list"),
        ((["a"], ["b"], "de"), "language='de': one of en, zh"),
    ],
    ids=["string", "nothing", "lengths", "no reference", "language"],
)
def test_texts_that_can_not_be_scored(arguments, message):
    with pytest.raises(ValueError, match=message):
        score(*arguments)
