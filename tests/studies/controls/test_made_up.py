"""The two made-up corpora: how often each text occurs, which negative it has, and that impostors have the marginal of positives."""

from collections import Counter

import numpy as np
import pytest

from hcl_tf.data.keywords.graph import NEGATIVE
from hcl_tf.studies.controls import disagreement, impostors
from hcl_tf.studies.controls.findings import Findings
from hcl_tf.studies.controls.rows import Bench


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path, "tiny", {}, {})


@pytest.mark.parametrize("overlapping", [True, False])
def test_targets_and_negatives_of_a_source(bench, overlapping):
    data = disagreement.folder(bench, overlapping)
    by_source: dict[str, Counter] = {}
    for record in data.records("train"):
        by_source.setdefault(record.source.raw, Counter())[record.target.raw[0], record.negative.raw[0]] += 1
        assert {text.raw[1:] for text in (record.source, record.target, record.negative)} == {record.source.raw[1:]}
    wanted = {("b", "c" if overlapping else "d"): 45, ("c", "d"): 55}
    assert by_source == {f"a{i}": wanted for i in range(disagreement.SOURCES)}
    assert disagreement.folder(bench, overlapping).manifest == data.manifest  # opened, not written again


def test_each_target_word_is_an_impostor_as_often_as_any_other(bench):
    data = impostors.folder(bench)
    numbers = data.graph.numbers()
    seen = Counter()
    for word in range(impostors.PAIRS):
        found = {data.graph.nodes[i] for i in data.graph.neighbours(numbers[f"y{word}"], NEGATIVE)}
        near = [step for step in range(-impostors.STEPS, impostors.STEPS + 1) if step]
        assert found == {f"y{(word + step) % impostors.PAIRS}" for step in near}
        seen.update(found)
    assert set(seen.values()) == {2 * impostors.STEPS}


def ring(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """States of the target words [64, 8] of different lengths, and the places of their impostors [64, 16]."""
    near = np.array([step for step in range(-impostors.STEPS, impostors.STEPS + 1) if step])
    return random.normal(size=(64, 8)) * random.uniform(0.5, 2.0, (64, 1)), (np.arange(64)[:, None] + near) % 64


def test_orders_of_states_that_fit_and_of_states_that_do_not():
    random = np.random.default_rng(0)
    u_y, places = ring(random)
    fits = impostors.orders(3 * u_y, u_y, u_y, np.ones_like(u_y), places)
    assert fits["order of L_key"]["value"] == fits["order of L_ma"]["value"] == 1.0
    unrelated = impostors.orders(random.normal(size=(64, 8)), u_y, random.normal(size=(64, 8)), np.ones_like(u_y), places)
    for found in (fits, unrelated):
        assert found["blind: fixed direction"]["value"] == pytest.approx(0.5, abs=1e-9)
        assert found["blind: constant mu"]["value"] == pytest.approx(0.5, abs=1e-9)
    assert abs(unrelated["order of L_key"]["value"] - 0.5) < 0.1
    assert abs(unrelated["order of L_ma"]["value"] - 0.5) < 0.1


@pytest.mark.parametrize(("probability", "written", "passed"), [(0.55, 1.0, True), (0.55, 0.25, False), (0.48, 1.0, False)])
def test_the_rule_of_the_flip(probability, written, passed):
    found = Findings("disagreement", "", {f"calculated, {kind} decoder": {"probability": 0.55} for kind in ("linear", "free")})
    still = {"P(b)": {"value": 0.45}, "written b": {"value": 0.0}, "order": {"value": 1.0}, "L_ins": {"value": 0.0}}
    moved = {**still, "P(b)": {"value": probability}, "written b": {"value": written}}
    found.rows = {"base": still, "overlapping": moved, "disjoint": still}
    disagreement.judge(found)
    assert [check.passed for check in found.checks] == [True, True, True, passed]
    assert found.passed == passed
