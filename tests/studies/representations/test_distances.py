"""Distances against loops, pairs and differences against values computed by hand."""

import math

import numpy as np
import pytest

from hcl_tf.studies.representations import distances

NAN = float("nan")


def vectors(seed: int, count: int = 6, names=("keyword", "source", "positive", "negative", "positive_keyword", "impostor")):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(count, 3)).astype(np.float32) for name in names}


def test_both_distances_against_a_loop():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    for i in range(5):
        x, y = [float(v) for v in a[i]], [float(v) for v in b[i]]
        dot = sum(p * q for p, q in zip(x, y, strict=True))
        lengths = [math.sqrt(sum(p * p for p in v)) for v in (x, y)]
        assert distances.distance(a, b, "cosine")[i] == pytest.approx(1 - dot / (lengths[0] * lengths[1]), rel=1e-12)
        assert distances.distance(a, b, "euclidean")[i] == pytest.approx(math.dist(x, y), rel=1e-12)


def test_zero_vectors_and_vectors_that_are_not_there():
    a, b = np.array([[0.0, 0.0], [NAN, NAN], [3.0, 4.0]]), np.array([[1.0, 0.0], [1.0, 0.0], [-6.0, -8.0]])
    np.testing.assert_allclose(distances.distance(a, b, "cosine"), [1.0, NAN, 2.0])
    np.testing.assert_allclose(distances.distance(a, b, "euclidean"), [1.0, NAN, 15.0])


def test_every_pair_is_of_one_example_but_for_the_other():
    given = vectors(1, count=5)
    found = distances.distances(given, "euclidean")
    assert list(found) == [f"{a}-{b}" for a, b in distances.PAIRS]
    for i in range(5):
        assert found["keyword-impostor"][i] == pytest.approx(math.dist(given["keyword"][i], given["impostor"][i]))
        # --> two places on, half of five
        assert found["source-other"][i] == pytest.approx(math.dist(given["source"][i], given["positive"][(i - 2) % 5]))
    two = distances.distances(vectors(1, count=2), "euclidean")
    assert not np.isclose(two["source-other"], two["source-positive"]).any()


def test_a_system_without_keywords_has_fewer_pairs():
    given = vectors(2, names=("source", "positive", "negative"))
    found = distances.summary(given, vectors(3, names=("source", "positive", "negative")))
    assert set(found["after"]["cosine"]["distances"]) == {"source-positive", "source-negative", "source-other"}
    assert list(found["after"]["cosine"]["differences"]) == list(found["change"]["nearer"]) == ["source: positive minus negative"]
    assert "keyword" not in "\n".join(distances.lines(found))


def test_differences_and_shares_are_paired_and_leave_out_what_is_not_there():
    before, after = vectors(4), vectors(5)
    before["keyword"][0] = after["keyword"][0] = NAN
    after["positive"][1] = after["negative"][1]  # neither is nearer
    found = distances.summary(before, after)
    for when, given in (("before", before), ("after", after)):
        gaps, wins = [], []
        for i in range(1, 6):
            plus, minus = (math.dist(given["keyword"][i], given[name][i]) for name in ("positive", "negative"))
            gaps.append(plus - minus)
            wins.append(1.0 if plus < minus else 0.5 if plus == minus else 0.0)
        part = found[when]["euclidean"]
        entry, share = (part[kind]["keyword: positive minus negative"] for kind in ("differences", "nearer"))
        assert (entry["examples"], share["examples"]) == (5, 5)
        assert entry["value"] == pytest.approx(np.mean(gaps))
        assert share["value"] == pytest.approx(np.mean(wins))
        assert entry["low"] < entry["value"] < entry["high"]
        assert part["distances"]["source-positive"]["examples"] == 6
    name = "source: positive minus negative"
    change = found["change"]["differences"][name]
    assert change["value"] == pytest.approx(
        found["after"]["cosine"]["differences"][name]["value"] - found["before"]["cosine"]["differences"][name]["value"]
    )
    assert set(found["change"]) == {"differences", "nearer"}


def test_what_does_not_change_has_no_change():
    given = vectors(6)
    change = distances.summary(given, given)["change"]
    assert {(entry["value"], entry["low"], entry["high"]) for part in change.values() for entry in part.values()} == {(0.0, 0.0, 0.0)}


def test_lines_show_every_number_and_a_dash_where_there_is_none():
    given = vectors(7)
    given["impostor"][:] = NAN
    found = distances.summary(given, given)
    text = distances.lines(found)
    for name, entry in found["after"]["cosine"]["distances"].items():
        line = next(line for line in text if line.startswith(f"{name} "))
        assert line.endswith("-" if name == "keyword-impostor" else f"[{entry['low']:.3f}, {entry['high']:.3f}]")
    assert any(line.startswith("share nearer, source: positive before negative") for line in text)
