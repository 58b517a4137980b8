"""How hard impostors are, against loops over samples, and the blind order where its answer is known."""

import math

import numpy as np
import pytest

from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.keywords.impostor_hardness import (
    LEAST_SAMPLES,
    NEIGHBOURS,
    Hardness,
    blind_order,
    hardness,
    hardness_lines,
    mean_cosine,
    mean_vectors,
    one_each,
    random_twins,
)
from hcl_tf.data.keywords.impostor_statistics import Impostors

# -- blind order ------------------------------------------------------------------------------------------------------

PAIRS, D = 4000, 6


def test_blind_order_is_chance_where_both_have_the_same_marginals():
    """Whatever their covariance. A fair coin of 4,000 throws is off by 5 deviations, 0.04, once in 1.7 million times."""
    mix = np.random.default_rng(1).normal(size=(D, D))
    positive, negative = (np.random.default_rng(seed).normal(size=(PAIRS, D)) @ mix + 3.0 for seed in (2, 3))
    assert blind_order(positive, negative) == pytest.approx(0.5, abs=0.04)


def test_blind_order_is_chance_where_only_what_is_read_tells():
    """The positive lies near its anchor and the negative away from it, but neither side of the space is the positives'."""
    random = np.random.default_rng(4)
    anchor, noise = random.normal(size=(PAIRS, D)), random.normal(size=(2, PAIRS, D))
    positive, negative = anchor + 0.1 * noise[0], -anchor + 0.1 * noise[1]
    assert ((anchor * positive).sum(1) > (anchor * negative).sum(1)).all()
    assert blind_order(positive, negative) == pytest.approx(0.5, abs=0.04)


def test_blind_order_is_one_where_a_shift_tells():
    positive, negative = np.random.default_rng(5).normal(size=(2, PAIRS, D))
    assert blind_order(positive + 4.0, negative) > 0.99


def test_blind_order_is_that_of_the_best_direction():
    """Two unit Gaussians shifted by d along one axis of unequal scales: no direction orders more than Phi(d / sqrt 2) of the pairs."""
    scales = np.array([0.1, 5.0, 5.0, 5.0, 5.0, 5.0])
    positive, negative = np.random.default_rng(6).normal(size=(2, PAIRS, D)) * scales
    positive[:, 0] += 0.1
    best = 0.5 * (1 + math.erf(0.5))  # d = 1
    plain = np.mean((positive - negative) @ (positive - negative).mean(0) > 0)
    assert plain < best - 0.15, "the difference of means alone would do: the case says nothing"
    scaled = [part / scales for part in (positive, negative)]  # where the ridge is no obstacle
    assert blind_order(*scaled) == pytest.approx(best, abs=0.03)
    assert blind_order(*scaled[::-1]) == pytest.approx(best, abs=0.03), "the direction follows the order of its arguments"


def test_blind_order_counts_only_pairs_that_were_not_fitted():
    """More dimensions than pairs: any direction fitted to them orders them, and tells nothing."""
    positive, negative = np.random.default_rng(7).normal(size=(2, 400, 300))
    assert blind_order(positive, negative) == pytest.approx(0.5, abs=0.125)


# -- vectors ----------------------------------------------------------------------------------------------------------


def test_one_each_draws_each_impostor_equally_often():
    nodes = np.full((3, 2, 3), UNKNOWN)
    nodes[0, 0], nodes[0, 1, 2], nodes[1, 1, 1] = (4, 5, 6), 7, 0
    random, many = np.random.default_rng(8), 4000
    draws = np.array([one_each(nodes, random) for _ in range(many)])
    assert set(draws[:, 1]) == {0}
    assert set(draws[:, 2]) == {UNKNOWN}
    counts = np.bincount(draws[:, 0], minlength=8)
    assert counts[4:] == pytest.approx([many / 4] * 4, abs=5 * (many * 3 / 16) ** 0.5)
    assert counts[:4].sum() == 0


def test_mean_vectors_are_means_over_known_nodes():
    random = np.random.default_rng(9)
    vectors, nodes = random.normal(size=(10, D)), random.integers(0, 10, (5, 2, 3))
    nodes[random.random(nodes.shape) < 0.5], nodes[4] = UNKNOWN, UNKNOWN
    nodes[0, 0, 0] = 9
    found = mean_vectors(vectors, nodes)
    for row in range(5):
        known = [vectors[node] for node in nodes[row].ravel() if node != UNKNOWN]
        np.testing.assert_allclose(found[row], sum(known) / len(known) if known else np.zeros(D), rtol=1e-12, atol=1e-15)
    assert not found[4].any()


# -- hardness ---------------------------------------------------------------------------------------------------------

NODES, SAMPLES, K, F = 200, 300, 3, 5
MANY = 4000


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(NODES, D)) * np.random.default_rng(9).uniform(0.5, 3.0, (NODES, 1)) + 2.0


def impostors_of(nodes: np.ndarray, target: np.ndarray, negative: np.ndarray) -> Impostors:
    return Impostors(nodes, np.zeros(len(nodes), np.int32), target, negative, target)


@pytest.fixture(scope="module")
def drawn() -> Impostors:
    """Random nodes, with places that are empty; some samples have no impostor, some no keyword of target or negative."""
    random = np.random.default_rng(10)

    def some(*shape: int) -> np.ndarray:
        return np.where(random.random(shape) < 0.6, random.integers(0, NODES, shape), UNKNOWN)

    return impostors_of(some(SAMPLES, K, F), some(SAMPLES, K), some(SAMPLES, K))


