"""Batches: every example once an epoch, in an order that (seed, epoch) decides, in few shapes, from checked files only."""

import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from conftest import prepare_sample

from hcl_tf.data.batching.batches import Batches, describe_caps
from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.keywords.subgraph import CAPS, ROUTES, SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.errors import UserError

LENGTHS = {"qqp": (20, 20, 20), "douban": (100, 20, 20), "rocstories": (100, 20, 20)}  # pieces of source, target and negative
BUCKETS = [(), (10, 14)]


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def arrays(data) -> SplitArrays:
    return data.arrays("train")


@pytest.fixture(scope="module")
def sampler(data) -> SubgraphSampler:
    return SubgraphSampler(data.graph, (3, 2), 512)


def serialised_records(path):
    """A shard's records straight from the bytes: length, its checksum, data, its checksum."""
    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        yield place, content[place + 12 : place + 12 + length]
        place += length + 16


def epoch_of(batches, epoch, start=0):
    return list(batches.dataset(epoch, start).as_numpy_iterator())


def real_rows(epoch):
    """The examples of an epoch's batches, in order, without those that fill up."""
    return np.concatenate([batch["example_rows"][batch["example_mask"] == 1] for batch in epoch])


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


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


# --- order


@pytest.mark.parametrize("with_sampler", [False, True])
@pytest.mark.parametrize("buckets", BUCKETS)
@pytest.mark.parametrize("batch_size", [7, 36, 60])
@pytest.mark.parametrize("epoch", [None, 0, 3])
def test_every_example_comes_exactly_once_an_epoch(data, arrays, sampler, batch_size, buckets, epoch, with_sampler):
    batches = Batches(data, arrays, batch_size, buckets=buckets, sampler=sampler if with_sampler else None)
    seen = epoch_of(batches, epoch)
    np.testing.assert_array_equal(np.sort(real_rows(seen)), np.arange(len(arrays)))
    assert len(seen) == batches.batches_an_epoch()
    for batch in seen:
        assert set(np.unique(batch["example_mask"])) <= {0.0, 1.0}
        assert (np.diff(batch["example_mask"]) <= 0).all()
    not_full = [batch["source_ids"].shape[1] for batch in seen if (batch["example_mask"] == 0).any()]
    assert len(not_full) == len(set(not_full))  # at most one of each width


@pytest.mark.parametrize("batch_size", [1, 396, 397, 1000])
@pytest.mark.parametrize("buckets", BUCKETS)
def test_plan_has_every_example_once_at_extreme_batch_sizes(data, arrays, batch_size, buckets):
    rows, widths = Batches(data, arrays, batch_size, buckets=buckets).plan(1)
    assert rows.shape == (len(widths), batch_size)
    np.testing.assert_array_equal(np.sort(rows[rows >= 0]), np.arange(len(arrays)))
    assert (rows[:, 0] >= 0).all()


def test_without_an_epoch_examples_come_in_the_corpuss_order(data, arrays):
    np.testing.assert_array_equal(real_rows(epoch_of(Batches(data, arrays, 50), None)), np.arange(len(arrays)))


@pytest.mark.parametrize("buckets", BUCKETS)
def test_order_and_subgraphs_are_a_function_of_seed_and_epoch(data, arrays, sampler, buckets):
    def epoch(seed, number):
        return epoch_of(Batches(data, arrays, 32, seed, sampler, buckets), number)

    first = epoch(1, 0)
    assert_same(first, epoch(1, 0))
    for other in (epoch(1, 1), epoch(2, 0), epoch(2, 1), epoch(1, None)):
        assert (real_rows(first) != real_rows(other)).mean() > 0.9


def test_subgraphs_of_the_same_batch_differ_with_seed_epoch_and_number(data, arrays, sampler):
    def drawn(seed, epoch, number):
        return Batches(data, arrays, 32, seed, sampler).make(np.arange(32), 22, epoch, number)["graph_neighbours"].tolist()

    variants = [drawn(*key) for key in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))]
    assert all(one != other for i, one in enumerate(variants) for other in variants[:i])


@pytest.mark.parametrize("with_sampler", [False, True])
@pytest.mark.parametrize("buckets", BUCKETS)
@pytest.mark.parametrize("epoch", [None, 2])
def test_starting_late_gives_the_tail_and_each_batch_is_what_make_gives(data, arrays, sampler, buckets, with_sampler, epoch):
    batches = Batches(data, arrays, 60, 3, sampler if with_sampler else None, buckets)
    whole = epoch_of(batches, epoch)
    for start in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        assert_same(epoch_of(batches, epoch, start), whole[start:])
    rows, widths = batches.plan(epoch)
    assert_same([batches.make(rows[i], int(widths[i]), epoch or 0, i) for i in range(len(rows))], whole)


