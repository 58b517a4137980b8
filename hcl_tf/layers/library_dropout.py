"""Makes dropout inside of a library's layers draw from our noise: Keras' own masks depend on the batch's shape and a hidden counter."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise, dropout


class Switch:
    """Holds the noise of the call in progress, from which a model's dropout layers draw."""

    noise: Noise | None = None

    @contextmanager
    def on(self, noise: Noise | None) -> Iterator[None]:
        """Lets dropout draw from `noise` within the context; None: no dropout."""
        self.noise = noise
        try:
            yield
        finally:
            self.noise = None


class NoisyDropout(keras.layers.Layer):
    """Takes the place of Keras' Dropout, and draws from the noise of `switch`."""

    def __init__(self, rate: float, switch: Switch) -> None:
        super().__init__()
        self.rate = rate
        self._switch = switch

    def call(self, values: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        del training  # the noise decides
        return dropout(values, self.rate, self._switch.noise)


def replace_dropout(model: keras.layers.Layer) -> Switch:
    """Replaces every Dropout that is an attribute of `model` or of a layer inside of it, and returns the switch that they share.

    Args:
      model: built, because layers that are made on the first call can't be found before it.

    Raises:
      ValueError: a Dropout is left that no attribute holds.
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
