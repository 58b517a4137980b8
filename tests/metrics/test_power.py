"""What a comparison can show, against what is known in closed form and against tables drawn whole."""

import numpy as np
import pytest
from scipy import stats

from hcl_tf.metrics.crossed import CrossedMean, crossed_mean
from hcl_tf.metrics.power import Components, equal_found, false_alarms, simulate, smallest_found

PARTS = Components(0.3, 60.0, 150.0)  # of BLEU-2 in points, about as runs have them


def test_tables_have_the_variances_that_were_asked_for():
    tables = list(simulate(Components(1.0, 4.0, 9.0), 8, 100, 2.0, 400))
    found = [crossed_mean(table) for table in tables]
    for name, value in (("of_seeds", 1.0), ("of_sentences", 4.0), ("of_rest", 9.0)):
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(value, rel=0.15)
    assert np.mean([one.value for one in found]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("sentences", [50, 400, 3000])
def test_the_mean_varies_as_that_of_all_sentences_would(sentences):
    means = [table.mean() for table in simulate(PARTS, 5, sentences, 0.0, 4000)]
    expected = PARTS.of_seeds / 5 + PARTS.of_sentences / sentences + PARTS.of_rest / (5 * sentences)
    assert np.var(means) == pytest.approx(expected, rel=0.08)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "low", "high"), [(3, 0.05, 0.10), (5, 0.02, 0.065), (10, 0.02, 0.06)])
def test_sets_that_do_not_differ_are_called_different_at_about_the_stated_rate(seeds, low, high):
    """Of 20 comparisons one is wrong by design. With three seeds more are, so rows with so few get no verdict."""
    assert low <= false_alarms(PARTS, seeds, 3000, times=4000) <= high


@pytest.mark.slow
def test_of_seeds_alone_the_smallest_difference_is_that_of_the_t_test():
    """With sentences that vary by nothing this is a one-sample t-test over seeds, whose power the noncentral t distribution gives."""
    found = smallest_found(Components(1.0, 0.0, 0.0), 5, 100, times=20_000)
    limit, root = stats.t.ppf(0.975, 4), np.sqrt(5)
    exact = min(d for d in np.arange(0.5, 4, 0.002) if 1 - stats.nct.cdf(limit, 4, d * root) >= 0.8)
    assert found == pytest.approx(exact, rel=0.03)


@pytest.mark.slow
def test_more_seeds_show_smaller_differences_and_a_shown_one_is_found_as_often_as_promised():
    few, many = (smallest_found(PARTS, seeds, 3000) for seeds in (3, 8))
    assert many < few
    found = [crossed_mean(table).low > 0 for table in simulate(PARTS, 8, 3000, many, 2000, seed=9)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
def test_of_seeds_alone_equal_systems_are_found_as_often_as_two_t_tests_find_them():
    """With sentences that vary by nothing: |mean| + t s / sqrt(n) below the margin, over draws of means and deviations."""
    found, draw = equal_found(Components(0.1, 0.0, 0.0), 6, 100, 0.5, times=20_000), np.random.default_rng(3)
    seeds = np.sqrt(0.1) * draw.normal(size=(200_000, 6))
    half = stats.t.ppf(0.95, 5) * seeds.std(1, ddof=1) / np.sqrt(6)
    assert found == pytest.approx(np.mean(np.abs(seeds.mean(1)) + half < 0.5), abs=0.01)


def test_a_difference_that_is_shown_is_none_that_is_found_equal():
    """Of a margin that every interval lies within, what is left is how often 0 lies in the other interval."""
    for level in (0.90, 0.95):
        alarms = false_alarms(PARTS, 6, 300, level, times=300)
        assert equal_found(PARTS, 6, 300, 1e9, level, times=300) == pytest.approx(1 - alarms)


def test_components_are_read_from_an_analysis():
    assert Components.of(CrossedMean(1.0, 0.0, 2.0, 4.0, 0.1, 0.2, 0.3, 0.5)) == Components(0.1, 0.2, 0.3)
