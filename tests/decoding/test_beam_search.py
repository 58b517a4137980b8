"""Beam search against exhaustive search, a beam search over Python lists, and chains solved by hand.

The model of most tests is a table of log-probabilities. Its row depends on the item (through `fixed`), the position, and a
hash of all tokens so far, which lives in the cache twice, as a running value and as a list of tokens like attention keys: a
cache that is reordered wrongly gives other probabilities.
"""

import itertools
from functools import cache as memoised

import numpy as np
import pytest
import tensorflow as tf
from hypotheses import strip
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.decoding.beam_search import BeamSettings, Hypotheses, beam_search
from hcl_tf.errors import UserError

HASHES = 11
START, END = 0, 1
SEEDS = st.integers(0, 2**32 - 1)


def hashed(value, token):
    return (5 * value + 3 * token + 1) % HASHES


def tables(seed: int, batch: int, options: BeamSettings, vocabulary: int, masked: float = 0.0, dtype=np.float32) -> np.ndarray:
    """[B, steps, HASHES, V'] logits, a share `masked` of them -inf."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, [batch, options.steps, HASHES, vocabulary])
    logits[rng.random(logits.shape) < masked] = -np.inf
    return logits.astype(dtype)


def table_step(ids, position, cache, fixed):
    table = fixed["table"]
    beams = ids.shape[0] // table.shape[0]
    tokens = tf.where(tf.range(cache["past"]["tokens"].shape[1]) == position, ids[:, None], cache["past"]["tokens"])
    value = tf.where(position == 0, cache["value"], hashed(cache["value"], ids))
    replayed = tf.zeros_like(ids)
    for place in range(1, tokens.shape[1]):
        replayed = tf.where(place <= position, hashed(replayed, tokens[:, place]), replayed)
    rows = tf.reshape((value + replayed) % HASHES, [-1, beams])  # --> queries as [B, beams], like cross-attention's
    logits = tf.gather(table[:, position], rows, batch_dims=1)
    return tf.reshape(logits, [-1, table.shape[-1]]), {"past": {"tokens": tokens}, "value": value}


def table_search(table, options: BeamSettings) -> Hypotheses:
    batch = table.shape[0]
    rows = batch * options.beams
    cache = {"past": {"tokens": tf.zeros([rows, options.steps], tf.int32)}, "value": tf.zeros([rows], tf.int32)}
    return beam_search(table_step, cache, {"table": table}, batch, START, END, options)


@memoised
def searcher(options: BeamSettings, compiled: bool = False):
    """Traced once for each shape, so that hypothesis' examples are quick."""
    return tf.function(lambda table: table_search(table, options), jit_compile=compiled)


def row(table: np.ndarray, tokens: tuple[int, ...]) -> np.ndarray:
    """One item's log-probabilities after `tokens`, from the definition."""
    value = 0
    for token in tokens:
        value = hashed(value, token)
    logits = table[len(tokens), 2 * value % HASHES].astype(np.float64)
    return logits - np.log(np.exp(logits).sum()) if np.isfinite(logits).any() else logits


def score(table: np.ndarray, tokens: tuple[int, ...], options: BeamSettings) -> float:
    total = sum(row(table, tokens[:place])[token] for place, token in enumerate((*tokens, END)))
    return total / ((5 + len(tokens)) / 6) ** options.length_penalty


def exhaustive(table: np.ndarray, options: BeamSettings) -> list[tuple[float, tuple[int, ...]]]:
    """Every possible hypothesis, best first."""
    words = [token for token in range(table.shape[-1]) if token != END]
    lengths = range(options.minimum, options.maximum + 1)
    every = [(score(table, tokens, options), tokens) for n in lengths for tokens in itertools.product(words, repeat=n)]
    return sorted(((s, t) for s, t in every if s > -np.inf), reverse=True)


