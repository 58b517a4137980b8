"""The shared body as a system of its own (`bert_gen`), generating and copying."""

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.generator import Generator
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.encoder_decoder import EncoderDecoder
from hcl_tf.training import assembly

TINY = {"model": "bert_gen", "decoder_layers": 1, "beams": 2, "minimum_length": 1, "maximum_length": 4, "attention_init": "random"}
B = 3


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


def made(data: PreparedData, **given) -> EncoderDecoder:
    kept = assembly.output_ids(data, data.arrays("train"), "train")
    return registry.build(
        registry.resolve("tiny", {**TINY, **given}), assembly.inputs_of(data, EncoderShape(len(data.tokenizer), 16, 1, 2, 24), kept)
    )


@pytest.fixture(scope="module")
def copying(data) -> EncoderDecoder:
    return made(data, copy=True)


@pytest.fixture(scope="module")
def batch(data) -> dict[str, tf.Tensor]:
    """Sources with a piece that no output may have but by copying, and with an unknown word."""
    found = pair_batches(data, data.arrays("train"), B).make(np.arange(B), 0, 0)
    absent = sorted(set(range(len(data.tokenizer))) - set(assembly.output_ids(data, data.arrays("train"), "train").tolist()))
    found["source_ids"][:, 1], found["source_ids"][:, 2] = absent[-1], data.tokenizer.unknown_id
    return {name: tf.constant(value) for name, value in found.items()}


@pytest.mark.slow
def test_copying_is_left_out_unless_asked_for(data):
    assert not any("copy" in path or "pointer" in path for path in assembly.variables(made(data, copy=False)))


@pytest.mark.slow
def test_steps_of_a_pointer_give_what_teacher_forcing_gives(copying, batch):
    """The probabilities of the target's pieces, one by one in each of two beams, multiply to the text's likelihood."""
    texts = copying.encode(batch, None)
    states = copying.teach(batch, texts["states"], texts["mask"], None)
    total, each = copying.likelihood(batch, texts, states, training=False)["nll"].value, copying.nll_of_states(batch, texts, states)
    cache, fixed = copying.start(batch, 2, None)
    labels, weights = copying.labels(batch).numpy(), copying.label_weights(batch).numpy()
    found = np.zeros(2 * B)
    for t in range(copying.settings.maximum_length + 1):
        pieces = tf.repeat(copying.tokens.columns(batch["target_ids"][:, t]), 2)
        scores, cache = copying.step(pieces, tf.constant(t), cache, fixed)
        np.testing.assert_allclose(tf.reduce_logsumexp(scores, -1), np.zeros(2 * B), atol=1e-4)
        columns = np.repeat(copying.tokens.columns(tf.constant(labels[:, t])).numpy(), 2)
        found -= scores.numpy()[np.arange(2 * B), columns] * np.repeat(weights[:, t], 2)
    # The decoder knows maximum_length + 1 positions here, so likelihoods are compared over those.
    head = dict(batch, target_ids=tf.where(tf.range(batch["target_ids"].shape[1]) <= 5, batch["target_ids"], 0))
    expected = copying.nll_of_states(head, texts, states)
    np.testing.assert_allclose(found, np.repeat(expected, 2), rtol=1e-4)
    assert float(total) == pytest.approx(float(tf.reduce_sum(each)), rel=1e-5)


@pytest.mark.slow
def test_a_word_that_the_vocabulary_lacks_is_copied_into_the_text(copying, batch, data):
    """A gate that always copies and an attention to place 2, the unknown word: the text is that word, again and again."""
    saved = [variable.numpy() for variable in copying.variables]
    copying.pointer.gate.kernel.assign(tf.zeros_like(copying.pointer.gate.kernel))
    copying.pointer.gate.bias.assign([-30.0])
    source = dict(batch, source_ids=tf.where(tf.range(batch["source_ids"].shape[1]) < 4, batch["source_ids"], 0))
    ids = source["source_ids"].numpy()
    ids[:, 1:3], ids[:, 3] = data.tokenizer.unknown_id, data.tokenizer.sep_id
    source["source_ids"] = tf.constant(ids)
    texts = Generator(copying, data.tokenizer).texts([source], ["\u4e00 \u4e8c"] * B)
    for variable, value in zip(copying.variables, saved, strict=True):
        variable.assign(value)
    for text in texts:
        assert set(text) <= {"\u4e00", "\u4e8c"}
        assert len(text) == copying.settings.maximum_length


def test_a_piece_that_outputs_lack_is_copied_as_itself(copying, batch):
    width = copying.tokens.scored
    found = copying.output_ids(tf.constant([[[width + 1, width + 2]]] * B), batch).numpy()
    assert (found[:, 0, 0] == batch["source_ids"].numpy()[:, 1]).all()
    assert (found[:, 0, 1] == copying.inputs_.vocabulary + 2).all()


@pytest.mark.slow
@pytest.mark.parametrize(("frozen", "equal"), [(True, True), (False, False)])
def test_a_frozen_encoder_knows_no_dropout_with_or_without_cached_states(data, batch, frozen, equal):
    system = made(data, freeze_encoder=frozen, dropout=0.5)
    with_noise, without = (system.encode(batch, noise)["states"].numpy() for noise in (Noise(1, 0, batch["example_rows"]), None))
    assert np.array_equal(with_noise, without) == equal
