"""Verdicts by their rule; Holm's correction against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl_tf.metrics.decision import DESCRIPTIVE, LOSS, NO, UNDECIDED, YES, holm, verdict


def table(mean: float, spread: float = 1.0, seeds: int = 6) -> np.ndarray:
    """Differences whose mean is exactly this one."""
    draw = np.random.default_rng(1).normal(0, spread, (seeds, 200))
    return draw - draw.mean() + mean


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (table(1.0), YES), (table(-1.0), LOSS), (table(0.0), NO), (table(0.1, 14.0), UNDECIDED), (table(0.45, 1.5), YES),
        (table(1.0, seeds=4), DESCRIPTIVE), (table(0.0, seeds=2), DESCRIPTIVE),
    ],
)  # fmt: skip
def test_what_a_comparison_says(differences, expected):
    assert verdict(differences, 0.5) == expected


def test_a_difference_that_is_there_and_small_is_yes_and_not_no():
    assert verdict(table(0.3, 0.5), 0.5) == YES


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    """At any level: the hypotheses in the order of p, each at level / those that are left, until the first that stays."""
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected, left = set(), len(p_values)
        for place in np.argsort(p_values, kind="stable"):
            if left * p_values[place] > level:
                break
            rejected.add(int(place))
            left -= 1
        assert {place for place, p in enumerate(corrected) if p <= level} == rejected
    assert all(found >= p for found, p in zip(corrected, p_values, strict=True))
    assert max(corrected) <= 1


def test_holm_of_two():
    assert holm([0.04, 0.03]) == [pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.001, 0.04]) == [pytest.approx(0.002), pytest.approx(0.04)]
    assert holm([]) == []


def test_holm_counts_planned_tests_that_have_no_p_value_yet_as_larger():
    assert holm([0.01, 0.02], 5) == [pytest.approx(0.05), pytest.approx(0.08)]
    assert holm([0.01, 0.02], 5) == holm([0.01, 0.02, 1.0, 1.0, 1.0])[:2]
