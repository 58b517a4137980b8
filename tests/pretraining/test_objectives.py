"""What objectives hide, against the rules as their papers put them; shares over more than 100,000 pieces."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.batching.batches import Place
from hcl_tf.pretraining.objectives import KINDS, CorruptedSpans, MaskedPieces, NextPieces, Pieces, divided, sentinels_needed
from hcl_tf.pretraining.rows import Texts, pack

PAD, CLS, SEP, MASK, FIRST, VOCABULARY = 0, 2, 3, 4, 10, 200
INNER = np.arange(VOCABULARY) >= 150  # a quarter of the pieces go on with a word
PIECES = Pieces(PAD, 1, CLS, SEP, MASK, np.arange(FIRST, VOCABULARY), INNER, np.arange(VOCABULARY, VOCABULARY + 60))
LENGTH = 128


def columns(kind: str, texts: Texts, **changed):
    made = lambda packed: KINDS[kind](texts, packed, LENGTH, PIECES, **changed)  # noqa: E731
    return made(pack(texts, made(None).places_of, LENGTH))


def some_texts(count: int, seed: int = 0) -> Texts:
    random = np.random.default_rng(seed)
    return Texts.of([random.integers(FIRST, VOCABULARY, n) for n in random.integers(1, 60, count)])


def batch_of(made, number: int = 0, rows: int | None = None) -> dict[str, np.ndarray]:
    count = len(made.packed) if rows is None else rows
    return made(np.arange(count), np.zeros(count, bool), Place(1, 0, number))


def in_texts(batch: dict[str, np.ndarray], name: str = "ids", segments: str = "segments") -> list[np.ndarray]:
    """The texts of all rows, in order."""
    return [
        values[numbers == text]
        for values, numbers in zip(batch[name], batch[segments], strict=True)
        for text in range(1, numbers.max(initial=0) + 1)
    ]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return some_texts(4000)


# -- masked pieces ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked(texts) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch of all texts, and its ids before anything was hidden."""
    batch = batch_of(columns("mlm", texts))
    return batch, np.where(batch["labels"] != PAD, batch["labels"], batch["ids"])


def test_masking_has_the_shares_of_bert_over_100_000_pieces(masked):
    batch, before = masked
    pieces, chosen = before >= FIRST, batch["labels"] != PAD
    assert pieces.sum() > 100_000
    assert not (chosen & ~pieces).any(), "special pieces and padding are never asked for"
    assert chosen.sum() / pieces.sum() == pytest.approx(0.15, abs=0.002)
    now, was = batch["ids"][chosen], batch["labels"][chosen]
    spread = 5 * np.sqrt(0.25 / chosen.sum())
    assert (now == MASK).mean() == pytest.approx(0.8, abs=spread)
    assert (now == was).mean() == pytest.approx(0.1 + 0.1 / 190, abs=spread)
    drawn = Counter(now[(now != MASK) & (now != was)].tolist())
    assert set(drawn) <= set(range(FIRST, VOCABULARY))
    assert max(drawn.values()) < 5 * chosen.sum() * 0.1 / 190, "all ordinary pieces are as likely"
    assert (batch["ids"][~chosen] == before[~chosen]).all()


def test_rows_hold_whole_texts_with_their_own_places(texts, masked):
    batch, before = masked
    found = sorted(map(tuple, in_texts(batch | {"ids": before})))
    assert found == sorted((CLS, *texts[i], SEP) for i in range(len(texts)))
    assert all((places == np.arange(len(places))).all() for places in in_texts(batch, "places"))


def test_words_are_hidden_whole(masked):
    batch, before = masked
    for ids, labels in zip(in_texts(batch | {"ids": before}), in_texts(batch, "labels"), strict=True):
        chosen, inner = labels != PAD, np.concatenate([[False], INNER[ids[1:]]])
        inner[1] = False  # the piece behind [CLS] begins a word, whatever it looks like
        assert (chosen[1:][inner[1:]] == chosen[:-1][inner[1:]]).all()


@pytest.mark.slow
def test_without_whole_words_pieces_are_hidden_one_by_one(texts):
    batch = batch_of(columns("mlm", texts, whole_words=False))
    before = np.where(batch["labels"] != PAD, batch["labels"], batch["ids"])
    inner, chosen = INNER[np.minimum(before, VOCABULARY - 1)], batch["labels"] != PAD
    apart = chosen[:, 1:] != chosen[:, :-1]
    assert (apart & inner[:, 1:] & (batch["segments"][:, 1:] == batch["segments"][:, :-1])).any()


def test_each_row_hides_the_rounded_share_and_at_least_one():
    for length in (1, 2, 3, 7, 20, 100):
        made = columns("mlm", Texts.of([np.arange(FIRST, FIRST + length)]))
        assert (batch_of(made)["labels"] != PAD).sum() == max(1, round(length * 0.15))


def test_a_row_of_one_long_word_hides_it():
    made = columns("mlm", Texts.of([np.array([FIRST, *range(150, 160)])]))
    assert (batch_of(made)["labels"] != PAD).sum() == 11


# -- spans ------------------------------------------------------------------------------------------------------------


