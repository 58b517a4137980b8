"""The bootstrap against its closed form, exact enumeration and cases whose answer is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.metrics import significance
from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.metrics.significance import (
    compare_paired,
    confidence_interval,
    means,
    paired_bootstrap,
    percentiles,
    resample,
    resampled,
    resampled_means,
)

VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=12).map(np.array)


def test_every_resample_draws_as_many_sentences_as_there_are_whatever_the_blocks(monkeypatch):
    whole = np.concatenate(list(resample(7, 50, seed=3)))
    assert whole.shape == (50, 7)
    assert (whole.sum(axis=1) == 7).all()
    for block in (1, 20, 49):
        monkeypatch.setattr(significance, "_BLOCK", block)
        significance._kept.cache_clear()
        np.testing.assert_array_equal(np.concatenate(list(resample(7, 50, seed=3))), whole)
    assert (np.concatenate(list(resample(7, 50, seed=4))) != whole).any()


def test_resamples_are_the_same_whether_they_are_kept_or_drawn_anew(monkeypatch):
    kept = [np.concatenate(list(resample(300, 50, seed=3))) for _ in range(2)]
    monkeypatch.setattr(significance, "_KEPT", 0)
    monkeypatch.setattr(significance, "_kept", None)
    anew = np.concatenate(list(resample(300, 50, seed=3)))
    for one in kept:
        np.testing.assert_array_equal(one, anew)
    assert anew.dtype == kept[0].dtype == np.float64


def test_all_resamples_of_three_sentences_are_equally_likely():
    rows = np.concatenate(list(resample(3, 40_000, seed=1)))
    draws = list(itertools.product(range(3), repeat=3))
    for counts in {tuple(sorted(draw)) for draw in draws}:
        probability = sum(tuple(sorted(draw)) == counts for draw in draws) / len(draws)
        found = (rows == np.bincount(counts, minlength=3)).all(axis=1).mean()
        assert abs(found - probability) < 5 * math.sqrt(probability / 40_000)


def test_the_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(5).gamma(2.0, size=800)
    low, high = confidence_interval(values)
    error = values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.06 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.06 * error)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.integers(0, 5))
def test_the_interval_lies_between_the_extremes_and_moves_with_the_values(values, seed):
    low, high = confidence_interval(values, resamples=200, seed=seed)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    assert confidence_interval(values, resamples=200, seed=seed) == (low, high)
    assert confidence_interval(2 * values + 1, resamples=200, seed=seed) == pytest.approx((2 * low + 1, 2 * high + 1), abs=1e-9)
    inner = confidence_interval(values, level=0.5, resamples=200, seed=seed)
    assert low - 1e-9 <= inner[0] <= inner[1] <= high + 1e-9


def test_missing_values_are_left_out_of_each_resample():
    values = np.array([[1.0, 5.0, np.nan], [np.nan, 7.0, np.nan], [3.0, 9.0, np.nan]])
    found = resampled_means(values, 300, seed=2)
    for row, weights in zip(found, np.concatenate(list(resample(3, 300, seed=2))), strict=True):
        drawn = [i for i, times in enumerate(weights.astype(int)) for _ in range(times)]
        known = [values[i, 0] for i in drawn if i != 1]
        np.testing.assert_allclose(row, [np.mean(known) if known else np.nan, values[drawn, 1].mean(), np.nan])
    assert np.isnan(found[:, 0]).any()
    assert 1 <= confidence_interval(values[:, 0])[0] <= confidence_interval(values[:, 0])[1] <= 3
    assert all(map(math.isnan, confidence_interval(values[:, 2])))
    assert all(map(math.isnan, percentiles(np.array([]))))


def test_any_statistic_of_the_sums_can_be_resampled():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    found = resampled(values, lambda sums: sums[:, 0] / sums[:, 1], 40, seed=6)
    weights = np.concatenate(list(resample(3, 40, seed=6)))
    np.testing.assert_allclose(found, (weights @ values[:, 0]) / (weights @ values[:, 1]))


def test_paired_p_values_against_all_resamples_of_five_sentences():
    a, b = np.array([3.0, 1.0, 4.0, 1.0, 5.0]), np.array([2.0, 2.5, 1.0, 0.5, 4.5])
    differences = a - b
    means = [np.mean(draw) for draw in itertools.product(differences, repeat=5)]
    exact = 2 * np.mean([mean <= 0 for mean in means])
    found = paired_bootstrap(a, b)
    assert 0.05 < exact < 0.5
    assert found.p_value == pytest.approx(exact, abs=0.012)  # some four standard errors
    assert (found.sentences, found.difference) == (5, pytest.approx(differences.mean()))
    assert found.low == pytest.approx(np.percentile(means, 2.5), abs=0.1)
    assert found.high == pytest.approx(np.percentile(means, 97.5), abs=0.1)


def test_certain_and_absent_differences():
    a = np.arange(20.0)
    assert paired_bootstrap(a + 1, a).p_value == 2 / 10_001
    assert paired_bootstrap(a - 1, a).p_value == 2 / 10_001
    assert paired_bootstrap(a, a).p_value == 1.0
    assert paired_bootstrap(a, a[::-1]).p_value == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n)] * 2)))
def test_swapping_the_systems_turns_the_difference_round(values):
    a, b = (np.array(part, np.float64) for part in values)
    one, other = paired_bootstrap(a, b, resamples=300), paired_bootstrap(b, a, resamples=300)
    assert (one.difference, one.p_value) == (-other.difference, other.p_value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert 0 < one.p_value <= 1


def test_sentences_without_both_scores_are_left_out():
    a, b = np.array([1.0, np.nan, 3.0, 4.0]), np.array([0.0, 1.0, np.nan, 2.0])
    assert paired_bootstrap(a, b) == paired_bootstrap(a[[0, 3]], b[[0, 3]])
    assert paired_bootstrap(a, b).sentences == 2


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], []), ([np.nan], [1.0]), ([[1.0]], [[1.0]])])
def test_what_can_not_be_compared_is_refused(a, b):
    with pytest.raises(ValueError):
        paired_bootstrap(np.array(a), np.array(b))


def test_paired_differences_are_crossed_over_seeds_and_sentences_and_of_one_seed_resampled():
    draw = np.random.default_rng(2).normal(0.2, 1, (3, 40))
    crossed, found = crossed_mean(draw), compare_paired(draw)
    assert (found.difference, found.low, found.high, found.p_value) == (crossed.value, crossed.low, crossed.high, crossed.p)
    assert compare_paired(draw[:1]) == paired_bootstrap(draw[0], np.zeros(40))
    assert (compare_paired(draw[:1]).low, compare_paired(draw[:1]).high) == tuple(means({"": draw[0]})[""][end] for end in ("low", "high"))


def test_whole_units_are_resampled():
    """By hand: the sums of three units, drawn with the same numbers."""
    units = np.array([0, 0, 0, 1, 2, 2])
    values = np.array([[1.0, 5.0], [2.0, np.nan], [6.0, 1.0], [4.0, 4.0], [0.0, 2.0], [np.nan, 8.0]])
    sums = np.array([[9.0, 6.0], [4.0, 4.0], [0.0, 10.0]])
    counts = np.array([[3, 2], [1, 1], [1, 2]])
    drawn = np.concatenate(list(resample(3, 50, seed=7)))
    np.testing.assert_allclose(resampled_means(values, 50, 7, units), (drawn @ sums) / (drawn @ counts))
    columns = {"a": values[:, 0], "b": values[:, 1]}
    found, apart = means(columns, units), means(columns)
    assert [found[name]["value"] for name in columns] == [apart[name]["value"] for name in columns] == [13 / 5, 4.0]
    assert [found[name]["examples"] for name in columns] == [5, 5]
    assert found["a"]["high"] != apart["a"]["high"]
