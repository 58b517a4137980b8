"""The report about a prepared folder, against the tests' own counts."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hcl_tf.config import SPLITS
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.inspection import inspect
from hcl_tf.data.tokenizers import wordpiece
from hcl_tf.errors import UserError

FOLDERS = ("qqp_folder", "douban_folder", "rocstories_folder")


@pytest.fixture(params=FOLDERS)
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


def records_of(folder: Path, split: str) -> list[tfrecords.Record]:
    return [tfrecords.parse(data) for path in sorted(folder.glob(f"{split}-*")) for data in tfrecords.read_records(path)]


def share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})"


def section(report: str, start: str) -> str:
    return next(part for part in report.split("\n\n") if part.startswith(start))


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_counts_percentiles_and_shares_of_a_split_are_right(folder, split):
    manifest, records = tfrecords.read_manifest(folder), records_of(folder, split)
    report = section("\n".join(inspect(folder, 0)), f"{split}: ")
    assert report.startswith(f"{split}: {len(records):,} examples")
    for role in ROLES:
        texts = [getattr(record, role) for record in records]
        lengths, nodes = [len(text.ids) for text in texts], [node for text in texts for node in text.nodes]
        limit = manifest["task"]["source_length"] if role == "source" else 20
        first, second = re.search(rf"  {role} pieces  (.*)\n(.*)", report).groups()
        for percent in (5, 25, 50, 75, 95, 100):
            assert f"{percent}%: {np.percentile(lengths, percent):.0f}" in first
        assert f"at the limit of {limit}: {share(lengths.count(limit), len(texts))}" in first
        assert f"with a keyword: {share(sum(bool(text.keywords) for text in texts), len(texts))};" in second
        assert f"keywords unknown to the graph: {share(nodes.count(-1), len(nodes))};" in second
        assert f"without a known keyword: {share(sum(set(text.nodes) <= {-1} for text in texts), len(texts))}" in second
    assert f"targets under 5 pieces: {share(sum(len(record.target.ids) < 5 for record in records), len(records))}" in report
    for route in {record.route for record in records}:
        assert f"{route} {share(sum(record.route == route for record in records), len(records))}" in report


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_impostor_routes_add_up_to_the_split(folder, split):
    (line,) = re.findall("impostors from: (.*)", section("\n".join(inspect(folder, 0)), f"{split}: "))
    counts = {route: int(count.replace(",", "")) for route, count in re.findall(r"(\w+) ([\d,]+) of", line)}
    assert set(counts) >= {"graph", "none"}
    assert sum(counts.values()) == len(records_of(folder, split))
    assert counts["graph"] > 0


def test_the_graphs_size_degrees_and_most_frequent_nodes_are_right(folder):
    rows = [line.split("\t") for line in (folder / "graph" / "nodes.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    report = section("\n".join(inspect(folder, 0)), "keyword graph: ")
    assert report.startswith(f"keyword graph: {len(rows):,} nodes")
    with np.load(folder / "graph" / "edges.npz") as edges:
        for name in ("positive", "negative"):
            degrees = np.diff(edges[f"{name}_indptr"])
            (line,) = re.findall(f"{name} neighbours a node  (.*)", report)
            assert f"50%: {np.percentile(degrees, 50):.0f}  " in line
            assert f"100%: {degrees.max()}; edges {degrees.sum():,}; nodes with none: {share(int((degrees == 0).sum()), len(rows))}" in line
    assert f"nodes in no source: {share(sum(row[2] == '0' for row in rows), len(rows))}" in report
    top = sorted(rows, key=lambda row: (-int(row[1]), row[0]))[:15]
    assert "most frequent: " + ", ".join(f"{word} {count}" for word, count, _ in top) in report


@pytest.mark.slow
@pytest.mark.parametrize("examples", [0, 1, 10, 10**6])
def test_as_many_examples_as_asked_are_decoded(qqp_folder, examples):
    records = {record.id: record for record in records_of(qqp_folder, "train")}
    tokenizer = wordpiece.from_file(qqp_folder / "vocab.txt")
    report = "\n".join(inspect(qqp_folder, examples))
    shown = [part for part in report.split("\n\n") if part.startswith("example ")]
    assert len(shown) == min(examples, len(records))
    for part in shown[:20]:
        record = records[part.split()[1]]
        for role in ROLES:
            text = getattr(record, role)
            assert f"  {role:8}  {text.raw}\n" in part
            assert f"read back: {tokenizer.decode(text.ids)}\n" in part
            marks = [keyword.text + " (unknown)" * (node < 0) for keyword, node in zip(text.keywords, text.nodes, strict=True)]
            assert f"keywords: {', '.join(marks)}" in part


def test_a_damaged_folder_is_refused_by_file(qqp_folder, tmp_path):
    copy = Path(shutil.copytree(qqp_folder, tmp_path / "copy"))
    path = copy / "vocab.txt"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=str(path)):
        list(inspect(copy))


def test_what_is_no_prepared_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a prepared folder"):
        list(inspect(tmp_path / "nothing"))