def mean_of(vectors: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    return np.mean([vectors[node] for node in nodes.ravel() if node != UNKNOWN], axis=0)


def test_cosines_of_the_mean_are_those_of_a_loop(vectors, drawn):
    centred, found = vectors - vectors.mean(0), hardness(drawn, vectors, drawn=False)
    has = [row for row in range(SAMPLES) if (drawn.nodes[row] != UNKNOWN).any() and (drawn.target[row] != UNKNOWN).any()]
    assert found.samples == len(has) < SAMPLES
    for nodes, value in ((drawn.target, found.to_target), (drawn.negative, found.to_negative)):
        cosines = []
        for row in has:
            if (nodes[row] != UNKNOWN).any():
                a, b = mean_of(centred, drawn.nodes[row]), mean_of(centred, nodes[row])
                cosines.append(a @ b / math.sqrt(a @ a * (b @ b)))
        assert value == pytest.approx(np.mean(cosines), rel=1e-9)


def test_an_impostor_that_is_the_negatives_keyword_is_known_as_near_it_and_its_twin_is_not(vectors):
    nodes = np.random.default_rng(11).integers(0, NODES, (SAMPLES, 1))
    target = np.random.default_rng(12).integers(0, NODES, (SAMPLES, 1))
    for drawn in (True, False):
        found = hardness(impostors_of(nodes[..., None], target, nodes), vectors, drawn)
        assert found.to_negative == pytest.approx(1.0)
        assert abs(found.twin_to_negative) < 0.3
        assert abs(found.to_target) < 0.3
        assert found.blind_order == pytest.approx(0.5, abs=0.1)


def test_a_length_tells_nothing_because_impostors_get_that_of_the_target(vectors):
    """Target keywords are the longest nodes, impostors others; the direction of each is random."""
    unit = np.random.default_rng(13).normal(size=(MANY, D))
    lengths = np.linspace(0.1, 10.0, MANY)[:, None]
    scaled = unit / np.linalg.norm(unit, axis=1, keepdims=True) * lengths
    random = np.random.default_rng(14)
    nodes, target = random.integers(0, MANY // 2, (MANY, 1, 1)), random.integers(MANY // 2, MANY, (MANY, 1))
    assert hardness(impostors_of(nodes, target, nodes[..., 0]), scaled, True).blind_order == pytest.approx(0.5, abs=0.06)


def test_a_node_without_a_vector_does_not_count(vectors, drawn):
    without = vectors.copy()
    without[::3] = 0.0
    hidden = impostors_of(*(np.where(part % 3 == 0, UNKNOWN, part) for part in (drawn.nodes, drawn.target, drawn.negative)))
    centre = without[without.any(1)].mean(0)
    found = hardness(drawn, without, drawn=False)
    shown = [row for row in range(SAMPLES) if (hidden.nodes[row] != UNKNOWN).any() and (hidden.target[row] != UNKNOWN).any()]
    assert found.samples == len(shown)
    pairs = [(mean_of(without - centre, hidden.nodes[row]), mean_of(without - centre, hidden.target[row])) for row in shown]
    assert found.to_target == pytest.approx(np.mean([a @ b / math.sqrt(a @ a * (b @ b)) for a, b in pairs]), rel=1e-9)


def test_too_few_samples_give_no_line(vectors, drawn):
    few = LEAST_SAMPLES - 1
    nodes = np.zeros((few, 1, 1), int)
    assert hardness_lines(impostors_of(nodes, nodes[..., 0], nodes[..., 0]), vectors, "vectors") == []
    lines = hardness_lines(drawn, vectors, "vectors")
    samples = f"of {hardness(drawn, vectors, drawn=False).samples} samples"
    assert [line.split(":")[0] for line in lines] == [f"impostors by vectors, {form}, {samples}" for form in ("one drawn", "mean of all")]
    assert lines[1].endswith(str(hardness(drawn, vectors, drawn=False)))


def test_a_twin_is_another_node_of_about_the_same_length(vectors):
    order = np.argsort(np.linalg.norm(vectors, axis=1))
    rank = np.empty(NODES, int)
    rank[order] = np.arange(NODES)
    seen = set()
    for seed in range(50):
        twins = random_twins(vectors, np.random.default_rng(seed))
        assert (twins != np.arange(NODES)).all()
        assert (abs(rank[twins] - rank) <= 2 * NEIGHBOURS).all()
        seen.update((rank[twins] - rank).tolist())
    assert len(seen) > NEIGHBOURS, "always the same few"


@pytest.mark.parametrize("count", [2, 3, 4, 7, 40])
def test_twins_of_few_nodes_are_other_nodes(count):
    for seed in range(20):
        twins = random_twins(np.random.default_rng(seed).normal(size=(count, 3)), np.random.default_rng(seed))
        assert ((twins >= 0) & (twins < count) & (twins != np.arange(count))).all()


def test_the_mean_cosine_of_no_rows_is_no_number():
    assert math.isnan(mean_cosine(np.zeros((0, 3)), np.zeros((0, 3))))


def test_hardness_says_what_it_is_in_words():
    text = str(Hardness(9, 0.713, 0.33, 0.13, 0.41, 0.1))
    assert text == "blind order 71.3%; cosine with u_y 0.33 (random nodes 0.13), with the negative's keywords 0.41 (random nodes 0.10)"
