"""From sums and single values to what a validation reports, against loops; the gain where its value is known."""

import math

import numpy as np
import pytest

from hcl_tf.training.diagnostics import SUREST, gain, means_of, summarise

MANY = 20_000


def test_means_are_over_all_batches_and_the_loss_weighs_them():
    parts = [({"nll": 6.0, "key": 1.0, "ma": 0.0}, {"examples": 2.0, "contrasted": 1.0, "none": 0.0})]
    parts.append(({"nll": 9.0, "key": 5.0, "ma": 0.0}, {"examples": 1.0, "contrasted": 1.0, "none": 0.0}))
    found = means_of(parts, {"nll": "examples", "key": "contrasted", "ma": "none"}, {"nll": 1.0, "key": 0.5, "ma": 1.0})
    assert found == {"nll": 5.0, "key": 3.0, "ma": 0.0, "loss": 6.5}


def test_a_margin_is_summarised_by_its_mean_and_its_gain():
    margins = np.array([2.0, 1.0, np.nan, 3.0, -1.0, 4.0, 2.5])
    found = summarise({"margin_ins": margins, "order_ins": np.array([1.0, np.nan])})
    assert found.keys() == {"margin_ins", "gain_ins", "order_ins"}
    assert found["margin_ins"] == pytest.approx(11.5 / 6)
    assert found["gain_ins"] == gain(margins)
    assert summarise({"margin_ins": margins[:3], "margin_key": np.full(9, np.nan)}) == {"margin_ins": 1.5}, "too few pairs for a gain"


def loop_over_scales(margins: list[float]) -> float:
    """The same by trying scales one by one in a finer grid, with the logarithm spelled out."""
    kept = [m for m in margins if not math.isnan(m)]
    fitted, tried = kept[0::2], kept[1::2]

    def loss(scale: float, of: list[float]) -> float:
        return math.fsum(math.log1p(math.exp(-abs(scale * m))) + max(0.0, -scale * m) for m in of) / len(of)

    best = min([0.0, *(10 ** (power / 200) for power in range(-800, 800))], key=lambda scale: loss(scale, fitted))
    return math.log(2) - loss(best, tried)


@pytest.mark.parametrize("seed", range(4))
def test_the_gain_is_that_of_a_loop_over_scales(seed):
    margins = np.random.default_rng(seed).normal(0.7, 2.0, 300)
    margins[::7] = np.nan
    assert gain(margins) == pytest.approx(loop_over_scales(margins.tolist()), abs=5e-4)


@pytest.mark.parametrize("factor", [1e-6, 0.01, 3.0, 1e5])
def test_the_gain_has_no_scale(factor):
    margins = np.random.default_rng(1).normal(0.5, 1.0, 1000)
    assert gain(margins) > 0.05
    assert gain(factor * margins) == pytest.approx(gain(margins), rel=1e-9)


def test_pairs_that_are_all_ordered_gain_nearly_ln_2_and_no_more():
    margins = np.random.default_rng(2).uniform(0.5, 1.5, 1000)
    assert math.log(2) - 2e-3 < gain(margins) <= math.log(2)


def test_one_wrong_pair_beside_a_half_without_any_does_not_outweigh_the_others():
    margins = np.ones(22)
    margins[1] = -1.0
    assert gain(margins) == pytest.approx(math.log(2) - SUREST / 11, abs=1e-3)


@pytest.mark.parametrize("deviation", [1e-3, 1.0, 10.0])
def test_noise_gains_nothing_though_the_contrast_itself_grows_with_it(deviation):
    """A scale fitted to noise is near 0; what it costs on the other half is of order 1 / n."""
    margins = np.random.default_rng(3).normal(0.0, deviation, MANY)
    assert abs(gain(margins)) < 0.002
    assert deviation < 5 or np.logaddexp(0, -margins).mean() > 4, "L_ins of noise of 10 nats"


def test_pairs_ordered_wrong_gain_nothing():
    assert gain(np.random.default_rng(4).uniform(-2, -1, 100)) == 0.0


def test_the_scale_is_tried_on_pairs_that_it_was_not_fitted_to():
    """One half says to trust the margins and the other that they are wrong."""
    margins = np.tile([5.0, -5.0], 50)
    assert gain(margins) < -1.0


def test_the_gain_of_known_margins():
    """Half of the pairs by 1, a quarter wrong by 1: the best scale is ln 3, and the loss the entropy of a coin of 1 in 4."""
    margins = np.repeat([[1.0, 1.0, 1.0, -1.0]], 100, 0).repeat(2, axis=1).ravel()
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert gain(margins) == pytest.approx(math.log(2) - entropy, abs=1e-3)


@pytest.mark.parametrize("margins", [[], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, np.nan, np.nan]])
def test_few_pairs_have_no_gain(margins):
    assert math.isnan(gain(np.array(margins)))
    assert not math.isnan(gain(np.array([*margins, 1.0, 1.0, 1.0, 1.0])))


def test_margins_of_zero_gain_nothing():
    assert gain(np.zeros(10)) == pytest.approx(0.0, abs=1e-12)
