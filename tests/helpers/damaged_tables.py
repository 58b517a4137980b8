"""Makes tables, damages them as files are damaged on their way, and says what the standard library and pandas read in them.

pandas is there because tf-models-official needs it.
"""

import csv
import io
import random

import pandas as pd

PARTS = (
    "rice",
    "cook",
    '5" screen',
    "a, b",
    'say "no"',
    "naïve",
    "中文",
    "so\tso",
    "two\nlines",
    "why?",
    '"all"',
    "1",
    "",
    "it's",
    " pad ",
)
HEADERS = {
    "table": (["source", "target"], ["id", "target", "source", "note"], ["context", "response", "negative"]),
    "quora": (["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], ["question1", "question2", "label", "idx"]),
    "rocstories": (["storyid", "storytitle", *(f"sentence{i}" for i in range(1, 6))],),
}


def text(rng: random.Random) -> str:
    return " ".join(rng.choice(PARTS) for _ in range(rng.randint(1, 4))) or "empty"


def table(rng: random.Random, kind: str, delimiter: str) -> tuple[list[str], str]:
    """Returns the header and the text of a whole table of 1 to 12 rows, quoted in one of the ways in which programs quote."""
    header = list(rng.choice(HEADERS[kind]))
    if rng.random() < 0.3:
        rng.shuffle(header)
    rows = [[_value(rng, name, number) for name in header] for number in range(rng.randint(1, 12))]
    if delimiter == "\t" and rng.random() < 0.3:  # as GLUE's files: no quoting at all
        clean = [[" ".join(value.split()) for value in row] for row in (header, *rows)]
        return header, "".join("\t".join(row) + "\n" for row in clean)
    buffer = io.StringIO()
    quoting = rng.choice((csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC))
    csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows([header, *rows])
    return header, buffer.getvalue()


def _value(rng: random.Random, name: str, number: int) -> str:
    if name in ("is_duplicate", "label"):
        return rng.choice("01")
    return str(number) if "id" in name else text(rng)


def damaged(rng: random.Random, kind: str, delimiter: str) -> str:
    """Returns the text of a table with one to three damages."""
    header, data = table(rng, kind, delimiter)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(rng, data, header, delimiter)
    return data


def _cut(rng, data, _header, _delimiter):
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.7 else data[:at] + data[at + rng.randint(1, 30) :]


def _doubled(rng, data, _header, _delimiter):
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines) or 1)
    if rng.random() < 0.5:
        return "".join(lines[: at + 1] + lines[at:])
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[max(0, place - rng.randint(1, 40)) :]


def _requoted(rng, data, _header, delimiter):
    quotes = [place for place, sign in enumerate(data) if sign == '"']
    way = rng.randrange(5)
    if way == 0 and quotes:
        at = rng.choice(quotes)
        return data[:at] + rng.choice(("", '""', "”", "'")) + data[at + 1 :]
    if way == 1:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice(('"', '""', '"""')) + data[at:]
    if way == 2:
        return data.replace('"', "", rng.randint(1, 4))
    if way == 3:
        return data.replace('""', '"')
    lines = data.split("\n")
    at = rng.randrange(len(lines))
    lines[at] = delimiter.join(f'"{cell}"' for cell in lines[at].split(delimiter))
    return "\n".join(lines)


def _joined(rng, data, header, delimiter):
    other = list(header)
    if rng.random() < 0.3:
        rng.shuffle(other)
    row = delimiter.join("01"[place % 2] if name in ("is_duplicate", "label") else f"{name} value" for place, name in enumerate(other))
    mark, end = rng.choice(("", "\ufeff")), rng.choice(("", "\n", "\n", "\n\n"))
    return data.rstrip("\n") + end + mark + delimiter.join(other) + "\n" + row + "\n"


def _ended(rng, data, _header, _delimiter):
    way = rng.randrange(4)
    if way == 0:
        return data.replace("\n", rng.choice(("\r\n", "\r", "\r\r\n")))
    if way == 1:
        return "".join(line.rstrip("\n") + rng.choice(("\n", "\r\n", "\r")) for line in data.splitlines(keepends=True))
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(("\r", "\n", "\r\n", "\n\n")) + data[at:]


def _separated(rng, data, _header, delimiter):
    places = [place for place, sign in enumerate(data) if sign == delimiter]
    at = rng.choice(places) if places else 0
    return rng.choice((data[:at] + data[at + 1 :], data[:at] + delimiter + data[at:]))


DAMAGES = (_cut, _doubled, _requoted, _requoted, _joined, _ended, _separated)


def agreed_rows(data: str, delimiter: str) -> list[list[str]] | None:
    """Returns the rows, the header first, on which the standard library's csv and pandas agree; None where they do not.

    Rows that are too short end in None, as pandas has them.
    """
    ours = data.removeprefix("\ufeff")
    try:
        by_csv = [row for row in csv.reader(io.StringIO(ours, newline=""), delimiter=delimiter) if row]
        frame = pd.read_csv(io.StringIO(ours, newline=""), sep=delimiter, header=None, dtype=str, keep_default_na=False)
    except (csv.Error, ValueError):  # pandas' errors are ValueErrors
        return None
    by_csv = [row + [None] * (len(frame.columns) - len(row)) for row in by_csv]
    by_pandas = [[None if isinstance(value, float) else value for value in row] for row in frame.to_numpy(dtype=object).tolist()]
    return by_csv if by_csv == by_pandas else None
