"""Gaussians of the CVAE: the heads' formula, KL against its closed form and a Monte Carlo estimate, Mahalanobis distance."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras
from finite_differences import assert_gradients, variables
from scipy import stats

from hcl_tf.layers.latent import GaussianHead, gaussian, kl_by_dimension, kl_parts, kl_weight, mahalanobis, sample
from hcl_tf.layers.noise import Noise

B, C, Z = 3, 5, 4


def parameters(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(B, Z)), random.uniform(0.3, 2.5, size=(B, Z))


def kl_of_floats(m1: float, s1: float, m2: float, s2: float) -> float:
    """KL( N(m1, s1^2) || N(m2, s2^2) ), from the textbook."""
    return math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def test_a_head_is_its_formula():
    head = GaussianHead(Z, 6, bound=2.0, dtype="float64")
    condition = np.random.default_rng(1).normal(size=(B, C)) * 5
    mean, stddev = head(condition)
    (w1, b1), (w2, b2) = head.inner.get_weights(), head.outer.get_weights()
    for row in range(B):
        outputs = np.tanh(condition[row] @ w1 + b1) @ w2 + b2
        for z in range(Z):
            assert mean.numpy()[row, z] == pytest.approx(outputs[z], rel=1e-12)
            log_variance = 2.0 * math.tanh(outputs[Z + z] / 2.0)
            assert stddev.numpy()[row, z] == pytest.approx(math.sqrt(math.exp(log_variance)), rel=1e-12)


def test_log_variances_stay_within_their_bound_and_near_zero_are_untouched():
    head = GaussianHead(1, 2, bound=10.0)
    head(tf.zeros([1, 3]))
    for raw, expected in ((1e9, 10.0), (-1e9, -10.0), (0.1, 0.1)):
        head.outer.set_weights([np.zeros((2, 2)), np.array([0.0, raw])])
        log_variance = 2 * math.log(head(tf.zeros([1, 3]))[1].numpy().item())
        assert log_variance == pytest.approx(expected, abs=1e-4)


def test_heads_compute_in_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        head = GaussianHead(Z, 6)
        mean, stddev = head(tf.ones([B, C], tf.float16))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {mean.dtype, stddev.dtype, *(v.dtype for v in head.weights)} == {tf.float32}


def test_kl_is_the_closed_form_by_dimension_and_in_sum():
    (m1, s1), (m2, s2) = parameters(1), parameters(2)
    posterior, prior = gaussian((m1, s1)), gaussian((m2, s2))
    parts = kl_by_dimension(posterior, prior).numpy()
    for row in range(B):
        for z in range(Z):
            assert parts[row, z] == pytest.approx(kl_of_floats(m1[row, z], s1[row, z], m2[row, z], s2[row, z]), rel=1e-12)
    np.testing.assert_allclose(tfp.distributions.kl_divergence(posterior, prior), parts.sum(-1), rtol=1e-12)


def test_kl_is_the_mean_log_ratio_of_samples():
    (m1, s1), (m2, s2) = parameters(1), parameters(2)
    count = 40_000
    draws = m1 + s1 * np.random.default_rng(3).normal(size=(count, B, Z))
    ratios = (stats.norm.logpdf(draws, m1, s1) - stats.norm.logpdf(draws, m2, s2)).sum(-1)  # [count, B]
    exact = tfp.distributions.kl_divergence(gaussian((m1, s1)), gaussian((m2, s2))).numpy()
    # A normal mean of `count` draws misses by more than 5 standard errors once in 1.7 million times.
    assert (abs(ratios.mean(0) - exact) < 5 * ratios.std(0) / count**0.5).all()


def test_kl_parts_are_the_textbook_s_and_sum_to_the_whole():
    """The mean's part is (m1 - m2)^2 / 2 s2^2, the variance's is KL between Gaussians of the same mean."""
    (m1, s1), (m2, s2) = parameters(1), parameters(2)
    posterior, prior = gaussian((m1, s1)), gaussian((m2, s2))
    means, variances = (part.numpy() for part in kl_parts(posterior, prior))
    for row in range(B):
        places = [(m1[row, z], s1[row, z], m2[row, z], s2[row, z]) for z in range(Z)]
        assert means[row] == pytest.approx(math.fsum((a - b) ** 2 / (2 * t**2) for a, _, b, t in places), rel=1e-12)
        assert variances[row] == pytest.approx(math.fsum(kl_of_floats(0.0, s, 0.0, t) for _, s, _, t in places), rel=1e-12)
        assert means[row] + variances[row] == pytest.approx(math.fsum(kl_of_floats(*place) for place in places), rel=1e-12)
    np.testing.assert_allclose(means + variances, tfp.distributions.kl_divergence(posterior, prior), rtol=1e-12)


def test_each_kl_part_is_zero_where_its_moments_agree():
    (m1, s1), (m2, s2) = parameters(1), parameters(2)
    np.testing.assert_array_equal(kl_parts(gaussian((m1, s1)), gaussian((m1, s2)))[0], np.zeros(B))
    np.testing.assert_allclose(kl_parts(gaussian((m1, s1)), gaussian((m2, s1)))[1], np.zeros(B), atol=1e-15)


def test_kl_to_itself_is_zero():
    one = gaussian(parameters(1))
    np.testing.assert_allclose(kl_by_dimension(one, one), 0, atol=1e-15)


def test_mahalanobis_is_the_quadratic_form():
    mean, stddev = parameters(1)
    point = parameters(2)[0]
    found = mahalanobis(point, gaussian((mean, stddev))).numpy()
    for row in range(B):
        covariance, away = np.diag(stddev[row] ** 2), point[row] - mean[row]
        assert found[row] == pytest.approx(away @ np.linalg.inv(covariance) @ away, rel=1e-12)
    np.testing.assert_array_equal(mahalanobis(mean, gaussian((mean, stddev))), np.zeros(B))


def test_samples_have_the_mean_and_the_deviation():
    mean, stddev = np.full((20_000, 2), [3.0, -1.0]), np.full((20_000, 2), [0.5, 2.0])
    draws = sample(gaussian((mean, stddev)), Noise(1, 2, tf.range(20_000))).numpy()
    assert draws.dtype == np.float64
    assert (abs(draws.mean(0) - mean[0]) < 5 * stddev[0] / 20_000**0.5).all()
    assert (abs(draws.std(0) / stddev[0] - 1) < 5 / (2 * 20_000) ** 0.5).all()


def test_a_sample_is_reparameterised():
    mean, stddev = (tf.Variable(part) for part in parameters(1))
    with tf.GradientTape() as tape:
        draws = sample(gaussian((mean, stddev)), Noise(1, 2, tf.range(B)))
    by_mean, by_stddev = tape.gradient(draws, [mean, stddev])
    np.testing.assert_array_equal(by_mean, np.ones((B, Z)))
    np.testing.assert_allclose(by_stddev, (draws - mean) / stddev, rtol=1e-9)


@pytest.mark.slow
def test_gradients():
    prior, posterior = (GaussianHead(Z, 6, dtype="float64", name=name) for name in ("prior", "posterior"))
    x, y, u = variables(4, (B, C), (B, C), (B, Z))

    def loss():
        p, q = gaussian(prior(x)), gaussian(posterior(y))
        z = sample(q, Noise(1, 2, tf.range(B)))
        return tf.reduce_sum(kl_by_dimension(q, p)) + tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(mahalanobis(u, q))

    loss()
    assert_gradients(loss, [x, y, u, *prior.trainable_variables, *posterior.trainable_variables])


def test_config():
    head = GaussianHead(Z, 6, bound=3.0, name="some_head")
    twin = GaussianHead.from_config(head.get_config())
    assert twin.get_config() == head.get_config()
    assert (twin.size, twin.hidden, twin.bound, twin.name, twin.dtype) == (Z, 6, 3.0, "some_head", "float32")


def test_kl_weight_ramps_linearly():
    assert kl_weight(None, 10, 0) == 1.0
    assert kl_weight(tf.constant(0), 0, 0) == 1.0
    found = [float(kl_weight(tf.constant(step), 10, 0)) for step in range(13)]
    assert found == pytest.approx([0.1 * (step + 1) for step in range(10)] + [1.0] * 3, rel=1e-6)


@pytest.mark.parametrize("cycles", [0, 2])
def test_kl_weight_waits_first(cycles):
    later = [float(kl_weight(tf.constant(step), 8, cycles, 5)) for step in range(30)]
    assert later[:5] == [0.0] * 5
    assert later[5:] == [float(kl_weight(tf.constant(step), 8, cycles)) for step in range(25)]


def test_kl_weight_cycles():
    found = [float(kl_weight(tf.constant(step), 8, 2)) for step in range(20)]
    cycle = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert found == pytest.approx(cycle * 2 + [1.0] * 4)
