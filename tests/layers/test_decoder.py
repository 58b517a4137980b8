"""The decoder against a NumPy decoder, step by step against teacher forcing, and what no position may see."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from finite_differences import assert_gradients, variables

from hcl_tf.decoding.beam_search import UNMOVED, reordered
from hcl_tf.layers.decoder import Attention, DecoderBlock, TransformerDecoder
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.packing import Packing

B, T, M, D, HEADS, INNER, POSITIONS = 2, 5, 4, 8, 2, 12, 6


@pytest.fixture(autouse=True, scope="module")
def float64():
    keras.mixed_precision.set_global_policy("float64")
    yield
    keras.mixed_precision.set_global_policy("float32")


def make(layers: int = 2, dropout: float = 0.1, **kwargs) -> TransformerDecoder:
    """With weights large enough that every one of them shows."""
    decoder = TransformerDecoder(layers, D, HEADS, INNER, POSITIONS, dropout, **kwargs)
    decoder(*inputs()[:3])
    random = np.random.default_rng(0)
    for variable in decoder.variables:
        variable.assign(random.normal(1.0 if "gamma" in variable.name else 0.0, 0.3, variable.shape))
    return decoder


@pytest.fixture(scope="module")
def decoder(float64) -> TransformerDecoder:
    return make()


def inputs(seed: int = 1) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """embedded [B, T, D], memory [B, M, D], mask [B, M]"""
    random = np.random.default_rng(seed)
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 0]], bool)
    return tf.constant(random.normal(size=(B, T, D))), tf.constant(random.normal(size=(B, M, D))), tf.constant(mask)


# -- in NumPy, text by text, position by position, head by head -----------------------------------------------------------


def normed(layer, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * layer.gamma.numpy() + layer.beta.numpy()


def dense(layer, x):
    return x @ layer.kernel.numpy() + layer.bias.numpy()


def attend(layer, from_, to, allowed):
    """[L, D] to [M, D], where allowed(i, j)."""
    queries, (keys, values) = dense(layer.query, from_), np.split(dense(layer.keys_values, to), 2, -1)
    size, found = D // HEADS, np.zeros((len(from_), D))
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(from_)):
            seen = [j for j in range(len(to)) if allowed(i, j)]
            scores = np.exp([queries[i, part] @ keys[j, part] / math.sqrt(size) for j in seen])
            found[i, part] = sum(s * values[j, part] for s, j in zip(scores / scores.sum(), seen, strict=True))
    return dense(layer.out, found)


def numpy_decoder(decoder, embedded, memory, mask):
    texts = []
    for x, to, real in zip(embedded.numpy(), memory.numpy(), mask.numpy(), strict=True):
        x = normed(decoder.first_norm, x + decoder.place.numpy()[: len(x)])
        for block in decoder.blocks:
            n = normed(block.norms[0], x)
            x = x + attend(block.itself, n, n, lambda i, j: j <= i)
            x = x + attend(block.memory, normed(block.norms[1], x), to, lambda i, j, real=real: real[j])
            x = x + dense(block.outer, np.maximum(0, dense(block.inner, normed(block.norms[2], x))))
        texts.append(normed(decoder.last_norm, x))
    return np.array(texts)


def test_is_a_transformer_decoder(decoder):
    np.testing.assert_allclose(decoder(*inputs()), numpy_decoder(decoder, *inputs()), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_positions_that_are_not_wanted_change_nothing(decoder, jit):
    """Neither the states of the others nor any gradient; their own states are zeros."""
    embedded, memory, memory_mask = inputs()
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
    weights = tf.constant(np.random.default_rng(5).normal(size=(B, T, D)) * mask[..., None])

    @tf.function(jit_compile=jit)
    def states_and_gradients(mask: tf.Tensor | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            watched = [embedded, memory]
            tape.watch(watched)
            states = decoder(embedded, memory, memory_mask, Noise(1, 2, tf.range(B)), mask)
            loss = tf.reduce_sum(states * weights)
        return states, tape.gradient(loss, watched + decoder.trainable_variables)

    (all_states, all_gradients), (states, gradients) = states_and_gradients(None), states_and_gradients(tf.constant(mask))
    np.testing.assert_allclose(states, all_states * mask[..., None], rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(gradients, all_gradients, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(theirs), rtol=1e-8, atol=1e-8)


def test_causality(decoder):
    embedded, memory, mask = inputs()
    states = decoder(embedded, memory, mask).numpy()
    for t in range(T):
        changed = embedded.numpy()
        changed[:, t] += np.random.default_rng(2).normal(size=(B, D))
        other = decoder(tf.constant(changed), memory, mask).numpy()
        np.testing.assert_array_equal(other[:, :t], states[:, :t])
        assert (abs(other[:, t:] - states[:, t:]).max(-1) > 1e-6).all()


def test_masked_memory_does_not_matter_and_the_rest_does(decoder):
    embedded, memory, mask = inputs()
    states = decoder(embedded, memory, mask)
    junk = tf.where(mask[..., None], memory, 50.0)
    np.testing.assert_array_equal(decoder(embedded, junk, mask), states)
    for place in range(M):
        moved = memory.numpy()
        moved[:, place] += 1
        differs = abs(decoder(embedded, tf.constant(moved), mask) - states).numpy().max((1, 2)) > 1e-6
        assert differs.tolist() == mask.numpy()[:, place].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("length", [T, POSITIONS])
def test_cached_steps_equal_teacher_forcing(decoder, beams, length):
    """Every beam of a text has tokens of its own; they look into one memory. A longer cache has places that stay empty."""
    _, memory, mask = inputs()
    embedded = tf.constant(np.random.default_rng(3).normal(size=(B * beams, T, D)))
    whole = decoder(embedded, tf.repeat(memory, beams, 0), tf.repeat(mask, beams, 0)).numpy()
    cache, fixed = decoder.start(memory, mask, B * beams, length)
    assert sum(bias.shape[0] for bias in fixed["bias"]) == B  # the memory is not repeated for the beams
    step = tf.function(decoder.step)
    for t in range(T):
        states, cache = step(embedded[:, t], tf.constant(t), cache, fixed)
        np.testing.assert_allclose(states, whole[:, t], rtol=1e-10, atol=1e-10)


def test_a_cache_follows_its_hypothesis_when_beams_are_reordered(decoder):
    _, memory, mask = inputs()
    embedded = tf.constant(np.random.default_rng(3).normal(size=(B * 2, 3, D)))
    cache, fixed = decoder.start(memory, mask, B * 2, 3)
    order = [1, 0, 2, 2]  # within each text
    for t in range(3):
        states, cache = decoder.step(embedded[:, t], tf.constant(t), cache, fixed)
        if t == 1:
            cache = reordered(cache, tf.constant(order))
    history = tf.concat([tf.gather(embedded[:, :2], order), embedded[:, 2:]], 1)
    whole = decoder(history, tf.repeat(memory, 2, 0), tf.repeat(mask, 2, 0))
    np.testing.assert_allclose(states, whole[:, -1], rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_steps_with_an_unknown_batch(decoder):
    embedded, memory, mask = inputs()
    specs = tf.TensorSpec([None, D], tf.float64), tf.TensorSpec([None, M, D], tf.float64), tf.TensorSpec([None, M], tf.bool)

    @tf.function(input_signature=specs)
    def first(tokens, memory, mask):
        cache, fixed = decoder.start(memory, mask, tf.shape(tokens)[0], 3)
        return decoder.step(tokens, tf.constant(0), cache, fixed)[0]

    whole = decoder(embedded, memory, mask)[:, 0]
    np.testing.assert_allclose(first(embedded[:, 0], memory, mask), whole, rtol=1e-10, atol=1e-10)


def test_a_batch_of_one_equals_its_row(decoder):
    embedded, memory, mask = inputs()
    both = decoder(embedded, memory, mask).numpy()
    for row in range(B):
        part = slice(row, row + 1)
        np.testing.assert_allclose(decoder(embedded[part], memory[part], mask[part])[0], both[row], rtol=1e-10)


def test_dropout_belongs_to_rows_and_is_off_without_noise(decoder):
    embedded, memory, mask = inputs()
    drawn = lambda rows: decoder(*(tf.gather(x, rows) for x in (embedded, memory, mask)), Noise(1, 2, tf.constant(rows))).numpy()  # noqa: E731
    np.testing.assert_allclose(drawn([0, 1]), drawn([1, 0])[::-1], rtol=1e-10)
    assert abs(drawn([0, 1]) - decoder(embedded, memory, mask).numpy()).max() > 0.1
    still = make(dropout=0.0)
    np.testing.assert_array_equal(still(embedded, memory, mask, Noise(1, 2, tf.range(B))), still(embedded, memory, mask))


@pytest.mark.slow
def test_gradients():
    decoder = make(layers=1)
    embedded, memory, weights = variables(4, (B, T, D), (B, M, D), (B, T, D))
    mask = inputs()[2]
    noise = lambda: Noise(1, 2, tf.range(B))  # noqa: E731
    loss = tf.function(lambda: tf.reduce_sum(decoder(embedded, memory, mask, noise()) * weights))
    assert_gradients(loss, [embedded, memory, *decoder.trainable_variables], directions=1)


def test_configs():
    for layer in (
        Attention(D, HEADS, 0.2, name="a"),
        DecoderBlock(D, HEADS, INNER, 0.2, name="b"),
        TransformerDecoder(3, D, HEADS, INNER, POSITIONS, 0.2, name="c"),
    ):
        config = layer.get_config()
        twin = type(layer).from_config(config)
        assert twin.get_config() == config
        for name in ("width", "heads", "intermediate", "positions", "layers", "dropout"):
            assert getattr(twin, name, None) == getattr(layer, name, None)
    assert len(twin.blocks) == 3


def test_half_precision_decodes_what_it_was_taught():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        decoder = TransformerDecoder(1, D, HEADS, INNER, POSITIONS)
        embedded, memory, mask = inputs()
        embedded, memory = tf.cast(embedded, tf.float16), tf.cast(memory, tf.float16)
        whole = decoder(embedded, memory, mask)
        cache, fixed = decoder.start(memory, mask, B, T)
        assert (whole.dtype, cache[UNMOVED][0][0][0].dtype) == (tf.float16, tf.float16)
        for t in range(T):
            states, cache = decoder.step(embedded[:, t], tf.constant(t), cache, fixed)
            np.testing.assert_allclose(states, whole[:, t], atol=0.02)  # states are of order 1, float16 has 2^-11 of that
    finally:
        keras.mixed_precision.set_global_policy("float64")


def test_identity_attention_passes_on_what_it_looks_at():
    attention = Attention(D, HEADS, 0.0, identity=True)
    rng = np.random.default_rng(3)
    memory = rng.normal(size=(B, M, D))
    sharp = 1e5 * memory[:, 2:3]  # looks at what resembles it
    for head in range(HEADS):  # in every head nothing else resembles it more
        part = slice(head * D // HEADS, (head + 1) * D // HEADS)
        memory[:, :, part] /= np.linalg.norm(memory[:, :, part], axis=-1, keepdims=True)
    packings = [Packing(tf.fill([B, length], True)) for length in (1, M)]
    to = attention.remember(packings[1].rows(tf.constant(memory)), packings[1])
    found = attention(packings[0].rows(tf.constant(sharp)), packings[0], to, M, tf.zeros([1, 1, 1, M], tf.float64))
    np.testing.assert_allclose(found, memory[:, 2], atol=1e-6)
    assert not attention.get_config()["dropout"]
    assert attention.get_config()["identity"]
