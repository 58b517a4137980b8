"""Records, shards and the manifest: what is written comes back, and what was changed since is refused."""

import dataclasses

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.corpora.examples import ROLES, SampledPair
from hcl_tf.data.keywords.textrank import Keyword
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.tfrecords import Record, Text
from hcl_tf.errors import UserError

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)


@st.composite
def texts(draw) -> Text:
    keywords = draw(st.lists(st.builds(Keyword, st.text(), INT64, INT64, FLOAT32), max_size=4).map(tuple))
    nodes = draw(st.lists(INT64, min_size=len(keywords), max_size=len(keywords)).map(tuple))
    return Text(draw(st.text()), draw(st.lists(INT64, max_size=6)), keywords, nodes, draw(st.none() | st.text()))


SAMPLED = st.lists(st.builds(SampledPair, st.text(), st.text(), FLOAT32, FLOAT32), max_size=3).map(tuple)
REFERENCES = st.lists(st.text(), max_size=3).map(tuple)
RECORDS = st.builds(Record, st.text(), texts(), texts(), texts(), st.text(), SAMPLED, REFERENCES)


def example_record(identity: str = "id") -> Record:
    text = Text("one two", [5, 6], (Keyword("two", 4, 7, 0.5),), (3,))
    return Record(identity, text, text, text, "bm25", (SampledPair("context", "response", 0.25, 0.75),))


@settings(deadline=None, max_examples=300)
@given(RECORDS)
def test_a_record_comes_back_as_it_was_written(record):
    assert tfrecords.parse(tfrecords.serialise(record)) == record


@settings(deadline=None, max_examples=100)
@given(RECORDS)
def test_equal_records_give_equal_bytes(record):
    copy = dataclasses.replace(record, source=dataclasses.replace(record.source, ids=list(record.source.ids)))
    assert tfrecords.serialise(copy) == tfrecords.serialise(record)
    assert tfrecords.serialise(tfrecords.parse(tfrecords.serialise(record))) == tfrecords.serialise(record)


def test_the_normal_form_stands_beside_the_raw_one_only_where_they_differ():
    record = example_record()
    before = tfrecords.serialise(record)
    assert b"_changed" not in before
    assert record.source.normal == record.source.raw
    record.source = dataclasses.replace(record.source, raw="one\u200b two", changed="one two")
    assert tfrecords.parse(tfrecords.serialise(record)).source.normal == "one two"
    assert tfrecords.serialise(record).count(b"_changed") == 1


def test_a_normal_form_without_a_value_is_damage():
    def edit(features) -> None:
        features["target_changed"].bytes_list.value.extend([])

    with pytest.raises(ValueError, match="feature target_changed has 0 values"):
        tfrecords.parse(changed(edit))


def changed(edit) -> bytes:
    example = tf.train.Example.FromString(tfrecords.serialise(example_record()))
    edit(example.features.feature)
    return example.SerializeToString()


PARTS = ("ids", "keywords", "spans", "ranks", "nodes")
NAMES = ["id", "route", *ROLES, *(f"{role}_{part}" for role in ROLES for part in PARTS), "sampled", "sampled_scores"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_feature_is_refused(name):
    with pytest.raises(ValueError):
        tfrecords.parse(changed(lambda features: features.pop(name)))


LENGTHENED = ["id", "route", *ROLES, *(f"{role}_{part}" for role in ROLES for part in PARTS[1:]), "sampled", "sampled_scores"]


@pytest.mark.parametrize("name", LENGTHENED)
def test_one_value_too_many_is_refused(name):
    def lengthen(features):
        kind = features[name].WhichOneof("kind")
        getattr(features[name], kind).value.append(b"x" if kind == "bytes_list" else 1)

    with pytest.raises(ValueError):
        tfrecords.parse(changed(lengthen))


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"no example at all", b""])
def test_bytes_that_are_no_example_are_refused(data):
    with pytest.raises(ValueError):
        tfrecords.parse(data)


