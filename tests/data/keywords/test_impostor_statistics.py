"""How hard impostors are, against loops over samples and words, and the blind order where its answer is known."""

import math

import numpy as np
import pytest

from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import NEGATIVE, UNKNOWN, SampleKeywords
from hcl_tf.data.keywords.impostor_statistics import Impostors, blind_order, mean_vectors, one_each
from hcl_tf.data.keywords.subgraph import ROUTES

DEGREE = 4
WORDS = 30


@pytest.fixture(scope="module")
def samples() -> list[SampleKeywords]:
    random = np.random.default_rng(1)

    def words() -> tuple[str, ...]:
        return tuple(f"w{i:02}" for i in random.choice(WORDS, random.integers(0, 4), replace=False))

    return [SampleKeywords(words(), words(), words()) for _ in range(200)]


@pytest.fixture(scope="module")
def built(samples) -> graph.KeywordGraph:
    return graph.build(samples, 24, DEGREE)  # some words are no nodes


@pytest.fixture(scope="module")
def found(built, samples) -> Impostors:
    return Impostors.of_samples(built, samples, DEGREE)


def of_words(built, sample: SampleKeywords) -> set[str]:
    """The impostors of one sample, word by word: neighbours of its target's keywords that are of neither source nor target."""
    near = {built.nodes[j] for word in sample.target if word in built.nodes for j in built.neighbours(built.numbers()[word], NEGATIVE)}
    own = {*sample.source, *sample.target}
    return near - own or {word for word in sample.negative if word in built.nodes} - own


def test_the_impostors_are_those_of_a_loop_over_words(built, found, samples):
    assert len(built) < WORDS
    for row, sample in zip(found.nodes, samples, strict=True):
        assert {built.nodes[node] for node in row.ravel() if node != UNKNOWN} == of_words(built, sample)


def eligible_of(built, sample: SampleKeywords) -> set[str]:
    return {word for word in sample.negative if word in built.nodes} - {*sample.source, *sample.target}


def test_share_of_negatives_is_a_loop_over_samples(built, found, samples):
    asked = [sample for sample in samples if eligible_of(built, sample)]
    met = [sample for sample in asked if eligible_of(built, sample) & of_words(built, sample)]
    assert 0 < len(met) < len(asked) < len(samples), "the case says nothing"
    assert found.share_of_negatives() == pytest.approx(len(met) / len(asked), rel=1e-12)
    for row, sample in zip(found.eligible, samples, strict=True):
        assert {built.nodes[node] for node in row if node != UNKNOWN} == eligible_of(built, sample)


def test_where_no_negative_has_a_keyword_of_its_own_there_is_no_share(built):
    alone = Impostors.of_samples(built, [SampleKeywords(("w00",), ("w01",), ("w00", "w01"))], DEGREE)
    assert math.isnan(alone.share_of_negatives())


def test_the_most_frequent_impostors_are_counted_once_a_sample(built, found, samples):
    counted = {word: sum(word in of_words(built, sample) for sample in samples) for word in built.nodes}
    shown = found.most_frequent(built)
    assert [share for _, share in shown] == pytest.approx(sorted((n / len(samples) for n in counted.values()), reverse=True)[:8])
    assert all(share == pytest.approx(counted[word] / len(samples)) for word, share in shown)


def test_lines_say_the_routes_the_share_and_the_words(built, found, samples):
    routes, words = found.lines(built)
    for number, route in enumerate(ROUTES):
        assert f"{route} {sum(found.routes == number) / len(samples):.1%}" in routes
    assert f"is among them in {found.share_of_negatives():.1%} of" in routes
    word, share = found.most_frequent(built)[0]
    assert words.startswith(f"most frequent impostors, by share of samples: {word} {share:.1%}, ")


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
