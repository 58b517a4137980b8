"""Target against negative, by loops over examples."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hcl_tf.evaluation.preference import KEPT, of_examples, of_split, overlap


def test_preference_is_counted_by_text_and_its_size_a_token():
    found = of_examples(
        np.array([4.0, 6.0, 8.0], np.float32), np.array([6.0, 5.0, 9.0], np.float32),
        {"target": np.array([2, 3, 4]), "negative": np.array([3, 1, 6])},
        {"target": np.array([0.5, 0.5, 0.2]), "negative": np.array([0.52, 0.9, 0.2])}, 0.05,
    )  # fmt: skip
    assert found["target_preferred"].tolist() == [1, 0, 1]
    assert found["difference_a_token"] == pytest.approx([6 / 3 - 4 / 2, 5 / 1 - 6 / 3, 9 / 6 - 8 / 4])
    assert found["equal_overlap"].tolist() == [1, 0, 1]
    for name in ("target_preferred", "difference_a_token"):
        at_equal = found[f"{name}_equal_overlap"]
        assert at_equal[[0, 2]].tolist() == found[name][[0, 2]].tolist()
        assert math.isnan(at_equal[1])
    assert set(KEPT) <= set(found)


def test_overlap_counts_the_texts_own_words():
    texts, sources = (
        np.array([[2, 7, 8, 7, 3, 0], [2, 9, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0]]),
        np.array([[2, 7, 3, 0], [2, 8, 7, 3], [2, 9, 3, 0]]),
    )
    assert overlap(texts, sources, (0, 2, 3)).tolist() == [pytest.approx(2 / 3), 0.0, 0.0]


def test_of_a_split_lengths_leave_the_first_token_and_padding_out():
    arrays = SimpleNamespace(
        source_ids=np.array([[2, 7, 8, 3]]), target_ids=np.array([[2, 7, 8, 3, 0]]), negative_ids=np.array([[2, 9, 3, 0, 0]])
    )
    inputs = SimpleNamespace(pad_id=0, cls_id=2, sep_id=3)
    given = {"nll_prior": np.array([6.0]), "nll_negative": np.array([8.0]), "nll": np.array([1.0])}
    found = of_split(given, "nll_prior", arrays, inputs)
    assert found["difference_a_token"].tolist() == [8 / 2 - 6 / 3]
    assert found["equal_overlap"].tolist() == [0]
    assert found["nll"].tolist() == [6.0]
    assert of_split({"nll": np.array([1.0])}, "nll", arrays, inputs) == {}
