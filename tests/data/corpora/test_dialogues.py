"""The Douban Conversation Corpus and Group-wise's Douban: turns, right and wrong responses, references, and where y- comes from."""

import random

import pytest

from hcl_tf.config import TASKS, resolve_task
from hcl_tf.data.corpora import formats, negatives, reading
from hcl_tf.data.corpora.examples import Example
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

LINES = (
    "1\t你 好 ， 在 吗\t在 看 iPhone 7 pro 呢\t好 看 吗 ？\n"
    "0\t你 好 ， 在 吗\t在 看 iPhone 7 pro 呢\t我 不 知道\n"
    "1\t吃 饭 了 吗\t刚 吃\n"
    "0\t吃 饭 了 吗\t天气 真 好\n"
    "1\t吃 饭 了 吗\t还 没 呢\n"
    "0\t有 人 吗\t没 有\n"
)


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return folder


def read(path, skip=False, **options):
    bad = BadLines(skip)
    return list(formats.read(path, ReadOptions(bad=bad, **options))), bad


def load(raw, task="douban", split_by="sample", mode=None):
    task = TASKS[task] if task in TASKS else resolve_task("custom", "zh")
    return reading.load(task, raw, ReadOptions(), construction="nearest", negatives=mode, split_by=split_by, seed=1)


def test_right_responses_become_pairs_of_turns_without_the_spaces_of_the_segmentation(tmp_path):
    rows, bad = read(write(tmp_path, raw=LINES) / "raw.txt")
    context = "你好，在吗\n在看 iPhone 7 pro 呢"
    assert rows == [
        Example("1", context, "好看吗？", ("我不知道",), group=context),
        Example("3", "吃饭了吗", "刚吃", ("天气真好",), group="吃饭了吗"),
        Example("5", "吃饭了吗", "还没呢", ("天气真好",), group="吃饭了吗"),
    ]
    assert bad.noticed == {"raw.txt: contexts without a right response, left out": 1}


def test_the_order_of_the_lines_does_not_part_a_context(tmp_path):
    lines = LINES.splitlines(keepends=True)
    whole = {(row.source, row.target, row.negatives) for row in read(write(tmp_path, raw=LINES) / "raw.txt")[0]}
    for seed in range(5):
        content = "".join(random.Random(seed).sample(lines, len(lines)))
        rows, _ = read(write(tmp_path, raw=content) / "raw.txt", format="douban")
        assert {(row.source, row.target, row.negatives) for row in rows} == whole


def test_a_response_that_is_labelled_both_ways_is_right_and_counted_and_one_twice_is_one(tmp_path):
    rows, bad = read(write(tmp_path, raw="1\t问 题\t回 答\n0\t问 题\t回 答\n1\t问 题\t回答\n0\t问 题\t别 的\n") / "raw.txt")
    assert [(row.target, row.negatives) for row in rows] == [("回答", ("别的",))]
    assert bad.noticed == {"raw.txt: contexts with a response that is labelled both right and wrong, taken as right": 1}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1\t你 好", "too few fields: a label, turns and a response"),
        ("2\t你 好\t在", "the label is '2', not 0 or 1"),
        ("1\t \t在", "an empty context or response"),
        ("0\t你 好\t ", "an empty context or response"),
    ],
)
def test_a_bad_line_is_refused_by_number_or_counted(tmp_path, line, why):
    path = write(tmp_path, raw=f"{LINES}{line}\n") / "raw.txt"
    with pytest.raises(UserError, match=why) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:7: ")
    rows, bad = read(path, skip=True)
    assert (len(rows), bad.count) == (3, 1)


def corpus(count, prefix, right=1, wrong=1):
    """Returns lines of `count` contexts, each with so many right and wrong responses."""
    return "".join(
        f"{label}\t{prefix} 上 文 {i}\t第 二 句 {i}\t{prefix} {word} {i} {j}\n"
        for i in range(count)
        for label, word, many in (("1", "答", right), ("0", "错", wrong))
        for j in range(many)
    )


