"""Published weights, fetched from a hub, give the numbers that transformers' own tests state of them. For those who have a network:

    HCL_TF_TEST_HUB=1 python -m pytest tests/layers/test_published_numbers.py

The tests that fetch have never been run: no hub could be reached where they were written. What they compute with is tested without a hub,
on small models with random weights, against transformers' TF classes. The stated numbers are those of PyTorch's classes.
"""

import os
from pathlib import Path

import numpy as np
import published_models
import pytest
import tensorflow as tf
from transformers import BertConfig, GPT2Config, T5Config, TFBertModel, TFGPT2LMHeadModel, TFT5ForConditionalGeneration

from hcl_tf.layers import bert_weights, library_weights
from hcl_tf.layers.encoder import TextEncoder

needs_hub = pytest.mark.skipif(os.environ.get("HCL_TF_TEST_HUB") != "1", reason="fetches published weights; HCL_TF_TEST_HUB=1 runs it")
BERT_IDS = np.array([[0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2]], np.int32)  # the first is padding


def bert_states(source: str, ids: np.ndarray) -> np.ndarray:
    """The states of the last layer, [B, T, D], of our encoder with published weights."""
    published = bert_weights.load(source)
    encoder = TextEncoder(published.shape)
    bert_weights.assign(encoder, published)
    return encoder(tf.constant(ids)).numpy()


def t5_score(source: str, text: str, target: str) -> float:
    """The log-likelihood, in nats, of a target with its end, under published weights and their tokeniser as our loaders read them."""
    published = library_weights.load(source, "t5")
    model = TFT5ForConditionalGeneration(T5Config.from_dict(published.config))
    model.build_in_name_scope()
    library_weights.assign(model, published)
    ids, labels = (tf.constant([[*found, published.tokenizer.sep_id]]) for found in published.tokenizer.encode([text, target]))
    return -labels.shape[1] * float(tf.reduce_mean(model(input_ids=ids, labels=labels).loss))


def gpt2_continued(source: str, text: str, length: int) -> list[int]:
    """A text's pieces and those that follow greedily, under published weights and their tokeniser as our loaders read them."""
    published = library_weights.load(source, "gpt2")
    model = TFGPT2LMHeadModel(GPT2Config.from_dict(published.config))
    model.build_in_name_scope()
    library_weights.assign(model, published)
    (ids,) = published.tokenizer.encode([text])
    while len(ids) < length:
        ids = [*ids, int(tf.argmax(model(tf.constant([ids])).logits[0, -1]))]
    return ids


@needs_hub
def test_bert_base_uncased():
    """test_inference_no_head_absolute_embedding of transformers' tests of BERT."""
    stated = [[0.4249, 0.1008, 0.7531], [0.3771, 0.1188, 0.7467], [0.4152, 0.1098, 0.7108]]
    np.testing.assert_allclose(bert_states("bert-base-uncased", BERT_IDS)[0, 1:4, 1:4], stated, atol=2e-4)


@needs_hub
def test_t5_small():
    """test_small_integration_test of transformers' tests of T5, which Mesh TensorFlow's T5 agrees with."""
    assert t5_score("t5-small", "Hello there", "Hi I am") == pytest.approx(-19.0845, abs=1e-3)


@needs_hub
def test_gpt2():
    """test_lm_generate_gpt2 of transformers' tests of GPT-2: "The dog was found in a field near the intersection of ..."."""
    stated = [464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13, 198, 198, 464, 3290]
    assert gpt2_continued("gpt2", "The dog", len(stated)) == stated


# -- the same without a hub -------------------------------------------------------------------------------------------


def test_what_bert_is_tested_by_on_a_small_one(tmp_path):
    shape = BertConfig(
        vocab_size=6200, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=36, initializer_range=0.5
    )
    theirs = TFBertModel(shape)
    theirs.build_in_name_scope()
    theirs.save_pretrained(tmp_path)
    expected = theirs(BERT_IDS, attention_mask=(BERT_IDS != 0).astype(np.int32)).last_hidden_state
    np.testing.assert_allclose(bert_states(str(tmp_path), BERT_IDS)[0, 1:], expected[0, 1:], atol=1e-5)


def test_what_t5_is_tested_by_on_a_small_one(tmp_path):
    folder = published_models.t5(tmp_path / "t5", "safetensors")
    theirs, found = TFT5ForConditionalGeneration.from_pretrained(folder), library_weights.load(str(folder), "t5").tokenizer
    ids, labels = (found.encode([text])[0] + [1] for text in ("Hello there", "Hi I am"))
    logits = theirs(input_ids=tf.constant([ids]), decoder_input_ids=tf.constant([[0, *labels[:-1]]])).logits[0]
    expected = float(tf.reduce_sum(tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1)))
    assert t5_score(str(folder), "Hello there", "Hi I am") == pytest.approx(expected, rel=1e-5)


def test_what_gpt2_is_tested_by_on_a_small_one(tmp_path):
    folder: Path = published_models.gpt2(tmp_path / "gpt2")
    theirs = TFGPT2LMHeadModel.from_pretrained(folder)
    (ids,) = library_weights.load(str(folder), "gpt2").tokenizer.encode(["The dog"])
    expected = theirs.generate(tf.constant([ids]), do_sample=False, max_length=20, eos_token_id=-1, pad_token_id=0)
    assert gpt2_continued(str(folder), "The dog", 20) == expected[0].numpy().tolist()
