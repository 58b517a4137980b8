"""Computes random numbers from (seed, step, example, site).

So dropout masks and latent noise depend neither on how a batch is divided into micro-batches or among devices, nor on where a killed run
went on. It is a counter-based generator in the sense of Salmon et al. (2011, "Parallel random numbers: as easy as 1, 2, 3"): each number
is the hash of its coordinates. The hash is the 32-bit finaliser "lowbias32" (C. Wellons, hash-prospector). It is element-wise integer
arithmetic, which XLA fuses with the multiplication by a mask. `tf.random.stateless_*` take one seed a call, not one a row.
"""

import math

import numpy as np
import tensorflow as tf

from hcl_tf.layers.shapes import dimension


class Noise:
    """The random numbers of one step. Calls number their sites in the order of the Python program, so the same code draws the same.

    Args:
      seed: of the run. step: of the training.
      rows: [B] int32, what identifies each example (its number in the split), wherever it stands in the batch.
    """

    def __init__(self, seed: tf.Tensor | int, step: tf.Tensor | int, rows: tf.Tensor) -> None:
        self.rows = rows
        self._sites = [0]  # shared with what `stacked` returns
        self._key = _hash(_unsigned(step) ^ _hash(_unsigned(seed)))
        self._rows_key = _unsigned(rows)

    def stacked(self, times: int) -> "Noise":
        """Returns noise for `times` different texts of each example, stacked along the batch: [times * B] rows."""
        copy = object.__new__(Noise)
        copy.rows = tf.tile(self.rows, [times])
        copy._sites, copy._key = self._sites, self._key
        copy._rows_key = tf.concat([_hash(self._rows_key ^ _constant(0x51ED270B * (role + 1))) for role in range(times)], 0)
        return copy

    def again(self) -> "Noise":
        """Returns the same noise for a second model, which draws from here on what this one will."""
        copy = object.__new__(Noise)
        copy.rows, copy._key, copy._rows_key = self.rows, self._key, self._rows_key
        copy._sites = list(self._sites)
        return copy

    def apart(self) -> "Noise":
        """Returns noise of a stream of its own, for what some systems draw and others do not: this one goes on as if nothing were drawn."""
        copy = object.__new__(Noise)
        copy.rows, copy._rows_key, copy._sites = self.rows, self._rows_key, [0]
        copy._key = _hash(self._key ^ _constant(0xC2B2AE35))
        return copy

    def bits(self, shape: tuple[int, ...]) -> tf.Tensor:
        """Draws uniform [B, *shape] uint32. `shape` may hold scalar tensors."""
        site = self._sites[0] = self._sites[0] + 1
        rows = _hash(self._rows_key ^ _hash(self._key ^ _constant(0x9E3779B9 * site)))
        size = math.prod(shape) if all(isinstance(n, int) for n in shape) else tf.reduce_prod(tf.stack(shape))
        places = _hash(tf.cast(tf.range(size), tf.uint32) + _constant(0x85EBCA6B))
        return tf.reshape(_hash(rows[:, None] ^ places[None, :]), [tf.shape(rows)[0], *shape])

    def uniform(self, shape: tuple[int, ...] = ()) -> tf.Tensor:
        """Draws uniform [B, *shape] float32 in (0, 1): the middles of 2^23 equal intervals, so neither end occurs."""
        return (tf.cast(tf.bitwise.right_shift(self.bits(shape), _constant(9)), tf.float32) + 0.5) * 2.0**-23

    def normal(self, shape: tuple[int, ...]) -> tf.Tensor:
        """Draws standard normal [B, *shape] float32 (Box and Muller 1958)."""
        radius = tf.sqrt(-2.0 * tf.math.log(self.uniform(shape)))
        return radius * tf.cos(2.0 * np.pi * self.uniform(shape))

    def dropout(self, values: tf.Tensor, rate: float) -> tf.Tensor:
        """Zeroes each entry of `values` [B, ...] with probability `rate` and scales the others by 1 / (1 - rate)."""
        if not rate:
            return values
        shape = tuple(dimension(values, axis) for axis in range(1, values.shape.rank))
        keep = self.bits(shape) >= _constant(int(rate * 2**32))
        return values * tf.cast(keep, values.dtype) * tf.cast(1.0 / (1.0 - rate), values.dtype)


def dropout(values: tf.Tensor, rate: float, noise: Noise | None) -> tf.Tensor:
    """Applies dropout where there is noise (training), and nothing where there is none (inference)."""
    return values if noise is None else noise.dropout(values, rate)


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value % 2**32, tf.uint32)


def _unsigned(value: tf.Tensor | int) -> tf.Tensor:
    return _constant(value) if isinstance(value, int) else tf.cast(value, tf.uint32)


def _hash(x: tf.Tensor) -> tf.Tensor:
    """Maps 32-bit numbers one to one, so that every output bit depends on every input bit."""
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ tf.bitwise.right_shift(x, _constant(shift))) * _constant(multiplier)
    return x ^ tf.bitwise.right_shift(x, _constant(16))
