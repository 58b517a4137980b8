"""The choice of negatives: the three rules whatever the mode, and the order of the routes."""

import copy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_bm25 import plain_bm25

from hcl_tf.data.corpora import formats, negatives
from hcl_tf.data.corpora.bm25 import words_of
from hcl_tf.data.corpora.examples import Example
from hcl_tf.data.corpora.negatives import negative_routes
from hcl_tf.data.corpora.qqp import Clusters, text_key
from hcl_tf.data.store import tfrecords
from hcl_tf.errors import UserError

OLD = Path(__file__).parents[2] / "fixtures" / "637db7d"
HELD_OUT = ("validation", "test")
MODES = ("labelled", "labelled_then_bm25", "bm25", "random")


def corpus(train, validation=(), test=()) -> dict[str, list[Example]]:
    """Splits of examples given as (source, target, *negatives)."""
    named = {"train": train, "validation": validation, "test": test}
    return {split: [Example(f"{split}{i}", row[0], row[1], tuple(row[2:])) for i, row in enumerate(rows)] for split, rows in named.items()}


def choose(splits, clusters=None, *, mode="labelled_then_bm25", language="en", candidates=1, own_split=False, seed=1, filled=()):
    """The choice for a copy of the splits, so that they can be used twice."""
    return negatives.choose(
        copy.deepcopy(splits),
        clusters or Clusters(),
        mode=mode,
        language=language,
        candidates=candidates,
        own_split=own_split,
        seed=seed,
        filled=filled,
    )


def chosen(splits, **kwargs) -> dict[str, tuple[str, str]]:
    kept, _ = choose(splits, **kwargs)
    return {e.id: (e.negative, e.route) for examples in kept.values() for e in examples}


def joined(*groups) -> Clusters:
    clusters = Clusters()
    for first, *others in groups:
        for other in others:
            clusters.join(first, other)
    return clusters


def check_rules(splits, kept, clusters) -> None:
    held_out = {text_key(t) for split in HELD_OUT for e in splits[split] for t in (e.source, e.target)}
    held_out |= {text_key(e.negative) for split in HELD_OUT for e in kept[split]}
    for split, examples in kept.items():
        for e in examples:
            assert e.negative
            assert text_key(e.negative) not in (text_key(e.source), text_key(e.target))
            assert not clusters.together(e.negative, e.source)
            assert not clusters.together(e.negative, e.target)
            assert split != "train" or text_key(e.negative) not in held_out


