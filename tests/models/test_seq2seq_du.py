"""The Seq2Seq-DU baseline: schema, attender, decoder and pointer in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit
from test_seq2seq import softmax

from hcl_tf.data.batching.batches import Batch
from hcl_tf.layers.encoder import text_vector
from hcl_tf.models.seq2seq_du import Seq2SeqDU

B = 4


@pytest.fixture(scope="module")
def kit(qqp_folder) -> Kit:
    return Kit(qqp_folder, "seq2seq_du", output_vocab="full")


@pytest.fixture(scope="module")
def system(kit) -> Seq2SeqDU:
    return kit.system


@pytest.fixture(scope="module")
def held_out(kit) -> Batch:
    return kit.held_out


def nll_of(system: Seq2SeqDU):
    return lambda batch: system.nll(batch, None, training=False)[1]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def scores_of(attention, query: np.ndarray, items: np.ndarray) -> np.ndarray:
    """v^T tanh(W q + b + U m_j) for every item."""
    w, b, u = (x.numpy() for x in (attention.query.kernel, attention.query.bias, attention.item.kernel))
    return np.array([attention.score.numpy() @ np.tanh(query @ w + b + item @ u) for item in items])


@pytest.mark.slow
def test_loss_is_that_of_the_model(kit, system, held_out):
    """One text at a time and without padding, from BERT's states of the source and of each of its keywords alone."""
    inputs, found = system.inputs_, np.zeros(B)
    cell, table = system.decoder.cells[0], system.tokens.weights_of_output().numpy()
    for row in range(B - 1):
        source = np.array([i for i in held_out["source_ids"].numpy()[row] if i != inputs.pad_id])
        e = system.encoder(source[None]).numpy()[0]
        nodes = [n for n in held_out["source_nodes"].numpy()[row] if n >= 0]
        texts = [np.array([i for i in inputs.keyword_ids[n] if i != inputs.pad_id]) for n in nodes]
        d = [system.encoder(text[None]).numpy()[0].mean(0) for text in texts]
        if held_out["source_unknown"].numpy()[row] or not nodes:
            d.append(e.mean(0))
        a = np.array([scores_of(system.attender, state, d) for state in e])
        seen = np.array([softmax(scores) @ np.array(d) for scores in a])
        back = np.array([softmax(scores) @ e for scores in a.T])
        utterance, schema = np.concatenate([e, seen], 1), np.concatenate([d, back], 1)
        words = [i for i, piece in enumerate(source) if piece not in (inputs.cls_id, inputs.sep_id)]
        slots = [*utterance[words], *schema[: len(nodes)]]
        slot_ids = [*source[words], *(text[1] for text in texts)]
        first = np.tanh(e.mean(0) @ system.decoder.first.kernel.numpy() + system.decoder.first.bias.numpy())
        h, c = np.split(first, 2)
        for last, piece in zip(held_out["target_ids"].numpy()[row], held_out["target_ids"].numpy()[row, 1:], strict=False):
            if piece == inputs.pad_id:
                break
            pairs = ((system.to_utterance, utterance), (system.to_schema, schema))
            contexts = [softmax(scores_of(attention, h, memory)) @ memory for attention, memory in pairs]
            gates = np.concatenate([table[last], *contexts]) @ cell.kernel.numpy() + h @ cell.recurrent.numpy() + cell.bias.numpy()
            i, f, o, g = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            s = np.concatenate([h, *contexts])
            logits = (s @ system.combine.kernel.numpy() + system.combine.bias.numpy()) @ table.T + system.tokens.bias.numpy()
            p_gen = sigmoid((s @ system.pointer.gate.kernel.numpy() + system.pointer.gate.bias.numpy()).item())
            pointed = softmax(scores_of(system.pointing, h, slots))
            copies = sum(weight for weight, slot in zip(pointed, slot_ids, strict=True) if slot == piece)
            found[row] -= np.log(p_gen * softmax(logits)[piece] + (1 - p_gen) * copies)
    np.testing.assert_allclose(nll_of(system)(held_out)[:-1], found[:-1], rtol=1e-3)
    assert kit.sums(held_out, False)["nll"] == pytest.approx(found.sum(), rel=1e-3)


def test_a_keywords_vector_is_that_of_its_text(kit, system):
    nodes = kit.training["source_nodes"]
    found = system.encode_schema(nodes, None).numpy()
    for row, place in np.argwhere(nodes.numpy() >= 0):
        ids = system.inputs_.keyword_ids[nodes[row, place]][None]
        expected = text_vector(system.encoder(ids), system.encoder.mask(ids))[0]
        np.testing.assert_allclose(found[row, place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_can_say_a_keyword_that_its_source_does_not_hold(qqp_folder, held_out):
    """Given keywords are part of the schema: with the gate at copying, an output consists of source pieces and keywords' first pieces."""
    system = Kit(qqp_folder, "seq2seq_du", minimum_length=1, maximum_length=4).system
    system.pointer.gate.bias.assign([-50.0])
    nodes = held_out["source_nodes"].numpy()
    nodes[:, 0] = [3, 4, 5, 6]
    batch = {**held_out, "source_nodes": tf.constant(nodes)}
    slots = system.slots(batch).numpy()
    assert slots.shape == (B, batch["source_ids"].shape[1] + nodes.shape[1])
    np.testing.assert_array_equal(slots[:, batch["source_ids"].shape[1]], system.inputs_.keyword_ids[[3, 4, 5, 6], 1])
    found = tf.function(system.generate)(batch)[0].numpy()
    for row in range(B):
        assert set(found[row].ravel()) <= set(slots[row].tolist())


@pytest.mark.slow
@pytest.mark.parametrize("column", ["source_nodes", "source_unknown"])
def test_keywords_matter(system, held_out, column):
    changed = {**held_out, column: tf.fill(held_out[column].shape, 7 if column == "source_nodes" else 0)}
    rows = np.flatnonzero((changed[column].numpy() != held_out[column].numpy()).reshape(B, -1).any(1))
    rows = rows[rows < B - 1]  # the last one fills up
    apart = abs(nll_of(system)(changed) - nll_of(system)(held_out)).numpy()
    known = (held_out["source_nodes"].numpy() >= 0).any(1)  # a text without any keyword keeps its own vector as its schema
    rows = [row for row in rows if known[row] or column == "source_nodes"]
    assert rows
    assert (apart[rows] > 1e-5).all()


@pytest.fixture(
    scope="module",
    params=[{"recurrent_layers": 2, "word_dropout": 0.2}, pytest.param({"freeze_encoder": True}, marks=pytest.mark.slow)],
    ids=str,
)
def varied(request, qqp_folder) -> Kit:
    return Kit(qqp_folder, "seq2seq_du", **request.param)


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(varied, rule):
    rule(varied)
