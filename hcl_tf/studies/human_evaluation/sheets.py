"""Writes annotators' sheets, and reads filled ones back, also as spreadsheet programs save them.

A sheet is CSV: a row for each output, columns `COLUMNS`; UTF-8 with a byte order mark, without which Excel takes it for another
encoding; commas, every field quoted, CRLF. The form (templates/form.html) writes the same bytes.
"""

import codecs
import csv
import io
import re
from pathlib import Path

import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.studies.human_evaluation.study import SCALES, SCORES, Study

COLUMNS = ("sheet", "item", "label", "source", "output", *(scale.lower() for scale in SCALES))
TEXTS = ("source", "output")
ENCODINGS = ("utf-8-sig", "cp1252", "gb18030")  # what spreadsheet programs save CSV in: UTF-8, Western Windows, Chinese Windows
DELIMITERS = ",;\t"
SHOWN = 5  # the most bad lines that an error names
REMEDY = "save as 'CSV UTF-8', or fill the HTML form, and give the file again"
_SPREADSHEET_WOULD_CHANGE = re.compile(r"[=+\-@\t'].*|(?=.*\d)\s*\S+(\s+\S+){0,2}\s*|\s*(true|false)\s*", re.IGNORECASE | re.DOTALL)


def cell(text: str) -> str:
    """Puts an apostrophe before a text that a spreadsheet would turn into a formula, number, date or truth value."""
    return f"'{text}" if _SPREADSHEET_WOULD_CHANGE.fullmatch(text) else text


def rows(study: Study, annotator: int) -> list[list[str]]:
    """Returns the rows of an annotator's sheet without its header, the scores empty."""
    empty = [""] * len(SCALES)
    return [
        [study.sheet(annotator), str(item.number), label, cell(item.source), cell(item.outputs[label]), *empty]
        for item in (study.items[number - 1] for number in study.orders[annotator - 1])
        for label in study.labels
    ]


def to_csv(lines: list[list[str]]) -> bytes:
    """Writes the bytes of a sheet."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows([COLUMNS, *lines])
    return codecs.BOM_UTF8 + text.getvalue().encode()


def read_all(study: Study, paths: list[Path]) -> dict[int, np.ndarray]:
    """Reads filled sheets. Returns the scores of each annotator, [items, labels, scales] int, items by number.

    Raises:
      UserError: a sheet can't be used, or there are two of one annotator.
    """
    scores: dict[int, np.ndarray] = {}
    origin: dict[int, Path] = {}
    for path in paths:
        annotator, found = read(study, path)
        if annotator in scores:
            raise UserError(f"{path}: a second sheet of annotator {annotator}, whose first is {origin[annotator]}; give one of the two")
        scores[annotator], origin[annotator] = found, path
    return dict(sorted(scores.items()))


def read(study: Study, path: Path) -> tuple[int, np.ndarray]:
    """Reads a filled sheet. Returns its annotator and scores [items, labels, scales].

    Rows may stand in any order, and columns of the annotator's own behind the others.

    Raises:
      UserError: the sheet can't be used. The text names file, lines (the first few of several) and remedies.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check --filled") from error
    problems: list[str] = []
    for number, text in enumerate(_decodings(path, data)):
        annotator, scores, found = _Reader(study, path, text).read()
        if not found:
            return annotator, scores
        problems = found if number == 0 else problems  # those in the likeliest encoding
    more = f" (and {len(problems) - SHOWN} more such lines)" if len(problems) > SHOWN else ""
    raise UserError("; ".join(problems[:SHOWN]) + more)


