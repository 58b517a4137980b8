"""Epochs of batches as lists of arrays."""

import numpy as np

from hcl_tf.data.batching.batches import Batches


def epoch_of(batches: Batches, epoch: int | None, start: int = 0) -> list[dict[str, np.ndarray]]:
    """The batches of an epoch, as arrays."""
    return list(batches.dataset(epoch, start).as_numpy_iterator())


def real_rows(epoch: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The examples of an epoch's batches, in order, without those that fill up."""
    return np.concatenate([batch["example_rows"][batch["example_mask"] == 1] for batch in epoch])


def assert_same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)
