"""Gradients against central differences in float64, which any layer can be built in."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

STEP = 1e-5  # truncation is of order STEP^2 = 1e-10 and rounding of order 1e-16 / STEP = 1e-11, relative to the loss


def variables(seed: int, *shapes: tuple[int, ...]) -> list[tf.Variable]:
    """Standard normal float64 variables."""
    random = np.random.default_rng(seed)
    return [tf.Variable(random.normal(size=shape), dtype=tf.float64) for shape in shapes]


def assert_gradients(loss: Callable[[], tf.Tensor], of: Sequence[tf.Variable], directions: int = 2) -> None:
    """The gradient of `loss()` in every variable equals its central differences along random directions, and is not zero.

    A wrong entry of a gradient shows along a random direction with probability 1.
    """
    assert of
    with tf.GradientTape() as tape:
        value = loss()
    assert value.dtype == tf.float64
    random = np.random.default_rng(0)
    for variable, gradient in zip(of, tape.gradient(value, list(of)), strict=True):
        assert gradient is not None, variable.name
        gradient, start = tf.convert_to_tensor(gradient).numpy(), variable.numpy()
        assert np.abs(gradient).max() > 0, variable.name
        for _ in range(directions):
            direction = random.normal(size=start.shape)
            ends = []
            for sign in (1, -1):
                variable.assign(start + sign * STEP * direction)
                ends.append(loss().numpy())
            variable.assign(start)
            numeric, analytic = (ends[0] - ends[1]) / (2 * STEP), (gradient * direction).sum()
            bound = 1e-7 * (np.linalg.norm(gradient) * np.linalg.norm(direction)) + 1e-9 * max(1.0, abs(value.numpy()))
            assert abs(numeric - analytic) < bound, (variable.name, numeric, analytic)
