"""Describes the distributions that starting weights are drawn from, and draws from them.

A description takes a few numbers instead of an array, so that a model of any size travels in kilobytes. NumPy draws the weights anew. They
have the distribution of those that TensorFlow would draw under the seed, not their values.
"""

from typing import Any

import numpy as np

Start = dict[str, Any]  # the "kind" of a distribution, and its parameters
CUT = 2.0  # standard deviations at which truncated normals end, as in Keras


def describe(initializer: Any, shape: tuple[int, ...]) -> Start | None:
    """Describes the distribution of a Keras initializer for a shape; None: it is not known here.

    Args:
      initializer: an argument of `Layer.add_weight`.
    """
    import tf_keras as keras

    found = keras.initializers.get(initializer)
    config = getattr(found, "get_config", dict)()
    kind = type(found).__name__
    if kind == "GlorotUniform":
        fan_in, fan_out = fans(shape)
        limit = float(np.sqrt(6.0 / (fan_in + fan_out)))  # Glorot and Bengio 2010
        return {"kind": "uniform", "low": -limit, "high": limit}
    if kind == "RandomUniform":
        return {"kind": "uniform", "low": config["minval"], "high": config["maxval"]}
    if kind in ("TruncatedNormal", "RandomNormal"):
        return {"kind": "truncated_normal" if kind == "TruncatedNormal" else "normal", "mean": config["mean"], "stddev": config["stddev"]}
    return None


def fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Counts inputs and outputs of a kernel as Keras does: outputs on the last axis, inputs on the one before, times a receptive field."""
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    field = float(np.prod(shape[:-2]))
    return field * shape[-2], field * shape[-1]


def draw(start: Start, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Draws [*shape] float32 from a distribution that `describe` described."""
    if start["kind"] == "uniform":
        return random.uniform(start["low"], start["high"], shape).astype(np.float32)
    values = random.standard_normal(shape, np.float32)
    if start["kind"] == "truncated_normal":
        beyond = np.abs(values) > CUT
        while beyond.any():
            values[beyond] = random.standard_normal(int(beyond.sum()), np.float32)
            beyond = np.abs(values) > CUT
    return (start["mean"] + start["stddev"] * values).astype(np.float32)


def fits(start: Start, values: np.ndarray) -> bool:
    """Says whether values may be drawn from a distribution: none is out of bounds, and mean and deviation are as near as chance allows."""
    if start["kind"] == "uniform":
        low, high = start["low"], start["high"]
        mean, deviation, kurtosis = (low + high) / 2, (high - low) / np.sqrt(12.0), 1.8
    else:
        mean, deviation, kurtosis = start["mean"], start["stddev"], 3.0
        low, high = -np.inf, np.inf
        if start["kind"] == "truncated_normal":
            low, high = mean - CUT * deviation * 1.0001, mean + CUT * deviation * 1.0001
            deviation *= 0.8796256610342398  # of a standard normal cut at 2
    count, chance = values.size, 6.0  # standard errors
    return bool(
        values.min() >= low
        and values.max() <= high
        and abs(values.mean() - mean) <= chance * deviation / np.sqrt(count)
        and abs(values.std() / deviation - 1) <= chance * np.sqrt((kurtosis - 1) / 4 / count)
    )