def _decodings(path: Path, data: bytes) -> list[str]:
    """Decodes a file in every encoding that it may be in, the likeliest first."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ENCODINGS
    found = []
    for encoding in encodings:
        try:
            found.append(data.decode(encoding))
        except UnicodeDecodeError:
            continue
        if encoding == ENCODINGS[0]:
            break  # other text is hardly ever valid UTF-8
    if not found or "\0" in found[0]:
        raise UserError(f"{path}: not a CSV file in UTF-8, UTF-16, cp1252 or GB 18030; {REMEDY}")
    return found


class _Reader:
    """Reads the text of one sheet. Problems are collected, so that an annotator has to mend a sheet only once."""

    def __init__(self, study: Study, path: Path, text: str) -> None:
        self._study, self._path, self._text = study, path, text
        self._problems: list[str] = []
        self._annotators: set[int] = set()
        self._lines: dict[tuple[int, str], int] = {}  # of each row that was read

    def read(self) -> tuple[int, np.ndarray, list[str]]:
        """Returns the annotator, scores [items, labels, scales], and everything that is wrong with the sheet."""
        study = self._study
        scores = np.zeros((len(study.items), len(study.labels), len(SCALES)), np.int64)
        for line, row in self._records():
            place = self._place(line, row)
            if place:
                scores[place] = [self._score(line, row, place, scale) for scale in SCALES]
        missing = [(i, label) for i in range(1, len(study.items) + 1) for label in study.labels if (i, label) not in self._lines]
        if missing:
            number, label = missing[0]
            also = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self._problems.append(f"{self._path}: no row for item {number}, label {label}{also}; put the rows back, from the empty sheet")
        if len(self._annotators) > 1:
            self._problems.append(f"{self._path}: rows of sheets of several annotators in one file; one file an annotator, please")
        return min(self._annotators, default=0), scores, self._problems

    def _records(self) -> list[tuple[int, dict[str, str]]]:
        """Returns the line and the fields by column of each row that is not empty."""
        try:
            for delimiter in DELIMITERS:
                reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=delimiter, strict=True)
                names = [name.strip().lower() for name in next(reader, [])]
                if tuple(names[: len(COLUMNS)]) == COLUMNS:
                    return self._rows(reader)
        except csv.Error as error:
            raise UserError(f"{self._path}:{reader.line_num}: not CSV ({error}); {REMEDY}") from error
        what = f"the columns {', '.join(COLUMNS)} are expected, separated by commas, semicolons or tabs"
        raise UserError(f"{self._path}:1: {what}; keep the first line of the empty sheet as it is")

    def _rows(self, reader) -> list[tuple[int, dict[str, str]]]:
        found, last = [], reader.line_num
        for row in reader:
            line, last = last + 1, reader.line_num  # a row that holds line breaks is named by its first line
            if len(row) >= len(COLUMNS) and any(field.strip() for field in row):
                found.append((line, dict(zip(COLUMNS, row, strict=False))))
            elif any(field.strip() for field in row):
                self._bad(line, f"{len(row)} fields instead of {len(COLUMNS)}", REMEDY)
        return found

    def _place(self, line: int, row: dict[str, str]) -> tuple[int, int] | None:
        """Says where the scores of a row belong; None for a row that is not of this study, or a second one."""
        study, sheet = self._study, row["sheet"].strip()
        annotators = [number for number in range(1, len(study.orders) + 1) if study.sheet(number) == sheet]
        if not annotators:
            return self._bad(line, f"sheet {sheet!r} is none of this study's ({study.id}-1 to -{len(study.orders)})", "check --sheets")
        self._annotators.add(annotators[0])
        number, label = row["item"].strip(), row["label"].strip()
        if not re.fullmatch("[0-9]{1,9}", number) or not 1 <= int(number) <= len(study.items) or label not in study.labels:
            known = f"items are 1 to {len(study.items)}, labels {study.labels[0]} to {study.labels[-1]}"
            return self._bad(line, f"item {number!r}, label {label!r}: there is no such row; {known}", "put back what the empty sheet has")
        item = study.items[int(number) - 1]
        for column, text in zip(TEXTS, (item.source, item.outputs[label]), strict=True):
            if _spaced(row[column]) not in (_spaced(text), _spaced(cell(text))):
                self._bad(line, f"item {number}, label {label}: the {column} is not what was shown", f"put it back, or {REMEDY}")
                break
        if (item.number, label) in self._lines:
            first = self._lines[item.number, label]
            return self._bad(line, f"item {number}, label {label}: a second row, the first is in line {first}", "remove one of the two")
        self._lines[item.number, label] = line
        return item.number - 1, study.labels.index(label)

    def _score(self, line: int, row: dict[str, str], place: tuple[int, int], scale: str) -> int:
        score = row[scale.lower()].strip()
        if score in map(str, SCORES):
            return int(score)
        where = f"item {place[0] + 1}, label {self._study.labels[place[1]]}"
        what = f"{scale} is {score!r}" if score else f"{scale} is empty"
        self._bad(line, f"{where}: {what}", f"a whole number from {SCORES[0]} to {SCORES[-1]} is expected")
        return 0

    def _bad(self, line: int, what: str, remedy: str) -> None:
        self._problems.append(f"{self._path}:{line}: {what}; {remedy}")


def _spaced(text: str) -> str:
    """Collapses the white space of a text, whose kind and number spreadsheet programs may change."""
    return " ".join(text.split())
