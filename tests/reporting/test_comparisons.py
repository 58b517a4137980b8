"""Rows beside the row they are compared with: paired by example and seed, with marks where that can't be taken at face value."""

from dataclasses import replace

import numpy as np
import pytest
from made_results import made
from made_stages import N, result, row, stage

from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.metrics.significance import means
from hcl_tf.reporting.comparisons import (
    ABOVE,
    ANOTHER_TRUNK,
    BELOW,
    DOES_NOT_COUNT,
    ELSEWHERE,
    EQUAL,
    NOT_RUN,
    OTHER_EXAMPLES,
    UNDECIDED,
    Difference,
    between_seeds,
    compare,
    difference,
    paired,
)
from hcl_tf.reporting.measures import MARGIN, MEASURES, NLL


def test_rows_stand_beside_the_base_or_another_row_in_the_plan_s_order():
    planned = stage(row("base"), row("a"), row("b", beside="a"), row("c"))
    found = compare(planned, [result("b", margin=1.0), result("base"), result("a", margin=0.5, nll=41.0)])
    assert [(one.name, one.beside) for one in found] == [("base", ""), ("a", "base"), ("b", "a"), ("c", "base")]
    assert not found[0].differences
    assert found[1].differences[MARGIN.name].value == pytest.approx(0.5, abs=0.05)
    assert found[1].differences[NLL.name].value == pytest.approx(-1.0, abs=0.05), "a larger NLL is worse"
    assert found[2].differences[MARGIN.name].value == pytest.approx(0.5, abs=0.05)
    assert (found[3].marks, found[3].differences, found[3].value(MARGIN)) == ((NOT_RUN,), {}, None)


def test_one_seed_has_the_interval_over_examples_and_several_the_crossed_one():
    own, base = ([result(name, seed, margin) for seed in (1, 2, 3)] for name, margin in (("own", 0.3), ("base", 0.0)))
    values = [[np.array(one.record["figures"]["per_example"]["difference_a_token"]) for one in rows] for rows in (own, base)]
    table = np.stack(values[0]) - np.stack(values[1])
    crossed, single = crossed_mean(table), means({"": table[1]})[""]
    several, one = difference(own, base, MARGIN), difference(own[1:2], base, MARGIN)
    assert (several.value, several.low, several.high) == tuple(map(pytest.approx, (crossed.value, crossed.low, crossed.high)))
    assert (one.value, one.low, one.high) == tuple(pytest.approx(single[end]) for end in ("value", "low", "high"))
    assert (several.seeds, one.seeds) == (3, 1)
    at_90 = crossed_mean(table, 0.90)
    assert (several.narrow, one.narrow) == (pytest.approx((at_90.low, at_90.high)), None)
    assert difference(own[:2], base[1:], MARGIN).seeds == 1, "seeds that both have"


