"""Requests to batches of few shapes, with the columns that training's batches have."""

import numpy as np
import pytest

from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.sources import SHAPES, Source, SourceBatches, from_record


def test_batches_have_the_columns_of_the_pipeline(qqp_folder):
    data = PreparedData(qqp_folder)
    arrays = data.arrays("test")
    requests = [from_record(record.source) for record in data.records("test")]
    batches = list(SourceBatches(data.tokenizer, data.source_length, data.max_keywords).of(requests))
    sizes = [min(SHAPES[-1], len(requests) - start) for start in range(0, len(requests), SHAPES[-1])]
    assert [int(batch["example_mask"].numpy().sum()) for batch in batches] == sizes
    for name in ("source_ids", "source_nodes", "source_unknown"):
        joined = np.concatenate([batch[name].numpy()[:size] for batch, size in zip(batches, sizes, strict=True)])
        np.testing.assert_array_equal(joined, getattr(arrays, name))
    rows = np.concatenate([batch["example_rows"].numpy()[:size] for batch, size in zip(batches, sizes, strict=True)])
    np.testing.assert_array_equal(rows, np.arange(len(requests)))


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 8), (8, 8), (9, 32), (32, 32)])
def test_a_batch_has_the_smallest_shape_that_holds_it(qqp_folder, count, rows):
    data = PreparedData(qqp_folder)
    batch = SourceBatches(data.tokenizer, data.source_length, data.max_keywords).make([Source("a b", [7, 8], (3, UNKNOWN))] * count, 5)
    assert {tensor.shape[0] for tensor in batch.values()} == {rows}
    assert rows in SHAPES
    assert batch["source_unknown"].numpy()[:count].tolist() == [1] * count
    t = data.tokenizer
    assert batch["source_ids"].numpy()[count - 1, :5].tolist() == [t.cls_id, 7, 8, t.sep_id, t.pad_id]
