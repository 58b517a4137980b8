"""The Seq2Seq baseline: its mixture against the equations of See et al. in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.errors import UserError

B = 4


@pytest.fixture(scope="module")
def kit(qqp_folder) -> Kit:
    return Kit(qqp_folder, "seq2seq")


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_loss_is_that_of_the_mixture(kit):
    """See et al., eqs 1 to 9, position by position, from the states of encoder and decoder."""
    seq2seq, held_out = kit.system, kit.held_out
    encoded, last, _ = seq2seq.read(held_out["source_ids"], None)
    embedded = seq2seq.tokens.embed(seq2seq.decoder_inputs(held_out, None)).numpy()
    states, encoded = seq2seq.decoder(tf.constant(embedded), seq2seq.decoder.begin(last)).numpy(), encoded.numpy()
    layers = (seq2seq.attention.item, seq2seq.attention.query, seq2seq.combine, seq2seq.pointer.gate)
    u, w, combine, gate = (layer.kernel.numpy() for layer in layers)
    b, combine_b, gate_b = (layer.bias.numpy() for layer in layers[1:])
    v, table, bias = (tensor.numpy() for tensor in (seq2seq.attention.score, seq2seq.tokens.weights_of_output(), seq2seq.tokens.bias))
    columns = {int(piece): column for column, piece in enumerate(seq2seq.inputs_.output_ids)}
    found, copied = np.zeros(B), 0
    for row in range(B - 1):
        source = held_out["source_ids"].numpy()[row]
        words = [i for i, piece in enumerate(source) if piece not in (0, seq2seq.inputs_.cls_id, seq2seq.inputs_.sep_id)]
        for t, piece in enumerate(held_out["target_ids"].numpy()[row, 1:]):
            if piece == seq2seq.inputs_.pad_id:
                continue
            s, x = states[row, t], embedded[row, t]
            a = softmax(np.array([v @ np.tanh(encoded[row, i] @ u + s @ w + b) for i in words]))
            h = sum(weight * encoded[row, i] for weight, i in zip(a, words, strict=True))
            vocabulary = softmax((np.concatenate([h, s]) @ combine + combine_b) @ table.T + bias)
            p_gen = 1 / (1 + np.exp(-(np.concatenate([h, s, x]) @ gate + gate_b).item()))
            copies = sum(weight for weight, i in zip(a, words, strict=True) if source[i] == piece)
            copied += copies > 0
            found[row] -= np.log(p_gen * vocabulary[columns[int(piece)]] + (1 - p_gen) * copies)
    assert copied > 10
    total, each = seq2seq.nll(held_out, None, training=False)
    np.testing.assert_allclose(each, found, rtol=1e-4)
    sums = kit.sums(held_out, False)
    assert sums["nll"] == pytest.approx(float(total), rel=1e-6)
    assert sums["nll_token"] == pytest.approx(found.sum(), rel=1e-4)
    assert seq2seq.weights_of(None) == {"nll": 1.0}


def test_it_can_say_a_source_piece_that_its_output_layer_lacks(qqp_folder):
    """With the gate at copying and the attention at one piece, that piece is what it says, whatever the output layer has."""
    kit = Kit(qqp_folder, "seq2seq", minimum_length=1, maximum_length=1, beams=1)
    system = kit.system
    kept = set(system.inputs_.output_ids.tolist())
    sources = pair_batches(kit.data, kit.data.arrays("validation"), B).make(np.arange(B), 0, 0)
    ids = sources["source_ids"].copy()
    lacking = next(i for i in range(system.inputs_.vocabulary) if i not in kept)
    ids[0, 1:3] = [lacking, system.inputs_.sep_id]
    ids[0, 3:] = system.inputs_.pad_id
    system.pointer.gate.bias.assign([-50.0])
    found, _ = system.generate({name: tf.constant(value) for name, value in {**sources, "source_ids": ids}.items()})
    assert found.numpy()[0].tolist() == [[lacking]]
    assert all(set(found.numpy()[row, 0].tolist()) <= set(ids[row].tolist()) for row in range(B))


@pytest.fixture(
    scope="module",
    params=[{"recurrent_layers": 2, "word_dropout": 0.2}, pytest.param({"output_vocab": "full"}, marks=pytest.mark.slow)],
    ids=str,
)
def varied(request, qqp_folder) -> Kit:
    return Kit(qqp_folder, "seq2seq", **request.param)


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(varied, rule):
    rule(varied)


def test_without_its_pointer_it_is_refused(qqp_folder):
    with pytest.raises(UserError, match=r"^--copy: --model=seq2seq does not use it"):
        Kit(qqp_folder, "seq2seq", copy=False).new()