@pytest.mark.parametrize("name", ["id", "source", "source_keywords", "sampled"])
def test_text_that_is_not_utf8_is_refused(name):
    def spoil(features):
        features[name].bytes_list.value[0] = b"\xff\xfe"

    with pytest.raises(ValueError):
        tfrecords.parse(changed(spoil))


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 37, 100])
def test_shards_are_named_counted_and_of_equal_size(tmp_path, monkeypatch, count):
    monkeypatch.setattr(tfrecords, "RECORDS_A_SHARD", 10)
    records = iter([example_record(str(i)) for i in range(count)])
    entries = tfrecords.write_shards(tmp_path, "train", records, count)
    shards = max(1, -(-count // 10))
    assert [entry["file"] for entry in entries] == [f"train-{i:05}-of-{shards:05}.tfrecord" for i in range(shards)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [entry["file"] for entry in entries]
    sizes = [entry["records"] for entry in entries]
    assert sum(sizes) == count
    assert max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1
    read = [[tfrecords.parse(data).id for data in tfrecords.read_records(tmp_path / entry["file"])] for entry in entries]
    assert [len(ids) for ids in read] == sizes
    assert [identity for ids in read for identity in ids] == [str(i) for i in range(count)]
    assert [entry["sha256"] for entry in entries] == [tfrecords.sha256(tmp_path / entry["file"]) for entry in entries]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text().filter(lambda key: key not in ("format", "sha256")), VALUES, max_size=4))
def test_a_manifest_comes_back_as_it_was_written(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("manifest")
    tfrecords.write_manifest(folder, {"format": tfrecords.FORMAT, **content})
    read = tfrecords.read_manifest(folder)
    read.pop("sha256")
    assert read == {"format": tfrecords.FORMAT, **content}


def test_a_manifest_with_any_byte_flipped_is_refused(tmp_path):
    tfrecords.write_manifest(tmp_path, {"format": tfrecords.FORMAT, "é": None})
    path = tmp_path / tfrecords.MANIFEST
    whole = path.read_bytes()
    accepted = []
    for place in range(len(whole)):
        # Every single bit, and white space for other white space.
        for flip in (
            *(1 << bit for bit in range(8)),
            255,
            *(whole[place] ^ ord(space) for space in "\n\r\t " if whole[place] != ord(space)),
        ):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                tfrecords.read_manifest(tmp_path)
            except UserError as error:
                message = str(error)
            else:
                message = "accepted"
            if str(path) not in message:
                accepted.append((place, whole[place : place + 1], bytes([whole[place] ^ flip])))
    assert accepted == []


@pytest.mark.parametrize(
    "edit",
    [lambda data: b"", lambda data: data[:-1], lambda data: data + b"\n", lambda data: data.replace(b"\n", b"\r\n"), lambda data: b"[]",
     lambda data: b"[" * 100_000, lambda data: b"\xef\xbb\xbf" + data, lambda data: b'{"sha256": "\\ud800"}', lambda data: b"1" * 5000],
    ids=["empty", "cut", "longer", "crlf", "list", "deep", "bom", "surrogate", "digits"],
)  # fmt: skip
def test_a_manifest_rewritten_by_hand_is_refused(tmp_path, edit):
    tfrecords.write_manifest(tmp_path, {"format": tfrecords.FORMAT})
    path = tmp_path / tfrecords.MANIFEST
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(UserError, match=r"manifest\.json"):
        tfrecords.read_manifest(tmp_path)


@pytest.mark.parametrize("number", [tfrecords.FORMAT + 1, 0, "1", None])
def test_another_format_number_is_refused_with_both_numbers(tmp_path, number):
    tfrecords.write_manifest(tmp_path, {"format": number})
    with pytest.raises(UserError, match=rf"manifest\.json: format {number}, .*reads {tfrecords.FORMAT}; prepare the data again"):
        tfrecords.read_manifest(tmp_path)


def test_a_manifest_without_format_number_is_refused(tmp_path):
    tfrecords.write_manifest(tmp_path, {"notes": []})
    with pytest.raises(UserError, match=r"manifest\.json"):
        tfrecords.read_manifest(tmp_path)


def test_a_folder_without_manifest_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path}: not a prepared folder"):
        tfrecords.read_manifest(tmp_path)


def test_a_record_without_references_has_the_bytes_of_earlier_versions():
    features = tf.train.Example.FromString(tfrecords.serialise(example_record())).features.feature
    assert set(features) == set(NAMES)
    assert tfrecords.parse(tfrecords.serialise(example_record())).references == ()
