"""Planted and hidden words: what a source shows, what stays a keyword, and that every word is equally likely."""

import shutil
from collections import Counter

import numpy as np
import pytest

from hcl_tf.data.corpora.examples import Keyword
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Text
from hcl_tf.data.store.verification import verify
from hcl_tf.errors import UserError
from hcl_tf.studies.controls import folders, planting

COUNT = 16


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def words(data) -> dict[str, int]:
    return planting.choose_words(data, COUNT)


@pytest.fixture(scope="module")
def planted(data, words) -> list:
    return planting.plant(data.records("train"), data, words, copies=8, seed=3)


def test_words_are_nodes_of_one_piece(data, words):
    assert len(words) == COUNT
    assert set(words) <= set(data.graph.nodes)
    assert data.tokenizer.encode(list(words)) == [[piece] for piece in words.values()]


def test_too_few_words_are_refused_with_folder_and_remedy(data):
    with pytest.raises(UserError, match=r"--data_dir=.*prepare more data"):
        planting.choose_words(data, 10_000)


def test_the_planted_word_is_nowhere_in_the_source_and_is_in_the_target(planted, words):
    assert len(planted) > 100
    for record in planted:
        (keyword,) = record.source.keywords
        assert words[keyword.text] in record.target.ids
        assert not set(words.values()) & set(record.source.ids)
        assert keyword.text not in record.source.raw.lower().split()
        assert record.source.raw[keyword.start : keyword.end] == planting.HIDDEN
        assert record.target.raw[record.target.keywords[0].start : record.target.keywords[0].end] == keyword.text
        assert [keyword.text] == [other.text for other in record.target.keywords]


def test_ids_are_those_of_the_raw_texts(planted, data):
    for record in planted[::17]:
        assert record.target.ids == data.tokenizer.encode([record.target.raw])[0][: data.target_length]
        unknown = data.tokenizer.unknown_id
        parts = [data.tokenizer.encode([part])[0] for part in record.source.raw.split(planting.HIDDEN)]
        joined = [piece for part in parts for piece in (*part, unknown)][:-1]
        assert record.source.ids == joined[: data.source_length]


def test_every_word_is_equally_likely_whatever_the_question(planted, words):
    counts = np.array([Counter(record.source.keywords[0].text for record in planted)[word] for word in words])
    expected = len(planted) / COUNT
    assert (np.square(counts - expected) / expected).sum() < 37.7  # chi square of 15 degrees of freedom, 0.1%


def test_draws_depend_on_the_seed_alone(data, words):
    first, again, other = (planting.plant(data.records("validation"), data, words, 2, seed) for seed in (1, 1, 2))
    assert first == again
    assert [record.source.raw for record in first] == [record.source.raw for record in other]
    assert first != other


def test_the_first_place_is_that_of_the_word(planted, words, data):
    places = planting.first_places(planted, words, data.target_length)
    assert (places.sum(1) == 1).all()
    for row, record in zip(places, planted, strict=True):
        place = int(row.argmax())
        assert record.target.ids[place] == words[record.source.keywords[0].text]
        assert words[record.source.keywords[0].text] not in record.target.ids[:place]


@pytest.mark.slow
def test_a_folder_of_planted_records_is_a_prepared_folder(planted, words, data, tmp_path):
    empty = [planting.plant(data.records(split), data, words, 1, 0) for split in ("validation", "test")]
    folder = tmp_path / "planted"
    written = folders.write_derived(folder, data, {"train": planted, "validation": empty[0], "test": empty[1]}, "planted")
    verify(folder)
    assert written.manifest["splits"]["train"]["examples"] == len(planted)
    numbers = written.graph.numbers()
    for record in written.records("train"):
        assert record.source.nodes == tuple(numbers[keyword.text] for keyword in record.source.keywords)
    with pytest.raises(UserError, match="exists already"):
        folders.write_derived(folder, data, {"train": planted, "validation": empty[0], "test": empty[1]}, "planted")
    shutil.rmtree(folder)


def test_hidden_keywords_are_nodes_in_the_target_and_not_in_the_source(data):
    shown, hidden = planting.hide_keywords(data.records("train"), data)
    assert [record.id for record in shown] == [record.id for record in hidden]
    assert shown
    for before, after in zip(shown, hidden, strict=True):
        assert UNKNOWN not in before.source.nodes
        assert {k.text for k in before.source.keywords} <= {k.text for k in before.target.keywords}
        assert after.source.nodes == before.source.nodes
        assert after.target == before.target
        assert after.source.ids.count(data.tokenizer.unknown_id) >= len(after.source.keywords)
        for keyword, old in zip(after.source.keywords, before.source.keywords, strict=True):
            form = before.source.raw[old.start : old.end].lower()
            assert after.source.raw[keyword.start : keyword.end] == planting.HIDDEN
            assert form not in after.source.raw.lower().replace("[unk]", "").replace("?", " ").split()


def test_substitution_moves_the_spans_of_other_keywords():
    raw = "Cats and dogs: do cats like dogs?"
    text = Text(raw, [], (Keyword("cat", 0, 4, 1.0), Keyword("dog", 9, 13, 0.5)), (0, 1))
    found = planting.substituted(text, "cat", "elephants")
    assert found.raw == "elephants and dogs: do elephants like dogs?"
    assert [found.raw[k.start : k.end] for k in found.keywords] == ["elephants", "dogs"]
