"""What the prepared folder holds and what is printed about it, against computations of the tests' own."""

import dataclasses
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from conftest import prepare_sample

from hcl_tf import config
from hcl_tf.config import SPLITS
from hcl_tf.data import preparation
from hcl_tf.data.corpora.examples import ROLES, Example
from hcl_tf.data.keywords import graph, textrank
from hcl_tf.data.preparation import PreparationSettings, prepare
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.inspection import inspect
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.store.verification import verify
from hcl_tf.data.tokenizers import normalization, wordpiece
from hcl_tf.files.array_cache import CACHE

FOLDERS = ("qqp_folder", "douban_folder", "rocstories_folder", "overlapping_folder")
OLDER = Path(__file__).parents[1] / "fixtures" / "637db7d" / "data"


def records_of(folder: Path) -> dict[str, list[Record]]:
    return {
        split: [tfrecords.parse(data) for path in sorted(folder.glob(f"{split}-*")) for data in tfrecords.read_records(path)]
        for split in SPLITS
    }


def same(text: str) -> str:
    return " ".join(text.lower().split())


def content(folder: Path) -> dict[str, bytes]:
    made = (path for path in sorted(folder.rglob("*")) if path.is_file() and CACHE not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in made}


@pytest.fixture(scope="module")
def overlapping_folder(tmp_path_factory) -> Path:
    """A corpus with its own splits, in which held-out sources occur in training and texts are too long and too short."""
    raw = tmp_path_factory.mktemp("raw")
    lines = config.TASKS["qqp"].sample.read_text(encoding="utf-8").splitlines()
    rows = [{name: json.loads(line)[name] for name in ("source", "target", "negative")} for line in lines[:60]]
    splits = {"train": rows[:40], "validation": rows[40:50], "test": rows[50:60]}
    for number in (0, 1, 2):  # in training as a source
        splits["validation"][number]["source"] = f" {rows[number]['source'].upper()}"
    splits["validation"][3]["source"] = rows[3]["target"]  # in training as a target
    splits["test"][4]["source"] = rows[5]["negative"]  # in training as a negative only
    for number in (1, 5, 9):
        splits["train"][number]["target"] = "Why so?"
    splits["train"][7]["target"] = splits["train"][8]["source"] = "How very long a question can be " * 6
    for split, part in splits.items():
        (raw / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    task = dataclasses.replace(config.TASKS["douban"], language="en", source_length=12)  # which keeps the tail
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(task, raw, out, PreparationSettings(negatives="labelled_then_bm25", vocab="learn", vocab_size=400, tagger="builtin"), 1, False)
    return out


@pytest.fixture(params=FOLDERS)
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


def test_ids_are_the_texts_pieces_cut_as_the_task_says(folder):
    task = tfrecords.read_manifest(folder)["task"]
    tokenizer = wordpiece.from_file(folder / "vocab.txt")
    for record in (record for part in records_of(folder).values() for record in part):
        for role in ROLES:
            text = getattr(record, role)
            (pieces,) = tokenizer.encode([text.raw])
            limit = task["source_length"] if role == "source" else 20
            tail = role == "source" and task["name"] == "douban"
            assert text.ids == (pieces[-limit:] if tail else pieces[:limit])


def test_the_printed_shares_are_right(folder):
    manifest = tfrecords.read_manifest(folder)
    tokenizer, records = wordpiece.from_file(folder / "vocab.txt"), records_of(folder)
    everything = [record for split in SPLITS for record in records[split]]
    notes = "\n".join(manifest["notes"])

    def share(part: int, whole: int) -> str:
        return f"{part:,} ({part / whole:.1%})"

    for role in ROLES:
        limit = manifest["task"]["source_length"] if role == "source" else 20
        over = sum(len(pieces) > limit for pieces in tokenizer.encode([getattr(record, role).raw for record in everything]))
        assert re.search(rf"{role} over {limit}[^:,]*: {re.escape(share(over, len(everything)))}", notes)
    short = sum(len(pieces) < 5 for pieces in tokenizer.encode([record.target.raw for record in everything]))
    assert f"targets under 5 pieces: {share(short, len(everything))}" in notes
    sources = {same(record.source.raw) for record in records["train"]}
    seen = sources | {same(record.target.raw) for record in records["train"]}
    pairs = {tuple(sorted((same(record.source.raw), same(record.target.raw)))) for record in records["train"]}
    for split in SPLITS[1:]:
        asked = [same(record.source.raw) for record in records[split]]
        as_source, anywhere = (share(sum(text in known for text in asked), len(asked)) for known in (sources, seen))
        whole = share(sum(tuple(sorted((same(r.source.raw), same(r.target.raw)))) in pairs for r in records[split]), len(asked))
        assert f"{split} {as_source} as a source, {anywhere} as source or target, {whole} with their target, in either direction" in notes
    texts = {}  # keywords are of the kept part: a text cut at one length as a source and at another as a target counts twice
    for role in ROLES:
        limit = manifest["task"]["source_length"] if role == "source" else 20
        for text in (getattr(record, role) for record in everything):
            texts[text.raw, len(tokenizer.encode([text.raw])[0]) > limit and limit] = text.keywords
    assert f"distinct texts: {len(texts):,}; with a keyword: {share(sum(map(bool, texts.values())), len(texts))}" in notes
    assert "examples: " + ", ".join(f"{split} {len(records[split]):,}" for split in SPLITS) in notes


def test_the_overlapping_corpus_shows_what_it_was_made_to_show(overlapping_folder):
    notes = "\n".join(tfrecords.read_manifest(overlapping_folder)["notes"])
    assert "validation 3 (30.0%) as a source, 4 (40.0%) as source or target" in notes
    assert "test 0 (0.0%) as a source, 0 (0.0%) as source or target" in notes
    assert "targets under 5 pieces: 3 (5.0%)" in notes
    assert re.search(r"source over 12 pieces \(tail kept\): [1-9]", notes)


def test_keywords_stand_in_the_part_that_the_model_sees(folder):
    manifest, checked = tfrecords.read_manifest(folder), 0
    tokenizer = wordpiece.from_file(folder / "vocab.txt")
    for record in (record for records in records_of(folder).values() for record in records):
        for role in ROLES:
            text, limit = getattr(record, role), manifest["task"]["source_length"] if role == "source" else 20
            if len(tokenizer.encode([text.raw])[0]) <= limit:
                continue
            checked += 1
            keep = manifest["task"]["source_keep"] if role == "source" else "head"
            for keyword in text.keywords:  # what stands before (after) a keyword's far end is not more than the limit
                part = text.raw[: keyword.end] if keep == "head" else text.raw[keyword.start :]
                assert len(tokenizer.encode([part])[0]) <= limit
    assert checked or manifest["task"]["name"] != "qqp"


def test_nodes_and_the_graphs_counts_agree_with_the_records(folder):
    rows = [line.split("\t") for line in (folder / "graph" / "nodes.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    numbers = {row[0]: number for number, row in enumerate(rows)}
    records = records_of(folder)
    for record in (record for part in records.values() for record in part):
        for role in ROLES:
            text = getattr(record, role)
            assert list(text.nodes) == [numbers.get(keyword.text, -1) for keyword in text.keywords]
            assert all(0 <= keyword.start < keyword.end <= len(text.raw) for keyword in text.keywords)
            assert len({keyword.text for keyword in text.keywords}) == len(text.keywords) <= 4
    samples, clusters = Counter(), Counter()
    for record in records["train"]:
        samples.update({keyword.text for role in ROLES for keyword in getattr(record, role).keywords})
        clusters.update(keyword.text for keyword in record.source.keywords)
    expected = [[word, str(samples[word]), str(clusters[word])] for word in sorted(samples) if samples[word] >= 3]
    assert rows == expected


def test_the_rules_for_negatives_hold_over_the_whole_folder(folder):
    records = records_of(folder)
    everything = [record for part in records.values() for record in part]
    paraphrases: dict[str, set[str]] = defaultdict(set)
    if tfrecords.read_manifest(folder)["task"]["name"] == "qqp":
        for record in everything:
            paraphrases[same(record.source.raw)].add(same(record.target.raw))
            paraphrases[same(record.target.raw)].add(same(record.source.raw))
    held_out = {same(getattr(record, role).raw) for split in SPLITS[1:] for record in records[split] for role in ROLES}
    for record in everything:
        own = reach = {same(record.source.raw), same(record.target.raw)}
        while reach := {other for text in reach for other in paraphrases.get(text, ())} - own:
            own = own | reach
        assert same(record.negative.raw) not in own
    assert not {same(record.negative.raw) for record in records["train"]} & held_out


def test_the_manifest_counts_and_fingerprints_what_is_there(folder):
    manifest, records = tfrecords.read_manifest(folder), records_of(folder)
    assert {split: part["examples"] for split, part in manifest["splits"].items()} == {split: len(records[split]) for split in SPLITS}
    listed = [*manifest["files"], *(shard["file"] for part in manifest["splits"].values() for shard in part["shards"]), "manifest.json"]
    assert sorted(listed) == sorted(content(folder))
    ids = [record.id for part in records.values() for record in part]
    assert len(set(ids)) == len(ids)
    assert str(folder) not in (folder / "manifest.json").read_text(encoding="utf-8")


# -- negatives and impostors ------------------------------------------------------------------------------------------


def test_the_manifest_says_where_negatives_come_from_and_which_are_another_example_s_target(folder):
    manifest, records = tfrecords.read_manifest(folder), records_of(folder)
    targets = {same(record.target.raw) for record in records["train"]}
    for split, part in records.items():
        found = manifest["splits"][split]["negatives"]
        assert found["targets"] == pytest.approx(sum(same(record.negative.raw) in targets for record in part) / len(part))
        (note,) = (note for note in manifest["notes"] if note.startswith(f"negatives in {split}: "))
        shown = {name: int(count.replace(",", "")) / len(part) for name, count in re.findall(r"(\w+) ([\d,]+) \(", note)}
        assert found["routes"] == pytest.approx(shown)
        assert sum(shown.values()) == pytest.approx(1.0)
    share = manifest["splits"]["train"]["negatives"]["targets"]
    assert f"negatives that are another training example's target: {share:.1%} of train's" in manifest["notes"]


def test_mined_negatives_are_others_targets_and_labelled_questions_are_not(qqp_folder, rocstories_folder):
    shares = [tfrecords.read_manifest(folder)["splits"]["train"]["negatives"]["targets"] for folder in (qqp_folder, rocstories_folder)]
    assert shares == [0.0, 1.0]


def test_a_negative_counts_as_a_target_whatever_its_case_and_only_if_training_has_it():
    def example(number: int, target: str, negative: str, route: str) -> Example:
        return Example(str(number), "source", target, negative=negative, route=route)

    examples = [example(1, "Fire  red", "ice", "bm25"), example(2, "water", "FIRE red", "labelled"), example(3, "ice", "sand", "labelled")]
    found = preparation._negative_kinds(examples, {"fire red", "water", "ice"})
    assert found == {"routes": {"bm25": pytest.approx(1 / 3), "labelled": pytest.approx(2 / 3)}, "targets": pytest.approx(2 / 3)}


def test_what_is_said_of_impostors_is_of_the_training_records(folder):
    """Of the samples with an eligible keyword of the negative, the share whose target's negative neighbours have one."""
    manifest, records = tfrecords.read_manifest(folder), records_of(folder)["train"]
    known = graph.load(folder / tfrecords.GRAPH)
    asked = met = 0
    routes, words = Counter(), Counter()
    for record in records:
        source, target, negative = ({node for node in getattr(record, role).nodes if node >= 0} for role in ROLES)
        found = {int(place) for node in target for place in known.neighbours(node, graph.NEGATIVE)} - source - target
        eligible = negative - source - target
        routes["graph" if found else "negative_text" if eligible else "none"] += 1
        found = found or eligible
        asked, met = asked + bool(eligible), met + bool(eligible & found)
        words.update(known.nodes[node] for node in found)
    shares = ", ".join(f"{route} {routes[route] / len(records):.1%}" for route in ("graph", "negative_text", "none"))
    notes = manifest["notes"]
    assert (
        f"impostors come from: {shares}; a keyword of the negative is among them in {met / asked:.1%} of the samples "
        "whose negative has one that source and target lack"
    ) in notes
    (shown,) = (note for note in notes if note.startswith("most frequent impostors, by share of samples: "))
    found = [entry.rsplit(" ", 1) for entry in shown.partition(": ")[2].split(", ")]
    assert [share for _, share in found] == [f"{count / len(records):.1%}" for _, count in words.most_common(8)]
    assert all(f"{words[word] / len(records):.1%}" == share for word, share in found)


@pytest.mark.slow
def test_edges_ranked_by_counts_are_the_graph_of_earlier_versions(tmp_path):
    """Against the folder that commit 637db7d wrote; by association the same corpus gives another graph."""
    (raw := tmp_path / "raw.jsonl").write_text("".join(config.TASKS["qqp"].sample.read_text(encoding="utf-8").splitlines(True)[:80]))
    given = {"vocab_size": 250, "min_keyword_count": 2, "raw": raw}
    old = graph.load(OLDER / tfrecords.GRAPH)
    found = {}
    for strength in graph.STRENGTHS:
        prepare_sample(tmp_path / strength, edge_strength=strength, **given)
        found[strength] = graph.load(tmp_path / strength / tfrecords.GRAPH)
        assert tfrecords.read_manifest(tmp_path / strength)["settings"]["edge_strength"] == strength
    assert found["count"].nodes == found["association"].nodes == old.nodes
    for relation in (graph.POSITIVE, graph.NEGATIVE):
        for name in ("indptr", "indices", "weights"):
            np.testing.assert_array_equal(getattr(found["count"], name)[relation], getattr(old, name)[relation])
        assert found["association"].indices[relation].tolist() != old.indices[relation].tolist()
    assert PreparationSettings(negatives="labelled").edge_strength == "association"


def test_a_folder_from_before_edges_had_a_strength_still_opens():
    data = PreparedData(OLDER)
    assert "edge_strength" not in data.manifest["settings"]
    assert "negatives" not in data.manifest["splits"]["train"]
    assert len(data.arrays("train")) == 72
    assert len(data.graph) == 49


@pytest.mark.slow
@pytest.mark.parametrize("task", ["qqp", pytest.param("douban", marks=pytest.mark.slow)])
def test_two_workers_give_the_same_bytes_as_one(tmp_path, monkeypatch, request, task):
    started, pool = [], textrank.ProcessPoolExecutor
    monkeypatch.setattr(textrank, "WORTH_A_WORKER", 10)
    monkeypatch.setattr(textrank, "ProcessPoolExecutor", lambda workers, *rest: started.append(workers) or pool(workers, *rest))
    others = []
    monkeypatch.setattr(preparation, "WORTH_A_PROCESS", 10)
    monkeypatch.setattr(preparation, "ProcessPoolExecutor", lambda workers, *rest: others.append(workers) or pool(workers, *rest))
    prepare_sample(tmp_path / "out", task, workers=2)
    assert started == [2], "keywords"
    assert others == [1], "word vectors, meanwhile"
    assert content(tmp_path / "out") == content(request.getfixturevalue(f"{task}_folder"))


@pytest.mark.slow
def test_another_seed_changes_the_splits_and_the_same_seed_does_not(tmp_path):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        prepare_sample(tmp_path / name, limit=60, vocab_size=300, seed=seed)
    assert content(tmp_path / "first") == content(tmp_path / "again")
    ids = {name: [{r.id for r in part} for part in records_of(tmp_path / name).values()] for name in ("first", "other")}
    assert set.union(*ids["first"]) == set.union(*ids["other"])
    assert ids["first"][2] != ids["other"][2]


# -- normalisation ----------------------------------------------------------------------------------------------------


def marked(text: str) -> str:
    """The text as a web page may leave it: a mark in each longer word, and every "a" full-width."""
    return re.sub(r"(?<=\w\w)(?=\w)", "\u200b", text, count=3).replace("a", "ａ") + " \ufeff"


def write_corpus(folder: Path, change) -> Path:
    """Sixty bundled questions that are divided already, their texts changed."""
    folder.mkdir()
    rows = [json.loads(line) for line in config.TASKS["qqp"].sample.read_text(encoding="utf-8").splitlines()[:60]]
    for split, part in (("train", rows[:40]), ("validation", rows[40:50]), ("test", rows[50:])):
        texts = [{role: change(row[role]) for role in ROLES} for row in part]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts))
    return folder


@pytest.fixture(scope="module")
def marked_folder(tmp_path_factory) -> tuple[Path, Path]:
    """The same corpus, prepared from texts as they should be and from marked ones."""
    place, found = tmp_path_factory.mktemp("marked"), {}
    for name, change in (("plain", lambda text: text), ("marked", marked)):
        raw = write_corpus(place / name, change)
        found[name] = prepare_sample(place / f"out-{name}", raw=raw, vocab_size=300, min_keyword_count=2)
    return found["plain"], found["marked"]


def test_marks_that_nobody_sees_change_neither_pieces_nor_keywords_nor_graph(marked_folder):
    plain, other = marked_folder
    for name in ("vocab.txt", "word_vectors.npz", "graph/nodes.tsv", "graph/edges.npz"):
        assert (plain / name).read_bytes() == (other / name).read_bytes(), name
    assert len(graph.load(plain / tfrecords.GRAPH))
    found = [[record for part in records_of(folder).values() for record in part] for folder in marked_folder]
    for one, two in zip(*found, strict=True):
        for text, same_text in ((getattr(record, role) for record in (one, two)) for role in ROLES):
            assert same_text.raw == marked(text.raw).strip(), "raw texts stay as they were given"
            assert same_text == dataclasses.replace(text, raw=same_text.raw, changed=text.raw)
            assert text.changed is None


def test_the_manifest_names_the_normalisation_and_says_what_it_changed(marked_folder):
    for folder, count in zip(marked_folder, ("0 of", "180 of"), strict=True):
        manifest = tfrecords.read_manifest(folder)
        assert manifest["normalization"] == normalization.CURRENT == "nfc-visible-1"
        assert manifest["stop_words"] == ["en"]
        (note,) = (note for note in manifest["notes"] if note.startswith("normalisation nfc-visible-1: changes "))
        assert f"changes {count}" in note
        assert verify(folder) == manifest


def test_an_example_that_shows_nothing_is_left_out_and_counted(tmp_path):
    raw = write_corpus(tmp_path / "raw", lambda text: text)
    rows = [json.loads(line) for line in (raw / "train.jsonl").read_text().splitlines()]
    rows[0]["source"] = rows[1]["target"] = "\u200b\u2060"
    (raw / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    manifest = tfrecords.read_manifest(prepare_sample(tmp_path / "out", raw=raw, vocab_size=300))
    assert manifest["splits"]["train"]["examples"] == 38
    assert "examples with a text that shows nothing, left out: 2" in manifest["notes"]


def test_a_folder_from_before_there_was_a_normalisation_says_so():
    manifest = PreparedData(OLDER).manifest
    assert "normalization" not in manifest
    assert normalization.name_in(manifest) == "none"
    assert "  normalisation: none" in list(inspect(OLDER, 0))
    assert verify(OLDER) == manifest


@pytest.mark.slow
def test_chinese_texts_have_no_english_stop_words_as_keywords(tmp_path):
    (raw := tmp_path / "raw.jsonl").write_text(
        "".join(
            json.dumps({"source": f"我觉得it is the best手机{i}", "target": f"don't worry我们的电影{i}", "negative": f"猫{i}在the家"})
            + "\n"
            for i in range(20)
        )
    )
    folder = prepare_sample(tmp_path / "out", "douban", raw=raw, vocab_size=300, negatives="labelled")
    assert tfrecords.read_manifest(folder)["stop_words"] == ["zh", "en"]
    words = {k.text for part in records_of(folder).values() for r in part for role in ROLES for k in getattr(r, role).keywords}
    assert words >= {"best", "手机", "worry", "电影", "猫"}
    assert not words & {"it", "is", "the", "don", "t"}


def test_what_is_mended_is_printed_and_stands_in_the_manifest(tmp_path, capsys):
    part = "\ufeffsource,target\r" + "".join(f'"What is it, number {i}?","It is\rthe number {i}, you see"\r' for i in range(9))
    (tmp_path / "raw.csv").write_bytes((part + part.replace("number", "place")).encode())
    prepare_sample(tmp_path / "out", "rocstories", raw=tmp_path / "raw.csv", vocab_size=300)
    printed, notes = capsys.readouterr().out, tfrecords.read_manifest(tmp_path / "out")["notes"]
    for note in (
        "raw.csv: 18 rows, format table",
        "raw.csv: lines that end with CR alone: 38",
        "raw.csv: rows over several lines, in quotes: 18",
        "raw.csv: byte order marks inside the file (several files put together?), taken off: 1",
        "raw.csv: headers inside the file (several files put together?), left out: 1",
    ):
        assert note in printed
        assert note in notes
