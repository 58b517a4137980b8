"""Raw text files: what is refused, how lines are numbered and decoded, and which quotes count."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.corpora import text_files
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"


def read_records(text, fields=3, delimiter="\t", bad=None):
    numbered = enumerate(text.split("\n"), 1)
    return list(text_files.records(numbered, delimiter, fields, Path("raw.tsv"), bad or BadLines()))


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (None, "no such file", "check --raw"),
        (b"", "empty", "check|give|download|unpack|replace"),
        (b" \n\t\r\n  \n", "empty", "check|give|download|unpack|replace"),
        ("a\tb\n".encode("utf-16"), "UTF-16", "iconv"),
        (b"\xfe\xff" + "a\tb\n".encode("utf-16-be"), "UTF-16", "iconv"),
        ("a\tb\n".encode("utf-16-le"), "binary", "unpack|convert"),
        (PNG, "binary", "unpack"),
        (gzip.compress(b"a\tb\n" * 100, mtime=0), "binary", "unpack"),
        (b"one\ttwo\nthr\0ee\tfour\n", "binary|NUL", "unpack|mend|check"),
        (b"\x01\x02\x03\x04 bell", "binary", "unpack"),
    ],
)
def test_unreadable_files_are_refused_by_name_with_a_remedy(tmp_path, content, problem, remedy):
    path = tmp_path / "raw.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=problem) as caught:
        list(text_files.lines(path, BadLines()))
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match=remedy):
        text_files.check_readable(path)


def test_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="not a plain file; check --raw") as caught:
        text_files.check_readable(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_nul_byte_far_into_the_file_is_refused_by_line_with_a_remedy(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes(b"a line of text\n" * 10_000 + b"a \0 line\n")
    with pytest.raises(UserError, match="NUL byte") as caught:
        list(text_files.lines(path, BadLines()))
    assert f"{path}:10001: " in str(caught.value)
    assert any(word in str(caught.value) for word in ("download", "mend", "check", "unpack", "remove"))


def test_text_after_a_long_blank_beginning_is_read(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes(b"\n" * 70_000 + b"text\n")
    assert list(text_files.lines(path, BadLines())) == [(70_001, "text")]


def test_a_line_without_end_is_refused_by_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MOST_CHARACTERS_A_LINE", 100)
    path = tmp_path / "raw.txt"
    path.write_text("short\n" + "x" * 1000)
    with pytest.raises(UserError, match="over 100 characters; one example a line is expected") as caught:
        list(text_files.lines(path, BadLines()))
    assert f"{path}:2: " in str(caught.value)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_lines_are_numbered_from_one_and_blank_ones_left_out(tmp_path, newline, mark, end):
    path = tmp_path / "raw.txt"
    path.write_bytes(mark + (newline.join(["un", "", " \t", "中文 deux", " trois "]) + end).encode())
    assert list(text_files.lines(path, BadLines())) == [(1, "un"), (4, "中文 deux"), (5, " trois ")]


def test_a_legacy_line_is_read_and_noticed_while_its_neighbours_stay_utf8(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes("café\n".encode() + "naïve – café\n".encode("cp1252") + "中文\n".encode())
    bad = BadLines()
    assert [text for _, text in text_files.lines(path, bad, "cp1252")] == ["café", "naïve – café", "中文"]
    assert bad.count == 0
    assert list(bad.noticed.values()) == [1]
    assert "raw.txt" in next(iter(bad.noticed))


def test_a_line_that_is_not_utf8_is_refused_or_counted(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes("good\ncaf\xe9\ngood\n".encode("latin-1"))
    with pytest.raises(UserError, match="not valid UTF-8 at byte 4; mend the line, or pass --skip_bad_lines") as caught:
        list(text_files.lines(path, BadLines()))
    assert f"{path}:2: " in str(caught.value)
    bad = BadLines(skip=True)
    assert [number for number, _ in text_files.lines(path, bad)] == [1, 3]
    assert bad.count == 1
    assert bad.first.startswith(f"{path.name}:2: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\tc", [(1, ["a", "b", "c"])]),
        ('"a"\t"b\tB"\t"c"', [(1, ["a", "b\tB", "c"])]),
        ('"a"\t"say ""b"" now"\tc\nd\te\tf', [(1, ["a", 'say "b" now', "c"]), (2, ["d", "e", "f"])]),
        ('"a"\t"b\nB\nB"\t"c"\nd\te\tf', [(1, ["a", "b\nB\nB", "c"]), (4, ["d", "e", "f"])]),
        ('a\t5" screen\tc\nd\te\tf', [(1, ["a", '5" screen', "c"]), (2, ["d", "e", "f"])]),
        ('a\t"b\tc\nd\te\tf', [(1, ["a", '"b', "c"]), (2, ["d", "e", "f"])]),
        ('a\tb"\tc\nd\te\tf', [(1, ["a", 'b"', "c"]), (2, ["d", "e", "f"])]),
        ('a\t"b" B\tc\nd\te\tf', [(1, ["a", '"b" B', "c"]), (2, ["d", "e", "f"])]),
        ('a\tb\t"c\nd\te\tf', [(1, ["a", "b", '"c']), (2, ["d", "e", "f"])]),
        ("a\t\t", [(1, ["a", "", ""])]),
    ],
)
def test_fields_may_be_quoted_hold_line_breaks_or_lone_quotes(text, expected):
    assert read_records(text) == expected


def test_two_rows_with_a_lone_quote_each_stay_two_rows():
    text = 'a\t"b\tc\nd\te\tf\ng\th"\ti'
    assert read_records(text) == [(1, ["a", '"b', "c"]), (2, ["d", "e", "f"]), (3, ["g", 'h"', "i"])]


def test_an_unclosed_quote_costs_its_own_line_only():
    bad = BadLines(skip=True)
    text = "\n".join(['"a\tb', *(f'{i}\t"x"\ty' for i in range(50)), 'z\t"'])
    assert read_records(text, bad=bad) == [(i + 2, [str(i), "x", "y"]) for i in range(50)]
    assert bad.count == 2
    assert bad.first.startswith("raw.tsv:1: too few fields")


@pytest.mark.parametrize(("line", "why"), [("a\tb", "too few fields: 2 instead of 3"), ("a\tb\tc\td", "too many fields: 4 instead of 3")])
def test_a_wrong_number_of_fields_is_refused_or_counted(line, why):
    with pytest.raises(UserError, match=rf"^raw.tsv:2: {why}; mend the line, or pass --skip_bad_lines"):
        read_records(f"x\ty\tz\n{line}\nx\ty\tz")
    bad = BadLines(skip=True)
    assert [number for number, _ in read_records(f"x\ty\tz\n{line}\nx\ty\tz", bad=bad)] == [1, 3]
    assert (bad.count, bad.first) == (1, f"raw.tsv:2: {why}")


FIELD = st.text(st.sampled_from('ab ",\t\n中'), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=6), st.sampled_from("\t,"), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_what_a_csv_writer_writes_is_read_back(rows, delimiter, quoting):
    if delimiter == "\t":  # a TAB inside a quoted field that also spans lines can't be told from two lone quotes: see `records`
        rows = [tuple(field.replace("\t", " ") for field in row) for row in rows]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)
    text = buffer.getvalue().removesuffix("\n")
    assert [tuple(row) for _, row in read_records(text, delimiter=delimiter)] == rows if rows else not text
