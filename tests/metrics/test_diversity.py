"""Worked cases and properties of the scores that need no reference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.tokenizers.words import words
from hcl_tf.metrics.bleu import ADD_ONE, sentence_scores
from hcl_tf.metrics.diversity import distinct, distinct_share, keyword_inclusion, pairwise_distinctness, verbatim

TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=6)


def test_distinct_counts_over_all_texts_together():
    texts = [["a", "b", "a", "b"], ["a", "b"], ["c"], []]
    assert distinct(texts, 1) == 3 / 7
    assert distinct(texts, 2) == 2 / 4  # "a b" three times and "b a": grams do not reach from one text into the next


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 3), st.randoms())
def test_distinct_is_a_share_whatever_the_order_of_the_texts(texts, order, random):
    grams = ["".join(text[i : i + order]) for text in texts for i in range(len(text)) if i + order <= len(text)]
    found = distinct(texts, order)
    if not grams:
        assert math.isnan(found)
        return
    assert found == len(set(grams)) / len(grams)
    assert 0 < found <= 1
    assert distinct(random.sample(texts, len(texts)), order) == found
    assert distinct([*texts, *texts], order) == found / 2


def test_share_of_different_texts():
    assert distinct_share([["a"], ["a"], ["a", "b"], []]) == 0.75
    assert math.isnan(distinct_share([]))


def test_pairwise_distinctness_counted_on_paper():
    a, b, c = list("abcd"), list("abce"), list("wxyz")
    # 3 of 4 words and 2 of 3 bigrams in common, either way; c has nothing in common with either.
    unlike = 1 - math.sqrt(3 / 4 * 3 / 4)
    assert pairwise_distinctness([a, b]) == pytest.approx(unlike)
    assert pairwise_distinctness([a, b, c]) == pytest.approx((2 * unlike + 4) / 6)
    assert pairwise_distinctness([a, a, b]) == pytest.approx(4 * unlike / 6)
    # "a b" lies within "a b c d", which it is half as long as; of that, half of the words and 1 of 3 bigrams lie in it.
    assert pairwise_distinctness([a[:2], a]) == pytest.approx(1 - (math.exp(-1) + math.sqrt(1 / 2 * 2 / 4)) / 2)


@pytest.mark.parametrize(("texts", "expected"), [([["a"], ["a"]], 0), ([[], []], 0), ([[], ["a"]], 1), ([["a"]], math.nan), ([], math.nan)])
def test_pairwise_distinctness_of_short_and_few_texts(texts, expected):
    np.testing.assert_equal(pairwise_distinctness(texts), expected)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=2, max_size=6), st.randoms())
def test_pairwise_distinctness_is_the_mean_over_pairs_in_any_order(texts, random):
    pairs = [(a, b) for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j]
    bounded = [sentence_scores([a], [b], (2,), smoothing=ADD_ONE)[0, 0] / 100 for a, b in pairs]
    expected = np.mean([0 if a == b else 1 - value for (a, b), value in zip(pairs, bounded, strict=True)])
    found = pairwise_distinctness(texts)
    assert found == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= found <= 1
    assert pairwise_distinctness(random.sample(texts, len(texts))) == pytest.approx(found, abs=1e-12)


def test_verbatim_training_targets_whatever_case_and_spacing():
    outputs = [words(text, "en") for text in ("What ' s up ?", "what's up", "")]
    known = (words(text, "en") for text in ("what's up?", "What is up?"))
    np.testing.assert_array_equal(verbatim(outputs, known), [1, 0, 0])
    np.testing.assert_array_equal(verbatim([["a", "b"]], [["ab"]]), [0])


@pytest.mark.parametrize(
    ("text", "keywords", "share", "language"),
    [
        ("How do I lose belly fat fast?", ["Belly Fat", "exercise"], 1 / 2, "en"),
        ("How do I lose fat, belly up?", ["belly fat"], 0, "en"),
        ("Start the art class", ["art"], 1, "en"),
        ("Start the class", ["art"], 0, "en"),  # no part of a word
        ("cats and a cat", ["cat", "CAT", "dog"], 1 / 2, "en"),  # the same keyword twice counts once
        ("anything", [], math.nan, "en"),
        ("anything", ["", " "], math.nan, "en"),
        ("", ["cat"], 0, "en"),
        ("a b", ["a b c"], 0, "en"),
        ("我很喜欢小猫咪", ["小猫", "狗"], 1 / 2, "zh"),
        ("我买了iPhone12", ["iphone12", "phone"], 1 / 2, "zh"),
    ],
)
def test_keyword_inclusion(text, keywords, share, language):
    found = keyword_inclusion([words(text, language)], [[words(keyword, language) for keyword in keywords]])
    np.testing.assert_array_equal(found, [share])


@settings(max_examples=100, deadline=None)
@given(st.text("猫狗我", max_size=6), st.text("猫狗我", min_size=1, max_size=3))
def test_in_chinese_a_contained_keyword_is_a_substring(text, keyword):
    assert keyword_inclusion([words(text, "zh")], [[words(keyword, "zh")]]) == [float(keyword in text)]


def test_a_text_without_its_keyword_list_is_an_error():
    with pytest.raises(ValueError):
        keyword_inclusion([["a"]], [])
