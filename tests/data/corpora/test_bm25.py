"""BM25 against a plain one, and the words that it compares."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_bm25 import plain_bm25

from hcl_tf.data.corpora import bm25
from hcl_tf.data.corpora.bm25 import words_of


@settings(deadline=None, max_examples=100)
@given(
    documents=st.lists(st.lists(st.sampled_from(["cat", "dog", "soup", "tree", "moon"]), max_size=4), min_size=1, max_size=90),
    queries=st.lists(st.lists(st.sampled_from(["cat", "dog", "soup", "tree", "moon", "unknown"]), max_size=4), max_size=5),
    most=st.integers(1, 50),
    threads=st.integers(1, 2),
)
def test_ranks_as_a_plain_bm25_with_ties_by_place(documents, queries, most, threads):
    index = bm25.Index([" ".join(words) for words in documents], "en")
    nearest = index.nearest([" ".join(words) for words in queries], most, threads)
    for query, ranked in zip(queries, map(np.ndarray.tolist, nearest), strict=True):
        scores = plain_bm25(documents, query) if any(documents) else [0.0] * len(documents)
        assert len(ranked) == len(set(ranked)) == min(most, sum(score > 0 for score in scores))
        best = sorted(range(len(scores)), key=lambda i: (-round(scores[i], 4), i))[: len(ranked)]
        assert [scores[i] for i in ranked] == pytest.approx([scores[i] for i in best], abs=1e-3)
        for words in documents:  # texts of the same words tie exactly
            places = [i for i, other in enumerate(documents) if sorted(other) == sorted(words)]
            held = [i for i in ranked if i in places]
            assert held == places[: len(held)]


@pytest.mark.slow
def test_scores_of_many_texts_are_those_of_each(monkeypatch):
    draw = np.random.default_rng(1)
    texts = [" ".join(f"w{i}" for i in draw.zipf(1.5, draw.integers(1, 60)) if i < 500) for _ in range(150)]
    monkeypatch.setattr(bm25, "BLOCK", 16)
    index = bm25.Index(texts, "en")
    found = list(index.nearest(texts, 50, 2))
    for i in range(0, len(texts), 10):
        words = Counter(texts[i].split())
        holding = {word: sum(word in text.split() for text in texts) for word in words}
        query = sorted(texts[i].split(), key=holding.get)[: bm25.QUERY_WORDS]
        scores = np.array(plain_bm25([text.split() for text in texts], query), np.float32)
        np.testing.assert_allclose(index.scores([texts[i]]).toarray()[0], scores, rtol=1e-5)
        np.testing.assert_allclose(scores[found[i]], np.sort(scores)[::-1][: len(found[i])], rtol=1e-5)
    assert any(len(text.split()) > bm25.QUERY_WORDS for text in texts)


def test_what_ties_with_the_last_one_kept_is_kept_by_place():
    index = bm25.Index(["dog", *["cat"] * 200], "en")
    assert next(index.nearest(["cat"], 50, 1)).tolist() == list(range(1, 51))


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "What is the Best CAT food?", ["best", "cat", "food"]),
        ("en", "The dog's bone, 42 times", ["dog", "bone", "42", "times"]),
        ("en", "", []),
        ("en", "the of and", []),
        ("zh", "今天下雪", ["今天", "天下", "下雪"]),
        ("zh", "猫，今天", ["猫", "今天"]),
        ("zh", "我用iPhone 拍照", ["我用", "拍照", "iphone"]),
        ("zh", "。！😀", []),
    ],
)
def test_the_words_that_bm25_compares(language, text, expected):
    assert words_of(language)(text) == expected


@pytest.mark.parametrize("text", ["What's it", "I'm", "They don't", "What’s it"])
def test_contractions_of_stop_words_are_no_words(text):
    assert words_of("en")(text) == []
