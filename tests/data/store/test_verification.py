"""Verification finds every damage, names the file, and the record where there is one; so does reading for training."""

import os
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import prepare_sample

from hcl_tf import config
from hcl_tf.data.keywords import textrank
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.store.verification import verify
from hcl_tf.errors import UserError

FILES = [
    *("manifest.json", "vocab.txt", "word_vectors.npz", "graph/nodes.tsv", "graph/edges.npz"),
    *("train-00000-of-00003.tfrecord", "train-00001-of-00003.tfrecord", "train-00002-of-00003.tfrecord"),
    *("validation-00000-of-00001.tfrecord", "test-00000-of-00001.tfrecord"),
]
SHARDS = FILES[5:]


def small_folder(parent: Path, start: int) -> Path:
    """30 training, 6 validation and 6 test examples from line `start` of the sample on, in five shards."""
    sample = config.TASKS["qqp"].sample.read_text(encoding="utf-8").splitlines(keepends=True)[start:]
    (parent / "raw").mkdir()
    for split, rows in (("train", sample[:30]), ("validation", sample[30:36]), ("test", sample[36:42])):
        (parent / "raw" / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrecords, "RECORDS_A_SHARD", 10)
        return prepare_sample(parent / "folder", raw=parent / "raw", vocab_size=300, min_keyword_count=1)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return small_folder(tmp_path_factory.mktemp("small"), 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Another folder with files of the same names."""
    return small_folder(tmp_path_factory.mktemp("other"), 100)


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "folder"))


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record_ends(data: bytes) -> list[int]:
    """Where each record of a TFRecord file ends: length, its checksum, data, its checksum."""
    ends, place = [], 0
    while place < len(data):
        (length,) = struct.unpack("<Q", data[place : place + 8])
        assert data[place + 8 : place + 12] == masked(data[place : place + 8])
        body = data[place + 12 : place + 12 + length]
        place += 16 + length
        assert data[place - 4 : place] == masked(body)
        ends.append(place)
    return ends


def refusal(call: Callable) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def split_of(name: str) -> str:
    return name.split("-")[0] if name.endswith(".tfrecord") else "train"


def assert_refused(folder: Path, name: str, says: str = "") -> None:
    """Both readers name the file (and say what `says` matches)."""
    for call in (lambda: verify(folder), lambda: PreparedData(folder).arrays(split_of(name))):
        message = refusal(call)
        assert str(folder / name) in message
        assert re.search(says, message), message


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["qqp_folder", *(pytest.param(f"{task}_folder", marks=pytest.mark.slow) for task in ("douban", "rocstories"))]
)
def test_a_prepared_folder_verifies_and_loads(name, request):
    folder = request.getfixturevalue(name)
    manifest = verify(folder)
    for split, part in manifest["splits"].items():
        assert len(PreparedData(folder).arrays(split)) == part["examples"] == sum(shard["records"] for shard in part["shards"])


def test_the_mutations_cover_every_file(pristine):
    assert sorted(str(path.relative_to(pristine)) for path in pristine.rglob("*") if path.is_file()) == sorted(FILES)
    verify(pristine)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_and_its_record_named(folder, name):
    path, draw = folder / name, random.Random(name)
    whole = path.read_bytes()
    ends = record_ends(whole) if name in SHARDS else []
    # The edges of every record's parts, and places anywhere.
    starts = [0, *ends[:-1]]
    edges = [place for start in starts[1:4] for place in (start, start + 7, start + 8, start + 11, start + 12)] + [len(whole) - 1]
    for place in [*edges, *(draw.randrange(len(whole)) for _ in range(15 if ends else 75))]:
        damaged = bytearray(whole)
        damaged[place] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        record = sum(end <= place for end in ends)
        assert_refused(folder, name, rf"record {record} is damaged" if ends else "")
    path.write_bytes(whole)
    verify(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(folder, name):
    path, draw = folder / name, random.Random(name)
    whole = path.read_bytes()
    ends = record_ends(whole) if name in SHARDS else []
    for length in [0, *ends[:2], len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(14))]:
        path.write_bytes(whole[:length])
        records = sum(end <= length for end in ends)
        says = rf"record {records} is damaged|holds {records} whole records"
        assert_refused(folder, name, says if ends and length else "")


def test_an_emptied_shard_is_not_called_whole(folder):
    (folder / SHARDS[0]).write_bytes(b"")
    assert "0 to -1" not in refusal(lambda: verify(folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_longer_file_is_refused(folder, name):
    path, draw = folder / name, random.Random(name)
    whole = path.read_bytes()
    ends = record_ends(whole) if name in SHARDS else []
    for length in (1, 1, 2, 4, 8, 11, 12, 13, 16, 40, 1000):
        path.write_bytes(whole + draw.randbytes(length))
        assert_refused(folder, name, rf"record {len(ends)} is damaged|holds {len(ends)} whole records" if ends else "")
    for added in (b"\n", b"\r", b" ", b"\0" * 16, whole):
        path.write_bytes(whole + added)
        assert_refused(folder, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("put", [lambda path: None, Path.mkdir, lambda path: path.symlink_to("nowhere")], ids=["gone", "folder", "link"])
def test_a_missing_file_is_refused(folder, name, put):
    (folder / name).unlink()
    put(folder / name)
    expected = str(folder) if name == "manifest.json" else str(folder / name)
    for call in (lambda: verify(folder), lambda: PreparedData(folder).arrays(split_of(name))):
        message = refusal(call)
        assert expected in message
        assert Path(name).name in message


def test_two_shards_in_each_others_place_are_refused(folder):
    for i, first in enumerate(SHARDS):
        for second in SHARDS[i + 1 :]:
            for source, target in ((first, "kept"), (second, first), ("kept", second)):
                os.rename(folder / source, folder / target)
            for split in {split_of(first), split_of(second)}:
                for message in (refusal(lambda: verify(folder)), refusal(lambda split=split: PreparedData(folder).arrays(split))):
                    assert str(folder / first) in message or str(folder / second) in message
            for source, target in ((first, "kept"), (second, first), ("kept", second)):
                os.rename(folder / source, folder / target)
    verify(folder)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_of_another_folder_is_refused(folder, other, name):
    if (folder / name).read_bytes() == (other / name).read_bytes():
        pytest.fail("the two folders should differ in this file")
    shutil.copy(other / name, folder / name)
    assert_refused(folder, name)


def test_a_manifest_of_another_folder_is_refused(folder, other):
    shutil.copy(other / "manifest.json", folder / "manifest.json")
    assert str(folder) in refusal(lambda: verify(folder))
    assert str(folder) in refusal(lambda: PreparedData(folder).arrays("train"))


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("content", ["same records reversed", "no record", "other data"])
def test_a_valid_shard_with_other_content_is_refused(folder, name, content):
    records = list(tfrecords.read_records(folder / name))
    write(folder / name, {"same records reversed": records[::-1], "no record": [], "other data": [b"data"] * len(records)}[content])
    assert_refused(folder, name)


def write(path: Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def spoil(folder: Path, name: str, number: int, edit: Callable[[Record], None]) -> None:
    """Changes one record and makes every checksum right again."""
    records = list(tfrecords.read_records(folder / name))
    record = tfrecords.parse(records[number])
    edit(record)
    records[number] = tfrecords.serialise(record)
    write(folder / name, records)
    certify(folder, name)


def certify(folder: Path, name: str) -> None:
    manifest = tfrecords.read_manifest(folder)
    for part in manifest["splits"].values():
        for shard in part["shards"]:
            if shard["file"] == name:
                shard["sha256"] = tfrecords.sha256(folder / name)
    tfrecords.write_manifest(folder, manifest)


def first_record(folder: Path, name: str) -> Record:
    return tfrecords.parse(next(tfrecords.read_records(folder / name)))


def move_keyword(role: str, start: Callable[[int], int], end: Callable[[int], int]) -> Callable[[Record], None]:
    def edit(record: Record) -> None:
        text = getattr(record, role)
        text.keywords = (textrank.Keyword("moved", start(len(text.raw)), end(len(text.raw)), 0.5), *text.keywords[1:])
        text.nodes = (-1, *text.nodes[1:])

    return edit


def set_text(role: str, name: str, value: Callable) -> Callable[[Record], None]:
    return lambda record: setattr(getattr(record, role), name, value(getattr(getattr(record, role), name)))


SPOILT = {
    "keyword ends outside": (move_keyword("target", lambda n: n - 1, lambda n: n + 1), "stands at"),
    "keyword starts outside": (move_keyword("source", lambda n: -1, lambda n: n), "stands at"),
    "keyword is empty": (move_keyword("negative", lambda n: 2, lambda n: 2), "stands at"),
    "keyword backwards": (move_keyword("source", lambda n: 3, lambda n: 2), "stands at"),
    "known node changed": (set_text("source", "nodes", lambda nodes: tuple(node + 1 for node in nodes)), "carries node"),
    "node far outside": (set_text("negative", "nodes", lambda nodes: (10**6, *nodes[1:])), "carries node"),
    "node below unknown": (set_text("target", "nodes", lambda nodes: (-2, *nodes[1:])), "carries node"),
    "piece outside": (set_text("target", "ids", lambda ids: [*ids[:-1], 10**6]), "outside the vocabulary"),
    "piece just outside": (set_text("source", "ids", lambda ids: [*ids[:-1], 300]), "outside the vocabulary of 300"),
    "piece negative": (set_text("negative", "ids", lambda ids: [-1, *ids[1:]]), "outside the vocabulary"),
    "source too long": (set_text("source", "ids", lambda ids: [5] * 21), "21 pieces"),
    "target too long": (set_text("target", "ids", lambda ids: [5] * 21), "21 pieces"),
    "negative too long": (set_text("negative", "ids", lambda ids: [5] * 1000), "1000 pieces"),
    "empty text": (set_text("target", "raw", lambda raw: ""), "target is empty"),
}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("name", [SHARDS[0], SHARDS[2], SHARDS[4]])
def test_wrong_content_under_right_checksums_is_found(folder, what, name):
    edit, says = SPOILT[what]
    number = random.Random(what + name).randrange(4)
    spoil(folder, name, number, edit)
    assert re.search(rf"^{re.escape(str(folder / name))}: record {number}: .*{says}", refusal(lambda: verify(folder)))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 2), (1, 3), (2, 4), (3, 4)])
def test_an_id_that_occurs_twice_is_found_in_and_across_shards(folder, first, second):
    identity = first_record(folder, SHARDS[first]).id
    spoil(folder, SHARDS[second], 2, lambda record: setattr(record, "id", identity))
    assert f"{folder / SHARDS[second]}: record 2: id {identity!r} occurs twice" in refusal(lambda: verify(folder))


@pytest.mark.parametrize("role", ["source", "target", "negative"])
@pytest.mark.parametrize("held_out", SHARDS[3:])
def test_a_training_negative_that_is_a_held_out_text_is_found(folder, role, held_out):
    leaked = getattr(first_record(folder, held_out), role).raw
    spoil(folder, SHARDS[1], 1, lambda record: setattr(record, "negative", tfrecords.Text(f" {leaked.upper()}\n", [5])))
    message = refusal(lambda: verify(folder))
    assert f"{folder / held_out}: record 0: its {role} is a training negative ({folder / SHARDS[1]}: record 1)" in message


def test_a_training_negative_that_is_a_further_reference_is_found(folder):
    leaked = first_record(folder, SHARDS[0]).negative.raw
    spoil(folder, SHARDS[-1], 0, lambda record: setattr(record, "references", ("fine", leaked)))
    assert f"{folder / SHARDS[-1]}: record 0: its reference is a training negative ({folder / SHARDS[0]}: record 0)" in refusal(
        lambda: verify(folder)
    )


def test_a_record_that_does_not_parse_is_found_under_right_checksums(folder):
    records = list(tfrecords.read_records(folder / SHARDS[1]))
    write(folder / SHARDS[1], [*records[:3], b"\xff", *records[4:]])
    certify(folder, SHARDS[1])
    assert f"{folder / SHARDS[1]}: record 3: " in refusal(lambda: verify(folder))


@pytest.mark.parametrize("relation", ["positive", "negative"])
def test_edges_to_nodes_that_are_not_there_are_found_under_right_checksums(folder, relation):
    import numpy as np

    path = folder / "graph" / "edges.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays[f"{relation}_indices"][0] = 10**6
    np.savez_compressed(path, **arrays)
    manifest = tfrecords.read_manifest(folder)
    manifest["files"]["graph/edges.npz"] = tfrecords.sha256(path)
    tfrecords.write_manifest(folder, manifest)
    assert re.search(rf"{folder / 'graph'}.*{relation} edges", refusal(lambda: verify(folder)))


def test_a_shard_with_other_count_than_the_manifest_is_found_under_right_checksums(folder):
    records = list(tfrecords.read_records(folder / SHARDS[0]))
    write(folder / SHARDS[0], records[:-1])
    certify(folder, SHARDS[0])
    assert str(folder / SHARDS[0]) in refusal(lambda: verify(folder))
