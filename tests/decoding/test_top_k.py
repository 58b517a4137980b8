import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.decoding.top_k import top_k

WIDTH, ROWS = 1000, 3  # not a multiple of the block
COMPILED = {k: tf.function(lambda values, k=k: top_k(values, k), jit_compile=True) for k in (1, 8, WIDTH)}


@pytest.mark.slow
@pytest.mark.parametrize("k", COMPILED)
@pytest.mark.parametrize("compiled", [False, True])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 2, 5, 10**6]), barred=st.sampled_from([0, 0.5, 0.995, 1]))
def test_is_a_stable_sort(k: int, compiled: bool, seed: int, levels: int, barred: float) -> None:
    """Few levels make many ties; most of a row at -inf makes blocks without a single finite entry."""
    rng = np.random.default_rng(seed)
    values = -rng.integers(0, levels, [ROWS, WIDTH]).astype(np.float32)
    values[rng.random([ROWS, WIDTH]) < barred] = -np.inf
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    found, columns = COMPILED[k](values) if compiled else top_k(tf.constant(values), k)
    np.testing.assert_array_equal(columns, order)
    np.testing.assert_array_equal(found, np.take_along_axis(values, order, 1))
