"""Drawn values that are kept as files, and whether they came back."""

import numpy as np
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text().filter(lambda key: key != "$float"), inner, max_size=3),
    max_leaves=12,
)


def assert_same_arrays(found, expected) -> None:
    """Arrays by name have the same types, shapes and bits."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        array = np.asarray(array)
        assert (found[name].dtype, found[name].shape) == (array.dtype.newbyteorder("="), array.shape)
        assert found[name].tobytes() == array.astype(found[name].dtype, copy=False).tobytes()  # NaN's bits too
