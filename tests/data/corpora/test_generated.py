"""The generated samples: always the same bytes, of the promised size, in the grammar, and with splits and negatives as the rules want."""

import hashlib
import json
import random
from collections import Counter
from itertools import pairwise

import pytest

from hcl_tf.config import TARGET_LENGTH, TASKS
from hcl_tf.data.corpora import formats, generated, grammar
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.tokenizers.words import words

HASHES = {
    "qqp": "b46d95a81b170dd424a4f53c46fc64c42deb7d92338586c00c09f9f2541d9077",
    "douban": "ff86c76f1826f2892efd1b44e8f17d545a3238914c7c91a6ea80a934a9d4a0c7",
    "rocstories": "04d2e2e2e2815d5297efc66ba59b74254872ed3cb6d5d06781d59540809cba2b",
}


@pytest.fixture(scope="module", params=TASKS)
def sample(request):
    """(task, rows by split) of a generated sample."""
    return request.param, generated.rows(request.param)


def source_of(row: dict) -> str:
    return row["source"] if isinstance(row["source"], str) else "\n".join(row["source"])


def units(text: str) -> str:
    """A text without case, white space and punctuation: what makes two texts the same for a reader."""
    return "".join(filter(str.isalnum, text.casefold()))


def all_rows(rows: dict) -> list[dict]:
    return [row for split in rows.values() for row in split]


def test_the_same_bytes_are_made_everywhere(sample, tmp_path):
    task, rows = sample
    folder = generated.write(task, tmp_path / "one" / task)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(content) == ["test.jsonl", "train.jsonl", "validation.jsonl"]
    assert hashlib.sha256(b"".join(content[name] for name in sorted(content))).hexdigest() == HASHES[task]
    assert {path.name: path.read_bytes() for path in generated.write(task, folder).iterdir()} == content
    assert [json.loads(line) for line in content["test.jsonl"].decode().splitlines()] == rows["test"]
    other = generated.rows(task, seed=2)
    assert {source_of(row) for row in all_rows(other)} != {source_of(row) for row in all_rows(rows)}


def test_sizes_and_fields_are_those_of_a_corpus_of_the_task(sample, tmp_path):
    task, rows = sample
    assert {split: len(part) for split, part in rows.items()} == {"train": 2616, "validation": 144, "test": 240}
    assert set(Counter(row["topic"] for row in all_rows(rows)).values()) == {500}
    assert len({row["id"] for row in all_rows(rows)}) == 3000
    path = generated.write(task, tmp_path) / "validation.jsonl"
    read = list(formats.read(path, ReadOptions()))
    assert [(e.source, e.target, e.negatives) for e in read] == [(source_of(r), r["target"], (r["negative"],)) for r in rows["validation"]]
    turns = {"qqp": 1, "douban": 2, "rocstories": 4}[task]
    assert {source_of(row).count("\n") + 1 for row in all_rows(rows)} == {turns}


def test_targets_can_be_written_in_so_many_steps_and_without_a_bigram_twice(sample):
    """`tiny` decodes at most 20 pieces, and no bigram twice."""
    task, rows = sample
    for row in all_rows(rows):
        tokens = words(row["target"], TASKS[task].language)
        assert 5 <= len(tokens) <= TARGET_LENGTH, row
        assert len(set(pairwise(tokens))) == len(tokens) - 1, row


def test_no_text_is_in_two_splits_and_no_source_or_target_is_there_twice(sample):
    _, rows = sample
    places: dict[str, set[str]] = {}
    for split, part in rows.items():
        for text in (text for row in part for text in (source_of(row), row["target"], row["negative"])):
            places.setdefault(units(text), set()).add(split)
    assert [text for text, splits in places.items() if len(splits) > 1] == []
    assert len({units(source_of(row)) for row in all_rows(rows)}) == 3000
    assert len({units(row["target"]) for row in all_rows(rows)}) == 3000


def test_targets_fit_their_sources_and_negatives_do_not(sample):
    task, rows = sample
    known = grammar.of_task(task)
    targets = {split: {row["target"] for row in part} for split, part in rows.items()}
    for split, part in rows.items():
        for row in part:
            (source,), (target,) = known.readings(source_of(row), "source"), known.readings(row["target"])
            (negative,) = known.readings(row["negative"])
            assert (source.family, source.move, negative.family) == (row["topic"], row["move"], row["topic"]), row
            assert (source.agrees(target), source.agrees(negative)) == (True, False), row
            assert all(negative.words[slot] & source.words[slot] for slot in source.words), "about the same words"
            assert row["negative"] in targets[split], "a negative is another example's target of its split"
            assert units(row["target"]) != units(source_of(row))


@pytest.mark.parametrize(
    ("marks", "known"),
    [({"generated": generated.about("qqp")}, True), ({"generated": generated.about("qqp") | {"sha256": "0" * 64}}, False), ({}, False)],
)
def test_texts_are_read_by_the_grammar_that_they_come_from_or_by_none(marks, known):
    assert generated.grammar_of({"task": {"name": "qqp"}} | marks) is (grammar.of_task("qqp") if known else None)


def test_broken_texts_are_not_of_the_grammar(sample):
    task, rows = sample
    known, draw = grammar.of_task(task), random.Random(3)
    join = "" if TASKS[task].language == "zh" else " "
    for row in rows["test"]:
        target = row["target"]
        tokens = list(target) if join == "" else target.split()
        place = draw.randrange(len(tokens) - 1)
        swapped = [*tokens[:place], tokens[place + 1], tokens[place], *tokens[place + 2 :]]
        doubled = [*tokens[: place + 1], *tokens[place:]]
        for broken in (tokens[:-1], tokens[1:], doubled, tokens + tokens, swapped if swapped != tokens else []):
            assert known.readings(join.join(broken)) == [], broken
        if task != "qqp":  # what is said there is question and paraphrase at once
            assert known.readings(source_of(row).replace("\n", join)) == []
