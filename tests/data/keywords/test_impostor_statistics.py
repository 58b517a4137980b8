"""What impostors are made of, against loops over samples and words."""

import math

import numpy as np
import pytest

from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import NEGATIVE, UNKNOWN, SampleKeywords
from hcl_tf.data.keywords.impostor_statistics import Impostors
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
    assert "no negative has a keyword that source and target lack" in alone.lines(built)[0]


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