def test_examples_that_share_a_text_are_one_unit():
    own, base = ([result(name, seed, margin) for seed in (1, 2, 3)] for name, margin in (("own", 0.3), ("base", 0.0)))
    apart = difference(own, base, MARGIN)
    together = [replace(one, record=one.record | {"units": [0] * (N // 2) + list(range(1, N - N // 2 + 1))}) for one in own]
    assert paired(together, base, MARGIN).shape == (3, N - N // 2 + 1)
    found = difference(together, base, MARGIN)
    assert found.value == pytest.approx(apart.value)
    assert found.high - found.low != pytest.approx(apart.high - apart.low)


def test_rows_without_a_common_seed_are_not_compared():
    assert difference([result("a", 1)], [result("base", 2)], MARGIN) is None


def test_rows_of_other_examples_are_marked_and_not_compared():
    other = result("a")
    other = replace(other, record=other.record | {"references": "of another split, as many"})
    assert difference([other], [result("base")], MARGIN) is None
    base, marked, _ = compare(stage(row("base"), row("a"), row("b")), [result("base"), other, result("b")])
    assert (base.marks, marked.marks, marked.differences) == ((), (OTHER_EXAMPLES,), {})


def test_what_one_of_both_lacks_or_of_other_examples_is_not_compared():
    short = result("a")
    short.record["figures"]["per_example"]["nll"] = [1.0, 2.0]
    assert difference([short], [result("base")], NLL) is None
    assert difference([made("hcl")], [result("base")], NLL) is None
    assert difference([], [result("base")], NLL) is None


def test_a_measure_of_some_examples_alone_leaves_the_others_out():
    """The margin at equal overlap: means and intervals of those examples whose texts are equally near to the source."""
    equal = [float(i % 3 == 0) for i in range(N)]
    rows = {}
    for name, margin in (("own", 0.3), ("base", 0.0)):
        rows[name] = result(name, 1, margin)
        rows[name].record["figures"]["per_example"]["equal_overlap"] = equal
    (measure,) = (one for one in MEASURES if one.where)
    chosen = [np.array(one.record["figures"]["per_example"]["difference_a_token"])[::3] for one in rows.values()]
    found, expected = difference([rows["own"]], [rows["base"]], measure), means({"": chosen[0] - chosen[1]})[""]
    assert (found.value, found.low, found.high) == tuple(pytest.approx(expected[end]) for end in ("value", "low", "high"))
    (_, compared) = compare(stage(row("base"), row("own")), rows.values())
    assert compared.value(measure) == pytest.approx(chosen[0].mean())
    assert difference([result("own")], [rows["base"]], measure) is None, "kept by a version that did not ask"
    rows["own"].record["figures"]["per_example"]["equal_overlap"] = [0.0] * N
    assert difference([rows["own"]], [rows["base"]], measure) is None, "no such example"


def test_bleu_at_matched_overlap_takes_from_who_copies_more_what_copying_gives():
    """A row that replaced half of the base's outputs by their sources is above it in BLEU, and not at all at matched overlap."""
    draw = np.random.default_rng(5)
    of_copy = {"BLEU-2": draw.integers(4000, 9000, N), "source-BLEU-4": np.full(N, 11_000)}
    base, own = result("base"), result("own")
    scores = {"BLEU-2": draw.integers(0, 5000, N), "source-BLEU-4": draw.integers(0, 4000, N)}
    for one, share in ((base, 0.0), (own, 0.5)):
        one.record["per_copy"] = {name: values.tolist() for name, values in of_copy.items()}
        mixed = {name: (1 - share) * values + share * of_copy[name] for name, values in scores.items()}
        one.record["per_sentence"] = one.record["per_sentence"] | {name: values.tolist() for name, values in mixed.items()}
    matched = next(one for one in MEASURES if one.at_matched_overlap)
    plain = next(one for one in MEASURES if one.name == "BLEU-2")
    assert difference([own], [base], plain).verdict == ABOVE
    assert difference([own], [base], matched).value == pytest.approx(0, abs=1e-9)
    del base.record["per_copy"]
    assert difference([own], [base], matched) is None, "kept by a version without it"


def test_scores_of_sentences_are_stored_in_hundredths():
    before = result("base", score=20.0)
    del before.record["per_sentence"]["iBLEU"]
    (_, compared) = compare(stage(row("base"), row("a")), [before, result("a", score=25.0)])
    assert compared.differences["BLEU-2"].value == pytest.approx(5.0, abs=1.0)
    assert "iBLEU" not in compared.differences, "rows from before it have none"


def test_verdicts_are_of_the_interval():
    found = [Difference(value, value - 0.2, value + 0.2, 1) for value in (0.3, -0.3, 0.1)]
    assert [one.verdict for one in found] == [ABOVE, BELOW, UNDECIDED]
    assert [replace(one, noise=0.4).verdict for one in found] == [UNDECIDED] * 3, "two seeds differ by more"
    crossed = [replace(one, noise=0.4, seeds=5, narrow=(one.value - 0.15, one.value + 0.15), margin=0.3) for one in found]
    assert [one.verdict for one in crossed] == [ABOVE, BELOW, EQUAL], "an interval over seeds knows what they differ by"
    assert replace(crossed[2], margin=0.2).verdict == replace(crossed[2], margin=None).verdict == UNDECIDED


def test_noise_is_that_of_the_row_beside_and_of_the_base_where_that_has_one_seed():
    """Rows a and b stand beside rows of two seeds and of one."""
    rows = stage(row("base"), row("other"), row("single"), row("a", beside="other"), row("b", beside="single"))
    results = [result(name, seed, margin) for name, seed, margin in (
        ("base", 1, 0.0), ("base", 2, 3.0), ("other", 1, 0.0), ("other", 2, 7.0), ("single", 1, 0.0), ("a", 1, 0.0), ("b", 1, 0.0),
    )]  # fmt: skip
    *_, a, b = compare(rows, results)
    assert a.differences[MARGIN.name].noise == pytest.approx(7, abs=0.3)
    assert b.differences[MARGIN.name].noise == pytest.approx(3, abs=0.3)


def test_a_row_that_is_worse_than_the_plan_allows_does_not_count():
    allowed = replace(stage(row("base"), row("a"), row("b")), counts={NLL: 0.5})
    base, a, b = compare(allowed, [result("base", nll=40.0), result("a", nll=40.3), result("b", nll=41.0)])
    assert (base.counts, a.counts, b.counts) == (True, True, False)
    assert any(mark.startswith(f"{DOES_NOT_COUNT}: NLL of y+ ") and mark.endswith(" worse, 0.5 allowed") for mark in b.marks)
    assert not [mark for mark in a.marks if DOES_NOT_COUNT in mark]


def test_seeds_differ_by_their_means():
    assert between_seeds([result("base", seed, margin) for seed, margin in ((1, 0.0), (2, 0.5), (3, 0.2))], MARGIN) == pytest.approx(
        0.5, abs=0.1
    )
    assert between_seeds([result("base")], MARGIN) == between_seeds([], MARGIN) == 0


def test_arms_of_another_trunk_are_marked():
    (_, compared) = compare(stage(row("base"), row("a")), [result("base"), result("a", trunk="other")])
    assert ANOTHER_TRUNK in compared.marks
    (_, same) = compare(stage(row("base"), row("a")), [result("base"), result("a")])
    assert ANOTHER_TRUNK not in same.marks


def test_a_paired_table_has_the_seeds_that_both_have_in_the_direction_of_better():
    own, base = (
        [result(name, seed, nll=nll) for seed in seeds] for name, seeds, nll in (("own", (1, 2, 3), 41.0), ("base", (2, 3, 4), 40.0))
    )
    table = paired(own, base, NLL)
    assert table.shape == (2, N)
    assert table.mean() == pytest.approx(-1, abs=0.1), "a larger NLL is worse"
    assert paired(own[:1], base, NLL) is None, "no seed of both"
    assert paired([made("hcl", 2)], base, NLL) is None, "one has no such measure"


def test_where_tests_of_a_plan_judge_a_difference_says_neither_above_nor_below():
    planned, results = stage(row("base"), row("a")), [result("base"), result("a", margin=0.5)]
    for judged, verdict in ((True, ABOVE), (False, ELSEWHERE)):
        found = compare(planned, results, judged)[1].differences[MARGIN.name]
        assert (found.verdict, found.value) == (verdict, pytest.approx(0.5, abs=0.05))


def test_a_value_that_is_no_number_leaves_nothing_to_compare():
    own, base = result("own", 1), result("base", 1)
    assert paired([own], [base], NLL) is not None
    own.record["figures"]["per_example"]["nll"][3] = np.inf
    assert paired([own], [base], NLL) is None
