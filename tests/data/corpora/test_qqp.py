"""Labelled pairs to samples, against a table counted by hand, and clusters of duplicates."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.config import TASKS
from hcl_tf.data.corpora import qqp
from hcl_tf.data.corpora.examples import Example, QuestionPair
from hcl_tf.data.corpora.qqp import CONSTRUCTIONS, Clusters, text_key
from hcl_tf.errors import UserError

TABLE = [
    QuestionPair(f"p{number}", first, second, duplicate == "=")
    for number, (first, duplicate, second) in enumerate(
        [
            ("A", "=", "B"),  # p1
            ("A", "=", "C"),  # p2
            ("D", "!", "A"),  # p3
            ("B", "!", "E"),  # p4
            ("F", "=", "G"),  # p5
            ("a", "!", "F"),  # p6: the same text as A
            ("H", "=", "I"),  # p7: no non-duplicate on either side
            ("B", "!", "C"),  # p8: contradicts p1 and p2
            ("A", "=", " a "),  # p9: one text with itself
            ("J", "!", "K"),  # p10: no duplicate
            ("L", "=", "D"),  # p11: only the second has a non-duplicate
        ],
        1,
    )
]
PER_POSITIVE = [("A", "B", "DF"), ("A", "C", "DF"), ("F", "G", "A"), ("D", "L", "A")]
PER_POSITIVE_FILLED = [("A", "B", "DF"), ("A", "C", "DF"), ("F", "G", "A"), ("H", "I", ""), ("D", "L", "A")]
PER_INPUT = [("A", "B", "DF"), ("B", "A", "E"), ("F", "G", "A"), ("D", "L", "A")]
PER_INPUT_FILLED = [*PER_INPUT, ("C", "A", ""), ("G", "F", ""), ("H", "I", ""), ("I", "H", ""), ("L", "D", "")]
TRIPLES = [("A", "B", "D"), ("A", "B", "F"), ("A", "C", "D"), ("A", "C", "F"), ("B", "A", "E"), ("F", "G", "A"), ("D", "L", "A")]
TRIPLES_FILLED = [*TRIPLES, ("C", "A", ""), ("G", "F", ""), ("H", "I", ""), ("I", "H", ""), ("L", "D", "")]


def build(rows, construction, fill=False):
    return qqp.build({"train": rows}, construction, not fill)


def triples(examples):
    return [(e.source, e.target, "".join(e.negatives)) for e in examples]


@pytest.mark.parametrize(
    ("construction", "fill", "expected"),
    [
        ("one_per_positive", False, PER_POSITIVE),
        ("one_per_positive", True, PER_POSITIVE_FILLED),
        ("one_per_input", False, PER_INPUT),
        ("one_per_input", True, PER_INPUT_FILLED),
        ("all_pairs", False, TRIPLES),
        ("all_pairs", True, TRIPLES_FILLED),
    ],
)
def test_each_construction_gives_the_samples_counted_by_hand(construction, fill, expected):
    examples, _, notes = build(TABLE, construction, fill)
    assert sorted(triples(examples["train"])) == sorted(expected)
    assert notes[1].endswith(f"used: {construction}")
    assert f"{construction} {len(expected)}" in notes[1]


@pytest.mark.parametrize(("fill", "counts"), [(False, (4, 4, 7)), (True, (5, 9, 12))])
@pytest.mark.parametrize("paper", range(3, 15))
def test_nearest_takes_the_construction_nearest_to_the_papers_count(monkeypatch, paper, fill, counts):
    monkeypatch.setitem(TASKS, "qqp", replace(TASKS["qqp"], sizes=(paper - 2, 1, 1)))
    examples, _, notes = build(TABLE, "nearest", fill)
    assert abs(len(examples["train"]) - paper) == min(abs(count - paper) for count in counts)
    assert f"(paper: {paper})" in notes[1]
    used = notes[1].rsplit("used: ", 1)[1]
    assert dict(zip(CONSTRUCTIONS, counts, strict=True))[used] == len(examples["train"])


def test_contradictions_identical_pairs_and_questions_with_both_labels_are_counted():
    _, _, notes = build(TABLE, "one_per_input")
    assert "questions with both labels: 4;" in notes[0]  # A, B, F, D
    assert "other labels join them: 1;" in notes[0]
    assert notes[0].endswith("one and the same text left out: 1")


def test_a_non_duplicate_contradicted_in_another_split_is_no_negative():
    rows = {
        "train": [QuestionPair("1", "A", "B", True), QuestionPair("2", "A", "C", False), QuestionPair("3", "A", "D", False)],
        "test": [QuestionPair("4", "B", "C", True), QuestionPair("5", "B", "X", False)],
    }
    examples, clusters, notes = qqp.build(rows, "one_per_input", True)
    assert {split: triples(found) for split, found in examples.items()} == {"train": [("A", "B", "D")], "test": [("B", "C", "X")]}
    assert clusters.together("A", "C")
    assert "other labels join them: 1;" in notes[0]


def test_ready_examples_keep_or_lose_those_without_a_negative():
    rows = {"train": [Example("1", "a", "b", ("c",)), Example("2", "d", "e")], "test": [Example("3", "f", "g")]}
    kept, clusters, notes = qqp.from_examples(rows, paraphrases=True, required=True)
    assert {split: [e.id for e in examples] for split, examples in kept.items()} == {"train": ["1"], "test": []}
    assert notes == ["examples without a labelled negative left out: 2"]
    assert clusters.together("A", " b")
    kept, clusters, notes = qqp.from_examples(rows, paraphrases=False, required=False)
    assert kept == rows
    assert notes == []
    assert not clusters.together("a", "b")
    assert qqp.from_examples(rows, paraphrases=True, required=False)[1].together("d", "e")


@pytest.mark.parametrize(("first", "second"), [("What IS it?", " what  is it? "), ("STRASSE", "straße"), ("你好", "你好\n")])
def test_case_and_white_space_do_not_distinguish_texts(first, second):
    assert text_key(first) == text_key(second)


@settings(deadline=None)
@given(st.text())
def test_a_key_is_its_own_key(text):
    assert text_key(text_key(text)) == text_key(text)


NAMES = st.sampled_from("ABCDEFGHIJ")
JOINS = st.lists(st.tuples(NAMES, NAMES), max_size=12)


def partition_by_hand(joins):
    groups = [{name} for name in "ABCDEFGHIJ"]
    for first, second in joins:
        touched = [group for group in groups if first in group or second in group]
        groups = [group for group in groups if group not in touched] + [set().union(*touched)]
    return {name: min(group) for group in groups for name in group}


@pytest.mark.slow
@settings(deadline=None)
@given(joins=JOINS, data=st.data())
def test_clusters_are_transitive_and_independent_of_the_order_of_joins(joins, data):
    expected = partition_by_hand(joins)
    representatives = []
    for order in (joins, data.draw(st.permutations(joins))):
        clusters = Clusters()
        for first, second in order:
            clusters.join(*data.draw(st.permutations((first, second))))
            assert clusters.together(first.lower(), second)
        assert all(clusters.together(a, b) == (expected[a] == expected[b]) for a in expected for b in expected)
        representatives.append([clusters.find(name) for name in expected])
    assert representatives[0] == representatives[1]


def test_a_long_chain_of_joins_is_one_cluster():
    clusters = Clusters()
    for i in reversed(range(5000)):
        clusters.join(f"{i:05}", f"{i + 1:05}")
    assert clusters.find("05000") == "00000"


PAIRS = st.lists(
    st.builds(QuestionPair, st.just("id"), st.sampled_from("ABCDEFab "), st.sampled_from("ABCDEFab"), st.booleans()), max_size=20
)


@settings(deadline=None)
@given(
    rows=st.fixed_dictionaries({"train": PAIRS, "test": PAIRS}),
    construction=st.sampled_from((*CONSTRUCTIONS, "nearest")),
    fill=st.booleans(),
)
def test_no_candidate_negative_is_in_its_examples_cluster(rows, construction, fill):
    examples, clusters, _ = qqp.build(rows, construction, not fill)
    for example in (example for found in examples.values() for example in found):
        assert fill or example.negatives
        assert text_key(example.source) != text_key(example.target)
        assert clusters.together(example.source, example.target)
        assert not any(clusters.together(example.source, negative) for negative in example.negatives)
        assert len(set(map(text_key, example.negatives))) == len(example.negatives)


def test_held_out_pairs_are_one_of_each_drawn_cluster_and_touch_no_training_row():
    """Clusters of duplicates are ABC, FG, HI and DL; the rule is checked on the rows themselves for every draw."""
    everything = qqp.build({"train": TABLE}, "one_per_positive", labelled=False)[1]
    seen = set()
    for seed in range(8):
        splits, clusters, notes = qqp.build({"train": TABLE}, "one_per_positive", labelled=True, held_out=2, seed=seed)
        assert len(splits["test"]) == 2
        held = {everything.find(e.source) for e in splits["test"]}
        assert held == {everything.find(e.target) for e in splits["test"]}
        assert len(held) == 2, "a cluster each"
        of_rows = {(frozenset((text_key(pair.question1), text_key(pair.question2)))) for pair in TABLE if pair.duplicate}
        assert all(frozenset((text_key(e.source), text_key(e.target))) in of_rows for e in splits["test"])
        trained_on = {text for e in splits["train"] for text in (e.source, e.target, *e.negatives)}
        assert not {everything.find(text) for text in trained_on} & held
        assert clusters.together("A", "C"), "clusters know every row"
        assert "one duplicate pair of each of 2 clusters" in notes[-1]
        seen |= held
    assert len(seen) == 4, "every cluster can be drawn"
    again = qqp.build({"train": TABLE}, "one_per_positive", labelled=True, held_out=2, seed=7)[0]
    assert triples(again["test"]) == triples(splits["test"])


def test_held_out_pairs_may_have_to_have_a_labelled_negative():
    found = set()
    for seed in range(8):
        splits, clusters, _ = qqp.build({"train": TABLE}, "one_per_positive", labelled=True, held_out=1, seed=seed, held_out_labelled=True)
        (example,) = splits["test"]
        assert example.negatives
        found.add(clusters.find(example.source))
    some = {clusters.find(e.source) for e in qqp.build({"train": TABLE}, "one_per_positive", labelled=True)[0]["train"]}
    assert found == some, "every cluster with a labelled negative, and no other"
    with pytest.raises(UserError, match=f"the corpus has {len(some)} clusters of duplicates with a labelled negative"):
        qqp.build({"train": TABLE}, "one_per_positive", labelled=True, held_out=len(some), held_out_labelled=True)


def test_more_clusters_than_there_are_can_t_be_held_out():
    with pytest.raises(UserError, match="--held_out_pairs=4: the corpus has 4 clusters of duplicates; give a smaller number"):
        qqp.build({"train": TABLE}, "one_per_positive", labelled=True, held_out=4)
