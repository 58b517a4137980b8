"""Examples that share a text count as one unit: the same mean, and an interval that knows of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.metrics.units import by_unit


def in_a_loop(values: np.ndarray, units: list[int]) -> np.ndarray:
    """The same by the formula, a unit at a time."""
    mean, names = values.mean(), sorted(set(units))
    found = np.zeros((len(values), len(names)))
    for row, line in enumerate(values):
        for column, name in enumerate(names):
            own = [value for value, unit in zip(line, units, strict=True) if unit == name]
            found[row, column] = mean + len(names) / len(units) * (sum(own) - len(own) * mean)
    return found


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_it_is_the_formula_and_keeps_every_mean(data):
    count, seeds = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    units = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).normal(3, 2, (seeds, count))
    found = by_unit(values, np.array(units))
    assert found.mean() == pytest.approx(values.mean())
    np.testing.assert_allclose(found.mean(1), values.mean(1))
    if len(set(units)) < count:
        np.testing.assert_allclose(found, in_a_loop(values, units))


def test_where_each_is_a_unit_of_its_own_nothing_changes():
    values = np.arange(6.0).reshape(2, 3)
    assert by_unit(values, None) is values
    np.testing.assert_array_equal(by_unit(values, np.array([5, 1, 3])), values)


def test_the_interval_covers_as_it_says_where_examples_of_a_unit_are_alike():
    """Units of one to twelve examples, whose differences share half of their variance: 95% said, and far less if they are taken apart."""
    draw, covered, apart = np.random.default_rng(1), 0, 0
    sizes = np.tile([1, 1, 1, 2, 3, 12], 20)
    units = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(400):
        shared, own = draw.normal(0, 1, len(sizes))[units], draw.normal(0, 1, (5, len(units)))
        table = draw.normal(0, 0.1, (5, 1)) + shared + own
        one, other = crossed_mean(by_unit(table, units)), crossed_mean(table)
        covered, apart = covered + (one.low <= 0 <= one.high), apart + (other.low <= 0 <= other.high)
    assert 0.90 <= covered / 400 <= 0.99
    assert apart / 400 < 0.80
