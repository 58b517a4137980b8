"""Reads raw text files so that whatever is wrong with them is named by file and line.

Nothing here knows a corpus; raw_tables.py and formats.py build on `lines` and `records`. Whatever is mended on the way is counted
(`BadLines.notice`), and printed with the other notes.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from pathlib import Path

from hcl_tf.data.corpora import encodings
from hcl_tf.errors import UserError

# Longer than any text here; past it the file is no line-based text, or a quote was never closed, and reading on would only fill memory.
MOST_CHARACTERS_A_LINE = 1_000_000
csv.field_size_limit(3 * MOST_CHARACTERS_A_LINE)
MANY_LINES = 20  # where a wrong quote swallowed more than these and most are records, the quote was the mistake, not the lines
_FIELD = r'(?:"(?:[^"]|"")*"|[^",]*)'  # of a record with commas: in quotes, or without any
_BEGINS_A_RECORD = re.compile(rf'(?:{_FIELD},)*(?:{_FIELD}|"(?:[^"]|"")*)')
_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")
BYTE_ORDER_MARK = "\ufeff"
Numbered = tuple[int, str]  # a line's number, from 1, and its text


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
        """Counts a line that is odd but usable, or one that is left out because no user can mend it."""
        self.noticed[what] = self.noticed.get(what, 0) + 1

    def report(self, path: Path, line: int, why: str, also: str = "", over: int = 1) -> None:
        """Counts a bad line (or as many as it goes `over`), or raises `UserError` naming `path:line` and, with `also`, a further remedy."""
        message = f"{path}:{line}: {why}"
        if not self.skip:
            raise UserError(f"{message}; mend the line, or pass --skip_bad_lines to leave such lines out and count them{also}")
        self.count += over
        self.first = self.first or f"{path.name}:{line}: {why}"


def check_readable(path: Path, encoding: str | None = None) -> None:
    """Raises `UserError` for a file that is missing, not a plain file, empty, unreadable, binary, or UTF-16 where nobody said so."""
    if not path.exists():
        raise UserError(f"{path}: no such file; check --raw")
    if not path.is_file():
        raise UserError(f"{path}: not a plain file; check --raw")
    try:
        head = encodings.head(path)[:65536]
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check its permissions") from error
    if not head.strip() and path.stat().st_size <= len(head):
        raise UserError(f"{path}: the file is empty; check --raw")
    if encoding and encodings.codec_of(encoding).startswith("utf-16"):
        return
    if encodings.likely(head) == "utf-16":
        if head.startswith(encodings.UTF16_MARKS):
            raise UserError(f"{path}: the text is UTF-16; convert it first, as with iconv -f UTF-16 -t UTF-8, or pass --encoding=utf-16")
        raise UserError(f"{path}: a binary file, or UTF-16 without a byte order mark: pass --encoding=utf-16 for that, or convert it first")
    if _looks_binary(head):
        raise UserError(f"{path}: a binary file, not text; unpack it first if it is an archive")


def _looks_binary(head: bytes) -> bool:
    control = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
    return b"\0" in head or control > len(head) / 100


def lines(path: Path, bad: BadLines, legacy_encoding: str | None = None, encoding: str | None = None) -> Iterator[Numbered]:
    """Yields the number of each line, from 1, and its text without the line break. Blank lines are left out.

    A line ends with LF, CR LF or CR alone. Byte order marks are taken off; those that stand in the middle, where one file was put behind
    another, are counted.

    Args:
      bad: where lines are reported that can't be decoded.
      legacy_encoding: a line that is not UTF-8 is read as this and counted: the public question-pair splits mix encodings line by line.
        Elsewhere it is a bad line.
      encoding: of the whole file, if it is not UTF-8.

    Raises:
      UserError: the file is in another encoding as a whole; the text names the likely one, and the flag that reads it.
    """
    check_readable(path, encoding)
    codec = encodings.agreed(path, encoding) if encoding else "utf-8"
    wide = codec.startswith("utf-16")
    beyond = cache(partial(encodings.lines_beyond_utf8, path))  # asked for each line that is not UTF-8, the same for all of them
    decode = partial(_decoded_other, codec) if encoding else partial(_decoded, legacy_encoding, beyond)
    # Line ends stand in the same bytes in all encodings but UTF-16, and Latin-1 keeps bytes as they are.
    with io.TextIOWrapper(path.open("rb"), encoding=codec if wide else "latin-1", errors="replace", newline="") as file:
        for number in count(1):
            if not (raw := file.readline(4 * MOST_CHARACTERS_A_LINE)):
                return
            if "\0" in raw:
                raise UserError(f"{path}:{number}: a NUL byte: the file is damaged or no text; download it again, or convert it to UTF-8")
            text = raw if wide else decode(raw.encode("latin-1"), path, number, bad)
            if wide and "\ufffd" in text:  # what stands for bytes that are no UTF-16
                bad.report(path, number, "not valid UTF-16")
                continue
            if text is None:
                continue
            if len(text) > MOST_CHARACTERS_A_LINE:
                raise UserError(f"{path}:{number}: a line of over {MOST_CHARACTERS_A_LINE:,} characters; one example a line is expected")
            if text.startswith(BYTE_ORDER_MARK):
                text = text.lstrip(BYTE_ORDER_MARK)
                if number > 1:
                    bad.notice(f"{path.name}: byte order marks inside the file (several files put together?), taken off")
            if text.strip():
                if text.endswith("\r"):
                    bad.notice(f"{path.name}: lines that end with CR alone")
                yield number, text.rstrip("\r\n")


def _decoded(
    legacy_encoding: str | None, beyond: Callable[[], tuple[bytes, bool]], raw: bytes, path: Path, number: int, bad: BadLines
) -> str | None:  # fmt: skip
    """Decodes a line of UTF-8. Returns None for a bad line, which it reported. Raises `UserError` where the whole file is no UTF-8.

    Args:
      beyond: gives what `encodings.lines_beyond_utf8` does of the file.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start + 1
    foreign, whole = beyond()
    likely = encodings.likely(foreign or raw)
    if likely in encodings.CHINESE and whole:
        raise UserError(f"{path}:{number}: not UTF-8 but Chinese in another encoding, probably {likely}; pass --encoding={likely}")
    if legacy_encoding and likely not in encodings.CHINESE and encodings.is_western(raw):
        bad.notice(f"{path.name}: lines that are not UTF-8, read as {legacy_encoding}")
        text = raw.decode(legacy_encoding, errors="replace")
        if "\ufffd" in text:
            bad.notice(f"{path.name}: lines with bytes that {legacy_encoding} does not have either, read as U+FFFD")
        return text
    named = likely if likely in encodings.CHINESE else "cp1252"
    bad.report(path, number, f"not valid UTF-8 at byte {place}", f"; if the whole file is in {named}, pass --encoding={named}")
    return None


