"""Sheets: what is written is read back, however a spreadsheet saved it, and what was spoilt is refused by file and line."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_study import NASTY, as_saved, filled, ones, toy_study

from hcl_tf.errors import UserError
from hcl_tf.studies.human_evaluation.sheets import COLUMNS, cell, read, read_all, rows, to_csv
from hcl_tf.studies.human_evaluation.study import SCALES

STUDY = toy_study()
HARD = toy_study(items=len(NASTY), texts=NASTY, keep_case=True)


def varied(item, system, scale, annotator) -> int:
    return 1 + (item.number + len(system) + len(scale) + annotator) % 3


def expected(study, annotator, rule) -> np.ndarray:
    return np.array(
        [[[rule(item, item.systems[label], scale, annotator) for scale in SCALES] for label in study.labels] for item in study.items]
    )


def write(folder: Path, data: bytes, name: str = "sheet.csv") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_an_empty_sheet_has_a_row_for_each_output_and_names_no_system():
    data = to_csv(rows(STUDY, 2))
    assert data.startswith(b'\xef\xbb\xbf"sheet","item","label","source","output","fluency","meaningfulness","differential"\r\n')
    table = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert len(table) == 1 + 6 * 4
    assert [row[1] for row in table[1::4]] == [str(number) for number in STUDY.orders[1]]
    assert all(row[5:] == ["", "", ""] for row in table[1:])
    assert not any(name in data.decode() for name in STUDY.systems)


@pytest.mark.parametrize("text", [t for t in NASTY if t[:1] in "=+-@'" or t in ("1/2", "may 5", "TRUE", "007")])
def test_spreadsheets_are_kept_from_changing_a_text(text):
    assert cell(text) == f"'{text}" or not text


@pytest.mark.parametrize("text", ["", "plain words", "in 2016 there were 3 of them", "true story", "a=b", "two\nlines"])
def test_other_texts_stay_as_they_are(text):
    assert cell(text) == text


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sheets_as_other_programs_save_them(tmp_path, delimiter, encoding, end):
    lines = filled(HARD, 1, varied)
    annotator, scores = read(HARD, write(tmp_path, as_saved(lines, encoding, delimiter, end)))
    assert annotator == 1
    np.testing.assert_array_equal(scores, expected(HARD, 1, varied))


def test_western_windows_and_old_mac_line_ends(tmp_path):
    study = toy_study(texts=["café", "“quoted” – and on", "plain"])
    lines = filled(study, 1, varied)
    for data in (as_saved(lines, "cp1252", ";"), as_saved(lines, end="\r")):
        np.testing.assert_array_equal(read(study, write(tmp_path, data))[1], expected(study, 1, varied))


def test_sorted_rows_own_columns_blank_rows_and_stripped_apostrophes(tmp_path):
    lines = [[*row, "a remark"] for row in sorted(filled(HARD, 3, varied))]
    lines = [[field.removeprefix("'") if field != "''tis" else field for field in row] for row in lines]
    lines.insert(3, [""] * len(COLUMNS))
    annotator, scores = read(HARD, write(tmp_path, as_saved(lines)))
    assert annotator == 3
    np.testing.assert_array_equal(scores, expected(HARD, 3, varied))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=12), min_size=1, max_size=6), st.integers(0, 99), st.data())
def test_any_text_and_any_scores_come_back(tmp_path, texts, seed, data):
    study = toy_study(items=3, annotators=2, seed=seed, systems=("a", "b"), texts=texts)
    given_scores = {(n, s, k): data.draw(st.integers(1, 3)) for n in (1, 2, 3) for s in "ab" for k in SCALES}

    def rule(item, system, scale, annotator):
        return given_scores[item.number, system, scale]

    annotator, scores = read(study, write(tmp_path, to_csv(filled(study, 2, rule))))
    assert annotator == 2
    np.testing.assert_array_equal(scores, expected(study, 2, rule))


def spoil(change) -> bytes:
    lines = filled(STUDY, 1, ones)
    change(lines)
    return as_saved(lines)


def put(row: int, column: int, value: str):
    return lambda lines: lines[row].__setitem__(column, value)


NUMBER, LABEL = rows(STUDY, 1)[3][1:3]
BAD = {
    "empty score": (put(3, 5, ""), rf":5: item {NUMBER}, label {LABEL}: Fluency is empty; a whole number from 1 to 3"),
    "too high": (put(3, 7, "4"), ":5: .*Differential is '4'; a whole number"),
    "too low": (put(0, 6, "0"), ":2: .*Meaningfulness is '0'"),
    "no integer": (put(0, 6, "2.5"), ":2: .*Meaningfulness is '2.5'"),
    "a word": (put(23, 5, "good"), ":25: .*Fluency is 'good'"),
    "edited output": (put(2, 4, "better words"), r":4: .*the output is not what was shown; put it back, or save as 'CSV UTF-8'"),
    "edited source": (put(2, 3, ""), ":4: .*the source is not what was shown"),
    "unknown item": (put(1, 1, "7"), ":3: item '7', label 'B': there is no such row; items are 1 to 6, labels A to D"),
    "item that is no number": (put(1, 1, "x"), ":3: item 'x'"),
    "unknown label": (put(1, 2, "E"), ":3: .*label 'E': there is no such row"),
    "another study": (put(1, 0, "00000000-1"), r":3: sheet '00000000-1' is none of this study's .*; check --sheets"),
    "no such annotator": (put(1, 0, f"{STUDY.id}-4"), rf":3: sheet '{STUDY.id}-4' is none"),
    "two annotators": (put(1, 0, STUDY.sheet(2)), "several annotators in one file"),
    "missing row": (lambda lines: lines.pop(3), rf"no row for item {NUMBER}, label {LABEL}; put the rows back"),
    "missing rows": (lambda lines: lines.__delitem__(slice(0, 3)), "no row for item .* and 2 more; put"),
    "row twice": (lambda lines: lines.append(lines[3]), rf":26: item {NUMBER}, label {LABEL}: a second row, the first is in line 5"),
    "cut row": (lambda lines: lines.__setitem__(1, lines[1][:6]), ":3: 6 fields instead of 8"),
    "nothing filled": (lambda lines: [row.__setitem__(slice(5, 8), [""] * 3) for row in lines], r"\(and 67 more such lines\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_spoilt_sheets_are_refused_by_file_and_line(tmp_path, case):
    change, message = BAD[case]
    with pytest.raises(UserError, match=message) as error:
        read(STUDY, write(tmp_path, spoil(change)))
    assert str(tmp_path / "sheet.csv") in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ":1: the columns sheet, item, .* are expected"),
        (b"a,b\r\n1,2\r\n", ":1: the columns"),
        (b"PK\x03\x04\x00\x00\xff\xfe", "not a CSV file"),
        (to_csv(filled(STUDY, 1, ones)) + b'"open', "not CSV"),
    ],
)
def test_what_is_no_sheet_is_refused(tmp_path, data, message):
    with pytest.raises(UserError, match=message):
        read(STUDY, write(tmp_path, data))


def test_texts_lost_in_a_narrow_encoding_are_named_with_the_remedy(tmp_path):
    study = toy_study(texts=["我毕业了", "好的"])
    text = as_saved(filled(study, 1, ones)).decode("utf-8-sig")
    with pytest.raises(UserError, match="not what was shown; put it back, or save as 'CSV UTF-8'"):
        read(study, write(tmp_path, text.encode("cp1252", "replace")))


def test_lines_are_those_of_the_file_where_texts_hold_line_breaks(tmp_path):
    study = toy_study(texts=["one\ntwo\nthree"])
    lines = filled(study, 1, ones)
    lines[2][5] = "9"
    with pytest.raises(UserError, match=r"sheet\.csv:12: "):  # a header, then 5 lines a row
        read(study, write(tmp_path, as_saved(lines)))


def test_one_sheet_an_annotator(tmp_path):
    paths = [write(tmp_path, to_csv(filled(STUDY, annotator, ones)), f"{annotator}.csv") for annotator in (3, 1)]
    assert list(read_all(STUDY, paths)) == [1, 3]
    again = write(tmp_path, to_csv(filled(STUDY, 1, varied)), "again.csv")
    with pytest.raises(UserError, match=r"again\.csv: a second sheet of annotator 1, whose first is .*1\.csv; give one"):
        read_all(STUDY, [*paths, again])
    with pytest.raises(UserError, match=r"can't be read .*--filled"):
        read_all(STUDY, [tmp_path / "none.csv"])
