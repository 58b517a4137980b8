"""A prepared folder read: arrays are its records, and what is damaged is named."""

import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError

LENGTHS = {"qqp": (20, 20, 20), "douban": (100, 20, 20), "rocstories": (100, 20, 20)}  # pieces of source, target and negative


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


def serialised_records(path):
    """A shard's records straight from the bytes: length, its checksum, data, its checksum."""
    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        yield place, content[place + 12 : place + 12 + length]
        place += length + 16


# --- arrays


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("task", LENGTHS)
def test_arrays_are_the_records(task, split, request):
    folder = request.getfixturevalue(f"{task}_folder")
    arrays = PreparedData(folder).arrays(split)
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    cls, sep, pad = (pieces.index(f"[{name}]") for name in ("CLS", "SEP", "PAD"))
    lines = (folder / "graph" / "nodes.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    nodes = {line.split("\t")[0]: number for number, line in enumerate(lines)}
    records = [
        tf.train.Example.FromString(data).features.feature
        for path in sorted(folder.glob(f"{split}-*.tfrecord"))
        for _, data in serialised_records(path)
    ]
    assert len(arrays) == len(records) > 0
    for role, length in zip(("source", "target", "negative"), LENGTHS[task], strict=True):
        ids, numbers = getattr(arrays, f"{role}_ids"), getattr(arrays, f"{role}_nodes")
        assert (ids.shape, ids.dtype) == ((len(records), length + 2), np.int32)
        assert (numbers.shape, numbers.dtype) == ((len(records), 4), np.int32)
        for record, row, row_nodes in zip(records, ids.tolist(), numbers.tolist(), strict=True):
            own = list(record[f"{role}_ids"].int64_list.value)
            assert row == [cls, *own, sep] + [pad] * (length - len(own))
            words = [word.decode() for word in record[f"{role}_keywords"].bytes_list.value]
            assert row_nodes == [nodes.get(word, UNKNOWN) for word in words] + [UNKNOWN] * (4 - len(words))


def test_whole_graph_is_the_saved_graphs_table(data, qqp_folder):
    np.testing.assert_array_equal(data.whole_graph, graph.load(qqp_folder / "graph").table(16))


# --- refusals


@pytest.mark.parametrize("read", [PreparedData.arrays, lambda data, split: list(data.records(split))])
def test_unknown_split_is_refused(data, read):
    with pytest.raises(UserError, match=r"no split 'dev'; there are: .*validation"):
        read(data, "dev")


def damage(content, places, how):
    if how == "flipped":
        place = places[7] + 20
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    return content[: places[7] + (20 if how == "cut within" else 0)]


@pytest.mark.parametrize("read", [PreparedData.arrays, lambda data, split: list(data.records(split))])
@pytest.mark.parametrize(
    ("how", "record"), [("flipped", "record 7 "), ("cut within", "record 7 "), ("cut between", "holds 7 whole records")]
)
def test_damaged_shard_is_refused_naming_file_and_record(qqp_folder, tmp_path, how, record, read):
    copy = shutil.copytree(qqp_folder, tmp_path / "copy")
    (path,) = copy.glob("train-*.tfrecord")
    path.write_bytes(damage(path.read_bytes(), [place for place, _ in serialised_records(path)], how))
    with pytest.raises(UserError) as caught:
        read(PreparedData(copy), "train")
    assert f"{path}: {record}" in str(caught.value)
    assert len(PreparedData(copy).arrays("test")) > 0  # the other splits are whole


@pytest.mark.parametrize("name", ["vocab.txt", "word_vectors.npz", "graph/nodes.tsv", "graph/edges.npz", "manifest.json"])
def test_other_damaged_files_are_refused_by_name(qqp_folder, tmp_path, name):
    path = shutil.copytree(qqp_folder, tmp_path / "copy") / name
    content = path.read_bytes()
    path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.raises(UserError) as caught:
        PreparedData(tmp_path / "copy")
    assert str(path) in str(caught.value)
