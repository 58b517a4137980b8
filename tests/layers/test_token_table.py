"""Tied embeddings and outputs over a reduced vocabulary."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.token_table import TokenTable

V, D, UNKNOWN = 9, 4, 1
KEPT = np.array([0, 1, 4, 7], np.int32)
ALL = np.arange(V, dtype=np.int32)


@pytest.fixture
def bert() -> tf.Variable:
    return tf.Variable(np.random.default_rng(0).normal(size=(V, D)), dtype=tf.float32)


def table_of(kept: np.ndarray, bert: tf.Variable | None) -> TokenTable:
    table = TokenTable(kept, V, UNKNOWN, None if bert is None else lambda: bert, D)
    table.bias.assign(np.linspace(-1, 1, len(kept)))
    return table


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kept", [KEPT, ALL], ids=["kept", "all"])
def test_columns_and_ids(kept, tied, bert):
    table = table_of(kept, bert if tied else None)
    assert table.ids(tf.range(len(kept))).numpy().tolist() == kept.tolist()
    for piece in range(V):
        expected = kept.tolist().index(piece if piece in kept else UNKNOWN)
        assert table.columns(tf.constant([[piece]])).numpy().tolist() == [[expected]]


def test_tied_embeddings_are_berts_and_unkept_pieces_read_as_unknown(bert):
    ids = np.array([[0, 4, 3], [8, 7, 1]])
    np.testing.assert_array_equal(table_of(ALL, bert).embed(tf.constant(ids)), bert.numpy()[ids])
    np.testing.assert_array_equal(table_of(KEPT, bert).embed(tf.constant(ids)), bert.numpy()[np.where(np.isin(ids, KEPT), ids, UNKNOWN)])
    np.testing.assert_array_equal(table_of(KEPT, bert).weights_of_output(), bert.numpy()[KEPT])


def test_an_own_table_embeds_what_it_puts_out():
    table = table_of(KEPT, None)
    assert table.own.shape == (4, D)
    np.testing.assert_array_equal(table.embed(tf.constant([7, 5])), table.own.numpy()[[3, 1]])
    np.testing.assert_array_equal(table.weights_of_output(), table.own)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_cross_entropy(tied, bert):
    table = table_of(KEPT, bert if tied else None)
    states = np.random.default_rng(1).normal(size=(2, 3, D)).astype(np.float32)
    ids, weights = np.array([[4, 7, 3], [0, 8, 1]]), np.array([[1, 1, 0], [1, 1, 1]], np.float32)
    rows = table.weights_of_output().numpy()
    scores = np.array([[[row @ states[b, t] for row in rows] for t in range(3)] for b in range(2)]) + table.bias.numpy()
    np.testing.assert_allclose(table.logits(tf.constant(states)), scores, rtol=1e-5, atol=1e-6)
    decoding = table.scores(tf.constant(states), table.decoding_output())
    np.testing.assert_allclose(decoding[..., : len(KEPT)], scores, rtol=1e-5, atol=1e-6)
    assert decoding.shape[-1] == 32
    assert (decoding[..., len(KEPT) :].numpy() == -np.inf).all()
    total, nll = table.cross_entropy(tf.constant(states), tf.constant(ids, tf.int32), tf.constant(weights))
    expected = np.zeros(2)
    for b in range(2):
        for t in range(3):
            column = KEPT.tolist().index(ids[b, t]) if ids[b, t] in KEPT else KEPT.tolist().index(UNKNOWN)
            expected[b] += weights[b, t] * (np.log(np.exp(scores[b, t]).sum()) - scores[b, t, column])
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    assert float(total) == pytest.approx(expected.sum(), rel=1e-5)


def test_the_tied_table_is_trained_from_both_ends(bert):
    """Embedding reaches the rows that are read, the output all kept rows, nothing the others."""
    table = table_of(KEPT, bert)
    with tf.GradientTape(persistent=True) as tape:
        read = tf.reduce_sum(table.embed(tf.constant([[4, 3]])) ** 2)
        put_out, _ = table.cross_entropy(tf.ones([1, 1, D]), tf.constant([[4]]), tf.ones([1, 1]))
    touched = lambda loss: np.abs(tf.convert_to_tensor(tape.gradient(loss, bert)).numpy()).max(1) > 0  # noqa: E731
    assert np.flatnonzero(touched(read)).tolist() == [UNKNOWN, 4]
    assert np.flatnonzero(touched(put_out)).tolist() == KEPT.tolist()


def test_the_bias_stays_float32_under_mixed_precision(bert):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        table = table_of(KEPT, bert)
        embedded = table.embed(tf.constant([0]))
        scores = table.logits(embedded)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert (table.bias.dtype, embedded.dtype, scores.dtype) == (tf.float32, tf.float16, tf.float32)


def test_config():
    table = table_of(KEPT, None)
    twin = TokenTable.from_config(table.get_config())
    assert twin.get_config() == table.get_config()
    assert twin.own.shape == table.own.shape
    np.testing.assert_array_equal(twin.columns(tf.range(V)), table.columns(tf.range(V)))