def over_lists(table: np.ndarray, options: BeamSettings) -> list[tuple[float, tuple[int, ...]]]:
    """The same search over Python lists, which never stops before the longest hypothesis."""
    alive, finished = [(0.0, ())], []
    for position in range(options.steps):
        grown = []
        for total, tokens in alive:
            for token, gain in enumerate(row(table, tokens)):
                allowed = position >= options.minimum if token == END else position < options.maximum
                if allowed and gain > -np.inf and not repeats((*tokens, token), options.no_repeat):
                    grown.append((total + gain, (*tokens, token)))
        grown = sorted(grown, key=lambda pair: -pair[0])[: 2 * options.beams]
        finished += [(score(table, t[:-1], options), t[:-1]) for _, t in grown if t[-1] == END]
        alive = [pair for pair in grown if pair[1][-1] != END][: options.beams]
    return sorted(finished, reverse=True)[: options.beams]


def repeats(tokens: tuple[int, ...], size: int) -> bool:
    """Whether some n-gram of `size` tokens occurs twice."""
    grams = [tokens[place : place + size] for place in range(len(tokens) - size + 1)] if size else []
    return len(set(grams)) < len(grams)


def found(result: Hypotheses, item: int) -> list[tuple[float, tuple[int, ...]]]:
    """One item's hypotheses; checks what holds for every result on the way."""
    ids, scores, lengths = (np.asarray(part)[item] for part in result)
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert lengths.dtype == np.int32
    assert not np.isnan(scores).any()
    assert (np.sort(scores)[::-1] == scores).all()
    for hypothesis, length in zip(ids, lengths, strict=True):
        assert (hypothesis[:length] != END).all()
        assert (hypothesis[length:] == END).all()
        assert strip(hypothesis, END) == hypothesis[:length].tolist()
    assert (lengths[scores == -np.inf] == 0).all()
    texts = [(float(s), tuple(strip(i, END))) for i, s in zip(ids, scores, strict=True) if s > -np.inf]
    assert len({tokens for _, tokens in texts}) == len(texts)
    return texts


def assert_same(actual: list, expected: list) -> None:
    # atol: a probability near 1 leaves a log-probability that float32 knows to 1e-7 only.
    np.testing.assert_allclose([s for s, _ in actual], [s for s, _ in expected], rtol=2e-5, atol=1e-6)
    assert [tokens for _, tokens in actual] == [tokens for _, tokens in expected]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, masked=st.sampled_from([0.0, 0.3, 0.8]))
def test_a_wide_beam_equals_exhaustive_search(compiled: bool, penalty: float, seed: int, masked: float) -> None:
    options = BeamSettings(beams=27, minimum=1, maximum=3, length_penalty=penalty)  # 3 + 9 + 27 hypotheses
    table = tables(seed, 2, options, 4, masked)
    result = searcher(options, compiled)(table)
    for item in range(2):
        assert_same(found(result, item), exhaustive(table[item], options)[:27])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        BeamSettings(),
        BeamSettings(2, 0, 6, 1.0),
        BeamSettings(3, 4, 4, 0.0),
        BeamSettings(5, 2, 9, 3.0),
        BeamSettings(3, 2, 6, 0.6, 1),
        BeamSettings(4, 2, 8, 0.6, 2),
        BeamSettings(2, 1, 9, 0.6, 3),
    ],
    ids=lambda options: f"{options.beams}-{options.minimum}-{options.maximum}-{options.no_repeat}",
)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, masked=st.sampled_from([0.0, 0.3]))
def test_a_narrow_beam_equals_a_search_over_lists(options: BeamSettings, seed: int, masked: float) -> None:
    """So stopping early loses nothing, every score is recomputed in float64, and both limits of length hold."""
    table = tables(seed, 3, options, 6, masked)
    result = searcher(options)(table)
    for item in range(3):
        actual = found(result, item)
        assert_same(actual, over_lists(table[item], options))
        assert all(options.minimum <= len(tokens) <= options.maximum for _, tokens in actual)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_one_beam_is_greedy(compiled: bool, seed: int) -> None:
    options = BeamSettings(beams=1, minimum=2, maximum=7)
    table = tables(seed, 3, options, 5)
    result = searcher(options, compiled)(table)
    for item in range(3):
        tokens: tuple[int, ...] = ()
        while len(tokens) < options.maximum:
            likely = np.argsort(-row(table[item], tokens))
            best = next(token for token in likely if token != END or len(tokens) >= options.minimum)
            if best == END:
                break
            tokens = (*tokens, int(best))
        assert_same(found(result, item), [(score(table[item], tokens, options), tokens)])


