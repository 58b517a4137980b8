"""Damaged tables: no row is read otherwise than the standard library's csv and pandas read it, unless that is refused or counted."""

import random
from collections import Counter

import damaged_tables
import pytest

from hcl_tf.data.corpora import formats
from hcl_tf.data.corpora.examples import QuestionPair, clean
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

READ_BY_THE_RULES = ("rows over several lines, in quotes", "lines that end with CR alone")  # counted, but no repairs


def read(path, skip):
    """Returns what is read, and whether a repair or a bad line was counted; None where the file is refused."""
    bad, refusal = BadLines(skip), ""
    try:
        rows = list(formats.read(path, ReadOptions(bad=bad)))
    except UserError as error:
        refusal = str(error)
    assert not refusal or str(path) in refusal
    if refusal:
        return None
    texts = [(r.question1, r.question2, str(int(r.duplicate))) if isinstance(r, QuestionPair) else (r.source, r.target) for r in rows]
    return texts, bool(bad.count or [what for what in bad.noticed if not what.endswith(READ_BY_THE_RULES)])


def expected(kind, rows):
    """Returns the texts in the rows of a table, the header first, in the shape of `read`; None where the header has no such columns."""
    header = [(name or "").strip().lower() for name in rows[0]]
    wanted = {
        "quora": (["question1"], ["question2"], ["is_duplicate", "label"]),
        "rocstories": [[f"sentence{number}"] for number in range(1, 6)],
        "table": (["source", "context"], ["target", "response"]),
    }[kind]
    places = [next((header.index(name) for name in names if name in header), None) for names in wanted]
    if None in places:
        return None
    texts = [[clean(row[place] or "") for place in places] for row in rows[1:]]
    return [("\n".join(row[:4]), row[4]) if kind == "rocstories" else tuple(row) for row in texts]


def outcome(path, data, kind, delimiter, skip):
    """Says in one word how a damaged table is read."""
    path.write_bytes(data.encode())
    found, agreed = read(path, skip), damaged_tables.agreed_rows(data, delimiter)
    if found is None:
        return "refused"
    texts, counted = found
    if counted:
        return "counted"
    if agreed is None:
        return "nothing to compare with"
    return "the same" if texts == expected(kind, agreed) else "SILENT"


def run(path, seeds):
    outcomes = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        kind, delimiter = rng.choice(list(damaged_tables.HEADERS)), rng.choice("\t,")
        data = damaged_tables.damaged(rng, kind, delimiter)
        for skip in (False, True):
            word = outcome(path, data, kind, delimiter, skip)
            assert word != "SILENT", (seed, skip, data, read(path, skip), damaged_tables.agreed_rows(data, delimiter))
            outcomes[skip, word] += 1
    return outcomes


@pytest.mark.slow
def test_no_damaged_table_is_misread_in_silence(tmp_path):
    outcomes = run(tmp_path / "damaged.table", range(1000))
    assert min(outcomes[skip, word] for skip in (False, True) for word in ("refused", "counted", "the same")) >= 50, outcomes


@pytest.mark.slow
def test_no_damaged_table_of_ten_thousand_is_misread_in_silence(tmp_path):
    outcomes = run(tmp_path / "damaged.table", range(1000, 11_000))
    print(dict(outcomes))
    assert outcomes.total() == 20_000


@pytest.mark.slow
def test_a_whole_table_is_read_as_the_standard_library_and_pandas_read_it(tmp_path):
    path, seen = tmp_path / "whole.table", Counter()
    for seed in range(300):
        rng = random.Random(seed)
        kind, delimiter = rng.choice(list(damaged_tables.HEADERS)), rng.choice("\t,")
        seen[outcome(path, damaged_tables.table(rng, kind, delimiter)[1], kind, delimiter, True)] += 1
    assert seen["SILENT"] == 0
    assert seen["the same"] + seen["counted"] == 300
