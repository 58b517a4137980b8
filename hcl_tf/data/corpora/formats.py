"""Reads the raw files that users have: each format has a reader, which turns lines into rows (recognition.py tells the formats apart).

A row is a `QuestionPair` (two questions and whether they are duplicates: QQP's raw material) or an `Example` (a source
with its target). Formats, by the name that `prepare` prints:

  quora       table with question1, question2 and is_duplicate (Quora's file; GLUE's train and dev) or label (the hub's copy of GLUE)
  unlabelled  GLUE's test split: the same without labels; no use here, left out with a notice
  pairs       TSV without a header: label, question, question, id (the public train/dev/test splits)
  rocstories  CSV with a header: storyid, storytitle, sentence1 .. sentence5 (2016 and 2017)
  douban      the Douban Conversation Corpus (Wu et al., 2017): label, turns, response; word-segmented; right and wrong responses
  groupwise   Douban as Cai et al. (2020) published it: `id context TAB response` with sampled pairs and their scores
  jsonl       one JSON object a line: source (text or list of turns), target, optional negative and id
  table       TSV or CSV with a header that names the same fields
  columns     TSV or CSV without a header, whose fields --fields names by the number of their column, from 1
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from hcl_tf.data.corpora import raw_tables, recognition, text_files
from hcl_tf.data.corpora.examples import TURN_BREAK, Example, QuestionPair, Row, SampledPair, clean
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

ALIASES = {"source": ("source", "context"), "target": ("target", "response"), "negative": ("negative",), "id": ("id",)}


@dataclass(frozen=True)
class Table:
    """A table that a library has read. columns: their names, in lower case. records: of each its number, from 1, and {column: value}."""

    columns: list[str]
    records: Iterable[tuple[int, dict[str, Any]]]


@dataclass
class ReadOptions:
    """The flags of `hcl_tf.prepare` that a reader needs.

    Attributes:
      fields: our name of a field -> the file's. story_mode: "ending" or "next" (`split_story`).
      bad: what to do about bad lines. limit: the most rows of a file; None: all.
      format: one of `READERS`; None: each file's own is recognised. encoding: of all files; None: UTF-8.
      table: is read in place of a file.
    """

    fields: dict[str, str] = field(default_factory=dict)
    story_mode: str = "ending"
    bad: BadLines = field(default_factory=BadLines)
    limit: int | None = None
    format: str | None = None
    encoding: str | None = None
    table: Table | None = None


def recognise(path: Path, options: ReadOptions) -> str:
    """Returns the name of a file's format: the one that the user names, or else by its first lines.

    Raises:
      UserError: the format is none that is known.
    """
    return options.format or recognition.kind_of_file(path, options.encoding, partial(field_names, options=options))


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """Yields the rows of a file in any of the formats, at most `options.limit`. Raises `UserError` with file and line."""
    yield from islice(READERS[recognise(path, options)](path, options), options.limit)


def field_names(ours: str, options: ReadOptions) -> tuple[str, ...]:
    """Returns what a file may call one of our fields."""
    return (options.fields[ours],) if ours in options.fields else ALIASES[ours]


def _under_header(path: Path, options: ReadOptions, needed: tuple[str, ...], used: tuple[str, ...] = ()) -> Iterator[tuple[int, dict]]:
    """Yields the line number and {column: value} of each row of a table that has the needed columns."""
    first = text_files.lines(path, BadLines(skip=True), encoding=options.encoding)
    header = options.table.columns if options.table else raw_tables.header_of(first)[0]
    if missing := [name for name in needed if name not in header]:
        raise UserError(f"{path}:1: no column {', '.join(missing)}; found: {', '.join(header)}")
    if options.table:
        yield from options.table.records
        return
    kind = partial(recognition.kind_of_header, names=partial(field_names, options=options))
    yield from raw_tables.rows(path, options.bad, options.encoding, needed + used, lambda values: kind(values) is not None)


def _read_quora(path: Path, options: ReadOptions) -> Iterator[Row]:
    for number, row in _under_header(path, options, recognition.QUESTIONS, recognition.LABELS):
        label, *others = (row[name].strip() for name in recognition.LABELS if name in row)
        if others and others != [label]:
            options.bad.report(path, number, f"the columns {' and '.join(recognition.LABELS)} say {label[:20]!r} and {others[0][:20]!r}")
            continue
        identity = row.get("id") or row.get("idx") or str(number)
        yield from _question_pair(path, number, options, identity, row["question1"], row["question2"], label)


def _read_pairs(path: Path, options: ReadOptions) -> Iterator[Row]:
    numbered = text_files.lines(path, options.bad, None if options.encoding else "cp1252", options.encoding)
    for number, (label, first, second, identity) in text_files.records(numbered, "\t", 4, path, options.bad):
        yield from _question_pair(path, number, options, identity.strip() or str(number), first, second, label)


def _question_pair(path: Path, number: int, options: ReadOptions, identity: str, first: str, second: str, label: str) -> Iterator[Row]:
    first, second, label = clean(first), clean(second), label.strip()
    if label not in ("0", "1"):
        options.bad.report(path, number, f"the duplicate label is {label[:20]!r}, not 0 or 1")
    elif not first or not second:
        # Quora's own file has a handful of these: they carry no pair, and no user can mend them.
        options.bad.notice(f"{path.name}: pairs with an empty question, left out")
    else:
        yield QuestionPair(identity, first, second, label == "1")


def _read_unlabelled(path: Path, options: ReadOptions) -> Iterator[Row]:
    raise UserError(
        f"{path}: GLUE's test file has no is_duplicate column, or {recognition.UNLABELLED} in all of it, so it can't be used; "
        "give the folder (it is left out there) or train.tsv"
    )


def _read_rocstories(path: Path, options: ReadOptions) -> Iterator[Row]:
    for number, row in _under_header(path, options, recognition.SENTENCES):
        sentences = [clean(row[column]) for column in recognition.SENTENCES]
        if not all(sentences):
            options.bad.report(path, number, f"sentence{sentences.index('') + 1} is empty")
            continue
        yield from split_story(row.get("storyid") or str(number), sentences, options.story_mode)


def split_story(identity: str, sentences: list[str], mode: str) -> Iterator[Example]:
    """Yields examples of a story: four sentences and the fifth as target ("ending"), or every prefix and its next sentence ("next")."""
    if mode == "ending":
        yield Example(identity, TURN_BREAK.join(sentences[:-1]), sentences[-1])
        return
    for cut in range(1, len(sentences)):
        yield Example(f"{identity}#{cut}", TURN_BREAK.join(sentences[:cut]), sentences[cut], group=identity)


def _read_groupwise(path: Path, options: ReadOptions) -> Iterator[Row]:
    for number, text in text_files.lines(path, options.bad, encoding=options.encoding):
        columns = text.split("\t")
        if len(columns) != 2 or "__SAMP__" in columns[1]:
            few = len(columns) < 2
            why = "too few fields: no TAB between context and response" if few else "text behind the response: one TAB a line is expected"
            options.bad.report(path, number, why)
            continue
        # A line's own number restarts with every dialogue, so the line number is the identity.
        context, *rest = re.sub(r"^\d+\s+", "", columns[0]).split("__SAMP__")
        source, target = _turns(context), clean(columns[1])
        try:
            sampled = _sampled_pairs(rest)
        except ValueError as error:
            options.bad.report(path, number, str(error))
            continue
        if not source or not target:
            options.bad.report(path, number, "an empty context or response")
            continue
        candidates = sorted(sampled, key=lambda pair: pair.response_score)
        yield Example(str(number), source, target, tuple(pair.response for pair in candidates if pair.response), tuple(sampled))


def _turns(context: str) -> str:
    return TURN_BREAK.join(turn for turn in map(clean, context.split("__EOT__")) if turn)


def _sampled_pairs(parts: list[str]) -> list[SampledPair]:
    """Parses the parts of a line that follow the context: samples, response scores, context scores. Raises `ValueError`."""
    if not parts:
        return []
    if len(parts) < 3:
        raise ValueError(f"{len(parts)} __SAMP__ fields instead of 3 (samples and two lists of scores)")
    # All samples stand behind one __SAMP__, or each behind its own.
    samples = [sample.split("__EOC__") for part in parts[:-2] for sample in part.split("__EOD__") if sample.strip()]
    scores = [[float(value) for value in part.split()] for part in parts[-2:]]
    if not all(math.isfinite(score) for part in scores for score in part):
        raise ValueError("a matching score that is no finite number")
    if any(len(sample) != 2 for sample in samples):
        raise ValueError("a sampled pair without __EOC__ between context and response")
    if not len(samples) == len(scores[0]) == len(scores[1]):
        raise ValueError(f"{len(samples)} sampled pairs but {len(scores[0])} and {len(scores[1])} matching scores")
    return [SampledPair(_turns(c), clean(r), a, b) for (c, r), a, b in zip(samples, *scores, strict=True)]


def _read_douban(path: Path, options: ReadOptions) -> Iterator[Row]:
    """Yields a pair for each right response of a context; the context's wrong responses are its candidates for the negative."""
    right: dict[str, dict[str, int]] = {}  # context -> its right responses -> their line; a context may stand anywhere in the file
    wrong: dict[str, dict[str, int]] = {}
    for number, text in text_files.lines(path, options.bad, encoding=options.encoding):
        label, *turns = text.split("\t")
        if len(turns) < 2:
            options.bad.report(path, number, "too few fields: a label, turns and a response, with TABs between them, are expected")
            continue
        if label.strip() not in ("0", "1"):
            options.bad.report(path, number, f"the label is {label.strip()[:20]!r}, not 0 or 1")
            continue
        context, response = TURN_BREAK.join(filter(None, map(clean, turns[:-1]))), clean(turns[-1])
        if not context or not response:
            options.bad.report(path, number, "an empty context or response")
            continue
        right.setdefault(context, {})
        (right if label.strip() == "1" else wrong).setdefault(context, {}).setdefault(response, number)
    for context, responses in right.items():
        others = wrong.get(context, {})
        if not responses:
            options.bad.notice(f"{path.name}: contexts without a right response, left out")
        if responses.keys() & others.keys():
            options.bad.notice(f"{path.name}: contexts with a response that is labelled both right and wrong, taken as right")
        candidates = tuple(response for response in others if response not in responses)
        for response, number in responses.items():
            yield Example(str(number), context, response, candidates, group=context)


