"""Contrastive search against a loop over Python lists, over a table and over real systems, and a text chosen by hand.

The table holds a state for each item, position and hash of the tokens so far; logits are a linear function of the state. The tokens lie
unmoved where their row wrote them and are found through an ordinary tensor that says who wrote what, as the decoder does it: a cache
that is reordered wrongly gives other states.
"""

from functools import cache as memoised

import numpy as np
import pytest
import tensorflow as tf
from hypotheses import strip
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam_search import END, HASHES, SEEDS, START, hashed, repeats

from hcl_tf.decoding.beam_search import BeamSettings, Hypotheses, beam_search
from hcl_tf.decoding.contrastive_search import ContrastiveSettings, contrastive_search
from hcl_tf.errors import UserError
from hcl_tf.layers.decoder import UNMOVED

WIDTH = 6


def model(seed: int, batch: int, options: BeamSettings, vocabulary: int, masked: float = 0.0) -> dict[str, np.ndarray]:
    """`states` [B, steps, HASHES, D], `kernel` [B, D, V'] and `bias` [B, V'], a share `masked` of it -inf."""
    rng = np.random.default_rng(seed)
    bias = np.where(rng.random([batch, vocabulary]) < masked, -np.inf, 0.0)
    found = {"states": rng.normal(0.3, 1, [batch, options.steps, HASHES, WIDTH]), "kernel": rng.normal(0, 1, [batch, WIDTH, vocabulary])}
    return {name: values.astype(np.float32) for name, values in (found | {"bias": bias}).items()}


def states_of(ids, position, cache, fixed):
    batch, rows = tf.shape(fixed["states"])[0], cache["writers"].shape[0] or tf.shape(cache["writers"])[0]
    steps, beams = cache["writers"].shape[1], rows // batch
    written = tf.where(tf.range(steps) == position, tf.reshape(ids, [batch, beams, 1]), cache[UNMOVED][0])
    writers = tf.where(tf.range(steps) == position, tf.tile(tf.range(beams), [batch])[:, None], cache["writers"])
    theirs = tf.one_hot(tf.reshape(writers, [batch, beams, steps]), beams, dtype=tf.int32)
    texts = tf.reshape(tf.reduce_sum(tf.transpose(written, [0, 2, 1])[:, None] * theirs, -1), [-1, steps])
    value = tf.zeros_like(ids)
    for place in range(1, steps):
        value = tf.where(place <= position, hashed(value, texts[:, place]), value)
    found = tf.gather(fixed["states"][:, position], tf.reshape(value, [batch, beams]), batch_dims=1)
    return tf.reshape(found, [-1, WIDTH]), {"writers": writers, UNMOVED: [written]}


def scores_of(states, fixed):
    by_item = tf.reshape(states, [tf.shape(fixed["kernel"])[0], -1, WIDTH])
    return tf.reshape(by_item @ fixed["kernel"] + fixed["bias"][:, None], [-1, fixed["kernel"].shape[2]])


def start(fixed, options: BeamSettings) -> tuple[dict, int]:
    batch = fixed["states"].shape[0] or tf.shape(fixed["states"])[0]
    unmoved = [tf.zeros([batch, options.beams, options.steps], tf.int32)]
    return {"writers": tf.zeros([batch * options.beams, options.steps], tf.int32), UNMOVED: unmoved}, batch


def search(fixed, options: ContrastiveSettings) -> Hypotheses:
    cache, batch = start(fixed, options)
    return contrastive_search(states_of, scores_of, WIDTH, cache, fixed, batch, START, END, options)


@memoised
def searcher(options: ContrastiveSettings, compiled: bool = False):
    """Traced once for each shape, so that hypothesis' examples are quick."""
    return tf.function(lambda fixed: search(fixed, options), jit_compile=compiled)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum()) if np.isfinite(logits).any() else logits


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / np.sqrt((a @ a) * (b @ b))


