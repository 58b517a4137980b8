"""Packing: every text once, none longer than its row, rows as full as best-fit decreasing makes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl_tf.errors import UserError
from hcl_tf.pretraining.rows import Texts, pack


def plain_best_fit(sizes: list[int], length: int) -> list[list[int]]:
    """The same by looking at every row each time."""
    rows: list[list[int]] = []
    for number in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        free = [(length - sum(sizes[i] for i in row), j) for j, row in enumerate(rows)]
        room = [pair for pair in free if pair[0] >= sizes[number]]
        if room:
            rows[min(room)[1]].append(number)
        else:
            rows.append([number])
    return rows


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_every_text_is_in_one_row_and_rows_are_as_few_as_plain_best_fit_makes(lengths):
    texts = Texts.of([np.arange(n) for n in lengths])
    packed = pack(texts, lambda found: found + 2, 25)
    rows = [packed[i] for i in range(len(packed))]
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    assert all(sum(lengths[i] + 2 for i in row) <= 25 for row in rows)
    assert len(rows) == len(plain_best_fit([n + 2 for n in lengths], 25))
    assert packed.filled == pytest.approx(sum(n + 2 for n in lengths) / (25 * len(rows)))


def test_a_text_longer_than_a_row_is_refused():
    with pytest.raises(UserError, match=r"--row_length=8: a text takes 9 places"):
        pack(Texts.of([[1, 2], list(range(7))]), lambda found: found + 2, 8)


def test_texts_come_back_as_they_were():
    given = [[3, 4], [5], [6, 7, 8]]
    texts = Texts.of(given)
    assert [list(texts[i]) for i in range(len(texts))] == given
    assert list(texts.lengths) == [2, 1, 3]