def test_a_test_file_with_ten_candidates_a_context_gives_examples_with_several_references(tmp_path):
    tests = corpus(4, "测", right=1, wrong=9) + corpus(3, "试", right=3, wrong=7) + corpus(2, "无", right=0, wrong=10)
    found = load(write(tmp_path, train=corpus(20, "训", right=2), dev=corpus(5, "开", right=2), test=tests))
    assert {split: len(examples) for split, examples in found.splits.items()} == {"train": 40, "validation": 10, "test": 7}
    assert [len(example.references) for example in found.splits["test"]] == [0] * 4 + [2] * 3
    assert found.splits["test"][4].target == "试答 0 0"
    assert found.splits["test"][4].references == ("试答 0 1", "试答 0 2")
    assert [len(example.negatives) for example in found.splits["test"]] == [9] * 4 + [7] * 3
    assert "test: 3 of 7 contexts have several references" in found.notes
    assert "test.txt: contexts without a right response, left out: 2" in found.notes


def test_a_context_with_several_responses_stays_in_one_drawn_split(tmp_path):
    found = load(write(tmp_path, raw=corpus(60, "训", right=3)) / "raw.txt")
    contexts = {split: {example.source for example in examples} for split, examples in found.splits.items()}
    assert sum(map(len, contexts.values())) == len(set().union(*contexts.values())) == 60
    assert len(found.splits["test"]) == len(contexts["test"])
    assert all(len(example.references) == 2 for example in found.splits["test"])
    assert len(found.splits["train"]) == 3 * len(contexts["train"])


@pytest.mark.parametrize(("mode", "in_force", "routes"), [(None, "bm25", {"bm25", "random"}), ("labelled", "labelled", {"labelled"})])
def test_bm25_is_the_default_and_the_files_own_negatives_are_taken_when_asked(tmp_path, mode, in_force, routes):
    found = load(write(tmp_path, raw=corpus(40, "训", right=2, wrong=2)) / "raw.txt", mode=mode)
    assert found.negatives == in_force
    chosen, _ = negatives.choose(
        found.splits, found.clusters, mode=found.negatives, language="zh", candidates=3, own_split=False, seed=1
    )  # fmt: skip
    examples = [example for split in chosen.values() for example in split]
    assert {example.route for example in examples} <= routes
    for example in examples:
        assert (example.negative in example.negatives) == (mode == "labelled")
        assert example.negative not in (example.target, *example.references)
    held_out = {t for split in ("validation", "test") for e in chosen[split] for t in (e.source, e.target, *e.references, e.negative)}
    assert not held_out & {example.negative for example in chosen["train"]}


def test_other_formats_keep_the_tasks_default(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(f'{{"context": ["a {i}"], "response": "b {i}"}}\n' for i in range(9)))
    assert load(path).negatives == "labelled_then_bm25"


@pytest.mark.parametrize("task", ["qqp", "rocstories"])
def test_it_is_refused_for_a_task_that_is_no_dialogue(tmp_path, task):
    raw = write(tmp_path, raw=LINES) / "raw.txt"
    with pytest.raises(UserError, match=f"do not fit --task={task}; use --task=douban") as caught:
        load(raw, task)
    assert str(raw) in str(caught.value)


def test_too_few_dialogues_are_refused_by_name(tmp_path):
    raw = write(tmp_path, raw="1\t你 好\t在\n") / "raw.txt"
    with pytest.raises(UserError, match="only 1 usable examples; at least 3 are needed") as caught:
        load(raw, "custom")
    assert str(caught.value).startswith(f"{raw}: ")


def test_group_wises_samples_may_stand_behind_one_mark_or_each_behind_its_own(tmp_path):
    samples = [f"候 选 {i} __EOT__ 上 文 __EOC__ 回 复 {i}" for i in range(3)]
    scores = ["0.3 0.1 0.2", "0.5 0.6 0.7"]
    forms = (" __EOD__ ".join(samples), " __SAMP__ ".join(f"{sample} __EOD__" for sample in samples))
    rows = [
        read(write(tmp_path, raw=f"1 你 好 __SAMP__ {form} __SAMP__ {' __SAMP__ '.join(scores)}\t在\n") / "raw.txt")[0] for form in forms
    ]
    assert rows[0] == rows[1]
    assert [pair.response for pair in rows[0][0].sampled] == ["回复 0", "回复 1", "回复 2"]
    assert rows[0][0].negatives == ("回复 1", "回复 2", "回复 0")
