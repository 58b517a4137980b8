"""Node features against a loop over distinct texts; cached columns against live encoding; the cache itself."""

import dataclasses
import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import fresh_copy
from toy_system import read

from hcl_tf.data.batching import distinct_texts
from hcl_tf.data.batching.batches import Columns, Place
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.layers.encoder import EncoderShape, TextEncoder
from hcl_tf.models.registry import resolve
from hcl_tf.training import assembly, text_states
from hcl_tf.training.initialization import initialize
from hcl_tf.training.step import TrainStep
from hcl_tf.training.text_states import CACHE, TextStates

EXAMPLES = 60
WIDTH = 6


def part(arrays: SplitArrays, count: int) -> SplitArrays:
    return SplitArrays(**{field.name: getattr(arrays, field.name)[:count].copy() for field in dataclasses.fields(arrays)})


def rows_of(columns: Columns, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Some examples' columns, which depend neither on the batch's place nor on which rows fill up."""
    found, other = columns(rows, np.zeros(len(rows), bool), Place(1, 0, 0)), columns(rows, np.ones(len(rows), bool), Place(2, 3, 4))
    for name, values in found.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
    return found


class Mixing:
    """Stands for an encoder: each state depends on its token, its place and the whole text."""

    def __init__(self, vocabulary: int, seed: int = 1) -> None:
        self.table = tf.Variable(np.random.default_rng(seed).normal(size=(vocabulary, WIDTH)), dtype=tf.float32)
        self.shape, self.variables, self.product_dtype = SimpleNamespace(width=WIDTH), [self.table], "float32"

    def mask(self, ids):
        return ids != 0

    def __call__(self, ids):
        tokens = tf.gather(self.table, ids)
        weights = tf.cast(self.mask(ids), tf.float32)[:, :, None]
        whole = tf.reduce_sum(tokens * weights, 1, keepdims=True)
        return tokens * tf.sqrt(1.0 + tf.range(tf.shape(ids)[1], dtype=tf.float32))[None, :, None] + 0.1 * whole

    def by_hand(self, ids) -> np.ndarray:
        """[length, WIDTH] states of one text without padding, float64."""
        tokens = self.table.numpy().astype(np.float64)[list(ids)]
        return tokens * np.sqrt(1.0 + np.arange(len(ids)))[:, None] + 0.1 * tokens.sum(0)


def floors(values: np.ndarray) -> list[float]:
    """The deviation of each column, or a twentieth of the middle column's where it is smaller."""
    deviations = [math.sqrt(np.mean((column - column.mean()) ** 2)) for column in values.T]
    return [max(deviation, 0.05 * statistics.median(deviations)) for deviation in deviations]


@pytest.fixture(scope="module")
def few(qqp_folder) -> SplitArrays:
    """Examples of the training split, one of them twice and one text in another role: distinct texts are fewer than texts."""
    arrays = part(read(qqp_folder)[1], EXAMPLES)
    for name in ("ids", "nodes"):
        getattr(arrays, f"source_{name}")[1] = getattr(arrays, f"source_{name}")[0]
        getattr(arrays, f"negative_{name}")[2] = getattr(arrays, f"source_{name}")[0]
    return arrays


@pytest.fixture
def data(qqp_folder, tmp_path) -> PreparedData:
    """A copy: the cache lies in the prepared folder."""
    return PreparedData(fresh_copy(qqp_folder, tmp_path / "prepared"))


def texts_of(arrays: SplitArrays):
    """(ids without padding, nodes) of each text in each role."""
    for role in ROLES:
        for ids, nodes in zip(getattr(arrays, f"{role}_ids"), getattr(arrays, f"{role}_nodes"), strict=True):
            yield tuple(ids[ids != 0].tolist()), set(nodes[nodes >= 0].tolist())


def test_node_features_equal_a_loop_over_distinct_texts(data, few) -> None:
    encoder = Mixing(len(data.tokenizer))
    features, mean, scale = TextStates(data, few, keep=False).node_features(encoder)
    vectors = {ids: encoder.by_hand(ids).mean(0) for ids, _ in texts_of(few)}
    members: dict[int, set] = {node: set() for node in range(len(data.graph))}
    for ids, nodes in texts_of(few):
        for node in nodes:
            members[node].add(ids)
    raw = np.array([np.mean([vectors[ids] for ids in found], 0) if found else np.zeros(WIDTH) for found in members.values()])
    np.testing.assert_allclose(features, (raw - raw.mean(0)) / floors(raw), rtol=1e-4, atol=1e-5)
    distinct = np.array(list(vectors.values()))
    assert len(distinct) < 3 * EXAMPLES
    np.testing.assert_allclose(mean, distinct.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scale, floors(distinct), rtol=1e-4)
    assert features.dtype == np.float32
    assert max(map(len, members.values())) > 1, "no keyword has two texts: the case says nothing"


@pytest.mark.parametrize("tokens", [1, 50, 4096])
def test_columns_are_each_examples_states_whatever_is_encoded_at_once(data, few, monkeypatch, tokens) -> None:
    monkeypatch.setattr(text_states, "TOKENS_AT_ONCE", tokens)
    arrays = part(few, 12)
    encoder = Mixing(len(data.tokenizer))
    gather = TextStates(data, arrays, keep=False).columns(encoder)
    rows = np.array([7, 0, 1, 7])
    found = rows_of(gather, rows)
    for i, row in enumerate(rows):
        for role in ROLES:
            ids = getattr(arrays, f"{role}_ids")[row]
            np.testing.assert_allclose(found[f"{role}_vector"][i], encoder.by_hand(ids[ids != 0]).mean(0), rtol=1e-4, atol=1e-5)
        ids = arrays.source_ids[row]
        wanted = encoder.by_hand(ids[ids != 0])
        check_float16(found["source_states"][i][: len(wanted)], wanted)


def check_float16(found: np.ndarray, wanted: np.ndarray) -> None:
    """Rounding to nearest moves a number by half a unit in the last of 11 bits at most (or of the least number), float32
    arithmetic in another order by some more units of 2^-24."""
    assert found.dtype == np.float16
    limit = np.abs(wanted) * (2.0**-11 + 2.0**-18) + 2.0**-25 + 2.0**-20
    assert (np.abs(found.astype(np.float64) - wanted) <= limit).all()


@pytest.mark.slow
def test_columns_equal_live_encoding_by_bert(data, few) -> None:
    encoder = TextEncoder(EncoderShape(len(data.tokenizer), 16, 2, 2, 32))
    found = rows_of(TextStates(data, few, keep=False).columns(encoder), np.arange(EXAMPLES))
    live = encoder(tf.constant(few.source_ids)).numpy()
    real = few.source_ids != 0
    check_float16(found["source_states"][real], live[real])
    for role in ROLES:
        ids = tf.constant(getattr(few, f"{role}_ids"))
        wanted = text_states.text_vector(encoder(ids), encoder.mask(ids))
        np.testing.assert_allclose(found[f"{role}_vector"], wanted, rtol=1e-4, atol=1e-5)
    assert found["source_states"].shape == (EXAMPLES, data.source_length + 2, 16)


class Counting:
    """Counts how often texts were really encoded."""

    def __init__(self, monkeypatch) -> None:
        self.count, original = 0, TextStates._encode

        def encode(*arguments):
            self.count += 1
            return original(*arguments)

        monkeypatch.setattr(TextStates, "_encode", encode)


def test_cache_is_reused_until_weights_or_data_change(data, few, monkeypatch) -> None:
    counting = Counting(monkeypatch)
    encoder = Mixing(len(data.tokenizer))
    first = TextStates(data, few, keep=True).node_features(encoder)
    again = TextStates(data, few, keep=True).node_features(Mixing(len(data.tokenizer)))
    assert counting.count == 1, "the same weights in another process"
    for ours, theirs in zip(again, first, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = TextStates(data, few, keep=True).node_features(Mixing(len(data.tokenizer), seed=2))
    assert counting.count == 2
    assert not np.array_equal(other[0], first[0])
    encoder.product_dtype = "float16"
    TextStates(data, few, keep=True).node_features(encoder)
    assert counting.count == 3, "float16 arithmetic gives other states"
    data.manifest["sha256"] = "another"
    TextStates(data, few, keep=True).node_features(Mixing(len(data.tokenizer)))
    assert counting.count == 4


def test_vectors_come_from_the_cache_of_states_where_it_is_there(data, few) -> None:
    """A frozen encoder's node features cost nothing once its states are kept; an encoder that only has vectors encodes again."""
    encoder, calls = Mixing(len(data.tokenizer)), []
    encoder.mask = lambda ids: (calls.append(ids), ids != 0)[1]
    TextStates(data, few, keep=True).columns(encoder)
    encoded = len(calls)
    assert encoded
    features = TextStates(data, few, keep=True).node_features(encoder)
    assert len(calls) == encoded
    assert [folder.name.split("-")[0] for folder in (data.folder / CACHE).iterdir()] == ["states"]
    for ours, fresh in zip(features, TextStates(data, few, keep=False).node_features(encoder), strict=True):
        np.testing.assert_array_equal(ours, fresh)
    assert len(calls) > encoded


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "sums"])
def test_damaged_cache_is_computed_again(data, few, monkeypatch, harm) -> None:
    encoder, rows = Mixing(len(data.tokenizer)), np.arange(5)
    first = rows_of(TextStates(data, few, keep=True).columns(encoder), rows)
    first = {name: np.array(value) for name, value in first.items()}
    (folder,) = (data.folder / CACHE).iterdir()
    states = folder / "source_states.npy"
    whole = states.read_bytes()
    if harm == "missing":
        states.unlink()
    elif harm == "sums":
        (folder / "sums.json").write_text("{")
    else:
        states.write_bytes(whole[:-1] if harm == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    counting = Counting(monkeypatch)
    again = rows_of(TextStates(data, few, keep=True).columns(encoder), rows)
    assert counting.count == 1
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    assert states.read_bytes() == whole
    TextStates(data, few, keep=True).columns(encoder)
    assert counting.count == 1


def test_nothing_is_kept_of_weights_that_change(data, few) -> None:
    TextStates(data, few, keep=False).node_features(Mixing(len(data.tokenizer)))
    assert not (data.folder / CACHE).exists()


def test_the_prepared_folder_stays_whole_with_a_cache(data, few) -> None:
    TextStates(data, few, keep=True).columns(Mixing(len(data.tokenizer)))
    assert len(PreparedData(data.folder).arrays("validation")) == 22


@pytest.mark.slow
def test_frozen_encoder_trains_everything_else(data, few) -> None:
    given = {"encoder": "random:1x16", "decoder_layers": 1, "latent_size": 4, "latent_hidden": 8, "batch_size": 8, "warmup_steps": 0}
    settings = resolve("tiny", {**given, "freeze_encoder": True, "graph_fanout": "2", "graph_node_budget": 256})
    settings, encoder = initialize(settings, data, given)
    inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, few, "train"))
    system, _ = assembly.new_system(settings, inputs, encoder)
    texts = TextStates(data, few, keep=False)
    sampler = SubgraphSampler(data.graph, settings.fanout, settings.graph_node_budget)
    batches = pair_batches(data, few, 8, 1, sampler, further=[texts.columns(system.encoder)])
    system.before_epoch(0, texts)
    before = {name: v.numpy() for name, v in assembly.variables(system).items()}
    step = TrainStep(system, settings, None, compiled=False)
    assert set(step.optimizers) == {"rest"}
    for number, batch in enumerate(batches.dataset(0).take(2)):
        assert np.isfinite(step(batch, number)["objective"])
    assert step._run.experimental_get_tracing_count() == 1
    after = {name: v.numpy() for name, v in assembly.variables(system).items()}
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    trained = {name for name, v in assembly.variables(system).items() if any(v is other for other in system.trainable_variables)}
    assert not [name for name in changed if name.startswith("model/encoder")]
    assert changed <= trained
    assert len(changed) > len(trained) / 2
    assert system.encoder.variables


