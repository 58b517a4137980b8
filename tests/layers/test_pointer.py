"""The pointer's mixture against sums over source positions."""

import math

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_gradients, variables

from hcl_tf.layers.output import Mixture, cross_entropy
from hcl_tf.layers.pointer import CopyAttention, Pointer, output_of, pieces_of, source_columns
from hcl_tf.layers.token_table import TokenTable

UNKNOWN, VOCABULARY = 1, 12
KEPT = np.array([0, 1, 2, 3, 5, 8])  # what outputs may contain
SOURCES = np.array([[2, 5, 7, 7, 3, 0], [2, 1, 5, 1, 9, 3]], np.int32)  # 7 and 9 are not kept, 1 is unknown


@pytest.fixture
def tokens() -> TokenTable:
    return TokenTable(KEPT, VOCABULARY, UNKNOWN, width=4)


def drawn(seed: int = 0, beams: int = 2) -> tuple:
    """logits [B * beams, V''], context [.., 3], attention [.., S] of B = 2 texts; the last columns stand for no piece."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (2 * beams, 8)).astype(np.float32)
    logits[:, len(KEPT) :] = -np.inf
    attention = random.dirichlet(np.ones(6), 2 * beams).astype(np.float32)
    return tf.constant(logits), tf.constant(random.normal(size=(2 * beams, 3)).astype(np.float32)), tf.constant(attention)


def test_columns_of_the_source(tokens):
    found = source_columns(tf.constant(SOURCES), tokens, 8).numpy()
    # kept pieces by their column; 7 twice, both at its first place; unknown words each at their own place
    assert found.tolist() == [[2, 4, 8 + 2, 8 + 2, 3, 0], [2, 8 + 1, 4, 8 + 3, 8 + 4, 3]]


def test_a_step_is_the_printed_mixture_and_sums_to_one(tokens):
    logits, context, attention = drawn()
    pointer = Pointer()
    columns = source_columns(tf.constant(SOURCES), tokens, 8)
    found = np.exp(pointer.scores(logits, context, attention, columns).numpy().astype(np.float64))
    gates = 1 / (1 + np.exp(-(context.numpy() @ pointer.gate.kernel.numpy() + pointer.gate.bias.numpy())[:, 0]))
    for row in range(4):
        exponentials = np.exp(logits.numpy()[row].astype(np.float64))
        expected = np.zeros(8 + 6)
        expected[:8] = gates[row] * exponentials / exponentials.sum()
        for place, column in enumerate(columns.numpy()[row // 2]):
            expected[column] += (1 - gates[row]) * attention.numpy()[row, place]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)


def test_columns_back_to_pieces_and_unknown_words_to_their_places(tokens):
    columns = tf.constant([[[4, 8 + 2]], [[8 + 3, 8 + 4]]])
    source = tf.constant(SOURCES)
    assert pieces_of(columns, source, tokens, 8).numpy().tolist() == [[[5, 7]], [[1, 9]]]
    assert output_of(columns, source, tokens, 8).numpy().tolist() == [[[5, 7]], [[VOCABULARY + 3, 9]]]


@pytest.mark.parametrize("training", [True, False])
def test_teacher_forcing_gives_the_steps_probabilities(tokens, training):
    """NLL of labels, among them one that only the source has, against the mixture of `scores`, position by position."""
    random = np.random.default_rng(4)
    labels = np.array([[5, 7, 3], [9, 2, 8]], np.int32)
    states = tf.constant(random.normal(size=(2, 3, 4)).astype(np.float32))
    attention = tf.constant(random.dirichlet(np.ones(6), (2, 3)).astype(np.float32))
    pointer = Pointer()
    mixture = pointer.mixture(states, attention, tf.constant(SOURCES), tf.constant(labels))
    total, each = tokens.cross_entropy(states, tf.constant(labels), tf.ones([2, 3]), training=training, mixture=mixture)
    columns = source_columns(tf.constant(SOURCES), tokens, tokens.scored)
    expected = np.zeros(2)
    for place in range(3):
        scores = tokens.scores(states[:, place], tokens.decoding_output())
        found = np.exp(pointer.scores(scores, states[:, place], attention[:, place], columns).numpy())
        for text in range(2):
            label = labels[text, place]
            probability = found[text, int(tokens.columns(tf.constant(label)))]
            if label not in KEPT:  # an unkept piece also counts as unknown to the output layer, as without a pointer
                slot = tokens.scored + list(SOURCES[text]).index(label)
                probability += found[text, slot]
            expected[text] -= math.log(probability)
    np.testing.assert_allclose(each, expected, rtol=1e-4)
    assert float(total) == pytest.approx(expected.sum(), rel=1e-4)


def test_gradients_of_the_mixture():
    states, table, bias, generate, copied = variables(1, (5, 3), (7, 3), (7,), (5,), (5,))
    targets, weights = tf.constant([0, 3, 3, 6, 1]), tf.constant([1.0, 0.5, 0.0, 2.0, 1.0], tf.float64)

    def loss():
        mixture = Mixture(tf.math.log_sigmoid(generate), tf.math.log_sigmoid(copied))
        return cross_entropy(states, table, bias, targets, weights, mixture=mixture)[0]

    assert_gradients(loss, [states, table, bias, generate, copied])


def test_copying_attention_leaves_out_what_is_masked():
    random = np.random.default_rng(2)
    memory, states = (tf.constant(random.normal(size=shape).astype(np.float32)) for shape in ((2, 6, 4), (2, 3, 4)))
    mask = tf.constant(SOURCES > 2)
    layer = CopyAttention(4)
    attention, context = layer(states, *layer.remember(memory, mask))
    assert (attention.numpy()[np.broadcast_to(~mask.numpy()[:, None], attention.shape)] == 0).all()
    np.testing.assert_allclose(attention.numpy().sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(context[..., :4], states)
    np.testing.assert_allclose(context[..., 4:], attention.numpy() @ memory.numpy(), rtol=1e-5, atol=1e-6)


def test_an_identity_looks_at_what_resembles_it():
    memory = tf.eye(4)[None] * 10.0
    layer = CopyAttention(4, identity=True)
    attention, _ = layer(memory[:, 2:3], *layer.remember(memory, tf.ones([1, 4], tf.bool)))
    assert int(tf.argmax(attention[0, 0])) == 2


@pytest.mark.parametrize("layer", [Pointer(name="p"), CopyAttention(8, True, name="c")], ids=lambda layer: layer.name)
def test_config(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