# --- content


@pytest.mark.parametrize("buckets", BUCKETS)
def test_batches_hold_their_examples_texts(data, arrays, sampler, buckets):
    for batch in epoch_of(Batches(data, arrays, 60, sampler=sampler, buckets=buckets), 0):
        rows, width = batch["example_rows"], batch["source_ids"].shape[1]
        np.testing.assert_array_equal(batch["source_ids"], arrays.source_ids[rows][:, :width])
        np.testing.assert_array_equal(batch["target_ids"], arrays.target_ids[rows])
        np.testing.assert_array_equal(batch["negative_ids"], arrays.negative_ids[rows])


@pytest.mark.parametrize("with_sampler", [False, True])
@pytest.mark.parametrize("buckets", BUCKETS)
def test_rows_that_fill_up_are_real_texts_without_keywords(data, arrays, sampler, buckets, with_sampler):
    seen = epoch_of(Batches(data, arrays, 47, sampler=sampler if with_sampler else None, buckets=buckets), 1)
    filled = 0
    for batch in seen:
        empty = batch["example_mask"] == 0
        filled += empty.sum()
        assert (batch["source_ids"][empty, 0] == data.tokenizer.cls_id).all()
        assert (batch["source_ids"][empty] == data.tokenizer.sep_id).any(1).all()
        for name in ("source_nodes", "target_nodes", "impostor_nodes"):
            assert (batch[name][empty] == UNKNOWN).all()
        assert (batch["impostor_routes"][empty] == ROUTES.index("none")).all()
    assert filled == len(seen) * 47 - len(arrays) > 0


def test_filled_up_rows_do_not_touch_the_subgraph(data, arrays):
    """What fills up repeats a row, yet its keywords are neither drawn nor counted."""
    rows, sampler = np.array([5, 9, -1, -1]), SubgraphSampler(data.graph, (16, 16), 512)  # no cap binds
    short, long = (Batches(data, arrays, len(part), sampler=sampler).make(part, 22, 0, 0) for part in (rows[:2], rows))
    for name in ("graph_nodes", "graph_neighbours", "graph_caps"):
        np.testing.assert_array_equal(long[name], short[name])


def test_without_a_sampler_node_numbers_are_the_whole_graphs(data, arrays):
    seen = 0
    for batch in epoch_of(Batches(data, arrays, 60), 0):
        assert not {"graph_nodes", "graph_neighbours", "graph_caps"} & batch.keys()
        for i in np.flatnonzero(batch["example_mask"]):
            row = batch["example_rows"][i]
            np.testing.assert_array_equal(batch["source_nodes"][i], arrays.source_nodes[row])
            np.testing.assert_array_equal(batch["target_nodes"][i], arrays.target_nodes[row])
            if ROUTES[batch["impostor_routes"][i]] == "graph":
                for target, impostors in zip(batch["target_nodes"][i], batch["impostor_nodes"][i], strict=True):
                    allowed = data.graph.neighbours(target, graph.NEGATIVE) if target != UNKNOWN else []
                    assert set(impostors[impostors != UNKNOWN]) <= set(allowed)
                seen += 1
    assert seen > 0


def test_with_a_sampler_places_lead_to_the_same_nodes(data, arrays, sampler):
    for batch in epoch_of(Batches(data, arrays, 60, sampler=sampler), 0):
        real = batch["example_mask"] == 1
        for role in ("source", "target"):
            places = batch[f"{role}_nodes"][real]
            numbers = np.where(places == UNKNOWN, UNKNOWN, batch["graph_nodes"][places])
            np.testing.assert_array_equal(numbers, getattr(arrays, f"{role}_nodes")[batch["example_rows"][real]])


@pytest.mark.parametrize("with_sampler", [False, True])
def test_an_empty_graph_gives_batches_without_keywords(tmp_path, with_sampler):
    data = PreparedData(prepare_sample(tmp_path / "qqp", "qqp", min_keyword_count=10_000))
    assert len(data.graph) == 0
    batches = Batches(data, data.arrays("train"), 60, sampler=SubgraphSampler(data.graph, (3, 2), 512) if with_sampler else None)
    seen = epoch_of(batches, 0)
    assert len(real_rows(seen)) == len(batches.arrays)
    for batch in seen:
        assert all((batch[name] == UNKNOWN).all() for name in ("source_nodes", "target_nodes", "impostor_nodes"))
        assert (batch["impostor_routes"] == ROUTES.index("none")).all()


# --- shapes


