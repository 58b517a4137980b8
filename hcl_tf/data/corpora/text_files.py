"""Reads raw text files so that whatever is wrong with them is named by file and line.

Nothing here knows a corpus; formats.py builds on `lines` and `records`.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hcl_tf.errors import UserError

# A quoted field may hold line breaks, but a quote that is never closed would otherwise swallow the rest of the file.
MOST_LINES_A_RECORD = 20
# Longer than any text here; past it the file is no line-based text, and reading on would only fill memory.
MOST_CHARACTERS_A_LINE = 1_000_000
csv.field_size_limit(MOST_LINES_A_RECORD * MOST_CHARACTERS_A_LINE)


@dataclass
class BadLines:
    """Decides about lines that can't be used: refuses the file, or (with --skip_bad_lines) counts them and goes on.

    Attributes:
      count: bad lines so far. first: what was wrong with the first of them.
      noticed: harmless oddity -> how many lines; these are printed and never refused.
    """

    skip: bool = False
    count: int = 0
    first: str = ""
    noticed: dict[str, int] = field(default_factory=dict)

    def notice(self, what: str) -> None:
        """Counts a line that is odd but usable, or that no user can mend."""
        self.noticed[what] = self.noticed.get(what, 0) + 1

    def report(self, path: Path, line: int, why: str) -> None:
        """Counts a bad line, or raises `UserError` naming `path:line`."""
        message = f"{path}:{line}: {why}"
        if not self.skip:
            raise UserError(f"{message}; mend the line, or pass --skip_bad_lines to leave such lines out and count them")
        self.count += 1
        self.first = self.first or f"{path.name}:{line}: {why}"


def check_readable(path: Path) -> None:
    """Raises `UserError` for a file that is missing, not a plain file, empty, unreadable or binary."""
    if not path.exists():
        raise UserError(f"{path}: no such file; check --raw")
    if not path.is_file():
        raise UserError(f"{path}: not a plain file; check --raw")
    try:
        with path.open("rb") as file:
            head = file.read(65536)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check its permissions") from error
    if not head.strip() and path.stat().st_size <= len(head):
        raise UserError(f"{path}: the file is empty; check --raw")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: the text is UTF-16; convert it first, for example: iconv -f UTF-16 -t UTF-8")
    if _looks_binary(head):
        raise UserError(f"{path}: a binary file, not text; unpack it first if it is an archive")


def _looks_binary(head: bytes) -> bool:
    control = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
    return b"\0" in head or control > len(head) / 100


def lines(path: Path, bad: BadLines, legacy_encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yields the number of each line, from 1, and its text without the line break. Blank lines are left out.

    A line that is not UTF-8 is read as `legacy_encoding` where one is given (and counted in `bad.noticed`): the public
    question-pair splits mix encodings line by line. Elsewhere it is a bad line.
    """
    check_readable(path)
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(4 * MOST_CHARACTERS_A_LINE):
            number += 1
            if b"\0" in raw:
                raise UserError(f"{path}:{number}: a NUL byte: the file is damaged or no text; download it again, or convert it to UTF-8")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                if legacy_encoding is None:
                    bad.report(path, number, f"not valid UTF-8 at byte {error.start + 1}")
                    continue
                bad.notice(f"{path.name}: lines that are not UTF-8, read as {legacy_encoding}")
                text = raw.decode(legacy_encoding, errors="replace")
            if len(text) > MOST_CHARACTERS_A_LINE:
                raise UserError(f"{path}:{number}: a line of over {MOST_CHARACTERS_A_LINE:,} characters; one example a line is expected")
            text = text.rstrip("\r\n")
            if text.strip():
                yield number, text


def records(numbered: Iterator[tuple[int, str]], delimiter: str, fields: int, path: Path, bad: BadLines) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the fields of each record of delimited text. Fields may be quoted and hold line breaks.

    Some published files are quoted and some are not, and questions do contain lone quotes. So a line is first read with quoting. If its
    quote does not close within a few lines, or the number of fields is wrong, the same line is read again with quotes as plain
    characters. The same is done where the delimiter is a TAB and every line that a quote would swallow is a record by itself: nobody
    quotes a TAB into a question, but two lone quotes a few lines apart are common. A line that can be read neither way is a bad one.

    Args:
      numbered: of `lines`. fields: of a record. path, bad: where bad lines are reported.
    """
    pending: list[tuple[int, str]] = []  # lines read ahead for a quote that then turned out not to close
    numbered = iter(numbered)

    def take() -> tuple[int, str] | None:
        return pending.pop(0) if pending else next(numbered, None)

    while (item := take()) is not None:
        number, text = item
        row, ahead = text.split(delimiter) if '"' not in text else None, []
        if row is None:
            buffer = text
            while (row := _quoted(buffer, delimiter)) is None and len(ahead) < MOST_LINES_A_RECORD:
                following = take()
                if following is None:
                    break
                ahead.append(following)
                buffer += "\n" + following[1]
            plain = delimiter == "\t" and all(len(line.split(delimiter)) == fields for line in (text, *(line for _, line in ahead)))
            if row is None or len(row) != fields or (ahead and plain):
                pending[:0] = ahead
                row = text.split(delimiter)
        if len(row) != fields:
            few = "few" if len(row) < fields else "many"
            bad.report(path, number, f"too {few} fields: {len(row)} instead of {fields}")
            continue
        yield number, row


def _quoted(text: str, delimiter: str) -> list[str] | None:
    """Splits one quoted record into fields; None while a quote is still open."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