TEXTS = st.lists(st.sampled_from(["cat", "Cat", "dog", "soup", "tree", "the"]), min_size=1, max_size=3).map(" ".join)
ROWS = st.lists(st.tuples(TEXTS, TEXTS) | st.tuples(TEXTS, TEXTS, TEXTS) | st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), max_size=8)
CORPORA = st.builds(corpus, ROWS.filter(bool), ROWS, ROWS)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    splits=CORPORA,
    groups=st.lists(st.tuples(TEXTS, TEXTS), max_size=4),
    mode=st.sampled_from(MODES),
    own_split=st.booleans(),
    candidates=st.integers(1, 5),
)
def test_the_three_rules_hold_for_any_corpus(splits, groups, mode, own_split, candidates):
    clusters = joined(*groups)
    options = {"mode": mode, "own_split": own_split, "candidates": candidates}
    try:
        kept, notes = choose(splits, clusters, **options)
    except UserError:
        with pytest.raises(UserError):
            choose(splits, clusters, **options)
        return
    check_rules(splits, kept, clusters)
    assert (kept, notes) == choose(splits, clusters, **options)
    assert kept.keys() == splits.keys()
    for split, examples in splits.items():
        ids = [e.id for e in kept[split]]
        assert ids == [e.id for e in examples if e.id in set(ids)]
        lost = len(examples) - len(ids)
        assert any(note.startswith(f"{split}: {lost} examples without an allowed negative left out") for note in notes) == bool(lost)
        routes = {e.route for e in kept[split]}
        assert routes <= {"labelled": {"labelled"}, "random": {"random"}, "bm25": {"bm25", "random"}}.get(
            mode, {"labelled", "bm25", "random"}
        )


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(splits=CORPORA, groups=st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_labelled_keeps_exactly_the_examples_with_an_allowed_negative_of_their_own(splits, groups):
    clusters = joined(*groups)

    def allowed(e: Example, text: str) -> bool:
        return not clusters.together(text, e.source) and not clusters.together(text, e.target)

    try:
        kept, _ = choose(splits, clusters, mode="labelled")
    except UserError:
        kept = None
    held_out = {text_key(t) for split in HELD_OUT for e in splits[split] for t in (e.source, e.target)}
    for split in HELD_OUT if kept else ():
        assert [e.id for e in kept[split]] == [e.id for e in splits[split] if any(allowed(e, t) for t in e.negatives)]
        held_out |= {text_key(e.negative) for e in kept[split]}
    if kept:
        usable = [e.id for e in splits["train"] if any(allowed(e, t) and text_key(t) not in held_out for t in e.negatives)]
        assert [e.id for e in kept["train"]] == usable
        assert all(e.negative in e.negatives for examples in kept.values() for e in examples)


def test_labelled_comes_before_bm25_and_bm25_before_random():
    splits = corpus([("red cat", "t0", "own"), ("red dog", "t1"), ("green soup", "t2")])
    assert chosen(splits) == {
        "train0": ("own", "labelled"),
        "train1": ("t0", "bm25"),
        "train2": (chosen(splits)["train2"][0], "random"),
    }
    assert chosen(splits, mode="bm25")["train0"] == ("t1", "bm25")
    assert {route for _, route in chosen(splits, mode="random").values()} == {"random"}


def test_labelled_leaves_out_and_counts():
    splits = corpus([("a", "b", "c"), ("d", "e"), ("f", "g", "F")], [("h", "i", "h"), ("j", "k", "l")])
    kept, notes = choose(splits, mode="labelled")
    assert [e.id for examples in kept.values() for e in examples] == ["train0", "validation1"]
    assert notes[0] == "examples with a negative of the corpus's own: 4 of 5 (80.0%)"
    assert any(note.startswith("train: 2 examples without an allowed negative left out") for note in notes)
    assert any(note.startswith("validation: 1 examples without an allowed negative left out") for note in notes)
    assert "negatives in train: labelled 1 (100.0%)" in notes


def test_a_filled_split_takes_from_bm25_what_the_corpus_has_not_and_the_others_do_not():
    splits = corpus([("a b", "A", "N"), ("c", "C")], [("a b v", "V", "M")], [("a b t", "T"), ("a b s", "S", "own")])
    found = chosen(splits, mode="labelled", filled=("test",))
    assert found == {"train0": ("N", "labelled"), "validation0": ("M", "labelled"), "test0": ("A", "bm25"), "test1": ("own", "labelled")}


@pytest.mark.parametrize("mode", MODES)
def test_no_negative_is_a_paraphrase(mode):
    clusters = joined(("a cat", "one cat", "this cat"), ("a dog", "one dog"))
    splits = corpus([("A  CAT", "one cat", "this cat", "ONE dog"), ("a dog", "one dog", "a dog", "this cat")])
    assert {key: negative for key, (negative, _) in chosen(splits, clusters=clusters, mode=mode).items()} in (
        {"train0": "ONE dog", "train1": "this cat"},
        {"train0": "one dog", "train1": "one cat"},
    )


@pytest.mark.parametrize("held_out", HELD_OUT)
@pytest.mark.parametrize("taken", ["red source", "Red  TARGET", "red negative"])
def test_no_training_negative_is_a_text_of_a_held_out_example(held_out, taken):
    splits = corpus([("cat", "dog", taken, "free")], **{held_out: [("red source", "red target", "red negative")]})
    assert chosen(splits, mode="labelled")["train0"] == ("free", "labelled")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("train", [[("a", "b", "a")], [("a", "b"), ("A", "c", "B")]])
def test_nothing_left_is_a_user_error(mode, train):
    # Only under `labelled` can another mode help.
    with pytest.raises(UserError, match=r"--negatives=labelled_then_bm25.*larger corpus" if mode == "labelled" else "larger corpus"):
        choose(corpus(train), joined("ab", "ac"), mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("own_split", [True, False])
def test_an_empty_training_split_is_a_user_error(mode, own_split):
    with pytest.raises(UserError):
        choose(corpus([], [("a", "b", "c"), ("d", "e", "f")]), mode=mode, own_split=own_split)


def test_the_choice_follows_the_seed_and_the_id_not_the_order_of_the_others():
    rows = [(f"cat word{i} {'pad ' * i}", f"target {i}", f"own {i}") for i in range(12)]
    splits = corpus(rows)
    backwards = {**splits, "train": splits["train"][::-1]}
    for mode in ("labelled", "bm25"):
        assert chosen(splits, mode=mode, candidates=5) == chosen(backwards, mode=mode, candidates=5)
    assert len({str(chosen(splits, mode="bm25", candidates=5, seed=seed)) for seed in range(4)}) > 1


def test_examples_of_one_source_take_different_labelled_negatives():
    splits = corpus([("a", f"t{i}", "x", "y", "z") for i in range(4)])
    assert [negative for negative, _ in chosen(splits).values()] == ["x", "y", "z", "x"]


def test_bm25_takes_the_most_similar_text_that_is_allowed():
    sources = ["red cat on a mat", "red cat on the mat today", "red cat", "blue cat", "a red mat for a red cat", "nothing alike here"]
    splits = corpus([(source, f"target {i}") for i, source in enumerate(sources)])
    documents = [words_of("en")(source) for source in sources]
    for i in range(5):
        scores = plain_bm25(documents, documents[i])
        best = max((j for j in range(6) if j != i), key=lambda j: scores[j])
        assert chosen(splits, mode="bm25")[f"train{i}"] == (f"target {best}", "bm25")


def test_the_bm25_negative_is_drawn_from_the_best_candidates_only():
    splits = corpus([(f"cat {'pad ' * i}", f"target {i}") for i in range(12)])
    drawn = {chosen(splits, mode="bm25", candidates=3, seed=seed)["train0"][0] for seed in range(40)}
    assert drawn == {"target 1", "target 2", "target 3"}


def test_what_can_be_had_is_had():
    # 200 paraphrases of one text and a single other: the only negative of each.
    splits = corpus([(f"cat {i}", f"target {i}") for i in range(200)] + [("dog", "bone")])
    clusters = joined([text for i in range(200) for text in (f"cat {i}", f"target {i}")])
    kept, _ = choose(splits, clusters, mode="random")
    assert [e.negative for e in kept["train"][:200]] == ["bone"] * 200


@pytest.mark.parametrize("own_split", [True, False])
@pytest.mark.parametrize("mode", ["bm25", "random"])
def test_held_out_negatives_come_from_their_own_split_or_from_training(own_split, mode):
    def rows(split: str) -> list[tuple[str, str]]:
        return [(f"cat {split} {i}", f"{split} target {i}") for i in range(20)]

    splits = corpus(rows("train"), rows("validation"), rows("test"))
    kept, _ = choose(splits, mode=mode, own_split=own_split, candidates=3)
    check_rules(splits, kept, Clusters())
    for split, examples in kept.items():
        assert {e.negative.split()[0] for e in examples} == {split if own_split else "train"}


def test_sampled_negatives_take_the_lowest_score(tmp_path):
    sampled = "__EOD__".join(f"上下文{i} __EOC__ 回复 {name}" for i, name in enumerate("甲乙丙"))
    lines = [f"1 你好 __EOT__ 早 __SAMP__ {sampled} __SAMP__ 0.9 0.1 0.5 __SAMP__ 0.1 0.2 0.3\t早上好{i}" for i in range(2)]
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = {"train": list(formats.read(path, formats.ReadOptions())), "validation": [], "test": []}
    assert chosen(splits, language="zh") == {"1": ("回复乙", "sampled"), "2": ("回复乙", "sampled")}
    splits["test"] = [Example("t", "回复乙", "别的", ("不同",))]
    assert chosen(splits, language="zh")["1"] == ("回复丙", "sampled")


def test_bm25_compares_chinese_texts_by_character_pairs():
    splits = corpus([("今天下雪了", "甲"), ("昨天下雪没有", "乙"), ("我去吃饭", "丙"), ("天气很好", "丁")])
    assert chosen(splits, language="zh", mode="bm25")["train0"] == ("乙", "bm25")


@pytest.mark.parametrize("words", ["", "the of and", "?!"])
def test_texts_without_words_still_get_a_random_negative(words):
    splits = corpus([(f"{words}", f"target {i}") for i in range(3)])
    splits["train"] = [Example(e.id, f"{words} {'!' * i}", e.target) for i, e in enumerate(splits["train"])]
    assert {route for _, route in chosen(splits, mode="bm25").values()} == {"random"}


@pytest.mark.parametrize("mode", ["bm25", "random"])
def test_a_negative_is_no_turn_of_its_source_and_of_no_story_of_its_own(mode):
    story = ["a cat sat", "the cat ate", "the cat slept", "the cat woke"]
    prefixes = [Example(f"one#{i}", "\n".join(story[:i]), story[i], group="one") for i in range(1, 4)]
    others = [Example("two", "a cat ran\nthe cat ate", "the cat slept"), Example("three", "a cat hid", "the cat jumped")]
    found = chosen({"train": prefixes + others, "validation": [], "test": []}, mode=mode)
    assert found.keys() == {"one#1", "one#2", "one#3", "two", "three"}
    assert found["one#1"][0] in ("the cat slept", "the cat jumped")
    assert found["one#2"][0] == found["one#3"][0] == "the cat jumped"  # what else there is belongs to the story
    assert found["two"][0] in ("the cat woke", "the cat jumped")


def test_a_random_negative_is_found_wherever_the_only_allowed_text_stands():
    same = [(f"source {i}", "yes") for i in range(300)]
    assert chosen(corpus([*same, ("other", "no")]), mode="random")["train7"] == ("no", "random")


def test_routes_of_negatives_are_the_manifest_s(qqp_folder):
    manifest = tfrecords.read_manifest(qqp_folder)
    manifest["notes"] = []
    assert negative_routes(manifest) == manifest["splits"]["train"]["negatives"]["routes"] == {"labelled": 1.0}


def test_routes_of_negatives_of_an_older_folder_are_read_from_its_notes():
    old = tfrecords.read_manifest(OLD / "data")
    assert negative_routes(old) == {"labelled": 1.0}
    old["notes"] = ["negatives in test: labelled 4 (100.0%)", "negatives in train: bm25 1,234 (30.9%), labelled 2,766 (69.1%)"]
    assert negative_routes(old) == {"bm25": pytest.approx(0.309), "labelled": pytest.approx(0.691)}
    old["notes"] = []
    assert negative_routes(old) == {}
