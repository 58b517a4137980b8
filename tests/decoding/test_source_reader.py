"""Requests from raw texts are those that preparation would make."""

from pathlib import Path

import pytest

from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.decoding.sources import from_record
from hcl_tf.errors import UserError

OLDER = Path(__file__).parents[1] / "fixtures" / "637db7d" / "data"


def reader_of(data: PreparedData, keywords=None) -> SourceReader:
    return SourceReader(data.manifest, data.tokenizer, data.graph, keywords)


def cut(data: PreparedData, record) -> bool:
    return len(data.tokenizer.encode([record.source.raw])[0]) > data.source_length


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["qqp_folder", "douban_folder", "rocstories_folder"])
def test_a_raw_source_gives_the_request_of_its_record(folder, request):
    data = PreparedData(request.getfixturevalue(folder))
    reader = reader_of(data)
    records = [record for split in ("test", "validation") for record in data.records(split)]
    # Long sources, where the cut decides what is seen, are few: all of them, and some others.
    chosen = [record for record in records if cut(data, record)] + records[:25]
    lines = [record.source.raw.replace("\n", "\t") for record in chosen]
    assert [reader.read(line) for line in lines] == [from_record(record.source) for record in chosen]
    assert reader.notes == []


@pytest.mark.slow
def test_a_source_that_is_cut_loses_the_keywords_of_what_is_cut(douban_folder):
    data = PreparedData(douban_folder)
    reader = reader_of(data)
    turn = "我想去看电影"
    kept = reader.read(turn)
    tail = data.tokenizer.encode([turn])[0]
    long = reader.read("医生" * data.source_length + "\t" + turn)
    assert len(long.ids) == data.source_length
    assert long.ids[-len(tail) :] == tail == kept.ids
    short = SourceReader({**data.manifest, "task": {**data.manifest["task"], "source_length": len(tail)}}, data.tokenizer, data.graph)
    found = short.read("医生在医院\t" + turn)
    assert (found.ids, found.nodes) == (kept.ids, kept.nodes)


def test_white_space_and_empty_turns_make_no_difference(qqp_folder):
    reader = reader_of(PreparedData(qqp_folder))
    assert reader.read("  How can I   lose weight? ") == reader.read("How can I lose weight?")
    assert reader.read("One.\t\t Two. \t") == reader.read("One.\tTwo.")
    assert reader.read("") is reader.read(" \t \u3000") is None


def test_given_keywords_replace_those_of_the_text(qqp_folder):
    data = PreparedData(qqp_folder)
    node = max(data.graph.nodes, key=len)
    request = reader_of(data, [node.upper()]).read("How do volcanoes erupt?")
    assert request.nodes == (data.graph.numbers()[node],)
    assert request.ids == reader_of(data).read("How do volcanoes erupt?").ids


def test_a_keyword_of_several_words_is_several_and_lemmatised(qqp_folder):
    data = PreparedData(qqp_folder)
    noun = next(n for n in data.graph.nodes if n.isalpha() and reader_of(data, [f"{n}s"]).read("x").nodes == (data.graph.numbers()[n],))
    reader = reader_of(data, [f"{noun}s zyxwvut", noun])
    assert reader.read("Why?").nodes == (data.graph.numbers()[noun], UNKNOWN)
    assert reader.notes == ["keyword 'zyxwvut' is not in the keyword graph: it counts as unknown"]


def test_keywords_that_cannot_be_are_refused(qqp_folder):
    data = PreparedData(qqp_folder)
    with pytest.raises(UserError, match=r"--keywords: '\?!' holds no word"):
        reader_of(data, ["diet", "?!"])
    with pytest.raises(UserError, match=r"--keywords: 5 keywords \(each word counts\).*at most 4"):
        reader_of(data, ["belly fat", "healthy diet", "plan"])


def test_another_tagger_than_the_datas_is_said(qqp_folder):
    data = PreparedData(qqp_folder)
    reader = SourceReader({**data.manifest, "tagger": "builtin (spacy 1.0)"}, data.tokenizer, data.graph)
    assert len(reader.notes) == 1
    assert "prepared with the tagger builtin (spacy 1.0)" in reader.notes[0]


def test_auto_means_the_tagger_that_prepared_the_data(qqp_folder):
    data = PreparedData(qqp_folder)
    manifest = {**data.manifest, "settings": {**data.manifest["settings"], "tagger": "auto"}, "tagger": "no_such_model (1.0)"}
    with pytest.raises(UserError, match="no_such_model"):
        SourceReader(manifest, data.tokenizer, data.graph)


# -- normalisation ----------------------------------------------------------------------------------------------------


def test_marks_that_nobody_sees_make_no_difference(qqp_folder):
    reader = reader_of(PreparedData(qqp_folder))
    plain = reader.read("How can I lose weight in a cafe?")
    assert plain.keywords
    for text in (
        "\ufeffHow can I lose wei\u200bght in a cafe?",
        "How can I lose we\u00adight in a \u202acafe\u202c?",
        "Ｈow can I lose ｗeight in a cafe?",
    ):
        assert reader.read(text) == plain
    assert reader.read("\u200b \u2060") is None


def test_given_keywords_are_normalised_too(qqp_folder):
    data = PreparedData(qqp_folder)
    node = max((name for name in data.graph.nodes if name.isascii()), key=len)
    assert reader_of(data, [f"{node[:2]}\u200b{node[2:]}"]).read("Why?").nodes == (data.graph.numbers()[node],)


def test_texts_for_data_without_a_normalisation_are_taken_as_they_are():
    data = PreparedData(OLDER)
    text = "How can I lose wei\u200bght and ｗork?"
    assert reader_of(data).read(text).text == text
    assert "wei\u200bght" in reader_of(data).read(text).keywords


@pytest.mark.slow
def test_chinese_data_keep_the_stop_words_that_they_were_prepared_with(douban_folder):
    data = PreparedData(douban_folder)
    earlier = SourceReader({k: v for k, v in data.manifest.items() if k != "stop_words"}, data.tokenizer, data.graph)
    assert earlier.read("我觉得it is the best手机").keywords == ("is", "the", "it", "best")
    assert not {"is", "the", "it"} & set(reader_of(data).read("我觉得it is the best手机").keywords)


def test_a_normalisation_that_this_version_lacks_is_refused(qqp_folder):
    data = PreparedData(qqp_folder)
    with pytest.raises(UserError, match="normalisation 'later'"):
        SourceReader({**data.manifest, "normalization": "later"}, data.tokenizer, data.graph)
