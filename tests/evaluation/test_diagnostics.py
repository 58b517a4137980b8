"""Means, differences and the verdict, against values computed by hand."""

import numpy as np
import pytest

from hcl_tf.evaluation import diagnostics
from hcl_tf.models.hcl import HCL


def made(gap: np.ndarray, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Diagnostics in which another example's z costs `gap` nats."""
    base = np.random.default_rng(0).normal(50.0, 10.0, len(gap))
    return {"nll_posterior": base, "nll_shuffled": base + gap, **more}


def summary(values: dict[str, np.ndarray]) -> dict:
    """With what the paper's model compares."""
    return diagnostics.summary(values, HCL.comparisons)


def test_a_clear_gap_is_no_collapse_though_single_intervals_overlap():
    found = summary(made(np.random.default_rng(1).normal(0.5, 0.5, 100)))
    means, gap = found["means"], found["differences"]["nll_shuffled_minus_posterior"]
    assert means["nll_posterior"]["high"] > means["nll_shuffled"]["low"]
    assert gap["low"] > 0
    assert found["collapsed"] is False


@pytest.mark.parametrize("gap", [np.zeros(50), np.tile([1.0, -1.0], 25), np.full(50, -1.0)], ids=["none", "either way", "wrong way"])
def test_without_a_certain_gap_the_run_is_collapsed(gap):
    found = summary(made(gap))
    assert found["collapsed"] is True
    assert any(line.startswith("COLLAPSED") for line in diagnostics.lines(found))


def test_differences_are_paired_and_leave_out_what_has_no_value():
    nan = float("nan")
    found = summary({"nll_prior": np.array([1.0, 2.0, nan, 4.0]), "nll_prior_u_unknown": np.array([2.0, nan, 9.0, 7.0])})
    entry = found["differences"]["nll_u_unknown_minus_graph"]
    assert (entry["value"], entry["examples"]) == (2.0, 2)
    assert (entry["low"], entry["high"]) == (1.0, 3.0)  # of two values, a resample of the same one twice is no rarity
    assert found["means"]["nll_prior"]["value"] == pytest.approx(7 / 3)
    assert found["means"]["nll_prior"]["examples"] == 3
    assert found["collapsed"] is None


def test_latent_figures():
    means = np.stack([np.linspace(-1, 1, 9), np.full(9, 3.0), np.linspace(0, 0.01, 9)], 1)
    found = summary(made(np.ones(9), posterior_mean=means, kl_by_dimension=np.tile([0.5, 0.0, 0.25], (9, 1))))
    assert (found["active_units"], found["latent_size"]) == (1, 3)
    assert found["kl_by_dimension"] == [0.5, 0.0, 0.25]


def test_a_system_without_diagnostics_has_an_empty_summary():
    found = diagnostics.summary({}, {})
    assert found == {"means": {}, "differences": {}, "collapsed": None}
    assert diagnostics.lines(found) == []


def test_one_example_can_not_be_shuffled():
    assert summary(made(np.zeros(1)))["collapsed"] is None


def test_a_figure_that_applies_to_no_example_has_no_value():
    found = summary({"order_key": np.full(4, np.nan)})
    assert found["means"]["order_key"] == {"value": None, "low": None, "high": None, "examples": 0}


def test_people_are_shown_a_few_figures_and_told_of_the_rest():
    found = summary(made(np.ones(9), kl=np.full(9, 2.0), order_key=np.full(9, np.nan)))
    lines = diagnostics.lines(found)
    assert [line.split()[0] for line in lines if line.startswith(("nll", "kl", "order"))] == ["nll_posterior", "kl"]
    assert lines[-1].startswith(f"and {len(found['means']) + len(found['differences']) - 2} figures more")


def test_only_what_a_system_compares_is_compared():
    values = made(np.ones(9), other=np.zeros(9))
    found = diagnostics.summary(values, {"gap": ("nll_shuffled", "other"), "not there": ("nll_shuffled", "missing")})
    assert list(found["differences"]) == ["gap"]
    assert found["differences"]["gap"]["value"] == pytest.approx(values["nll_shuffled"].mean())
    assert found["collapsed"] is None, "z was not compared"
