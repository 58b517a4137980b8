"""Files and folders to examples in splits: which file is which split, what is refused, and unique ids."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcl_tf import config
from hcl_tf.config import TASKS
from hcl_tf.data.corpora import reading
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

QUORA = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
UNLABELLED = "id\tquestion1\tquestion2\n0\twhat?\twho?\n"


def quora(count, prefix="q"):
    """`count` duplicates, each of whose first questions also has a non-duplicate: `count` samples by one_per_positive."""
    return QUORA + "".join(
        f"{2 * i}\t0\t0\t{prefix} {i} a\t{prefix} {i} b\t1\n{2 * i + 1}\t0\t0\t{prefix} {i} a\t{prefix} {i} c\t0\n" for i in range(count)
    )


def jsonl(count, prefix="s", **more):
    return "".join(json.dumps({"source": f"{prefix} {i}", "target": f"{prefix} t {i}", **more}) + "\n" for i in range(count))


def folder(path, **files):
    """Writes `name__ending=content` files and returns the folder."""
    for name, content in files.items():
        file = path / name.replace("__", ".")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(raw, task="qqp", skip=False, story_mode="ending", **changes):
    settings = {"construction": "one_per_positive", "negatives": "labelled", "split_by": "sample", "seed": 1, **changes}
    task = TASKS[task] if task in TASKS else config.resolve_task("custom", "en")
    return reading.load(task, raw, ReadOptions(story_mode=story_mode, bad=BadLines(skip)), **settings)


def sources(corpus):
    return {split: [example.source for example in examples] for split, examples in corpus.splits.items()}


def test_a_missing_path_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="no such file or folder; check --raw") as caught:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_glues_folder_keeps_its_dev_and_draws_a_test_split(tmp_path):
    folder(tmp_path, train__tsv=quora(20), dev__tsv=quora(3, "d"), test__tsv=UNLABELLED)
    corpus = load(tmp_path)
    found = sources(corpus)
    assert found["validation"] == ["d 0 a", "d 1 a", "d 2 a"]
    assert sorted(found["train"] + found["test"]) == sorted(f"q {i} a" for i in range(20))
    assert found["test"]
    assert list(corpus.files) == ["train.tsv", "dev.tsv"]
    assert corpus.files["dev.tsv"] == hashlib.sha256((tmp_path / "dev.tsv").read_bytes()).hexdigest()
    assert corpus.raw_rows == 46
    assert any(note.startswith("test.tsv: GLUE's unlabelled test file left out") for note in corpus.notes)


def test_public_splits_are_respected_and_their_cp1252_line_is_noted(tmp_path):
    lines = {name: f"1\t{name} a\t{name} b\t1\n0\t{name} a\t{name} c\t2\n" for name in ("train", "dev", "test")}
    folder(tmp_path, train__tsv=lines["train"].encode() + b"1\tna\xefve\ttrain x\t3\n", dev__tsv=lines["dev"], test__tsv=lines["test"])
    corpus = load(tmp_path)
    assert sources(corpus) == {"train": ["train a"], "validation": ["dev a"], "test": ["test a"]}
    assert "train.tsv: lines that are not UTF-8, read as cp1252: 1" in corpus.notes


def test_a_corpus_of_examples_is_divided_and_noted(tmp_path):
    raw = folder(tmp_path, dialogues__jsonl=jsonl(30)) / "dialogues.jsonl"
    corpus = load(raw, "custom", negatives="bm25")
    assert {split: len(examples) for split, examples in corpus.splits.items()} == {"train": 24, "validation": 3, "test": 3}
    assert list(corpus.splits) == ["train", "validation", "test"]
    assert "dialogues.jsonl: 30 rows, format jsonl" in corpus.notes


@pytest.mark.parametrize("by", ["sample", "question"])
def test_a_full_corpus_gets_the_papers_sizes_and_a_smaller_one_its_proportions(tmp_path, monkeypatch, by):
    monkeypatch.setitem(TASKS, "qqp", replace(TASKS["qqp"], sizes=(12, 4, 2), full_corpus=50))
    raw = folder(tmp_path, full__tsv=quora(25), part__tsv=quora(24))
    full, part = load(raw / "full.tsv", split_by=by), load(raw / "part.tsv", split_by=by)
    assert [len(examples) for examples in full.splits.values()] == [12, 4, 2]
    assert "7 examples beyond the paper's sizes left out" in full.notes
    assert [len(examples) for examples in part.splits.values()] == [16, 5, 3]  # 24 x 4/18 and 24 x 2/18, rounded


def test_the_construction_nearest_to_the_papers_count_is_taken(tmp_path, monkeypatch):
    raw = folder(
        tmp_path,
        q__tsv=QUORA + "".join(f"{i}\t0\t0\ta{i}\tb{i}\t1\n{i}\t0\t0\ta{i}\tc{i}\t0\n{i}\t0\t0\tb{i}\td{i}\t0\n" for i in range(6)),
    )
    for size, expected in ((6, "one_per_positive"), (12, "one_per_input")):
        monkeypatch.setitem(TASKS, "qqp", replace(TASKS["qqp"], sizes=(size - 2, 1, 1)))
        corpus = load(raw / "q.tsv", construction="nearest")
        assert sum(map(len, corpus.splits.values())) == size
        assert any(note.endswith(f"used: {expected}") for note in corpus.notes)


def test_bad_lines_are_counted_in_the_notes_when_skipped(tmp_path):
    raw = folder(tmp_path, q__tsv=quora(20) + "x\ty\n" + "1\t2\n") / "q.tsv"
    with pytest.raises(UserError, match="too few fields") as caught:
        load(raw)
    assert f"{raw}:42: " in str(caught.value)
    corpus = load(raw, skip=True)
    assert "bad lines skipped: 2, the first: q.tsv:42: too few fields: 2 instead of 6" in corpus.notes
    assert corpus.raw_rows == 40


@pytest.mark.parametrize("content", [QUORA, QUORA + "1\t2\n", QUORA + "1\t2\t3\ta\tb\tmaybe\n"], ids=["header", "short", "label"])
def test_a_file_without_a_usable_row_is_refused_by_name_with_a_remedy(tmp_path, content):
    raw = folder(tmp_path, q__tsv=content) / "q.tsv"
    with pytest.raises(UserError, match=r"no usable row.*(check|give|mend|download|--skip_bad_lines)") as caught:
        load(raw, skip=True)
    assert str(raw) in str(caught.value)


@pytest.mark.parametrize("train", [quora(9), jsonl(9, negative="n")], ids=["pairs_then_examples", "examples_then_pairs"])
def test_splits_of_mixed_kinds_are_refused(tmp_path, train):
    other = jsonl(3, negative="n") if train.startswith("id") else quora(3)
    folder(tmp_path, train__txt=train, test__txt=other)
    with pytest.raises(
        UserError, match="some splits hold labelled question pairs and some hold examples; give all in one format"
    ) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_question_pairs_for_a_dialogue_task_are_refused(tmp_path):
    raw = folder(tmp_path, q__tsv=quora(9)) / "q.tsv"
    with pytest.raises(UserError, match="do not fit --task=douban; use --task=qqp") as caught:
        load(raw, "douban")
    assert str(raw) in str(caught.value)


def test_an_unlabelled_file_alone_or_as_dev_is_refused(tmp_path):
    folder(tmp_path, train__tsv=quora(9), dev__tsv=UNLABELLED)
    for raw, name in ((tmp_path, "dev.tsv"), (tmp_path / "dev.tsv", "dev.tsv")):
        with pytest.raises(UserError, match="no is_duplicate column") as caught:
            load(raw)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        QUORA + "".join(f"{i}\t0\t0\ta{i}\tb{i}\t1\n" for i in range(9)),
        QUORA + "".join(f"{i}\t0\t0\ta{i}\tb{i}\t0\n" for i in range(9)),
        jsonl(9),
    ],
    ids=["duplicates_only", "non_duplicates_only", "examples"],
)
def test_no_labelled_negative_at_all_is_refused(tmp_path, content):
    raw = folder(tmp_path, raw__txt=content) / "raw.txt"
    with pytest.raises(UserError, match="pass --negatives=labelled_then_bm25") as caught:
        load(raw)
    assert str(raw) in str(caught.value)


def test_a_given_split_without_a_usable_sample_is_refused_by_name(tmp_path):
    folder(tmp_path, train__tsv=quora(9), dev__tsv=QUORA + "0\t0\t0\tx\ty\t1\n", test__tsv=quora(3, "t"))
    with pytest.raises(UserError, match=r"validation|dev\.tsv"):
        load(tmp_path)


def test_examples_without_a_negative_are_left_out_only_where_one_is_required(tmp_path):
    raw = folder(tmp_path, raw__jsonl=jsonl(12, negative="n") + jsonl(3, "x")) / "raw.jsonl"
    assert sum(map(len, load(raw).splits.values())) == 12
    assert "examples without a labelled negative left out: 3" in load(raw).notes
    assert sum(map(len, load(raw, negatives="labelled_then_bm25").splits.values())) == 15


def test_ids_are_unique_over_splits_whose_files_repeat_them(tmp_path):
    folder(tmp_path, train__tsv=quora(9), dev__tsv=quora(3, "d"), test__tsv=quora(3, "t"))
    for construction in ("one_per_positive", "one_per_input", "all_pairs"):
        corpus = load(tmp_path, construction=construction)
        ids = [example.id for examples in corpus.splits.values() for example in examples]
        assert len(ids) == len(set(ids)) == 15


IDS = st.sampled_from(["a", "a~train2", "a~train3", "a~test2", "a~train2~train2", "b", ""])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(IDS, min_size=3, max_size=12))
def test_ids_are_unique_and_not_empty_whatever_the_file_says(tmp_path, ids):
    raw = (
        folder(tmp_path, raw__jsonl="".join(json.dumps({"id": i, "source": f"s{n}", "target": "t"}) + "\n" for n, i in enumerate(ids)))
        / "raw.jsonl"
    )
    found = [example.id for examples in load(raw, "custom", negatives="bm25").splits.values() for example in examples]
    assert len(found) == len(set(found)) == len(ids)
    assert all(found)


def test_a_pair_without_an_id_still_gets_one(tmp_path):
    raw = folder(tmp_path, raw__tsv="".join(f"1\ta{i}\tb{i}\t \n0\ta{i}\tc{i}\t \n" for i in range(5))) / "raw.tsv"
    assert all(example.id.strip() for examples in load(raw).splits.values() for example in examples)


def test_loading_twice_gives_the_same_and_another_seed_another_division(tmp_path):
    raw = folder(tmp_path, raw__tsv=quora(60)) / "raw.tsv"
    assert load(raw).splits == load(raw).splits
    assert load(raw).splits != load(raw, seed=2).splits


def test_splitting_by_question_leaves_no_text_in_two_splits(tmp_path):
    rows = "".join(f"{i}\t0\t0\thub {i // 3}\tdup {i}\t1\n{i}\t0\t0\thub {i // 3}\tnon {i}\t0\n" for i in range(60))
    corpus = load(folder(tmp_path, raw__tsv=QUORA + rows) / "raw.tsv", split_by="question")
    texts = [{t for e in examples for t in (e.source, e.target, *e.negatives)} for examples in corpus.splits.values()]
    assert all(texts)
    assert sum(map(len, texts)) == len(set.union(*texts))


def texts_of(examples):
    return {text for example in examples for text in (*example.source.split("\n"), example.target)}


def test_prefixes_of_one_story_stay_in_one_split(tmp_path):
    stories = "".join(",".join([f"id{i}", "t", *(f"story {i} sentence {j}" for j in range(5))]) + "\n" for i in range(40))
    raw = folder(tmp_path, r__csv="storyid,storytitle,sentence1,sentence2,sentence3,sentence4,sentence5\n" + stories) / "r.csv"
    splits = load(raw, "rocstories", story_mode="next", negatives="bm25").splits
    assert sum(map(len, splits.values())) == 160
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert splits[second]
        assert not texts_of(splits[first]) & texts_of(splits[second])


def test_the_same_pair_in_either_direction_stays_in_one_split(tmp_path):
    pairs = [(f"a{i}", f"b{i}") for i in range(30)] * 2 + [(f"B{i}", f"A{i}") for i in range(30)]
    raw = folder(tmp_path, r__jsonl="".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in pairs)) / "r.jsonl"
    splits = load(raw, "custom", negatives="bm25").splits
    seen = {split: {frozenset((e.source.lower(), e.target.lower())) for e in examples} for split, examples in splits.items()}
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 30


def test_split_by_question_also_holds_for_given_splits(tmp_path):
    def rows(numbers):
        return "".join(json.dumps({"source": f"s{i}", "target": f"t{i}", "negative": f"n{i % 7}{i}"}) + "\n" for i in numbers)

    raw = folder(tmp_path, train__jsonl=rows(range(30)), valid__jsonl=rows(range(20, 40)), test__jsonl=rows(range(35, 50)))
    corpus = load(raw, "custom", split_by="question", negatives="labelled")
    found = {split: {e.source for e in examples} for split, examples in corpus.splits.items()}
    assert found["test"] == {f"s{i}" for i in range(35, 50)}
    assert found["validation"] == {f"s{i}" for i in range(20, 35)}
    assert found["train"] == {f"s{i}" for i in range(20)}
    assert "train: 10 examples that share a text with a later split left out (--split_by=question)" in corpus.notes


def test_what_was_mended_is_also_said_where_too_little_is_left(tmp_path):
    raw = folder(tmp_path, r__tsv="source\ttarget\na\tb\n\ufeffsource\ttarget\nc\td\n") / "r.tsv"
    with pytest.raises(UserError, match=r"r\.tsv: only 2 usable examples.*headers inside the file .*, left out: 1"):
        load(raw, "custom", negatives="bm25")


def test_the_hubs_folder_is_read_without_its_unlabelled_test_file(tmp_path):
    header = "question1,question2,label,idx\n"
    rows = {name: "".join(f'"{name} {i}, a",{name} {i} b,1,{i}\n"{name} {i}, a",{name} {i} c,0,{i}\n' for i in range(9)) for name in "tv"}
    folder(tmp_path, train__csv=header + rows["t"], validation__csv=header + rows["v"], test__csv=f"{header}x?,y?,-1,0\n")
    corpus = load(tmp_path)
    assert sources(corpus)["validation"] == [f"v {i}, a" for i in range(9)]
    assert list(corpus.files) == ["train.csv", "validation.csv"]
    assert any(note.startswith("test.csv: GLUE's unlabelled test file left out") for note in corpus.notes)


def test_held_out_pairs_are_the_test_split_and_validation_is_drawn_from_the_rest(tmp_path):
    corpus = load(folder(tmp_path, train__tsv=quora(40)), held_out_pairs=10)
    assert {split: len(examples) for split, examples in corpus.splits.items()} == {"train": 28, "validation": 2, "test": 10}
    with pytest.raises(UserError, match=r"--held_out_pairs=3: test\.tsv is its test split already; drop the flag"):
        load(folder(tmp_path, test__tsv=quora(5, "t")), held_out_pairs=3)


def test_held_out_pairs_need_labelled_pairs(tmp_path):
    with pytest.raises(UserError, match="the corpus has examples, and not labelled pairs"):
        load(folder(tmp_path, train__jsonl=jsonl(9, negative="n")), held_out_pairs=3)
