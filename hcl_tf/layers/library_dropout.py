"""Dropout inside of a library's layers, made to draw from our noise: keras' own masks depend on the batch's shape and a hidden counter."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise, dropout


class Switch:
    """Where a model leaves the noise of the call in progress for its dropout layers."""

    noise: Noise | None = None

    @contextmanager
    def on(self, noise: Noise | None) -> Iterator[None]:
        """Dropout draws from `noise` within; None: no dropout."""
        self.noise = noise
        try:
            yield
        finally:
            self.noise = None


class NoisyDropout(keras.layers.Layer):
    """Takes the place of keras' Dropout."""

    def __init__(self, rate: float, switch: Switch) -> None:
        super().__init__()
        self.rate = rate
        self._switch = switch

    def call(self, values: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        del training  # the noise decides
        return dropout(values, self.rate, self._switch.noise)


def replace_dropout(model: keras.layers.Layer) -> Switch:
    """Replaces every Dropout that is an attribute of `model` or of a layer inside of it, and returns what switches them.

    `model` is built: layers that are made on the first call are missed before it.
    """
    switch = Switch()
    for layer in list(model._flatten_layers()):
        for name, value in list(vars(layer).items()):
            if isinstance(value, keras.layers.Dropout):
                setattr(layer, name, NoisyDropout(value.rate, switch))
    left = [layer.name for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    if left:
        raise ValueError(f"dropout layers that no attribute holds: {left}")
    return switch
