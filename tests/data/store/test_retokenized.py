"""A prepared folder in another tokeniser's pieces: the same examples, cut as preparation cuts, cached, for every split."""

import shutil
from pathlib import Path

import numpy as np
import published_models
import pytest

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store import retokenized
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.tokenizers import library
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.decoding.sources import SourceBatches, from_record

KINDS = ("t5", "gpt2")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, LibraryTokenizer]:
    place = tmp_path_factory.mktemp("published")
    t5, gpt2 = published_models.t5(place / "t5", files="json"), published_models.gpt2(place / "gpt2")
    return {"t5": library.published(t5, "t5", 405, 0), "gpt2": library.published(gpt2, "gpt2", 400, None)}


@pytest.fixture
def folder(douban_folder, tmp_path) -> Path:
    """Dialogues: they keep the last pieces of a source."""
    shutil.copytree(douban_folder, tmp_path / "douban")
    return tmp_path / "douban"


def test_wordpiece_is_no_view(qqp_folder):
    data = PreparedData(qqp_folder)
    assert retokenized.with_tokenizer(data, data.tokenizer) is data


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_ids_are_the_raw_texts_framed_and_cut(folder, tokenizers, kind, split):
    data, tokenizer = PreparedData(folder), tokenizers[kind]
    data.source_length = 12  # so that some are cut
    view = retokenized.with_tokenizer(data, tokenizer)
    arrays, plain = view.arrays(split), data.arrays(split)
    cut = 0
    for row, record in enumerate(data.records(split)):
        for role in ROLES:
            (pieces,) = tokenizer.encode([getattr(record, role).raw])
            kept = pieces[-12:] if role == "source" else pieces[:20]
            cut += len(kept) < len(pieces)
            framed = [tokenizer.cls_id, *kept, tokenizer.sep_id]
            ids = getattr(arrays, f"{role}_ids")[row]
            assert ids.tolist() == framed + [tokenizer.pad_id] * (len(ids) - len(framed))
    assert cut
    for name in ("source_nodes", "target_nodes", "negative_nodes", "source_unknown", "target_unknown"):
        np.testing.assert_array_equal(getattr(arrays, name), getattr(plain, name))
    assert arrays.target_ids.shape == plain.target_ids.shape


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_records_arrays_and_requests_agree(folder, tokenizers, kind):
    """Generation from a record, and from its raw text, gives the batch that validation sees."""
    view = retokenized.with_tokenizer(PreparedData(folder), tokenizers[kind])
    records = list(view.records("test"))[:8]
    requests = SourceBatches(view.tokenizer, view.source_length, view.max_keywords).make([from_record(r.source) for r in records], 0)
    expected = pair_batches(view, view.arrays("test"), 8).make(np.arange(8), 0, 0)
    for name in requests:
        np.testing.assert_array_equal(requests[name], expected[name], err_msg=name)
    reader = SourceReader(view.manifest, view.tokenizer, view.graph)
    for record in records:
        assert reader.read(record.source.raw.replace("\n", "\t")).ids == record.source.ids
    assert [record.id for record in records] == [record.id for record in PreparedData(folder).records("test")][:8]


def test_it_is_encoded_once_for_each_tokeniser_and_again_after_damage(folder, tokenizers, monkeypatch):
    encoded = []
    encode = LibraryTokenizer.encode
    monkeypatch.setattr(LibraryTokenizer, "encode", lambda self, texts: encoded.append(self.name) or encode(self, texts))
    first = retokenized.with_tokenizer(PreparedData(folder), tokenizers["t5"]).arrays("test")
    assert encoded == ["t5"] * 3
    retokenized.with_tokenizer(PreparedData(folder), tokenizers["t5"]).arrays("test")
    assert encoded == ["t5"] * 3
    retokenized.with_tokenizer(PreparedData(folder), tokenizers["gpt2"]).arrays("test")
    assert encoded[3:] == ["gpt2"] * 3
    for path in (folder / "cache").glob("view-test-*/target_ids.npy"):
        path.write_bytes(path.read_bytes()[:-4])
    again = retokenized.with_tokenizer(PreparedData(folder), tokenizers["t5"]).arrays("test")
    assert encoded[6:] == ["t5"] * 3
    np.testing.assert_array_equal(again.target_ids, first.target_ids)
    PreparedData(folder)  # the cache does not count as damage


@pytest.mark.parametrize("kind", KINDS)
def test_batches_hold_whole_texts(folder, tokenizers, kind):
    """A start that looks like padding counts as a piece of the row."""
    view = retokenized.with_tokenizer(PreparedData(folder), tokenizers[kind])
    arrays, t = view.arrays("train"), view.tokenizer
    batches, records = pair_batches(view, arrays, 4), list(view.records("train"))
    for block in batches.plan(0):
        for row, kept in zip(block[block >= 0], batches.make(block, 0, 0)["source_ids"].tolist(), strict=False):
            pieces = [t.cls_id, *records[row].source.ids, t.sep_id]
            assert kept == pieces + [t.pad_id] * (view.source_length + 2 - len(pieces))
