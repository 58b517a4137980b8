"""Recognises the format of a raw file from its first lines."""

import re
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path

from hcl_tf.data.corpora import raw_tables, text_files
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

LOOKED_AT = 100  # lines
QUESTIONS = ("question1", "question2")
LABELS = ("is_duplicate", "label")  # Quora's and GLUE's name; the hub's
SENTENCES = tuple(f"sentence{i}" for i in range(1, 6))
UNLABELLED = "-1"  # the label of every pair in the hub's copy of GLUE's test split
_ID = re.compile(r"[\w.:#-]*", re.ASCII)
_CHINESE = re.compile("[\u3400-\u9fff]")

Names = Callable[[str], tuple[str, ...]]  # one of our fields -> its names in the file


def kind_of_header(columns: Collection[str], names: Names) -> str | None:
    """Returns the format of a table with these columns (in lower case); None: these are no columns that anything here reads."""
    if set(QUESTIONS) <= set(columns):
        return "quora" if set(LABELS) & set(columns) else "unlabelled"
    if set(SENTENCES) <= set(columns):
        return "rocstories"
    if all({name.lower() for name in names(ours)} & set(columns) for ours in ("source", "target")):
        return "table"
    return None


def kind_of_labelled(lines: list[str]) -> str | None:
    """Returns the format of lines that begin with a label of 0 or 1.

    The last field tells question pairs from dialogues: an id, or a response in Chinese. Where it is neither, None is returned.
    """
    rows = [line.split("\t") for line in lines]
    labelled = [row for row in rows if len(row) >= 3 and row[0].strip() in ("0", "1")]
    if not rows or rows[0] not in labelled or 2 * len(labelled) < len(rows):
        return None
    pairs = [row for row in labelled if len(row) == 4]
    if pairs and 2 * sum(bool(_ID.fullmatch(row[3].strip())) for row in pairs) >= len(labelled):
        return "pairs"
    return "douban" if 2 * sum(bool(_CHINESE.search(row[-1])) for row in labelled) >= len(labelled) else None


def kind_of_file(path: Path, encoding: str | None, names: Names) -> str:
    """Returns the name of a file's format (formats.py lists them). Raises `UserError` where it is none that is known."""
    numbered = list(islice(text_files.lines(path, BadLines(skip=True), "cp1252", encoding), LOOKED_AT))
    first = numbered[0][1] if numbered else ""
    if first.lstrip().startswith(("{", "[")):
        return "jsonl"
    header, _ = raw_tables.header_of(iter(numbered))
    if kind := kind_of_header(header, names):
        return "unlabelled" if kind == "quora" and _has_no_labels(path, encoding) else kind
    if all(name.isascii() and name.isdigit() and int(name) <= len(header) for ours in ("source", "target") for name in names(ours)):
        return "columns"
    if kind := kind_of_labelled([text for _, text in numbered]):
        return kind
    if _are_numbered([text.split("\t") for _, text in numbered]):
        return "groupwise"
    raise UserError(
        f"{path}:1: no known format: the first line is {first[:80]!r}. Expected JSONL with source and target (other names: --fields), "
        "a TSV or CSV whose header names them (without a header, --fields=source:1,target:2 names columns by number), Quora's or GLUE's "
        "QQP table, question-pair splits, a ROCStories CSV, the Douban Conversation Corpus, or Group-wise's Douban; --format names one"
    )


def _are_numbered(rows: list[list[str]]) -> bool:
    """Says whether lines are a numbered context and a response. Of plain texts some may begin with a number, but not nine in ten."""
    if not rows or len(rows[0]) != 2 or not re.match(r"\d+\s+\S", rows[0][0]):
        return False
    return 10 * sum(bool(re.match(r"\d+\s", row[0])) for row in rows) >= 9 * len(rows)


def _has_no_labels(path: Path, encoding: str | None) -> bool:
    """Says whether the pairs at the beginning of a table all have the label that means none."""
    found = islice(raw_tables.rows(path, BadLines(skip=True), encoding, (), lambda _: False), LOOKED_AT)
    return {row[name].strip() for _, row in found for name in LABELS if name in row} == {UNLABELLED}
