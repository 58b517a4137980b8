"""Computes random numbers from (seed, step, example, site).

So dropout masks and latent noise depend neither on how a batch is divided into micro-batches or among devices, nor on where a killed run
went on. It is a counter-based generator in the sense of Salmon et al. (2011, "Parallel random numbers: as easy as 1, 2, 3"): each number
is the hash of its coordinates. The hash is the 32-bit finaliser "lowbias32" (C. Wellons, hash-prospector). It is element-wise integer
arithmetic, which XLA fuses with the multiplication by a mask. `tf.random.stateless_*` take one seed a call, not one a row.
"""

import math

import numpy as np
import tensorflow as tf

from hcl_tf.layers.packing import Packing
from hcl_tf.layers.shapes import dimension

HALF = 2**16  # values of half a hash


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
        size = math.prod(shape) if all(isinstance(n, int) for n in shape) else tf.reduce_prod(tf.stack(shape))
        rows, places = self._coordinates(size)
        return tf.reshape(_hash(rows[:, None] ^ places[None, :]), [dimension(rows), *shape])

    def _coordinates(self, size: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Begins a site. Returns the keys of its rows, [B], and of `size` places in each, [size]."""
        site = self._sites[0] = self._sites[0] + 1
        rows = _hash(self._rows_key ^ _hash(self._key ^ _constant(0x9E3779B9 * site)))
        return rows, _hash(tf.cast(tf.range(size), tf.uint32) + _constant(0x85EBCA6B))

    def uniform(self, shape: tuple[int, ...] = ()) -> tf.Tensor:
        """Draws uniform [B, *shape] float32 in (0, 1): the middles of 2^23 equal intervals, so neither end occurs."""
        return (tf.cast(tf.bitwise.right_shift(self.bits(shape), _constant(9)), tf.float32) + 0.5) * 2.0**-23

    def normal(self, shape: tuple[int, ...]) -> tf.Tensor:
        """Draws standard normal [B, *shape] float32 (Box and Muller 1958)."""
        radius = tf.sqrt(-2.0 * tf.math.log(self.uniform(shape)))
        return radius * tf.cos(2.0 * np.pi * self.uniform(shape))

    def dropout(self, values: tf.Tensor, rate: float, packing: Packing | None = None, lengths: tuple | None = None) -> tf.Tensor:
        """Zeroes each entry of `values` with probability `rate`, in steps of 2^-16, and scales the others by 1 / (1 - rate).

        Args:
          values: [B, ...]; or [N, D], the rows of `packing`, which get what their places in [B, L, D] would get.
          lengths: (L, M), where values [B, heads, l, m] are a part of [B, heads, L, M], and get what they would get there.
        """
        least = round(rate * HALF)
        if not least:
            return values
        *between, size = (dimension(values, axis) for axis in range(1, values.shape.rank))
        half = (size + 1) // 2  # one hash serves two entries
        if packing is not None:
            bits = self._bits_of_rows(packing, half)
        elif lengths is not None:
            bits = self._bits_of_part(between, half, lengths)
        else:
            bits = self.bits((*between, half))
        halves = tf.reshape(tf.bitcast(bits, tf.uint16), [*(dimension(bits, axis) for axis in range(bits.shape.rank - 1)), half * 2])
        keep = tf.cast(halves[..., :size] >= tf.constant(least, tf.uint16), values.dtype)
        return values * (keep * tf.constant(HALF / (HALF - least), values.dtype))

    def _bits_of_rows(self, packing: Packing, size: int | tf.Tensor) -> tf.Tensor:
        """Draws what `bits((L, size))` draws, for the rows of `packing` alone. Returns [N, size]."""
        rows, places = self._coordinates(packing.length * size)
        places = tf.reshape(places, [packing.length, size])
        return _hash(tf.gather(rows, packing.texts)[:, None] ^ tf.gather(places, packing.places))

    def _bits_of_part(self, shape: list, half: int | tf.Tensor, lengths: tuple) -> tf.Tensor:
        """Draws what `bits((heads, L, (M + 1) // 2))` draws, for the beginnings of L and M. Returns [B, *shape, half]."""
        whole = shape[0], lengths[0], (lengths[1] + 1) // 2
        rows, places = self._coordinates(whole[0] * whole[1] * whole[2])
        places = tf.reshape(places, whole)[:, : shape[1], :half]
        return _hash(rows[:, None, None, None] ^ places)


def dropout(values: tf.Tensor, rate: float, noise: Noise | None, packing: Packing | None = None, lengths: tuple | None = None) -> tf.Tensor:
    """Applies dropout (`Noise.dropout`) where there is noise (training), and nothing where there is none (inference)."""
    if noise is None:
        return values
    with tf.name_scope("dropout"):  # names say where a step's time goes (benchmarks/step_profile.py)
        return noise.dropout(values, rate, packing, lengths)


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value % 2**32, tf.uint32)


def _unsigned(value: tf.Tensor | int) -> tf.Tensor:
    return _constant(value) if isinstance(value, int) else tf.cast(value, tf.uint32)


def _hash(x: tf.Tensor) -> tf.Tensor:
    """Maps 32-bit numbers one to one, so that every output bit depends on every input bit."""
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ tf.bitwise.right_shift(x, _constant(shift))) * _constant(multiplier)
    return x ^ tf.bitwise.right_shift(x, _constant(16))
