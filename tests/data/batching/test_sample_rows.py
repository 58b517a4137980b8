"""Which examples are shown to people."""

import numpy as np
import pytest

from hcl_tf.data.batching.sample_rows import SAMPLES, sample_rows


@pytest.mark.parametrize("count", [1, 2, SAMPLES, SAMPLES + 1, 22, 512])
def test_sample_rows_are_fixed_and_spread_over_the_split(count) -> None:
    rows = sample_rows(count)
    assert len(rows) == min(SAMPLES, count)
    assert rows[0] == 0
    assert rows[-1] == count - 1 or count == 1
    assert len(set(np.diff(rows).tolist())) <= 2