def _decoded_other(codec: str, raw: bytes, path: Path, number: int, bad: BadLines) -> str | None:
    """Decodes a line in the encoding that the user named. Returns None for a bad line, which it reported."""
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as error:
        bad.report(path, number, f"not valid {codec} at byte {error.start + 1}")
        return None
    if _CONTROLS.search(text):  # quotes and dashes of cp1252, which the normal form of a text would leave out
        bad.report(path, number, f"read as {codec} it holds control characters; it is probably cp1252 or UTF-8")
        return None
    return text


def records(numbered: Iterator[Numbered], delimiter: str, fields: int, path: Path, bad: BadLines) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the fields of each record of delimited text. Fields may be quoted and hold line breaks.

    Records are read by the CSV rules, strictly: a quote that is never closed, or text behind a closing one, makes a bad line, which is
    never cut at its commas. The lines that the quote swallowed are left out with it, but for the one at which it turned out to be wrong
    if that one begins a record, and but for many of which most are records: then the quote was the mistake.

    TAB-separated files are the exception: some that are published do not quote, and questions do contain lone quotes. There such a line
    is read once more with quotes as plain characters, and counted. The same is done where most of the lines that a quote would swallow are
    records by themselves: nobody quotes a TAB into a question, but two lone quotes some lines apart are common.

    Args:
      numbered: of `lines`. fields: of a record. path, bad: where bad lines are reported.
    """
    source = Lookahead(numbered)
    while (item := source.take()) is not None:
        number, text = item
        if '"' not in text:
            row, ahead, why = text.split(delimiter), [], ""
        else:
            row, ahead, why = quoted_record(text, source.take, delimiter)
            plain = text.split(delimiter)
            if delimiter == "\t" and (row is None or len(row) != fields or (ahead and _are_records([item, *ahead], delimiter, fields))):
                source.put_back(ahead)
                row, ahead, why = plain, [], ""
                if len(row) == fields:
                    bad.notice(f"{path.name}: lines whose quotes are not those of CSV, read as plain characters")
        if row is None:
            again = _to_be_read_again(ahead, delimiter, fields)
            source.put_back(again)
            ahead = ahead[: len(ahead) - len(again)]
        elif len(row) != fields:
            why = f"too {'few' if len(row) < fields else 'many'} fields: {len(row)} instead of {fields}"
        if why:
            last = f" (to line {ahead[-1][0]})" if ahead else ""
            bad.report(path, number, why + last, over=1 + len(ahead))
        else:
            if ahead:
                bad.notice(f"{path.name}: rows over several lines, in quotes")
            yield number, row


def quoted_record(first: str, take: Callable[[], Numbered | None], delimiter: str) -> tuple[list[str] | None, list[Numbered], str]:
    """Reads one record by the CSV rules. `take` gives the lines that follow, as long as a quote is open.

    Returns the fields, the lines that were taken, and why there are no fields if they are None.
    """
    ahead: list[Numbered] = []

    def feed() -> Iterator[str]:
        yield first + "\n"
        length = len(first)
        while length < MOST_CHARACTERS_A_LINE and (item := take()) is not None:
            ahead.append(item)
            length += len(item[1])
            yield item[1] + "\n"

    try:
        return next(csv.reader(feed(), delimiter=delimiter, strict=True)), ahead, ""
    except csv.Error as error:
        why = "a quote is opened but never closed" if "end of data" in str(error) else "text stands behind a closing quote"
        return None, ahead, why


def _are_records(numbered: list[Numbered], delimiter: str, fields: int) -> bool:
    """Says whether most lines are records by themselves."""
    return 2 * sum(len(text.split(delimiter)) == fields for _, text in numbered) > len(numbered)


def _to_be_read_again(ahead: list[Numbered], delimiter: str, fields: int) -> list[Numbered]:
    """Returns which of the lines that a wrong quote swallowed are read for themselves: all, the last one, or none (`records`)."""
    if len(ahead) > MANY_LINES and _are_records(ahead, delimiter, fields):
        return ahead
    return [item for item in ahead[-1:] if '"' in item[1] and _BEGINS_A_RECORD.fullmatch(item[1])]


class Lookahead(Iterator[Numbered]):
    """Lines that can be put back."""

    def __init__(self, numbered: Iterator[Numbered]) -> None:
        self._numbered, self._waiting = iter(numbered), deque[Numbered]()

    def __next__(self) -> Numbered:
        return self._waiting.popleft() if self._waiting else next(self._numbered)

    def take(self) -> Numbered | None:
        """Returns the next line; None at the end."""
        return next(self, None)

    def put_back(self, items: list[Numbered]) -> None:
        """Makes lines the next ones, in their order."""
        self._waiting.extendleft(reversed(items))
