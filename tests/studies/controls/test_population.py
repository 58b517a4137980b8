"""The population optimum against numbers that were calculated apart from it, and against what has to hold."""

import numpy as np
import pytest

from hcl_tf.studies.controls import population
from hcl_tf.studies.controls.population import optimum


@pytest.mark.parametrize(("weight", "probability"), [(0.5, 0.469), (1.0, 0.578), (3.0, 0.924)])
def test_a_contrast_lifts_the_preferred_text(weight, probability):
    assert optimum(0.45, weight).probability == pytest.approx(probability, abs=2e-3)


def test_the_optimum_at_weight_one():
    found = optimum(0.45, 1.0)
    assert (found.kl_b, found.kl_c, found.ins) == pytest.approx((0.15, 0.47, 0.246), abs=6e-3)


@pytest.mark.parametrize("free", [False, True])
def test_without_a_contrast_the_text_keeps_its_share(free):
    assert optimum(0.45, 0.0, free).probability == pytest.approx(0.45, abs=2e-3)


def test_a_free_decoder_is_at_least_as_good_and_flips_too():
    assert 0.5 < optimum(0.45, 1.0, free=True).probability < optimum(0.45, 1.0).probability


def test_the_parts_of_the_loss_equal_sampled_ones():
    parameters = np.array([0.4, -0.2, -0.8, -0.4, 2.0, 0.3])
    nll, kl_b, kl_c, probability = population._parts(parameters, 0.45, free=False)
    draws = np.random.default_rng(0).standard_normal(400_000)
    b, c = 0.4 + np.exp(-0.2) * draws, -0.8 + np.exp(-0.4) * draws
    sampled = 0.45 * np.logaddexp(0, -(2 * b + 0.3)).mean() + 0.55 * np.logaddexp(0, 2 * c + 0.3).mean()
    assert nll == pytest.approx(sampled, abs=5e-3)
    of_kl = [(-0.5 * draws**2 - log + 0.5 * z**2).mean() for z, log in ((b, -0.2), (c, -0.4))]
    assert (kl_b, kl_c) == pytest.approx(of_kl, abs=1e-2)
    assert probability == pytest.approx(1 / (1 + np.exp(-0.3)))