@pytest.mark.parametrize("with_sampler", [False, True])
@pytest.mark.parametrize("buckets", [(), (0, 20, 99)])
def test_one_bucket_gives_one_static_shape(data, arrays, sampler, buckets, with_sampler):
    """0 is no length, and the task's own and longer ones add nothing."""
    dataset = Batches(data, arrays, 60, sampler=sampler if with_sampler else None, buckets=buckets).dataset(0)
    assert all(spec.shape.is_fully_defined() for spec in dataset.element_spec.values())
    assert dataset.element_spec["source_ids"].shape == [60, 22]
    for batch in dataset:
        for name, spec in dataset.element_spec.items():
            assert (batch[name].shape, batch[name].dtype) == (spec.shape, spec.dtype)


@pytest.mark.parametrize("buckets", [(10, 14), (14, 10, 14, 20, 0, 50)])
def test_several_buckets_give_exactly_their_widths_and_cut_no_text(data, arrays, buckets):
    dataset = Batches(data, arrays, 30, buckets=buckets).dataset(0)
    shapes = {name: spec.shape.as_list() for name, spec in dataset.element_spec.items()}
    assert shapes.pop("source_ids") == [30, None]
    assert all(None not in shape for shape in shapes.values())
    seen = set()
    for batch in dataset.as_numpy_iterator():
        width = batch["source_ids"].shape[1]
        seen.add(width)
        lengths = (arrays.source_ids[batch["example_rows"]] != data.tokenizer.pad_id).sum(1)
        assert lengths.max() <= width
        assert lengths.min() > max([w for w in (12, 16, 22) if w < width], default=0)  # in the narrowest that holds them
        assert ((batch["source_ids"] == data.tokenizer.sep_id).sum(1) == 1).all()
    assert seen == {12, 16, 22}


def test_a_bucket_that_no_text_falls_into_gives_no_batch(data, arrays):
    assert set(Batches(data, arrays, 30, buckets=(1, 14)).plan(0)[1]) == {16, 22}


@pytest.mark.parametrize(("buckets", "shapes"), [((), 1), ((10, 14), 3)])
def test_a_function_over_the_batches_is_traced_once_a_shape(data, arrays, sampler, buckets, shapes):
    traced = []

    @tf.function
    def step(batch):
        traced.append(batch["source_ids"].shape)
        return tf.reduce_sum(batch["example_mask"])

    batches = Batches(data, arrays, 60, sampler=sampler, buckets=buckets)
    for epoch in range(2):
        assert sum(float(step(batch)) for batch in batches.dataset(epoch)) == len(arrays)
    assert len(traced) == len({tuple(shape) for shape in traced}) == shapes


# --- refusals and messages


@pytest.mark.parametrize(
    ("caps", "text"),
    [
        (
            [533, 610, 0, 1323, 1114, 2133],
            "neighbour lists cut 533 of 610 (87.4%), nodes left out 0 of 1,323 (0.0%), impostor lists cut 1,114 of 2,133 (52.2%)",
        ),
        ([0] * 6, "neighbour lists cut 0 of 0 (0.0%), nodes left out 0 of 0 (0.0%), impostor lists cut 0 of 0 (0.0%)"),
    ],
)
def test_caps_are_told_in_words(caps, text):
    assert describe_caps(np.array(caps)) == f"sub-graph caps: {text}"
    assert len(caps) == len(CAPS)


@pytest.mark.parametrize("read", [PreparedData.arrays, lambda data, split: list(data.records(split))])
def test_unknown_split_is_refused(data, read):
    with pytest.raises(UserError, match=r"no split 'dev'; there are: .*validation"):
        read(data, "dev")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(data, arrays, batch_size):
    with pytest.raises(UserError, match=f"--batch_size={batch_size}"):
        Batches(data, arrays, batch_size)


def test_node_budget_too_small_for_the_batch_is_refused(data, arrays, sampler):
    Batches(data, arrays, 64, sampler=sampler)  # 64 * 2 * 4 = 512
    with pytest.raises(UserError, match="--graph_node_budget=512"):
        Batches(data, arrays, 65, sampler=sampler)


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


# --- the whole


@pytest.mark.slow
@pytest.mark.parametrize("task", LENGTHS)
def test_three_epochs_over_the_sample_with_subgraphs(task, request):
    data = PreparedData(request.getfixturevalue(f"{task}_folder"))
    arrays = data.arrays("train")
    batches = Batches(data, arrays, 64, sampler=SubgraphSampler(data.graph), buckets=(10, 14, 50))
    caps = np.zeros(len(CAPS), np.int64)
    for epoch in range(3):
        total = examples = 0
        for batch in batches.dataset(epoch).as_numpy_iterator():
            total += int((batch["example_rows"] * batch["example_mask"]).sum())
            examples += int(batch["example_mask"].sum())
            caps += batch["graph_caps"]
        assert (total, examples) == (len(arrays) * (len(arrays) - 1) // 2, len(arrays))
    assert "of" in describe_caps(caps)
    assert caps[1] > 0
