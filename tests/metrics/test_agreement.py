"""Fleiss' kappa against published tables, the definition counted pair by pair, and cases whose answer is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.metrics.agreement import category_counts, fleiss_kappa

# Fleiss (1971), table 1: 30 patients, 6 psychiatrists each, 5 diagnoses.
PSYCHIATRISTS = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""
# The example of Fleiss' textbook chapter that many programs are checked against: 10 subjects, 14 raters, 5 categories.
FOURTEEN = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
SCALE = (1, 2, 3)
RATINGS = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 4)).flatmap(
    lambda shape: st.lists(st.sampled_from(SCALE), min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda values: np.array(values).reshape(shape)
    )
)


def by_pairs(ratings: np.ndarray) -> float | None:
    """Kappa of ratings [I, G, R] by its definition: agreement of pairs of annotators, and of ratings drawn with replacement."""
    subjects = ratings.reshape(-1, ratings.shape[-1])
    pairs = [a == b for subject in subjects for a, b in itertools.permutations(subject, 2)]
    drawn = [a == b for a, b in itertools.product(subjects.ravel(), repeat=2)]
    observed, chance = sum(pairs) / len(pairs), sum(drawn) / len(drawn)
    return None if all(drawn) else (observed - chance) / (1 - chance)


def test_fleiss_own_table():
    counts = np.array([list(map(int, row)) for row in PSYCHIATRISTS.split()])
    found = fleiss_kappa(counts[:, None], resamples=200)
    assert (found.subjects, found.raters) == (30, 6)
    assert (round(found.kappa, 3), round(found.observed, 3), round(found.chance, 3)) == (0.430, 0.556, 0.220)
    assert [round(share, 3) for share in found.shares] == [0.144, 0.144, 0.167, 0.306, 0.239]


def test_the_table_of_fourteen_raters():
    found = fleiss_kappa(np.array(FOURTEEN)[:, None], resamples=200)
    assert (round(found.kappa, 3), round(found.observed, 3), round(found.chance, 3)) == (0.210, 0.378, 0.213)


@settings(max_examples=80, deadline=None)
@given(RATINGS)
def test_kappa_is_the_agreement_of_pairs_beyond_that_of_draws(ratings):
    found, expected = fleiss_kappa(category_counts(ratings, SCALE), resamples=20), by_pairs(ratings)
    if expected is None:
        assert found.kappa is found.low is found.high is None
        assert "same category" in found.undefined
        assert found.observed == found.chance == found.undefined_resamples == 1
    else:
        assert found.kappa == pytest.approx(expected, abs=1e-12)
        assert not found.undefined
        assert sum(found.shares) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(RATINGS, st.permutations(SCALE), st.randoms(use_true_random=False))
def test_names_of_categories_and_order_of_annotators_do_not_matter(ratings, names, random):
    one = fleiss_kappa(category_counts(ratings, SCALE), resamples=50)
    renamed = np.array(names)[ratings - 1]
    for subject in renamed.reshape(-1, renamed.shape[-1]):
        random.shuffle(subject)
    other = fleiss_kappa(category_counts(renamed, SCALE), resamples=50)
    assert (one.kappa is None) == (other.kappa is None)
    if one.kappa is not None:
        assert other.kappa == pytest.approx(one.kappa, abs=1e-12)
        assert other.undefined_resamples == one.undefined_resamples


def test_full_agreement_and_the_worst_of_two():
    same = np.array([1, 2, 3, 1])[:, None, None].repeat(3, axis=2)
    found = fleiss_kappa(category_counts(same, SCALE))
    assert (found.kappa, found.low, found.high) == (1, 1, 1)
    # Four draws of one category: (2/4)^4 + 2 (1/4)^4; the tolerance is some five standard errors.
    assert found.undefined_resamples == pytest.approx(0.0703125, abs=0.013)
    never = np.array([[[1, 2]], [[2, 1]]])
    assert fleiss_kappa(category_counts(never, SCALE), resamples=50).kappa == -1


def test_the_interval_holds_the_resampled_items_kappas():
    ratings = np.random.default_rng(3).integers(1, 4, size=(3, 2, 3))
    ratings[0] = 1
    found = fleiss_kappa(category_counts(ratings, SCALE), resamples=40_000)
    kappas = [by_pairs(ratings[list(draw)]) for draw in itertools.product(range(3), repeat=3)]
    known = np.sort([kappa for kappa in kappas if kappa is not None])
    assert found.undefined_resamples == pytest.approx(kappas.count(None) / 27, abs=0.005)
    assert (found.low, found.high) == pytest.approx((known[0], known[-1]))  # each of 27 draws is likelier than 2.5%


def test_one_annotator_has_no_kappa():
    found = fleiss_kappa(category_counts(np.array([[[1]], [[2]]]), SCALE))
    assert found.kappa is found.low is found.observed is None
    assert "one annotator" in found.undefined


def test_what_can_not_be_counted_is_refused():
    with pytest.raises(ValueError, match="other than"):
        category_counts(np.array([[1, 4]]), SCALE)
    for counts in ([[[2, 0]], [[1, 0]]], [[2, 0]], np.zeros((0, 1, 2)), np.zeros((1, 1, 2))):
        with pytest.raises(ValueError):
            fleiss_kappa(np.array(counts))


def test_a_kappa_needs_two_categories_however_rounding_falls():
    for share in (3, 7, 49):
        assert fleiss_kappa(np.array([[[0, share]]] * 3), resamples=10).kappa is None