def over_lists(state, log_probabilities, options: ContrastiveSettings) -> tuple[float, tuple[int, ...]] | None:
    """The definition, for one item; None where nothing can follow.

    Args:
      state: tokens -> [D] after them. log_probabilities: tokens -> [V'] of the next.
    """
    tokens, total, read = (), 0.0, [state(())]
    while True:
        gains = log_probabilities(tokens)
        if len(tokens) == options.maximum:
            total += gains[END]
            break
        likely = [int(v) for v in np.argsort(-gains, kind="stable") if gains[v] > -np.inf]
        allowed = [v for v in likely if not (v == END and len(tokens) < options.minimum)]
        allowed = [v for v in allowed if v == END or not repeats((*tokens, v), options.no_repeat)][: options.beams]
        if not allowed:
            return None
        values = [
            (1 - options.alpha) * np.exp(gains[v]) - options.alpha * max(cosine(state((*tokens, v)), other) for other in read)
            for v in allowed
        ]
        token = allowed[int(np.argmax(values))]
        total += gains[token]
        if token == END:
            break
        tokens = (*tokens, token)
        read.append(state(tokens))
    return None if total == -np.inf else (total / ((5 + len(tokens)) / 6) ** options.length_penalty, tokens)


def expected(fixed: dict[str, np.ndarray], item: int, options: ContrastiveSettings) -> tuple[float, tuple[int, ...]] | None:
    def state(tokens: tuple[int, ...]) -> np.ndarray:
        value = 0
        for token in tokens:
            value = hashed(value, token)
        return fixed["states"][item, len(tokens), value].astype(np.float64)

    return over_lists(state, lambda tokens: log_softmax(state(tokens) @ fixed["kernel"][item] + fixed["bias"][item]), options)


def found(result: Hypotheses, item: int) -> tuple[float, tuple[int, ...]] | None:
    """One item's text and its score; checks what holds for every result on the way."""
    ids, scores, lengths = (np.asarray(part)[item] for part in result)
    assert (ids.dtype, scores.dtype, lengths.dtype) == (np.int32, np.float32, np.int32)
    assert (ids.shape[0], scores.shape, lengths.shape) == (1, (1,), (1,))
    assert (ids[0, : lengths[0]] != END).all()
    assert (ids[0, lengths[0] :] == END).all()
    if scores[0] == -np.inf:
        assert lengths[0] == 0
        return None
    return float(scores[0]), tuple(strip(ids[0], END))


def assert_same(actual, wanted) -> None:
    assert (actual is None) == (wanted is None)
    if wanted is not None:
        assert actual[1] == wanted[1]
        assert actual[0] == pytest.approx(wanted[0], rel=2e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "compiled"),
    [
        (ContrastiveSettings(), False),
        (ContrastiveSettings(), True),
        (ContrastiveSettings(5, 0, 6, 1.0, 0, 0.6), False),
        (ContrastiveSettings(3, 4, 4, 0.0, 0, 0.9), False),
        (ContrastiveSettings(2, 0, 8, 0.6, 0, 0.3), True),
        (ContrastiveSettings(4, 2, 9, 3.0, 1, 0.5), False),
        (ContrastiveSettings(4, 1, 9, 0.6, 2, 0.8), True),
        (ContrastiveSettings(6, 0, 7, 0.6, 0, 1.0), False),
        (ContrastiveSettings(20, 1, 5, 0.6, 0, 0.6), False),
        (ContrastiveSettings(4, 0, 1, 0.6, 0, 0.6), True),
    ],
    ids=str,
)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, masked=st.sampled_from([0.0, 0.3]))
def test_equals_a_loop_over_lists(options, compiled, seed, masked):
    fixed = model(seed, 3, options, 7, masked)
    result = searcher(options, compiled)(fixed)
    for item in range(3):
        actual = found(result, item)
        assert_same(actual, expected(fixed, item, options))
        assert actual is None or options.minimum <= len(actual[1]) <= options.maximum


@pytest.mark.slow
@pytest.mark.parametrize(("k", "alpha"), [(4, 0.0), (1, 0.6), (1, 1.0)])
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_without_alpha_and_with_one_candidate_it_is_greedy_search(k, alpha, seed):
    options, greedy = ContrastiveSettings(k, 2, 7, 0.6, 0, alpha), BeamSettings(1, 2, 7)
    fixed = model(seed, 3, options, 6)

    def step(ids, position, cache, fixed):
        states, cache = states_of(ids, position, cache, fixed)
        return scores_of(states, fixed), cache

    result, wanted = searcher(options)(fixed), beam_search(step, start(fixed, greedy)[0], fixed, 3, START, END, greedy)
    np.testing.assert_array_equal(result.ids, wanted.ids)
    np.testing.assert_array_equal(result.lengths, wanted.lengths)
    np.testing.assert_allclose(result.scores, wanted.scores, rtol=1e-6)


