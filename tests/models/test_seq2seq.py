"""The Seq2Seq baseline: its mixture against the equations of See et al. in NumPy, and the contract of every system."""

import numpy as np
import pytest
import system_contract as contract
import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.models.seq2seq import Seq2Seq

B = 4


@pytest.fixture(scope="module")
def made(qqp_folder):
    """A function of settings to a system whose every weight shows."""
    return lambda **given: contract.stirred(contract.new(qqp_folder, "seq2seq", **given))


@pytest.fixture(scope="module")
def seq2seq(made) -> Seq2Seq:
    return made()


@pytest.fixture(scope="module")
def training(qqp_folder):
    return contract.batch_of(qqp_folder, B, training=True)


@pytest.fixture(scope="module")
def held_out(qqp_folder):
    return contract.batch_of(qqp_folder, B, training=False)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_loss_is_that_of_the_mixture(seq2seq, held_out):
    """See et al., eqs 1 to 9, position by position, from the states of encoder and decoder."""
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
    sums = contract.sums_of(seq2seq, held_out, False)
    assert sums["nll"] == pytest.approx(float(total), rel=1e-6)
    assert sums["nll_token"] == pytest.approx(found.sum(), rel=1e-4)
    assert seq2seq.weights_of(None) == {"nll": 1.0}


def test_it_can_say_a_source_piece_that_its_output_layer_lacks(made, qqp_folder, held_out):
    """With the gate at copying and the attention at one piece, that piece is what it says, whatever the output layer has."""
    system = made(minimum_length=1, maximum_length=1, beams=1)
    kept = set(system.inputs_.output_ids.tolist())
    data, _ = contract.read(qqp_folder)
    sources = contract.pair_batches(data, data.arrays("validation"), B).make(np.arange(B), 0, 0)
    ids = sources["source_ids"].copy()
    lacking = next(i for i in range(system.inputs_.vocabulary) if i not in kept)
    ids[0, 1:3] = [lacking, system.inputs_.sep_id]
    ids[0, 3:] = system.inputs_.pad_id
    system.pointer.gate.bias.assign([-50.0])
    found, _ = system.generate({name: tf.constant(value) for name, value in {**sources, "source_ids": ids}.items()})
    assert found.numpy()[0].tolist() == [[lacking]]
    assert all(set(found.numpy()[row, 0].tolist()) <= set(ids[row].tolist()) for row in range(B))


# -- the contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"recurrent_layers": 2}, {"output_vocab": "full"}])
def test_steps_give_what_teacher_forcing_gives(made, held_out, given):
    system = made(**given)
    contract.assert_steps_give_what_teacher_forcing_gives(system, held_out, system.nll(held_out, None, training=False)[1])


def test_search_finds_what_its_scores_say(made, held_out):
    """With all pieces in the output layer, so that each has one column."""
    system = made(output_vocab="full")
    contract.assert_search_finds_what_its_scores_say(system, held_out, lambda batch: system.nll(batch, None, training=False)[1])


def test_padding_changes_nothing(seq2seq, held_out):
    contract.assert_padding_changes_nothing(seq2seq, held_out)


def test_parts_add_up(made, training):
    contract.assert_parts_add_up(made(word_dropout=0.2, recurrent_layers=2), training)


@pytest.mark.slow
def test_micro_batches_change_nothing(qqp_folder):
    contract.assert_micro_batches_change_nothing(qqp_folder, "seq2seq")


@pytest.mark.slow
def test_xla_gives_the_same_steps(qqp_folder):
    contract.assert_micro_batches_change_nothing(qqp_folder, "seq2seq", compiled=True)


def test_every_variable_is_trained(made, training):
    contract.assert_every_variable_is_trained(made(recurrent_layers=2), training)


@pytest.mark.slow
def test_overfits_eight_examples(qqp_folder):
    objectives, outputs, targets = contract.overfit(qqp_folder, "seq2seq", 80)
    assert objectives[-1] < 0.1 * objectives[0]
    assert outputs == targets


def test_without_its_pointer_it_is_refused(made):
    with pytest.raises(UserError, match=r"^--copy: --model=seq2seq does not use it"):
        made(copy=False)
