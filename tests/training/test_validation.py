"""Validation means against one pass over single examples, whatever the batch size; its fixed noise; summaries."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from toy_system import NOISE, read, toy, toy_settings

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.layers.noise import Noise
from hcl_tf.training.diagnostics import ACTIVE_VARIANCE, summarise
from hcl_tf.training.validation import MOST_ROWS, NOISE_STEP, Validation


@pytest.fixture(scope="module")
def trained(qqp_folder):
    """A toy away from its starting weights, the folder's data and its validation split."""
    system, _ = toy(qqp_folder, toy_settings())
    system.slope.assign([0.3, -0.2, 0.5, 1.5, -1.0])
    system.level.assign(0.7)
    data, _, held_out = read(qqp_folder)
    return system, data, held_out


def over(system, data, arrays, batch_size: int, seed: int = 1) -> Validation:
    """A validation in batches of a size."""
    return Validation(system, pair_batches(data, arrays, batch_size, impostors=system.impostors), seed)


def by_hand(system, arrays, seed: int) -> dict[str, float]:
    """Means over the split in float64, one example after the other."""
    slope, level = system.slope.numpy().astype(np.float64), float(system.level)
    totals, counts = {"nll": 0.0, "kl": 0.0, "key": 0.0}, {"examples": 0, "tokens": 0, "contrasted": 0}
    for row in range(len(arrays)):
        draw = float(Noise(seed, NOISE_STEP, tf.constant([row])).normal((1,))[0, 0])
        length = int((arrays.target_ids[row, 1:] != 0).sum())
        wanted = length / 10 + NOISE * draw
        inputs = np.array([(arrays.source_ids[row] % len(slope) == k).mean() for k in range(len(slope))])
        totals["nll"] += 0.5 * (inputs @ slope + level - wanted) ** 2
        totals["kl"] += 0.5 * (level - 2) ** 2
        counts["examples"] += 1
        counts["tokens"] += length
        if row % 3 == 0:
            totals["key"] += 0.5 * (slope.sum() - wanted) ** 2
            counts["contrasted"] += 1
    means = {"nll": totals["nll"] / counts["examples"], "nll_token": totals["nll"] / counts["tokens"]}
    means |= {"kl": totals["kl"] / counts["examples"], "key": totals["key"] / counts["contrasted"]}
    return means | {"loss": means["nll"] + means["kl"] + 0.5 * means["key"]}


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 5, 22, 1000])
def test_means_equal_a_pass_over_single_examples_whatever_the_batch_size(trained, batch_size) -> None:
    system, data, arrays = trained
    found = over(system, data, arrays, batch_size, seed=3).loss()
    for name, value in by_hand(system, arrays, 3).items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_the_last_batch_is_filled_up(trained) -> None:
    arrays = trained[2]
    masks = [batch["example_mask"].numpy() for batch in over(*trained, 5).batches.dataset(None)]
    assert sum(mask.sum() for mask in masks) == len(arrays) < 5 * len(masks)


@pytest.mark.slow
def test_noise_is_the_same_each_time_and_belongs_to_the_seed(trained) -> None:
    validation = over(*trained, 8, seed=1)
    assert validation.loss() == validation.loss()
    assert validation.loss()["nll"] != over(*trained, 8, seed=2).loss()["nll"]


def test_batches_are_no_larger_than_needed(trained) -> None:
    system, data, arrays = trained
    wide = SimpleNamespace(settings=toy_settings(batch_size=1000, seed=4), impostors=None)
    assert Validation.of_pairs(system, data, arrays).batches.batch_size == min(len(arrays), system.settings.batch_size)
    found = Validation.of_pairs(wide, data, arrays)
    assert (found.batches.batch_size, found.seed) == (len(arrays), 4)
    assert Validation.of_pairs(wide, data, read(data.folder)[1]).batches.batch_size == MOST_ROWS


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 5, 6, 10_000])
def test_means_over_the_first_examples_only(trained, most) -> None:
    system, data, arrays = trained
    rows = min(-(-most // 5) * 5, len(arrays))  # whole batches
    first = SplitArrays(**{field.name: getattr(arrays, field.name)[:rows] for field in dataclasses.fields(arrays)})
    for name, value in by_hand(system, first, 3).items():
        assert over(system, data, arrays, 5, seed=3).loss(most)[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("most", [0, 1, 8, 9])
def test_diagnose_gives_one_value_an_example_in_order(trained, most) -> None:
    system, data, arrays = trained
    found = over(system, data, arrays, 8).diagnose(most)["posterior_mean"]
    ids = arrays.source_ids
    wanted = np.stack([(ids % 5 == k).mean(1) for k in range(5)] + [np.zeros(len(ids))], 1)
    rows = len(ids) if not most else min(-(-most // 8) * 8, len(ids))  # whole batches
    np.testing.assert_allclose(found, wanted[:rows], atol=1e-6)


@pytest.mark.parametrize("numbers", [[3], [21, 0, 7], list(range(22))])
def test_rows_makes_batches_of_one_shape_no_larger_than_needed(trained, numbers) -> None:
    _, _, arrays = trained
    batches = list(over(*trained, 5).rows(np.array(numbers)))
    assert {batch["source_ids"].shape[0] for batch in batches} == {min(5, len(numbers))}
    kept = np.concatenate([batch["source_ids"].numpy()[batch["example_mask"].numpy() > 0] for batch in batches])
    np.testing.assert_array_equal(kept, arrays.source_ids[numbers])


def test_summary_means_leave_out_what_does_not_apply() -> None:
    nan = float("nan")
    varied, still = np.array([0.0, 1.0, -1.0, 0.0]), np.full(4, 3.0)
    edge = np.array([1.0, -1.0, 1.0, -1.0]) * np.sqrt(ACTIVE_VARIANCE)
    diagnostics = {
        "order": np.array([1.0, nan, 0.0, 1.0]),
        "never": np.full(4, nan),
        "kl_by_dimension": np.ones((4, 3)),
        "posterior_mean": np.stack([varied, still, edge * 0.99, edge * 1.01], 1),
    }
    found = summarise(diagnostics)
    assert found == {"order": pytest.approx(2 / 3), "active_units": 2}
    assert summarise({"order": np.array([1.0])}) == {"order": 1.0}


def test_units_that_only_follow_the_prior_are_not_active_beyond_it() -> None:
    """The first dimension's posterior moves with the prior, the second's against it, the third's not at all."""
    moving = np.linspace(-1.0, 1.0, 7)
    posterior = np.stack([moving, moving, np.full(7, 3.0)], 1)
    prior = np.stack([moving + 5.0, np.zeros(7), np.zeros(7)], 1)
    found = summarise({"posterior_mean": posterior, "posterior_shift": posterior - prior})
    assert found == {"active_units": 2, "active_units_beyond_prior": 1}
