"""The interval over seeds and sentences: against a hand computation, against known limits, and by how often it holds the truth."""

import numpy as np
import pytest
from scipy import stats

from hcl_tf.metrics.crossed import crossed_mean


def made(draw: np.random.Generator, seeds: int, sentences: int, of_seeds: float, of_sentences: float, of_rest: float) -> np.ndarray:
    """A table around 0, of effects with these deviations."""
    effects = of_seeds * draw.normal(size=(seeds, 1)) + of_sentences * draw.normal(size=(1, sentences))
    return effects + of_rest * draw.normal(size=(seeds, sentences))


def test_of_a_small_table_by_hand():
    table = [[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]]
    found = crossed_mean(np.array(table))
    rows, columns = [sum(row) / 3 for row in table], [(table[0][j] + table[1][j]) / 2 for j in range(3)]
    mean = sum(rows) / 2
    squares = (
        3 * sum((row - mean) ** 2 for row in rows) / 1,
        2 * sum((column - mean) ** 2 for column in columns) / 2,
        sum((table[i][j] - rows[i] - columns[j] + mean) ** 2 for i in range(2) for j in range(3)) / 2,
    )
    total = squares[0] + squares[1] - squares[2]
    assert found.value == mean == 3.5
    if total >= max(squares[:2]):
        freedom = total**2 / (squares[0] ** 2 / 1 + squares[1] ** 2 / 2 + squares[2] ** 2 / 2)
    else:
        total, freedom = (squares[1], 2.0) if squares[1] > squares[0] else (squares[0], 1.0)
    half = stats.t.ppf(0.975, freedom) * (total / 6) ** 0.5
    assert (found.low, found.high) == (pytest.approx(mean - half), pytest.approx(mean + half))


def test_without_differences_between_seeds_it_is_the_t_interval_over_sentences():
    sentences = np.random.default_rng(1).normal(1, 2, 200)
    found = crossed_mean(np.tile(sentences, (4, 1)))
    low, high = stats.t.interval(0.95, 199, sentences.mean(), stats.sem(sentences))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.of_seeds, found.of_rest) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))


def test_without_differences_between_sentences_it_is_the_t_interval_over_seeds():
    seeds = np.random.default_rng(2).normal(1, 2, 5)
    found = crossed_mean(np.tile(seeds[:, None], (1, 300)))
    low, high = stats.t.interval(0.95, 4, seeds.mean(), stats.sem(seeds))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("deviations", [(0.5, 3.0, 6.0), (0.1, 3.0, 6.0), (0.0, 3.0, 6.0), (1.0, 0.0, 1.0)], ids=str)
def test_it_holds_the_truth_as_often_as_it_says(deviations):
    """2,000 experiments of 5 seeds; a share of 0.95 has a deviation of 0.005."""
    draw = np.random.default_rng(3)
    found = [crossed_mean(made(draw, 5, 60, *deviations)) for _ in range(2000)]
    assert 0.93 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.995


def test_variances_of_the_effects_come_back():
    draw = np.random.default_rng(4)
    found = [crossed_mean(made(draw, 8, 100, 1.0, 2.0, 3.0)) for _ in range(300)]
    means = [np.mean([getattr(one, name) for one in found]) for name in ("of_seeds", "of_sentences", "of_rest")]
    assert means == [pytest.approx(1.0, rel=0.15), pytest.approx(4.0, rel=0.05), pytest.approx(9.0, rel=0.02)]


@pytest.mark.parametrize("table", [np.zeros((1, 5)), np.zeros((5, 1)), np.zeros(5), np.array([[1.0, np.nan], [0.0, 1.0]])], ids=str)
def test_too_little_or_a_gap_is_refused(table):
    with pytest.raises(ValueError, match="two seeds and two sentences"):
        crossed_mean(table)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_p_is_the_level_whose_interval_ends_at_0(level):
    table = made(np.random.default_rng(6), 5, 40, 0.5, 2.0, 3.0) + 0.8
    found = crossed_mean(table, level)
    assert (found.low > 0 or found.high < 0) == (found.p < 1 - level)
    edge = crossed_mean(table, 1 - found.p)
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-9)


def test_p_of_constant_tables():
    assert crossed_mean(np.zeros((3, 4))).p == 1.0
    assert crossed_mean(np.full((3, 4), 2.0)).p == 0.0