def put_back(source: np.ndarray, target: np.ndarray) -> list[int]:
    """Undoes the corruption by the text of the paper: each sentinel stands for what follows it in the target."""
    spans, current = {}, None
    for piece in target:
        if piece >= VOCABULARY:
            current = spans.setdefault(int(piece), [])
        else:
            current.append(int(piece))
    (last,) = [sentinel for sentinel, span in spans.items() if not span]
    assert last == VOCABULARY + len(spans) - 1, "a final sentinel ends the target"
    assert list(spans) == sorted(spans), "sentinels come in order"
    assert [p for p in source if p >= VOCABULARY] == list(spans)[:-1]
    return [q for p in source for q in (spans[int(p)] if p >= VOCABULARY else [int(p)])]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000), st.sampled_from([0.15, 0.3, 0.5]), st.sampled_from([1.0, 3.0, 5.0]))
def test_source_and_target_give_the_text_back(length, seed, share, mean_span):
    made = CorruptedSpans(None, None, LENGTH, PIECES, share, mean_span)
    made = made if length * share / mean_span < 55 else CorruptedSpans(None, None, LENGTH, PIECES)
    text = np.random.default_rng(seed).integers(FIRST, VOCABULARY, length)
    source, target = made.corrupt(text, np.random.default_rng(seed))
    assert put_back(source, target) == text.tolist()
    hidden = int((target < VOCABULARY).sum())
    assert hidden == max(1, round(length * made.corrupted))
    assert not (np.diff(np.flatnonzero(source >= VOCABULARY)) == 1).any(), "spans are never neighbours"
    assert max(len(source) + 2, 2 * (len(target) + 1)) == made.places_of(np.array([length]))[0]


@pytest.mark.slow
def test_spans_have_the_shares_of_t5_over_100_000_pieces():
    texts = some_texts(4000, 2)
    long = Texts.of([texts.pieces[i : i + 100] for i in range(0, len(texts.pieces) - 100, 100)])
    batch = batch_of(columns("span", long))
    hidden = (batch["labels"] >= FIRST) & (batch["labels"] < VOCABULARY)
    spans = (batch["ids"] >= VOCABULARY).sum()
    assert len(long.pieces) > 100_000
    assert hidden.sum() / len(long.pieces) == pytest.approx(0.15, abs=1e-6), "15 of every 100"
    assert hidden.sum() / spans == pytest.approx(3.0, abs=1e-6)


@pytest.mark.slow
def test_every_place_of_a_short_text_is_hidden_equally_often():
    """In texts of twelve pieces, two neighbours are hidden; each pair of neighbours as often as any other."""
    made, random = CorruptedSpans(None, None, LENGTH, PIECES), np.random.default_rng(3)
    seen = Counter(tuple(made.corrupt(np.arange(FIRST, FIRST + 12), random)[1][1:3]) for _ in range(11_000))
    assert len(seen) == 11
    assert all(abs(times - 1000) < 5 * np.sqrt(1000) for times in seen.values())


@pytest.mark.slow
def test_targets_are_framed_and_read_one_place_before_they_are_asked_for(texts):
    batch = batch_of(columns("span", texts))
    assert batch["target_ids"].shape == batch["labels"].shape == (len(batch["ids"]), LENGTH // 2)
    for read, asked in zip(in_texts(batch, "target_ids", "target_segments"), in_texts(batch, "labels", "target_segments"), strict=True):
        assert read[0] == CLS
        assert asked[-1] == SEP
        assert (read[1:] == asked[:-1]).all()
    for source in in_texts(batch):
        assert (source[0], source[-1]) == (CLS, SEP)
    assert (batch["segments"].max(1) == batch["target_segments"].max(1)).all(), "each text has its source and its target in one row"


@given(st.integers(1, 400), st.sampled_from([0.15, 0.5]), st.sampled_from([1.0, 3.0]))
def test_there_are_sentinels_for_the_longest_text_of_a_row(length, share, mean_span):
    made = CorruptedSpans(None, None, LENGTH, PIECES, share, mean_span)
    assert made.sizes(np.array([length]))[1][0] + 1 <= sentinels_needed(length + 2, share, mean_span)


@given(st.integers(1, 30), st.integers(0, 50))
def test_a_division_has_parts_of_at_least_one(total, seed):
    parts = 1 + seed % total
    lengths = divided(total, parts, np.random.default_rng(seed))
    assert lengths.sum() == total
    assert len(lengths) == parts
    assert lengths.min() >= 1


# -- next pieces ------------------------------------------------------------------------------------------------------


def test_each_piece_is_asked_for_behind_the_one_before_it(texts):
    batch = batch_of(columns("causal", texts))
    read, asked = in_texts(batch), in_texts(batch, "labels")
    assert sorted(map(tuple, read)) == sorted((SEP, *texts[i]) for i in range(len(texts)))
    assert all(tuple(a) == (*r[1:], SEP) for r, a in zip(read, asked, strict=True))
    assert (batch["places"] == np.arange(LENGTH)).all(), "places count on through the row"
    assert isinstance(columns("causal", texts), NextPieces)


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_depends_on_its_place_alone_and_filling_rows_ask_for_nothing(kind, texts):
    made = columns(kind, texts)
    rows = np.array([5, 2, 9, 0])
    first, again = (made(rows, np.zeros(4, bool), Place(1, 2, 3)) for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)
    if kind != "causal":
        other = made(rows, np.zeros(4, bool), Place(1, 2, 4))
        assert any((first[name] != other[name]).any() for name in first)
    filled = made(rows, np.array([False, False, True, True]), Place(1, 2, 3))
    assert not (filled["labels"][2:] != PAD).any()
    assert not filled["segments"][2:].any()
    assert all(values.dtype == np.int32 for values in first.values())


def test_the_masked_class_is_the_one_that_mlm_names():
    assert KINDS["mlm"] is MaskedPieces
