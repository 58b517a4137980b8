"""Extrema, Average and Greedy against the formulas as loops, and worked cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.store.word_vectors import WordVectors
from hcl_tf.metrics import embedding
from hcl_tf.metrics.embedding import similarities

WORDS = "abcdef"
VECTORS = WordVectors("six", tuple(WORDS), np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32))
PLAIN = WordVectors("plain", ("east", "north", "west", "up"), np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 2]], np.float32))
TEXT = st.lists(st.sampled_from(WORDS + "xyz"), max_size=8)  # x, y and z have no vector


def cos(one, other):
    dot, lengths = sum(p * q for p, q in zip(one, other, strict=True)), [math.sqrt(sum(p * p for p in v)) for v in (one, other)]
    return dot / (lengths[0] * lengths[1]) if all(lengths) else 0.0


def by_loops(one, other):
    tables = [[[float(v) for v in VECTORS.vectors[WORDS.index(token)]] for token in text if token in WORDS] for text in (one, other)]
    if not all(tables):
        return [math.nan] * 3

    def furthest(table):
        result = []
        for column in zip(*table, strict=True):
            highest, lowest = max(column), min(column)
            result.append(highest if highest > abs(lowest) else lowest)
        return result

    def average(table):
        return [sum(column) / len(table) for column in zip(*table, strict=True)]

    def directed(table, towards):
        return sum(max(cos(v, w) for w in towards) for v in table) / len(table)

    first, second = tables
    greedy = (directed(first, second) + directed(second, first)) / 2
    return [cos(furthest(first), furthest(second)), cos(average(first), average(second)), greedy]


@settings(max_examples=200, deadline=None)
@given(TEXT, TEXT)
def test_scores_equal_the_formulas(one, other):
    (found,) = similarities([one], [other], VECTORS)
    np.testing.assert_allclose(found, by_loops(one, other), rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.randoms())
def test_bounds_symmetry_and_indifference_to_word_order(pairs, random):
    hypotheses, references = [one for one, _ in pairs], [other for _, other in pairs]
    found = similarities(hypotheses, references, VECTORS)
    assert found.shape == (len(pairs), 3)
    assert ((np.abs(found) <= 1) | np.isnan(found)).all()
    np.testing.assert_allclose(similarities(references, hypotheses, VECTORS), found, atol=1e-12)
    shuffled = [random.sample(text, len(text)) for text in hypotheses]
    np.testing.assert_allclose(similarities(shuffled, references, VECTORS), found, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8))
def test_a_text_is_nearest_to_itself(text):
    np.testing.assert_allclose(similarities([text], [[*text, "x"]], VECTORS), [[1, 1, 1]], atol=1e-12)


def test_worked_cases():
    scores = similarities(
        [["east"], ["east", "north"], ["east", "west"], ["east", "up"]],
        [["north"], ["east"], ["east"], ["east", "north"]],
        PLAIN,
    )
    half = math.sqrt(0.5)
    expected = [
        [0, 0, 0],
        [half, half, (1 / 2 + 1) / 2],
        [-1, 0, (0 + 1) / 2],  # of 1 and -1 extrema takes -1; the average is zero; nearest: 1 and -1, then 1
        [math.sqrt(1 / 5) * half, math.sqrt(1 / 5) * half, 1 / 2],  # (1, 0, 2) and (1, 1, 0)
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-12)


@pytest.mark.parametrize("pair", [([], ["east"]), (["east"], []), ([], []), (["nowhere"], ["east"]), (["east"], ["nowhere"])])
def test_pairs_with_nothing_covered_have_no_score(pair):
    found = similarities([pair[0], ["up"]], [pair[1], ["up"]], PLAIN)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], 1)


def test_chinese_characters_are_words():
    vectors = WordVectors("zh", ("猫", "狗"), np.array([[1, 0], [1, 1]], np.float32))
    np.testing.assert_allclose(similarities([["猫"]], [["狗"]], vectors), [[math.sqrt(0.5)] * 3])


def test_signatures_name_the_vectors():
    for name in embedding.NAMES:
        found = embedding.signature(name, "en", VECTORS).split("|")
        assert found[0] == name
        assert "vectors:six" in found
        assert "oov:skipped" in found


@settings(max_examples=60, deadline=None)
@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_of_several_references_the_nearest_counts_by_each_score(hypothesis, references):
    alone = np.concatenate([similarities([hypothesis], [reference], VECTORS) for reference in references])
    found = similarities([hypothesis], references[:1], VECTORS, [references[1:]])[0]
    for name, column in enumerate(alone.T):
        known = column[~np.isnan(column)]
        assert found[name] == known.max() if len(known) else np.isnan(found[name])