def _read_jsonl(path: Path, options: ReadOptions) -> Iterator[Row]:
    never = set(options.fields.values())  # seen so far
    for number, text in text_files.lines(path, options.bad, encoding=options.encoding):
        try:
            row = json.loads(text, object_pairs_hook=_with_keys_once)
        except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
            options.bad.report(path, number, f"not JSON that can be read ({error})")
            continue
        if not isinstance(row, dict):
            options.bad.report(path, number, "a JSON object is expected on each line")
            continue
        never -= row.keys()
        yield from _named_row(path, number, row, options)
    if never:
        raise UserError(f"{path}: no line has the field {', '.join(sorted(never))} that --fields names")


def _with_keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a dictionary of a JSON object. Raises `ValueError` where a key stands twice: one of its values would be lost."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in (other for other, _ in pairs[:place]))
        raise ValueError(f"the key {twice} stands twice")
    return row


def _read_table(path: Path, options: ReadOptions) -> Iterator[Row]:
    lowered = replace(options, fields={ours: name.lower() for ours, name in options.fields.items()})  # as the header is
    names = tuple(name for ours in ALIASES for name in field_names(ours, lowered))
    for number, row in _under_header(path, lowered, tuple(lowered.fields.values()), names):
        yield from _named_row(path, number, row, lowered)


