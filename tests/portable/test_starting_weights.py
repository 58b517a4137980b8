"""Weights drawn from a description are distributed as those that Keras draws."""

import numpy as np
import pytest
import tf_keras as keras
from scipy import stats

from hcl_tf.portable import starting_weights

SHAPE = (40, 8, 50)
KNOWN = {
    "glorot": "glorot_uniform",
    "uniform": keras.initializers.RandomUniform(-0.3, 0.1, seed=1),
    "truncated": keras.initializers.TruncatedNormal(0.1, 0.02, seed=1),
    "normal": keras.initializers.RandomNormal(-0.2, 0.5, seed=1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_draws_are_distributed_like_keras(name):
    start = starting_weights.describe(KNOWN[name], SHAPE)
    drawn = starting_weights.draw(start, SHAPE, np.random.default_rng(0))
    theirs = keras.initializers.get(KNOWN[name])(SHAPE).numpy()
    assert drawn.dtype == np.float32
    assert stats.ks_2samp(drawn.ravel(), theirs.ravel()).pvalue > 1e-3
    assert starting_weights.fits(start, theirs)
    assert starting_weights.fits(start, drawn)


@pytest.mark.parametrize("name", KNOWN)
def test_other_values_do_not_fit(name):
    start = starting_weights.describe(KNOWN[name], SHAPE)
    values = starting_weights.draw(start, SHAPE, np.random.default_rng(0))
    for changed in (values * 1.1, values + values.std() / 10):
        assert not starting_weights.fits(start, changed)


def test_a_draw_is_a_function_of_its_generator():
    start = {"kind": "normal", "mean": 0.0, "stddev": 1.0}
    first, again, other = (starting_weights.draw(start, (5,), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_an_initializer_that_is_not_known_is_not_described():
    assert starting_weights.describe("orthogonal", (4, 4)) is None
    assert starting_weights.describe(lambda shape, dtype=None: None, (4, 4)) is None


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (5, 3, 4)])
def test_fans_are_keras(shape):
    from tf_keras.src.initializers.initializers import _compute_fans

    assert starting_weights.fans(shape) == tuple(map(float, _compute_fans(shape)))
