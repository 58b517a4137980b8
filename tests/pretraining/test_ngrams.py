"""Yardsticks against a count by hand."""

import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl_tf.pretraining.ngrams import NGrams
from hcl_tf.pretraining.rows import Texts

END, SIZE = 3, 12
TEXTS = st.lists(st.lists(st.integers(4, SIZE - 1), min_size=1, max_size=6), min_size=1, max_size=8)


def plain(train: list[list[int]], held_out: list[list[int]]) -> tuple[float, float]:
    single, pairs = Counter(), defaultdict(Counter)
    for text in train:
        for first, second in zip([END, *text], [*text, END], strict=True):
            single[second] += 1
            pairs[first][second] += 1
    alone = lambda piece: (single[piece] + 1) / (single.total() + SIZE)  # noqa: E731
    losses = []
    for text in held_out:
        for first, second in zip([END, *text], [*text, END], strict=True):
            seen, followers = pairs[first].total(), len(pairs[first])
            together = (pairs[first][second] + followers * alone(second)) / (seen + followers) if seen else alone(second)
            losses.append((-math.log(alone(second)), -math.log(together)))
    return tuple(sum(each) / len(losses) for each in zip(*losses, strict=True))


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_losses_are_those_of_counts_by_hand(train, held_out):
    counted = NGrams.of(Texts.of(train), END, SIZE)
    assert counted.losses(Texts.of(held_out), END) == pytest.approx(plain(train, held_out))


@given(TEXTS)
def test_probabilities_of_pieces_add_up_to_one(train):
    assert NGrams.of(Texts.of(train), END, SIZE).piece_probabilities().sum() == pytest.approx(1)


def test_the_loss_of_pieces_alone_leaves_ends_out():
    counted = NGrams.of(Texts.of([[4, 5], [4]]), END, SIZE)
    assert counted.piece_loss(Texts.of([[4]])) == pytest.approx(-math.log((2 + 1) / (5 + SIZE)))
