"""Keywords behind the source: what is appended, that nothing else changes, that raw texts give what records give."""

import dataclasses

import numpy as np
import pytest

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.tokenizers import keyword_suffix
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.decoding.sources import Source, SourceBatches, from_record


@pytest.mark.parametrize("folder", ["qqp_folder", "douban_folder", "rocstories_folder"])
def test_a_source_keeps_its_pieces_and_its_keywords_follow(folder, request):
    plain = PreparedData(request.getfixturevalue(folder))
    view, t = plain.with_keywords(), plain.tokenizer
    assert view.source_length == plain.source_length + 1 + keyword_suffix.PIECES_A_KEYWORD * plain.max_keywords
    before, after = plain.arrays("validation"), view.arrays("validation")
    for row, record in enumerate(plain.records("validation")):
        pieces = [t.cls_id, *record.source.ids, t.sep_id]
        if record.source.keywords:
            words = [piece for keyword in record.source.keywords for piece in t.encode([keyword.text])[0]]
            pieces += [*words, t.sep_id]
            assert len(words) < view.suffix_length, "the suffix is long enough"
        assert after.source_ids[row].tolist() == pieces + [t.pad_id] * (view.source_length + 2 - len(pieces))
    for field in dataclasses.fields(before):
        if field.name != "source_ids":
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    assert pair_batches(view, after, 4).make(np.arange(4), 0, 0)["source_ids"].shape == (4, view.source_length + 2)
    assert plain.source_length + 2 == plain.arrays("validation").source_ids.shape[1], "a view changes nothing of what it shows"


def test_what_has_no_keywords_stays_and_what_has_too_many_is_cut(qqp_folder):
    t = PreparedData(qqp_folder).tokenizer
    (word,) = t.encode(["weight"])
    assert keyword_suffix.append([[7, 8], [9]], [["weight"], []], t, 99) == [[7, 8, t.sep_id, *word], [9]]
    assert keyword_suffix.append([[7]], [["weight"] * 9], t, 3) == [[7, t.sep_id, *(word * 9)[:2]]]
    assert keyword_suffix.append([[7]], [[]], t, 3) == [[7]]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["qqp_folder", "douban_folder"])
def test_raw_texts_and_records_give_the_same_batch(folder, request):
    view = PreparedData(request.getfixturevalue(folder)).with_keywords()
    records = [record for record, _ in zip(view.records("test"), range(8), strict=False)]
    reader = SourceReader(view.manifest, view.tokenizer, view.graph)
    batches = SourceBatches(view.tokenizer, view.source_length, view.max_keywords, append_keywords=True)
    raw = batches.make([reader.read(record.source.raw.replace("\n", "\t")) for record in records], 0)
    known = batches.make([from_record(record.source) for record in records], 0)
    for name, column in known.items():
        np.testing.assert_array_equal(column, raw[name])
    np.testing.assert_array_equal(known["source_ids"][: len(records)], view.arrays("test").source_ids[: len(records)])


def test_given_keywords_are_appended_whether_nodes_or_not(qqp_folder):
    view = PreparedData(qqp_folder).with_keywords()
    t = view.tokenizer
    request = SourceReader(view.manifest, t, view.graph, ["zyxwvut"]).read("Why?")
    assert request == Source("Why?", t.encode(["Why?"])[0], (-1,), ("zyxwvut",))
    batch = SourceBatches(t, view.source_length, view.max_keywords, append_keywords=True).make([request], 0)
    pieces = [t.cls_id, *request.ids, t.sep_id, *t.encode(["zyxwvut"])[0], t.sep_id]
    assert batch["source_ids"].numpy()[0, : len(pieces) + 1].tolist() == [*pieces, t.pad_id]