def chain(transitions: np.ndarray, options: BeamSettings, start: int, end: int) -> Hypotheses:
    """Searches a Markov chain [steps, V', V'] of probabilities: (position, token before, token)."""
    logs = tf.math.log(tf.constant(transitions, tf.float32))
    return beam_search(lambda ids, position, cache, fixed: (tf.gather(logs[position], ids), cache), {}, {}, 1, start, end, options)


def test_chain_where_the_likelier_first_step_is_wrong() -> None:
    a, b, end = 0, 1, 2
    moves = np.tile(np.array([[0.5, 0.4, 0.1], [0.1, 0.9, 0.0], [0.6, 0.4, 0.0]]), [3, 1, 1])
    moves[2] = [0, 0, 1]
    greedy = chain(moves, BeamSettings(1, 2, 2, 0.0), end, end)
    assert greedy.ids.numpy().tolist() == [[[a, a]]]
    result = chain(moves, BeamSettings(2, 2, 2, 0.0), end, end)
    assert result.ids.numpy().tolist() == [[[b, b], [a, a]]]
    np.testing.assert_allclose(np.exp(result.scores), [[0.4 * 0.9, 0.6 * 0.5]], rtol=1e-6)


def test_chain_where_the_length_penalty_decides() -> None:
    """`a` has probability 0.4, seven times `a` 0.2: log 0.4 = -0.92 over (6/6)^1, log 0.2 = -1.61 over (12/6)^1.

    The rest goes to a token after which nothing can follow.
    """
    a, end, blind = 0, 1, 2
    moves = np.zeros([8, 3, 3])
    moves[:, :blind, a] = 1
    moves[1, :blind] = [0.2, 0.4, 0.4]
    moves[7, :blind] = [0, 1, 0]
    short, long = [a, *[end] * 6], [a] * 7
    for penalty, order in ((0.0, [short, long]), (1.0, [long, short])):
        result = chain(moves, BeamSettings(2, 1, 7, penalty), a, end)
        assert result.ids.numpy().tolist() == [order]
        assert result.lengths.numpy().tolist() == [[order[0].count(a), order[1].count(a)]]
        totals = {1: np.log(0.4), 7: np.log(0.2) / 2**penalty}
        np.testing.assert_allclose(result.scores[0], [totals[line.count(a)] for line in order], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_of_equals_the_earlier_beam_and_the_smaller_id_come_first(compiled: bool) -> None:
    options = BeamSettings(beams=4, minimum=3, maximum=3)
    result = searcher(options, compiled)(np.full([2, options.steps, HASHES, 4], np.log(0.25), np.float32))
    assert result.ids.numpy().tolist() == [[[0, 0, 0], [0, 0, 2], [0, 0, 3], [0, 2, 0]]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_a_batch_equals_its_items_one_by_one(compiled: bool, seed: int) -> None:
    options = BeamSettings(beams=3, minimum=2, maximum=8)
    table = tables(seed, 5, options, 6, masked=0.1)
    together = searcher(options, compiled)(table)
    for item in range(5):
        alone = searcher(options, compiled)(table[item : item + 1])
        np.testing.assert_array_equal(together.ids[item], alone.ids[0])
        np.testing.assert_allclose(together.scores[item], alone.scores[0], rtol=1e-6)  # softmax rounds by the number of its rows


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_second_batch_is_not_traced_again(compiled: bool) -> None:
    options, traces = BeamSettings(), []

    @tf.function(jit_compile=compiled)
    def search(table):
        traces.append(1)
        return table_search(table, options)

    first, second = (search(tf.constant(tables(seed, 2, options, 6))) for seed in (1, 2))
    assert len(traces) == 1
    assert found(first, 0) != found(second, 0)


def test_one_trace_serves_batches_of_any_size() -> None:
    options = BeamSettings(beams=2, minimum=1, maximum=4)
    logs = tf.constant(tables(3, 1, options, 5)[0, :, 0])

    @tf.function(input_signature=[tf.TensorSpec([None, 5])])
    def search(bias):
        def step(ids, position, cache, fixed):
            change = tf.reshape(tf.repeat(fixed["bias"], 2, 0), [-1, 5])
            return tf.nn.log_softmax(logs[position] + change + tf.one_hot(ids, 5) + cache["sum"]), {"sum": cache["sum"] + change}

        batch = tf.shape(bias)[0]
        return beam_search(step, {"sum": tf.zeros([2 * batch, 5])}, {"bias": bias}, batch, START, END, options)

    bias = np.random.default_rng(4).normal(size=[3, 5]).astype(np.float32)
    whole = search(bias)
    np.testing.assert_array_equal(whole.ids[:2], search(bias[:2]).ids)
    assert whole.ids.shape == (3, 2, 4)


def test_stops_when_nothing_unfinished_can_win() -> None:
    """After token 2 the text ends with probability 0.9: two certain hypotheses, and no tail of 0.1 can reach them."""
    options = BeamSettings(beams=2, minimum=1, maximum=20)
    moves = np.log([[0.001, 0.001, 0.499, 0.499], *[[0.05, 0.9, 0.025, 0.025]] * 3]).astype(np.float32)
    calls = tf.Variable(0)

    @tf.function
    def search(table):
        def step(ids, position, cache, fixed):
            calls.assign_add(1)
            return tf.gather(table, ids), cache

        return beam_search(step, {}, {}, 1, START, END, options)

    result = search(moves)
    assert result.ids.numpy()[0, :, 0].tolist() == [2, 3]
    assert result.lengths.numpy().tolist() == [[1, 1]]
    assert calls.numpy() < options.steps // 2


@pytest.mark.parametrize("compiled", [False, True])
def test_where_fewer_than_beams_are_possible_the_rest_is_marked(compiled: bool) -> None:
    """Item 0 allows only token 2 and the end, so one hypothesis a length; item 1 allows nothing at all."""
    options = BeamSettings(beams=4, minimum=1, maximum=2, length_penalty=0.0)
    table = np.full([2, options.steps, HASHES, 5], -np.inf, np.float32)
    table[0, :, :, [END, 2]] = np.log(0.5)
    result = searcher(options, compiled)(table)
    assert_same(found(result, 0), [(np.log(0.25), (2,)), (np.log(0.125), (2, 2))])
    assert found(result, 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_narrow_log_probabilities_are_added_in_float32(compiled: bool, dtype: tf.DType) -> None:
    options = BeamSettings()
    table = tables(5, 2, options, 6).astype(dtype.as_numpy_dtype)
    result = searcher(options, compiled)(tf.constant(table))
    for item in range(2):
        for value, tokens in found(result, item):
            np.testing.assert_allclose(value, score(table[item], tokens, options), rtol=1e-6)


def test_a_cache_that_changes_its_shape_is_an_error() -> None:
    def step(ids, position, cache, fixed):
        return tf.zeros([4, 3]), {"keys": tf.concat([cache["keys"], cache["keys"]], 1)}

    with pytest.raises(ValueError, match="shapes must be equal"):
        tf.function(lambda: beam_search(step, {"keys": tf.zeros([4, 1])}, {}, 1, START, END, BeamSettings()))()


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"minimum": 21}, {"minimum": -1}, {"minimum": 0, "maximum": 0}, {"length_penalty": -0.1}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="|".join(map(str, wrong.values()))):
        BeamSettings(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_columns_that_stand_for_no_piece_change_nothing(compiled: bool) -> None:
    """Rows may be wider than the vocabulary, -inf behind it; fewer pieces than candidates must not let such a column through."""
    options = BeamSettings(beams=3, minimum=1, maximum=3)
    table = tables(11, 2, options, 3)
    wide = np.pad(table, [(0, 0)] * 3 + [(0, 29)], constant_values=-np.inf)
    for narrow, found_ in zip(searcher(options, compiled)(table), searcher(options, compiled)(wide), strict=True):
        np.testing.assert_allclose(found_, narrow, rtol=1e-6)

    def step(ids, position, cache, fixed):
        tf.debugging.assert_less(ids, 3)
        return tf.repeat([[-np.inf, 0.0, 1.0] + [-np.inf] * 29], tf.shape(ids)[0], 0), cache

    if not compiled:  # XLA leaves assertions out
        tf.function(lambda: beam_search(step, {}, {}, 2, 0, 1, options))()