def test_a_text_by_hand():
    """`a` has probability 0.7 and `b` 0.3, whatever stands before; their states and the start's are at right angles.

    With alpha 0.6 the first token is worth 0.28 as `a` and 0.12 as `b`; the next, after `a`, 0.28 - 0.6 and 0.12; then each would
    repeat a state, and `a` is likelier. Greedy search writes `a` alone.
    """
    start, end, a, b = range(4)
    states, logits = np.eye(4, dtype=np.float32), np.log(np.array([[1e-9, 1e-9, 0.7, 0.3]], np.float32))

    def run(alpha: float) -> Hypotheses:
        def read(ids, position, cache, fixed):
            return tf.gather(states, ids), cache

        options = ContrastiveSettings(2, 4, 4, 0.0, 0, alpha)
        return contrastive_search(read, lambda found, fixed: logits, 4, {}, {}, 1, start, end, options)

    assert run(0.6).ids.numpy().tolist() == [[[a, b, a, a]]]
    assert run(0.0).ids.numpy().tolist() == [[[a, a, a, a]]]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_a_batch_equals_its_items_one_by_one(compiled, seed):
    options = ContrastiveSettings(3, 0, 8)
    fixed = model(seed, 5, options, 6, masked=0.1)
    together = searcher(options, compiled)(fixed)
    for item in range(5):
        alone = searcher(options, compiled)({name: values[item : item + 1] for name, values in fixed.items()})
        assert_same(found(alone, 0), found(together, item))


@pytest.mark.slow
def test_one_trace_serves_batches_of_any_size():
    options, traces = ContrastiveSettings(3, 1, 5), []
    fixed = model(4, 4, options, 6)

    @tf.function(input_signature=[{name: tf.TensorSpec([None, *values.shape[1:]]) for name, values in fixed.items()}])
    def run(fixed):
        traces.append(1)
        return search(fixed, options)

    whole, part = run(fixed), run({name: values[1:3] for name, values in fixed.items()})
    np.testing.assert_array_equal(whole.ids[1:3], part.ids)
    assert whole.ids.shape == (4, 1, 5)
    assert len(traces) == 1


@pytest.mark.slow
def test_stops_when_every_text_has_ended():
    """The end's state is unlike any other, and it is likely."""
    options, calls = ContrastiveSettings(3, 2, 20), tf.Variable(0)
    states, logits = np.eye(4, dtype=np.float32), np.log(np.array([[0.1, 0.7, 0.1, 0.1]], np.float32))

    @tf.function
    def run():
        def read(ids, position, cache, fixed):
            calls.assign_add(1)
            return tf.gather(states, ids), cache

        return contrastive_search(read, lambda found, fixed: tf.tile(logits, [2, 1]), 4, {}, {}, 2, START, END, options)

    assert run().lengths.numpy().tolist() == [[2], [2]]
    assert calls.numpy() == 4  # the start token, two tokens, and the end among the candidates for the third


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_where_nothing_is_possible_the_score_says_so(compiled):
    options = ContrastiveSettings(4, 1, 3)
    fixed = model(7, 2, options, 6)
    fixed["bias"][1] = -np.inf
    result = searcher(options, compiled)(fixed)
    assert_same(found(result, 0), expected(fixed, 0, options))
    assert found(result, 1) is None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_narrow_states_are_compared_in_float32(dtype):
    options = ContrastiveSettings(4, 2, 6)
    fixed = model(5, 3, options, 6)
    narrow = {**fixed, "states": np.asarray(tf.cast(tf.cast(fixed["states"], dtype), tf.float32))}

    def read(ids, position, cache, fixed):
        states, cache = states_of(ids, position, cache, fixed)
        return tf.cast(states, dtype), cache

    def scores(states, fixed):
        return scores_of(tf.cast(states, tf.float32), fixed)

    result = contrastive_search(read, scores, WIDTH, start(narrow, options)[0], narrow, 3, START, END, options)
    for item in range(3):
        assert_same(found(result, item), expected(narrow, item, options))


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"alpha": 1.1}, {"beams": 0}, {"minimum": 21}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match="|".join(map(str, wrong.values()))):
        ContrastiveSettings(**wrong)
