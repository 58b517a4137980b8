"""Batches of any examples: what `Batches` does that is not about pairs, on single texts."""

import numpy as np
import pytest
import tensorflow as tf
from epochs import assert_same, epoch_of, real_rows

from hcl_tf.data.batching.batches import Batches, Place
from hcl_tf.errors import UserError

LENGTH, COUNT = 4, 23
TEXTS = np.arange(COUNT * LENGTH, dtype=np.int32).reshape(COUNT, LENGTH)


def texts(rows: np.ndarray, filled: np.ndarray, place: Place) -> dict[str, np.ndarray]:
    """Columns of a corpus of single texts: nothing of a source, a target or keywords."""
    return {"text_ids": np.where(filled[:, None], 0, TEXTS[rows])}


def hidden(rows: np.ndarray, filled: np.ndarray, place: Place) -> dict[str, np.ndarray]:
    """Columns that are drawn: which tokens to hide, and a number of the batch as a whole."""
    draw = place.random()
    return {"hidden": draw.random((len(rows), LENGTH)) < 0.5, "graph_number": np.array([draw.integers(1000)], np.int32)}


def of_texts(batch_size: int = 5, seed: int = 1, count: int = COUNT, columns=(texts, hidden)) -> Batches:
    return Batches(count, batch_size, columns, seed)


@pytest.mark.parametrize("batch_size", [1, 5, COUNT - 1, COUNT, COUNT + 1, 1000])
@pytest.mark.parametrize("epoch", [None, 0, 3])
def test_every_text_comes_once_an_epoch(batch_size, epoch):
    batches = of_texts(batch_size)
    seen = epoch_of(batches, epoch)
    assert len(seen) == len(batches) == len(batches.plan(epoch)) == -(-COUNT // batch_size)
    rows = real_rows(seen)
    assert sorted(rows) == list(range(COUNT))
    if epoch is None:
        assert rows.tolist() == list(range(COUNT))
    for batch in seen:
        assert batch.keys() == {"example_rows", "example_mask", "text_ids", "hidden", "graph_number"}
        assert batch["text_ids"].shape == (batch_size, LENGTH)
        real = batch["example_mask"] == 1
        assert real[0]
        assert (np.diff(batch["example_mask"]) <= 0).all()
        np.testing.assert_array_equal(batch["text_ids"][real], TEXTS[batch["example_rows"][real]])
        np.testing.assert_array_equal(batch["text_ids"][~real], 0, "columns are told which rows fill up")
        assert (batch["example_rows"][~real] == batch["example_rows"][0]).all()


def test_order_and_draws_are_a_function_of_seed_epoch_and_number():
    first = epoch_of(of_texts(), 0)
    assert_same(first, epoch_of(of_texts(), 0))
    for seed, epoch in ((2, 0), (1, 1), (1, None)):
        assert real_rows(epoch_of(of_texts(seed=seed), epoch)).tolist() != real_rows(first).tolist()
    rows = np.arange(5)
    drawn = [of_texts(seed=seed).make(rows, *place)["hidden"].tolist() for seed, *place in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))]
    assert all(one != other for i, one in enumerate(drawn) for other in drawn[:i])


@pytest.mark.parametrize("epoch", [None, 2])
def test_starting_late_gives_the_tail_and_each_batch_is_what_make_gives(epoch):
    batches = of_texts(seed=3)
    whole, rows = epoch_of(batches, epoch), batches.plan(epoch)
    for start in range(len(whole) + 1):
        assert_same(epoch_of(batches, epoch, start), whole[start:])
    assert_same([batches.make(rows[i], epoch or 0, i) for i in range(len(rows))], whole)


def test_streams_of_a_place_have_nothing_to_do_with_each_other():
    place = Place(1, 2, 3)
    first, again, other = (place.random(stream).random(8).tolist() for stream in (0, 0, 1))
    assert first == again == np.random.default_rng([1, 2, 3]).random(8).tolist()
    assert other == np.random.default_rng([1, 2, 3, 1]).random(8).tolist() != first


def test_later_columns_see_no_other_numbers_because_of_earlier_ones():
    both, alone = of_texts().make(np.arange(5), 1, 2), of_texts(columns=(hidden,)).make(np.arange(5), 1, 2)
    np.testing.assert_array_equal(both["hidden"], alone["hidden"])


def test_tensors_have_one_static_shape_and_one_trace():
    traced = []

    @tf.function
    def step(batch):
        traced.append(batch["text_ids"].shape)
        return tf.reduce_sum(batch["example_mask"])

    batches = of_texts()
    for epoch in range(2):
        dataset = batches.dataset(epoch)
        assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in dataset.element_spec.items()} == {
            "example_rows": ([5], tf.int32), "example_mask": ([5], tf.float32), "text_ids": ([5, LENGTH], tf.int32),
            "hidden": ([5, LENGTH], tf.bool), "graph_number": ([1], tf.int32),
        }  # fmt: skip
        assert sum(float(step(batch)) for batch in dataset) == COUNT
    assert traced == [[5, LENGTH]]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(batch_size):
    with pytest.raises(UserError, match=f"--batch_size={batch_size}: at least 1 is expected"):
        of_texts(batch_size)