# -- dead dimensions --------------------------------------------------------------------------------------------------

DEAD = [2, 7, 11]


@pytest.mark.parametrize(
    ("scale", "wanted"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1e-7, 1.0, 2.0, 4.0, 0.09], [0.05, 1.0, 2.0, 4.0, 0.09]),
        ([0.0, 0.0, 0.0], [1e-6, 1e-6, 1e-6]),
        ([0.0, 0.02, 1.0, 1.0], [0.0505 / 2 + 0.00025, 0.0505 / 2 + 0.00025, 1.0, 1.0]),
    ],
)  # fmt: skip
def test_no_scale_is_under_a_twentieth_of_the_middle_one(scale, wanted) -> None:
    found = distinct_texts.floored(np.array(scale))
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found.dtype == np.float32


def test_features_and_text_scales_of_dead_dimensions_stay_small(data, few) -> None:
    """A dimension whose deviation is a millionth is not blown up to the size of the others."""
    encoder = Mixing(len(data.tokenizer))
    alive, _, _ = TextStates(data, few, keep=False).node_features(encoder)
    encoder.table.assign(encoder.table * tf.constant([1, 1, 1, 1, 1, 1e-6]))
    features, _, scale = TextStates(data, few, keep=False).node_features(encoder)
    assert np.abs(features[:, -1]).max() < 1e-4 * np.abs(alive[:, -1]).max()
    np.testing.assert_allclose(features[:, :-1], alive[:, :-1], rtol=1e-3, atol=1e-4)
    assert scale[-1] == pytest.approx(0.05 * np.median(scale), rel=1e-6)


