"""Reads tables: delimited text whose first line names the columns, or whose columns are named by their number.

A header that stands again inside of the file, because several files were put together, is left out and counted. One that names other
columns is an error: what follows it would be read into the wrong ones.
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from hcl_tf.data.corpora import text_files
from hcl_tf.data.corpora.text_files import BadLines, Lookahead, Numbered
from hcl_tf.errors import UserError


def header_of(numbered: Iterator[Numbered]) -> tuple[list[str], str]:
    """Reads the first record. Returns the names of the columns, in lower case and without white space around them, and the delimiter.

    There are no names where the delimiter is a comma and a quote makes the record unreadable: it can't be cut at its commas.
    """
    source = Lookahead(numbered)
    _, first = next(source, (0, ""))
    delimiter = "\t" if "\t" in first else ","
    row, _, _ = text_files.quoted_record(first, source.take, delimiter)
    if row is None:
        row = first.split("\t") if delimiter == "\t" else []
    return list(map(_name, row)), delimiter


def rows(
    path: Path, bad: BadLines, encoding: str | None, used: Collection[str], is_header: Callable[[Collection[str]], bool]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and {column: value} of each row under a header.

    Args:
      used: names of columns that the caller reads; none of them may stand twice.
      is_header: says of the values of a row whether they are names of columns, not texts.

    Raises:
      UserError: the header is ambiguous, or another one follows it.
    """
    names, delimiter = header_of(text_files.lines(path, BadLines(skip=True), encoding=encoding))
    if not names:
        raise UserError(f"{path}:1: the header has a quote that is never closed, or text behind a closing one; mend it")
    for name in used:
        if names.count(name) > 1:
            places = " and ".join(str(place) for place, other in enumerate(names, 1) if other == name)
            raise UserError(f"{path}:1: columns {places} are both named {name}; give each column a name of its own")
    first = True
    for number, row in text_files.records(text_files.lines(path, bad, encoding=encoding), delimiter, len(names), path, bad):
        values = list(map(_name, row))
        if first:
            first = False
        elif values == names:
            bad.notice(f"{path.name}: headers inside the file (several files put together?), left out")
        elif is_header(values):
            raise UserError(
                f"{path}:{number}: another header, with other columns than the first line's: {', '.join(values)}; "
                "files that were put together need the same columns in the same order"
            )
        else:
            yield number, dict(zip(names, row, strict=True))


def rows_by_number(
    path: Path, bad: BadLines, encoding: str | None, used: Collection[str], is_header: Callable[[Collection[str]], bool]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and {number of the column, from 1: value} of each row of a table without a header.

    Args:
      used: numbers of the columns that the caller reads.
      is_header: as in `rows`.

    Raises:
      UserError: the first row does not have these columns, or there is a header.
    """
    first, delimiter = header_of(text_files.lines(path, BadLines(skip=True), encoding=encoding))
    numbers = [str(place) for place in range(1, len(first) + 1)]
    if missing := [number for number in used if number not in numbers]:
        raise UserError(f"{path}:1: no column {', '.join(missing)}; the first row has {len(first)}, which --fields numbers from 1")
    for number, row in text_files.records(text_files.lines(path, bad, encoding=encoding), delimiter, len(first), path, bad):
        if is_header(list(map(_name, row))):
            raise UserError(f"{path}:{number}: a header, {', '.join(map(_name, row))}; --fields has to give its names, not numbers")
        yield number, dict(zip(numbers, row, strict=True))


def _name(cell: str) -> str:
    return cell.strip().lower()
