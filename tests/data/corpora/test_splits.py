"""Dividing examples: given splits, sizes, seeds, and no text in two splits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.corpora.examples import Example
from hcl_tf.data.corpora.qqp import text_key
from hcl_tf.data.corpora.splits import divide
from hcl_tf.errors import UserError

SPLITS = ("train", "validation", "test")


def pool(count, group=1, prefix="e"):
    """`count` examples of which each `group` neighbours share a source."""
    return [
        Example(f"{prefix}{i}", f"{prefix} source {i // group}", f"{prefix} target {i}", (f"{prefix} negative {i}",)) for i in range(count)
    ]


def split(given, sizes=None, proportions=(8, 1, 1), by_text=False, seed=1):
    return divide(given, sizes, proportions, by_text, seed)


def ids(splits):
    return {name: [example.id for example in splits[name]] for name in SPLITS}


def texts(examples):
    return {text_key(text) for e in examples for text in (e.source, e.target, *e.negatives)}


def disjoint(splits):
    found = [texts(splits[name]) for name in SPLITS]
    return not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])


@pytest.mark.parametrize("by_text", [False, True])
def test_three_given_splits_are_left_as_they_are(by_text):
    given = {"train": pool(9), "validation": pool(2, prefix="v"), "test": pool(1, prefix="t")}
    result, notes = split(given, sizes=(2, 1, 1), by_text=by_text)
    assert result == given
    assert notes == []


@pytest.mark.parametrize(("name", "other"), [("validation", "test"), ("test", "validation")])
def test_a_given_split_is_respected_and_the_other_drawn(name, other):
    held = pool(3, prefix="h")
    result, notes = split({"train": pool(50), name: held})
    assert result[name] == held
    assert len(result[other]) == 5
    assert sorted(ids(result)["train"] + ids(result)[other]) == sorted(e.id for e in pool(50))
    assert notes == [f"drawn from the training file with seed 1: {other}"]


@pytest.mark.parametrize(
    ("count", "sizes", "proportions", "expected"),
    [
        (100, None, (8, 1, 1), (80, 10, 10)),
        (3, None, (8, 1, 1), (1, 1, 1)),
        (24, None, (12, 4, 2), (16, 5, 3)),
        (18, (12, 4, 2), (12, 4, 2), (12, 4, 2)),
        (40, (12, 4, 2), (12, 4, 2), (12, 4, 2)),
        (9, (12, 4, 2), (12, 4, 2), (6, 2, 1)),
    ],
)
@pytest.mark.parametrize("by_text", [False, True])
def test_sizes_are_the_papers_where_the_pool_allows_and_proportional_elsewhere(count, sizes, proportions, expected, by_text):
    result, notes = split({"train": pool(count)}, sizes, proportions, by_text)
    assert tuple(len(result[name]) for name in SPLITS) == expected
    assert any("its proportions are used" in note for note in notes) == (sizes is not None and count < sum(sizes))
    assert any("beyond the paper's sizes left out" in note for note in notes) == (sum(expected) < count)
    drawn = [identity for name in SPLITS for identity in ids(result)[name]]
    assert len(drawn) == len(set(drawn)) == sum(expected)


def test_a_pool_smaller_than_the_papers_sizes_loses_no_example_when_split_by_text():
    result, notes = split({"train": pool(26, group=2)}, sizes=(40, 5, 5), proportions=(8, 1, 1), by_text=True)
    assert sum(len(result[name]) for name in SPLITS) == 26
    assert not any("left out" in note for note in notes)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_small_a_pool_is_refused(count):
    with pytest.raises(UserError, match=f"only {count} usable examples; at least 3 are needed"):
        split({"train": pool(count)})


@pytest.mark.parametrize("by_text", [False, True])
def test_order_within_a_split_is_the_corpuss_own(by_text):
    result, _ = split({"train": pool(40)}, by_text=by_text)
    for name in SPLITS:
        numbers = [int(identity[1:]) for identity in ids(result)[name]]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("by_text", [False, True])
def test_the_same_seed_gives_the_same_and_another_another(by_text):
    first, again, other = (ids(split({"train": pool(60, group=2)}, by_text=by_text, seed=seed)[0]) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("by_text", [False, True])
def test_the_order_of_the_given_splits_does_not_matter(by_text):
    first, second = {"train": pool(30), "test": pool(3, prefix="t")}, {"test": pool(3, prefix="t"), "train": pool(30)}
    assert ids(split(first, by_text=by_text)[0]) == ids(split(second, by_text=by_text)[0])


def test_drawing_does_not_change_what_it_was_given():
    given = {"train": pool(30)}
    split(given)
    assert given == {"train": pool(30)}


def test_examples_that_all_hang_together_cannot_be_split_by_text():
    chain = [Example(str(i), f"text {i}", f"text {i + 1}", ()) for i in range(30)]
    with pytest.raises(UserError, match="all examples hang together by shared texts; use --split_by=sample"):
        split({"train": chain}, by_text=True)
    assert len(split({"train": chain})[0]["test"]) == 3


def test_groups_larger_than_a_held_out_split_are_split_by_text_all_the_same():
    result, _ = split({"train": pool(10, group=2)}, by_text=True)  # five groups of two, for splits of 8, 1 and 1
    assert all(result.values())
    assert disjoint(result)


def test_a_shared_negative_keeps_examples_together():
    examples = [Example(str(i), f"s{i}", f"t{i}", (f"N{i // 3}" if i % 2 else f" n{i // 3} ",)) for i in range(90)]
    result, _ = split({"train": examples}, by_text=True)
    assert disjoint(result)
    assert all(result.values())


ROLE = st.sampled_from(["source", "target", "negatives"])
LINKS = st.lists(st.tuples(st.integers(0, 59), ROLE, st.integers(0, 59), ROLE, st.booleans()), max_size=8)


@pytest.mark.slow
@settings(deadline=None)
@given(count=st.integers(30, 60), links=LINKS, seed=st.integers(0, 2**32), sizes=st.none() | st.just((20, 5, 5)))
def test_by_text_loosely_connected_examples_are_split_without_a_shared_text(count, links, seed, sizes):
    examples = pool(count)
    for i, role, j, other, shout in links:  # one example takes a text of another's, perhaps spelt differently
        text = getattr(examples[j % count], other)
        text = text[0] if other == "negatives" else text
        text = text.upper() + " " if shout else text
        setattr(examples[i % count], role, (text,) if role == "negatives" else text)
    result, notes = split({"train": examples}, sizes, by_text=True, seed=seed)
    assert all(result.values())
    assert disjoint(result)
    kept = [identity for found in ids(result).values() for identity in found]
    assert len(kept) == len(set(kept))
    assert len(kept) == count or (sizes and any("left out" in note for note in notes))


WORDS = st.sampled_from([spelling for i in range(25) for spelling in (f"word {i}", f"Word  {i}")])
EXAMPLES = st.lists(st.builds(Example, st.just(""), WORDS, WORDS, st.lists(WORDS, max_size=2).map(tuple)), min_size=3, max_size=40)


@pytest.mark.slow
@settings(deadline=None)
@given(examples=EXAMPLES, seed=st.integers(0, 2**32))
def test_by_text_entangled_examples_are_split_without_a_shared_text_or_refused(examples, seed):
    try:
        result, _ = split({"train": examples}, by_text=True, seed=seed)
    except UserError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert all(result.values())
        assert disjoint(result)
        assert sum(map(len, result.values())) == len(examples)
    assert not refusal or "use --split_by=sample" in refusal
