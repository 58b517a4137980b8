"""Batches of pairs: every example once an epoch, in an order that (seed, epoch) decides, with its own keywords."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import prepare_sample
from epochs import assert_same, epoch_of, real_rows

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.keywords.subgraph import CAPS, ROUTES, SubgraphSampler, describe_caps
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError

TASKS = ("qqp", "douban", "rocstories")


@pytest.fixture(scope="module")
def sampler(data) -> SubgraphSampler:
    return SubgraphSampler(data.graph, (3, 2), 512)


# --- order


@pytest.mark.parametrize("with_sampler", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("batch_size", [7, 36, 60])
@pytest.mark.parametrize("epoch", [None, 0, 3])
def test_every_example_comes_exactly_once_an_epoch(data, arrays, sampler, batch_size, epoch, with_sampler):
    batches = pair_batches(data, arrays, batch_size, sampler=sampler if with_sampler else None)
    seen = epoch_of(batches, epoch)
    np.testing.assert_array_equal(np.sort(real_rows(seen)), np.arange(len(arrays)))
    assert len(seen) == len(batches)
    for batch in seen:
        assert set(np.unique(batch["example_mask"])) <= {0.0, 1.0}
        assert (np.diff(batch["example_mask"]) <= 0).all()
    assert sum((batch["example_mask"] == 0).any() for batch in seen) <= 1


@pytest.mark.parametrize("batch_size", [1, 396, 397, 1000])
def test_plan_has_every_example_once_at_extreme_batch_sizes(data, arrays, batch_size):
    batches = pair_batches(data, arrays, batch_size)
    rows = batches.plan(1)
    assert rows.shape == (len(batches), batch_size)
    np.testing.assert_array_equal(np.sort(rows[rows >= 0]), np.arange(len(arrays)))
    assert (rows[:, 0] >= 0).all()


def test_without_an_epoch_examples_come_in_the_corpuss_order(data, arrays):
    np.testing.assert_array_equal(real_rows(epoch_of(pair_batches(data, arrays, 50), None)), np.arange(len(arrays)))


def test_order_and_subgraphs_are_a_function_of_seed_and_epoch(data, arrays, sampler):
    def epoch(seed, number):
        return epoch_of(pair_batches(data, arrays, 32, seed, sampler), number)

    first = epoch(1, 0)
    assert_same(first, epoch(1, 0))
    for other in (epoch(1, 1), epoch(2, 0), epoch(2, 1), epoch(1, None)):
        assert (real_rows(first) != real_rows(other)).mean() > 0.9


def test_subgraphs_of_the_same_batch_differ_with_seed_epoch_and_number(data, arrays, sampler):
    def drawn(seed, epoch, number):
        return pair_batches(data, arrays, 32, seed, sampler).make(np.arange(32), epoch, number)["graph_neighbours"].tolist()

    variants = [drawn(*key) for key in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))]
    assert all(one != other for i, one in enumerate(variants) for other in variants[:i])


@pytest.mark.parametrize("with_sampler", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("epoch", [None, 2])
def test_starting_late_gives_the_tail_and_each_batch_is_what_make_gives(data, arrays, sampler, with_sampler, epoch):
    batches = pair_batches(data, arrays, 60, 3, sampler if with_sampler else None)
    whole = epoch_of(batches, epoch)
    for start in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        assert_same(epoch_of(batches, epoch, start), whole[start:])
    rows = batches.plan(epoch)
    assert_same([batches.make(rows[i], epoch or 0, i) for i in range(len(rows))], whole)


# --- content


def test_batches_hold_their_examples_texts(data, arrays, sampler):
    for batch in epoch_of(pair_batches(data, arrays, 60, sampler=sampler), 0):
        rows = batch["example_rows"]
        np.testing.assert_array_equal(batch["source_ids"], arrays.source_ids[rows])
        np.testing.assert_array_equal(batch["target_ids"], arrays.target_ids[rows])
        np.testing.assert_array_equal(batch["negative_ids"], arrays.negative_ids[rows])


@pytest.mark.parametrize("with_sampler", [pytest.param(False, marks=pytest.mark.slow), True])
def test_rows_that_fill_up_are_real_texts_without_keywords(data, arrays, sampler, with_sampler):
    seen = epoch_of(pair_batches(data, arrays, 47, sampler=sampler if with_sampler else None), 1)
    filled = 0
    for batch in seen:
        empty = batch["example_mask"] == 0
        filled += empty.sum()
        assert (batch["source_ids"][empty, 0] == data.tokenizer.cls_id).all()
        assert (batch["source_ids"][empty] == data.tokenizer.sep_id).any(1).all()
        for name in ("source_nodes", "target_nodes", "impostor_nodes"):
            assert (batch[name][empty] == UNKNOWN).all()
        assert (batch["impostor_routes"][empty] == ROUTES.index("none")).all()
    assert filled == len(seen) * 47 - len(arrays) > 0


def test_filled_up_rows_do_not_touch_the_subgraph(data, arrays):
    """What fills up repeats a row, yet its keywords are neither drawn nor counted."""
    rows, sampler = np.array([5, 9, -1, -1]), SubgraphSampler(data.graph, (16, 16), 512)  # no cap binds
    short, long = (pair_batches(data, arrays, len(part), sampler=sampler).make(part, 0, 0) for part in (rows[:2], rows))
    for name in ("graph_nodes", "graph_neighbours", "graph_caps"):
        np.testing.assert_array_equal(long[name], short[name])


def test_without_a_sampler_node_numbers_are_the_whole_graphs(data, arrays):
    seen = 0
    for batch in epoch_of(pair_batches(data, arrays, 60), 0):
        assert not {"graph_nodes", "graph_neighbours", "graph_caps"} & batch.keys()
        for i in np.flatnonzero(batch["example_mask"]):
            row = batch["example_rows"][i]
            np.testing.assert_array_equal(batch["source_nodes"][i], arrays.source_nodes[row])
            np.testing.assert_array_equal(batch["target_nodes"][i], arrays.target_nodes[row])
            if ROUTES[batch["impostor_routes"][i]] == "graph":
                for target, impostors in zip(batch["target_nodes"][i], batch["impostor_nodes"][i], strict=True):
                    allowed = data.graph.neighbours(target, graph.NEGATIVE) if target != UNKNOWN else []
                    assert set(impostors[impostors != UNKNOWN]) <= set(allowed)
                seen += 1
    assert seen > 0


def test_with_a_sampler_places_lead_to_the_same_nodes(data, arrays, sampler):
    for batch in epoch_of(pair_batches(data, arrays, 60, sampler=sampler), 0):
        real = batch["example_mask"] == 1
        for role in ("source", "target"):
            places = batch[f"{role}_nodes"][real]
            numbers = np.where(places == UNKNOWN, UNKNOWN, batch["graph_nodes"][places])
            np.testing.assert_array_equal(numbers, getattr(arrays, f"{role}_nodes")[batch["example_rows"][real]])


@pytest.mark.slow
@pytest.mark.parametrize("with_sampler", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_empty_graph_gives_batches_without_keywords(tmp_path, with_sampler):
    data = PreparedData(prepare_sample(tmp_path / "qqp", "qqp", min_keyword_count=10_000))
    assert len(data.graph) == 0
    batches = pair_batches(data, data.arrays("train"), 60, sampler=SubgraphSampler(data.graph, (3, 2), 512) if with_sampler else None)
    seen = epoch_of(batches, 0)
    assert len(real_rows(seen)) == batches.count
    for batch in seen:
        assert all((batch[name] == UNKNOWN).all() for name in ("source_nodes", "target_nodes", "impostor_nodes"))
        assert (batch["impostor_routes"] == ROUTES.index("none")).all()


# --- shapes


@pytest.mark.parametrize("with_sampler", [pytest.param(False, marks=pytest.mark.slow), True])
def test_there_is_one_static_shape(data, arrays, sampler, with_sampler):
    dataset = pair_batches(data, arrays, 60, sampler=sampler if with_sampler else None).dataset(0)
    assert all(spec.shape.is_fully_defined() for spec in dataset.element_spec.values())
    assert dataset.element_spec["source_ids"].shape == [60, 22]
    for batch in dataset:
        for name, spec in dataset.element_spec.items():
            assert (batch[name].shape, batch[name].dtype) == (spec.shape, spec.dtype)


def test_a_function_over_the_batches_is_traced_once(data, arrays, sampler):
    traced = []

    @tf.function
    def step(batch):
        traced.append(batch["source_ids"].shape)
        return tf.reduce_sum(batch["example_mask"])

    batches = pair_batches(data, arrays, 60, sampler=sampler)
    for epoch in range(2):
        assert sum(float(step(batch)) for batch in batches.dataset(epoch)) == len(arrays)
    assert len(traced) == 1


# --- refusals


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(data, arrays, batch_size):
    with pytest.raises(UserError, match=f"--batch_size={batch_size}"):
        pair_batches(data, arrays, batch_size)


def test_node_budget_too_small_for_the_batch_is_refused(data, arrays, sampler):
    pair_batches(data, arrays, 64, sampler=sampler)  # 64 * 2 * 4 = 512
    with pytest.raises(UserError, match="--graph_node_budget=512"):
        pair_batches(data, arrays, 65, sampler=sampler)


# --- the whole


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_three_epochs_over_the_sample_with_subgraphs(task, request):
    data = PreparedData(request.getfixturevalue(f"{task}_folder"))
    arrays = data.arrays("train")
    batches = pair_batches(data, arrays, 64, sampler=SubgraphSampler(data.graph))
    caps = np.zeros(len(CAPS), np.int64)
    for epoch in range(3):
        total = examples = 0
        for batch in batches.dataset(epoch).as_numpy_iterator():
            total += int((batch["example_rows"] * batch["example_mask"]).sum())
            examples += int(batch["example_mask"].sum())
            caps += batch["graph_caps"]
        assert (total, examples) == (len(arrays) * (len(arrays) - 1) // 2, len(arrays))
    assert "of" in describe_caps(caps)
    assert caps[1] > 0