def norms_of(data: PreparedData, arrays: SplitArrays, dead: list[int]) -> dict[str, float]:
    """Gradient norms by term, at the first step of a trained encoder whose last LayerNorm leaves some dimensions out."""
    given = {"encoder": "random:1x16", "decoder_layers": 1, "latent_size": 4, "latent_hidden": 8, "batch_size": len(arrays), "kl_ramp": 1}
    settings, encoder = initialize(resolve("tiny", given), data, given)
    system, _ = assembly.new_system(settings, assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, arrays, "train")), encoder)
    for weight in system.encoder.bert.transformer_layers[-1]._output_layer_norm.weights:  # gamma and beta, as all-MiniLM has them
        weight.assign(np.where(np.isin(np.arange(16), dead), 1e-7, weight.numpy()))
    system.before_epoch(0, TextStates(data, arrays, keep=False))
    step = TrainStep(system, settings, None, compiled=False)
    (batch,) = pair_batches(data, arrays, len(arrays), 1, system.sampler(data.graph)).dataset(0).take(1)
    tf.config.run_functions_eagerly(True)  # one step needs no graph
    try:
        return step.norms_by_term(batch, 0)
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.mark.slow
def test_a_dead_dimension_does_not_rule_the_gradient(data, monkeypatch) -> None:
    """Of texts with an unknown keyword, whose states come from the encoder; by the rule before, deviation + 1e-6, it does."""
    train = data.arrays("train")
    rows = np.flatnonzero((train.source_unknown > 0) & (train.target_unknown > 0))[:24]
    unknown = SplitArrays(**{field.name: getattr(train, field.name)[rows] for field in dataclasses.fields(train)})
    assert len(unknown) == 24
    alive, dead = norms_of(data, unknown, []), norms_of(data, unknown, DEAD)
    assert {"nll", "kl_objective", "ins", "key", "ma"} == alive.keys()
    for name, norm in dead.items():
        assert alive[name] / 10 < norm < 10 * alive[name], name
    monkeypatch.setattr(distinct_texts, "floored", lambda scale: scale + 1e-6)
    before = norms_of(data, unknown, DEAD)
    assert max(before[name] / alive[name] for name in alive) > 1000
