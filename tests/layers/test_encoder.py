"""The text encoder against a BERT written in NumPy, masks included, and its dropout as a function of (seed, step, row)."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, softmax

from hcl_tf.errors import UserError
from hcl_tf.layers.encoder import EncoderShape, TextEncoder, text_vector
from hcl_tf.layers.noise import Noise

SHAPE = EncoderShape(vocab_size=50, width=24, layers=2, heads=4, intermediate=40, positions=12, epsilon=1e-3)
PAD = 3
IDS = np.array(
    [
        [1, 10, 11, 12, 13, 14, 2],
        [1, 20, 21, 2, PAD, PAD, PAD],
        [1, 30, 2, PAD, PAD, PAD, PAD],
        [1, 10, 11, 12, 13, 14, 2],
        [1, 0, 0, 41, 42, 2, PAD],
        [1, 2, PAD, PAD, PAD, PAD, PAD],
    ],
    np.int32,
)
ROWS = np.arange(100, 106)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return random_encoder(output_dropout=0.2, attention_dropout=0.4)


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def random_encoder(**kwargs) -> TextEncoder:
    """With weights large enough that every one of them shows in the states."""
    encoder = TextEncoder(SHAPE, pad_id=PAD, **kwargs)
    random = np.random.default_rng(0)
    for variable in encoder.variables:
        variable.assign(random.normal(1.0 if "gamma" in variable.name else 0.0, 0.3, variable.shape))
    return encoder


def numpy_bert(
    encoder: TextEncoder, ids: np.ndarray, noise: Noise | None = None, rates: tuple[float, float] = (0.0, 0.0), quiet: int | None = None
) -> np.ndarray:
    """BERT's equations; dropout where Devlin et al. have it, in the order in which a text passes through. quiet: not in the embeddings and
    so many layers above them."""
    shape = encoder.shape
    later, noise = noise, None if quiet is not None else noise
    weights = {variable.name.split("/bert/")[1].removesuffix(":0"): variable.numpy() for variable in encoder.variables}

    def drop(x: np.ndarray, rate: float) -> np.ndarray:
        return x if noise is None else noise.dropout(tf.constant(x, tf.float32), rate).numpy()

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + shape.epsilon)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x: np.ndarray, name: str, outputs: int) -> np.ndarray:
        return x @ weights[f"{name}/kernel"].reshape(x.shape[-1], outputs) + weights[f"{name}/bias"].reshape(outputs)

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(*ids.shape, shape.heads, -1).swapaxes(1, 2)

    output_rate, attention_rate = rates
    x = weights["word_embeddings/embeddings"][ids] + weights["position_embedding/embeddings"][: ids.shape[1]]
    x = drop(norm(x + weights["type_embeddings/embeddings"][0], "embeddings/layer_norm"), output_rate)
    for layer in range(shape.layers):
        at, noise = f"transformer/layer_{layer}", later if layer >= (quiet or 0) else None
        q, k, v = (heads(dense(x, f"{at}/self_attention/{name}", shape.width)) for name in ("query", "key", "value"))
        scores = q @ k.swapaxes(2, 3) / np.sqrt(shape.width / shape.heads) + np.where(ids == encoder.pad_id, -np.inf, 0)[:, None, None, :]
        read = (drop(softmax(scores, -1), attention_rate) @ v).swapaxes(1, 2).reshape(x.shape)
        read = drop(dense(read, f"{at}/self_attention/attention_output", shape.width), output_rate)
        x = norm(x + read, f"{at}/self_attention_layer_norm")
        inner = dense(x, f"{at}/intermediate", shape.intermediate)
        inner = dense(inner * 0.5 * (1 + erf(inner / np.sqrt(2))), f"{at}/output", shape.width)
        x = norm(x + drop(inner, output_rate), f"{at}/output_layer_norm")
    return x * (ids != encoder.pad_id)[..., None]


def states_of(encoder: TextEncoder, compile: Callable = lambda function: function) -> Callable[..., tf.Tensor]:
    """Two texts of each example encoded together, as models do, as (ids, rows, step) -> [B, 2 * S, D]."""

    @compile
    def states(ids: tf.Tensor, rows: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        noise = Noise(7, step, rows)
        first = encoder(ids, noise)
        both = encoder(tf.concat([ids, ids[:, ::-1]], 0), noise.stacked(2))
        return tf.concat([first, *tf.split(both, 2)], 1)

    return lambda ids, rows, step: states(tf.constant(ids), tf.constant(rows, tf.int32), tf.constant(step)).numpy()


def test_states_equal_a_numpy_bert(encoder):
    np.testing.assert_allclose(encoder(tf.constant(IDS)), numpy_bert(encoder, IDS), atol=1e-5)


def test_dropout_is_where_bert_has_it(encoder):
    expected = numpy_bert(encoder, IDS, Noise(7, 3, tf.constant(ROWS)), rates=(0.2, 0.4))
    assert np.abs(expected - numpy_bert(encoder, IDS)).max() > 0.5
    np.testing.assert_allclose(encoder(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS))), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_a_batch_whole_or_in_halves_gives_the_same(encoder, jit):
    whole = states_of(encoder)(IDS, ROWS, 3)
    states = states_of(encoder, (lambda f: f) if jit is None else tf.function(jit_compile=jit))
    halves = np.concatenate([states(IDS[:3], ROWS[:3], 3), states(IDS[3:], ROWS[3:], 3)])
    np.testing.assert_allclose(whole, halves, atol=1e-5)


def test_the_noise_differs_by_step_row_text_and_call(encoder):
    length = IDS.shape[1]
    states = states_of(encoder)
    once = states(IDS, ROWS, 3)
    assert np.abs(once - states(IDS, ROWS, 4)).max() > 0.1
    assert np.abs(once[0] - once[3]).max() > 0.1  # the same text in two rows
    palindrome = np.array([[1, 10, 11, 10, 1]] * 2, np.int32)
    first, left, right = np.split(states(palindrome, ROWS[:2], 3), 3, axis=1)
    assert np.abs(first - left).max() > 0.1  # the same text in two calls
    assert np.abs(left - right).max() > 0.1  # the same text in two places of a stack
    assert once.shape == (6, 3 * length, SHAPE.width)


def test_no_noise_is_no_dropout_also_after_a_call_that_failed(encoder):
    clean = encoder(tf.constant(IDS)).numpy()
    encoder(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS)))
    np.testing.assert_array_equal(encoder(tf.constant(IDS)), clean)
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoder(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS[:4])))  # four rows of noise for six texts
    np.testing.assert_array_equal(encoder(tf.constant(IDS)), clean)


def test_no_layer_of_keras_draws_numbers(encoder):
    assert [layer.name for layer in encoder._flatten_layers() if isinstance(layer, keras.layers.Dropout) and layer.rate] == []


def test_every_variable_is_trained(encoder):
    with tf.GradientTape() as tape:
        states = encoder(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS)))
        loss = tf.reduce_sum(text_vector(states, encoder.mask(tf.constant(IDS))) ** 3)
    gradients = tape.gradient(loss, encoder.trainable_variables)
    assert len(encoder.variables) == len(gradients) == 5 + 16 * SHAPE.layers
    for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        size = np.abs(tf.convert_to_tensor(gradient)).max()
        # A bias of all keys shifts each query's scores alike, which a softmax ignores: without dropout its gradient is zero.
        assert size > 1e-6 or "key/bias" in variable.name, variable.name


@pytest.mark.slow
def test_half_precision_stays_near_single(encoder, half_precision):
    half = TextEncoder(SHAPE, pad_id=PAD, output_dropout=0.2, attention_dropout=0.4)
    for ours, theirs in zip(half.variables, encoder.variables, strict=True):
        assert ours.dtype == tf.float32
        ours.assign(theirs)

    @tf.function(jit_compile=True)
    def states() -> tf.Tensor:
        return half(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS)))

    exact = encoder(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS)))
    assert states().dtype == tf.float32
    assert 1e-5 < np.abs(states() - exact).max() < 0.05


@pytest.mark.slow
def test_one_trace_serves_all_steps(encoder):
    traces = []

    @tf.function
    def states(ids, rows, step):
        traces.append(1)
        return encoder(ids, Noise(7, step, rows))

    for step in range(3):
        states(tf.constant(IDS), tf.constant(ROWS), tf.constant(step))
    assert len(traces) == 1


def test_padding_changes_nothing(encoder):
    padded = np.pad(IDS, ((0, 0), (0, 4)), constant_values=PAD)
    short, long = encoder(tf.constant(IDS)).numpy(), encoder(tf.constant(padded)).numpy()
    np.testing.assert_allclose(long[:, : IDS.shape[1]][IDS != PAD], short[IDS != PAD], atol=1e-5)
    vectors = [text_vector(states, ids != PAD) for states, ids in ((short, IDS), (long, padded))]
    np.testing.assert_allclose(*vectors, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), texts=st.integers(1, 4), length=st.integers(1, 5), half=st.booleans())
def test_text_vector_is_the_masked_mean(data, texts, length, half):
    mask = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=texts, max_size=texts)))
    states = np.random.default_rng(texts).normal(size=(texts, length, 3)).astype(np.float16 if half else np.float32)
    expected = np.zeros((texts, 3), np.float32)
    for b in range(texts):
        kept = [states[b, s].astype(np.float32) for s in range(length) if mask[b, s]]
        if kept:
            expected[b] = sum(kept) / len(kept)
    vectors = text_vector(tf.constant(states), tf.constant(mask))
    assert vectors.dtype == tf.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_embedding_table_is_the_one_used():
    encoder = random_encoder()
    assert encoder.embedding_table.shape == (SHAPE.vocab_size, SHAPE.width)
    before = encoder(tf.constant(IDS)).numpy()
    encoder.embedding_table.assign(tf.tensor_scatter_nd_add(encoder.embedding_table, [[30]], tf.ones([1, SHAPE.width]) * np.arange(24.0)))
    changed = np.abs(encoder(tf.constant(IDS)).numpy() - before).max(axis=(1, 2)) > 1e-4
    np.testing.assert_array_equal(changed, (IDS == 30).any(1))


def test_config_makes_an_equal_layer(encoder):
    config = encoder.get_config()
    copy = TextEncoder.from_config(config)
    copy.set_weights(encoder.get_weights())
    noise = [Noise(7, 3, tf.constant(ROWS)) for _ in range(2)]
    np.testing.assert_array_equal(copy(tf.constant(IDS), noise[0]), encoder(tf.constant(IDS), noise[1]))
    assert copy.get_config() == config
    assert EncoderShape.from_dict(SHAPE.to_dict()) == SHAPE


def test_what_cannot_be_encoded_is_refused(encoder):
    encoder.check_length(12)
    with pytest.raises(UserError, match=r"^texts of 13 pieces .* 12 positions; prepare .*--source_length.*$"):
        encoder.check_length(13)
    with pytest.raises(UserError, match=r"13 pieces .* 12 positions"):
        encoder(tf.ones([1, 13], tf.int32))
    with pytest.raises(UserError, match=r"width 24 can't have 5 heads; give a divisor"):
        EncoderShape(50, 24, 2, 5, 40)
    with pytest.raises(UserError, match=r"layers=0 .* must be positive"):
        EncoderShape(50, 24, 0, 4, 40)


# -- fixed lower layers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2])
def divided(request) -> TextEncoder:
    """With one of two layers trained, or with all layers, whose embeddings are fixed."""
    return random_encoder(output_dropout=0.2, attention_dropout=0.4, trained_layers=request.param)


def test_fixed_layers_have_no_dropout_and_the_others_have_bert_s(divided):
    noise = Noise(7, 3, tf.constant(ROWS))
    np.testing.assert_allclose(divided(tf.constant(IDS)), numpy_bert(divided, IDS), atol=1e-5)
    expected = numpy_bert(divided, IDS, noise, (0.2, 0.4), SHAPE.layers - divided.trained_layers)
    np.testing.assert_allclose(divided(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS))), expected, atol=1e-5)


def test_going_on_from_lower_states_is_the_same_whatever_stands_at_padding(divided):
    ids, noise = tf.constant(IDS), Noise(7, 3, tf.constant(ROWS))
    lower, real = divided.lower_states(ids), (IDS != PAD)[..., None]
    np.testing.assert_array_equal(divided(ids, Noise(7, 3, tf.constant(ROWS)), lower), divided(ids, noise))
    filled = tf.where(real, lower, 5.0)
    np.testing.assert_allclose(divided(ids, lower=filled) * real, divided(ids) * real, atol=1e-5)


@pytest.mark.parametrize("trained", [0, 1, 2, None])
def test_what_trains_is_the_upper_layers(trained):
    encoder = random_encoder(output_dropout=0.0, attention_dropout=0.0, trained_layers=trained)
    with tf.GradientTape() as tape:
        tape.watch(encoder.variables)
        loss = tf.reduce_sum(text_vector(encoder(tf.constant(IDS)), encoder.mask(tf.constant(IDS))) ** 3)
    reached = {v.name for v, g in zip(encoder.variables, tape.gradient(loss, encoder.variables), strict=True) if g is not None}
    names = {variable.name for variable in encoder.trainable_variables}
    upper = range(SHAPE.layers - trained, SHAPE.layers) if trained is not None else range(SHAPE.layers)
    wanted = {v.name for v in encoder.variables if any(f"/layer_{i}/" in v.name for i in upper)}
    assert names == (wanted if trained is not None else {variable.name for variable in encoder.variables})
    assert len(encoder.variables) == 5 + 16 * SHAPE.layers
    if trained:  # a frozen encoder's variables are watched here, and by no training
        assert reached == names
        assert {v.name for v in encoder.fixed_variables} == {v.name for v in encoder.variables} - names


def test_the_upper_layers_gradient_is_that_part_of_the_whole_encoder_s(divided):
    whole = random_encoder(output_dropout=0.0, attention_dropout=0.0)
    values = {variable.name.split("/bert/")[1]: variable.numpy() for variable in divided.variables}
    for variable in whole.variables:
        variable.assign(values[variable.name.split("/bert/")[1]])
    found = []
    for encoder in (divided, whole):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(text_vector(encoder(tf.constant(IDS)), encoder.mask(tf.constant(IDS))) ** 3)
        variables = encoder.trainable_variables
        found.append({v.name.split("/bert/")[1]: g for v, g in zip(variables, tape.gradient(loss, variables), strict=True)})
    assert len(found[0]) == 16 * divided.trained_layers
    for name, gradient in found[0].items():
        np.testing.assert_allclose(gradient, found[1][name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_half_precision_of_a_divided_encoder_stays_near_single(divided, half_precision):
    half = TextEncoder(SHAPE, pad_id=PAD, output_dropout=0.2, attention_dropout=0.4, trained_layers=divided.trained_layers)
    for ours, theirs in zip(half.variables, divided.variables, strict=True):
        ours.assign(theirs)
    exact = divided(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS)))
    for lower in (None, tf.cast(divided.lower_states(tf.constant(IDS)), tf.float16)):
        states = half(tf.constant(IDS), Noise(7, 3, tf.constant(ROWS)), lower)
        assert states.dtype == tf.float32
        assert 1e-5 < np.abs(states - exact).max() < 0.05


def test_more_layers_than_there_are_can_not_train():
    with pytest.raises(UserError, match="--trainable_layers=3: the encoder has 2 layers; give at most so many, or -1"):
        TextEncoder(SHAPE, trained_layers=3)