def _read_columns(path: Path, options: ReadOptions) -> Iterator[Row]:
    if not {"source", "target"} <= options.fields.keys():
        raise UserError(f"{path}: without a header the columns are named by number: --fields=source:1,target:2, for example")
    by_number = replace(options, fields={ours: options.fields.get(ours, "") for ours in ALIASES})  # no other column has a name
    kind = partial(recognition.kind_of_header, names=ALIASES.__getitem__)
    used = options.fields.values()
    for number, row in raw_tables.rows_by_number(path, options.bad, options.encoding, used, lambda values: kind(values) is not None):
        yield from _named_row(path, number, row, by_number)


def _named_row(path: Path, number: int, row: dict, options: ReadOptions) -> Iterator[Row]:
    """Yields an `Example` from a row with named fields; a list under source is joined as turns."""
    values = {}
    read = {name for ours in ALIASES for name in field_names(ours, options)}
    if wrong := next((name for name in recognition.LABELS if name not in read and str(row.get(name, "")).strip() in ("0", "False")), None):
        why = f"the column {wrong} is 0: if that marks a wrong pair, leave it out; if it says something else, name the column otherwise"
        options.bad.report(path, number, why)
        return
    for ours in ALIASES:
        names = [name for name in field_names(ours, options) if name in row]
        if len(names) > 1:
            options.bad.report(path, number, f"both {' and '.join(names)}; --fields={ours}:NAME says which one to read")
            return
        name = names[0] if names else None
        value = row.get(name) if name else None
        if value is None:
            if ours in ("source", "target") and name:
                options.bad.report(path, number, f"the value of field {name} is null; a text is expected")
                return
            if ours in ("source", "target"):
                options.bad.report(
                    path,
                    number,
                    f"no field {' or '.join(field_names(ours, options))}; found: {', '.join(map(str, row))} "
                    f"(--fields={ours}:NAME maps another)",
                )
                return
            value = ""
        if isinstance(value, (int, float)) and ours == "id":
            value = str(value)
        turns = value if isinstance(value, list) and ours == "source" else [value]
        if not all(isinstance(turn, str) for turn in turns):
            options.bad.report(path, number, f"field {name}: a text{' or a list of texts' if ours == 'source' else ''} is expected")
            return
        try:
            "".join(turns).encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 can't
            options.bad.report(path, number, f"field {name} has a broken \\u escape")
            return
        values[ours] = [turn for turn in map(clean, turns) if turn]
        if ours in ("source", "target") and not values[ours]:
            options.bad.report(path, number, f"field {name} is empty")
            return
    identity = values["id"][0] if values["id"] else str(number)
    negatives = tuple(values["negative"])
    if options.story_mode == "next" and len(values["source"]) > 1:
        yield from split_story(identity, values["source"] + values["target"], "next")
        return
    yield Example(identity, TURN_BREAK.join(values["source"]), values["target"][0], negatives)


READERS: dict[str, Callable[[Path, ReadOptions], Iterator[Row]]] = {
    "quora": _read_quora,
    "unlabelled": _read_unlabelled,
    "pairs": _read_pairs,
    "rocstories": _read_rocstories,
    "groupwise": _read_groupwise,
    "douban": _read_douban,
    "jsonl": _read_jsonl,
    "table": _read_table,
    "columns": _read_columns,
}
