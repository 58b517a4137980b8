"""Tables as users have them: quotes that go wrong, headers and marks inside the file, columns named twice, line ends of all kinds."""

import pytest

from hcl_tf.data.corpora import formats
from hcl_tf.data.corpora.examples import Example, QuestionPair
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

MARK = "\ufeff"


def read(tmp_path, content, skip=False, **options):
    """Returns (source, target) of each row, and what was counted."""
    path = tmp_path / "my.table"
    path.write_bytes(content.encode())
    bad = BadLines(skip)
    rows = list(formats.read(path, ReadOptions(bad=bad, **options)))
    texts = [(r.question1, r.question2, r.duplicate) if isinstance(r, QuestionPair) else (r.source, r.target) for r in rows]
    return texts, {what.removeprefix("my.table: "): count for what, count in bad.noticed.items()}, bad


ROWS = "".join(f'"Is soup {i}, warm, good?","Yes, soup {i}, too"\n' for i in range(30))
READ = [(f"Is soup {i}, warm, good?", f"Yes, soup {i}, too") for i in range(30)]
# name -> (table, line, message, rows left with --skip_bad_lines, bad lines)
BROKEN = {
    "a quote open to the end": (f'source,target\n{ROWS}"And, then', 32, "a quote is opened but never closed", READ, 1),
    "a field left out before it": (f'source,target\n{ROWS}"Well, there"\n"And, then', 32, "too few fields: 1 instead of 2", READ, 2),
    "a row cut in the middle": (f'source,target\n"Is it, th\n{ROWS}', 2, "text stands behind a closing quote", READ, 1),
    "a quote open among rows without quotes": (
        "source,target\n" + '"open, b\n' + "".join(f"a {i},b {i}\n" for i in range(30)),
        2, "a quote is opened but never closed", [(f"a {i}", f"b {i}") for i in range(30)], 1,
    ),
    "few lines behind an open quote": ('source,target\n"open, b\na, b\nc, d\n', 2, r"never closed \(to line 4\)", [], 3),
    "text behind a quote": (f'source,target\n"Is" it, warm\n{ROWS}', 2, "text stands behind a closing quote", READ, 1),
    "an inner quote not doubled": (f'source,target\n"Is "it", warm","no"\n{ROWS}', 2, "text stands behind a closing quote", READ, 1),
    "a field too many, over two lines": (f'source,target\n"one\ntwo",three,four\n{ROWS}', 2, r"too many fields: 3 .*to line 3", READ, 2),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_row_with_a_wrong_quote_is_refused_by_line_and_never_cut_at_its_commas(tmp_path, case):
    content, line, message, rows, bad_lines = BROKEN[case]
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'my.table'}:{line}: ")
    assert "mend the line, or pass --skip_bad_lines" in str(caught.value)
    found, _, bad = read(tmp_path, content, skip=True)
    assert found == rows
    assert bad.count == bad_lines


@pytest.mark.parametrize("delimiter", ",\t")
@pytest.mark.parametrize("lines", [2, 21, 500])
def test_a_quoted_field_of_many_lines_is_one_field(tmp_path, delimiter, lines):
    field = "\n".join(f"line {i}, more" for i in range(lines))
    content = f'source{delimiter}target\n"{field}"{delimiter}yes\nlast{delimiter}row\n'
    expected = [(" ".join(field.split()), "yes"), ("last", "row")]
    assert read(tmp_path, content)[:2] == (expected, {"rows over several lines, in quotes": 1})


def test_lone_quotes_far_apart_in_an_unquoted_tsv_stay_characters(tmp_path):
    lines = [f"a {i}\tb {i}" for i in range(60)]
    lines[3] += "\textra"
    lines[0], lines[50] = 'a 0\t"b 0', 'a 50\tb 50"'
    found, noticed, bad = read(tmp_path, "source\ttarget\n" + "\n".join(lines), skip=True)
    assert len(found) == 59
    assert found[0] == ("a 0", '"b 0')
    assert found[49] == ("a 50", 'b 50"')
    assert noticed == {"lines whose quotes are not those of CSV, read as plain characters": 1}
    assert bad.count == 1


@pytest.mark.parametrize(
    "header",
    ['source,target,"score, mean"', '"source","target","score, mean"', '"source", target ,"score\nof two, mean"', "SOURCE,Target,note"],
)
def test_a_header_is_read_by_the_csv_rules(tmp_path, header):
    assert read(tmp_path, f'{header}\n"a, b",c,0.5\n')[0] == [("a, b", "c")]


def test_a_header_whose_quote_never_closes_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"my\.table:1: (the header has a quote|no known format)"):
        read(tmp_path, 'source,target,"score\na,b,c\n')
    with pytest.raises(UserError, match=r"my\.table:1: .*(quote|no column)"):
        read(tmp_path, 'source,target,"score\na,b,c\n', format="table")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", MARK])
def test_line_ends_of_all_kinds_are_line_ends(tmp_path, end, mark):
    content = mark + 'source,target\na,b\n"c\nd",e\n'.replace("\n", end)
    found, noticed, _ = read(tmp_path, content)
    assert found == [("a", "b"), ("c d", "e")]
    assert noticed == {"rows over several lines, in quotes": 1} | ({"lines that end with CR alone": 4} if end == "\r" else {})


def test_mixed_line_ends_are_read_and_counted(tmp_path):
    found, noticed, _ = read(tmp_path, "source\ttarget\na\tb\r\nc\td\re\tf\n")
    assert found == [("a", "b"), ("c", "d"), ("e", "f")]
    assert noticed == {"lines that end with CR alone": 1}


HEADERS = "headers inside the file (several files put together?), left out"
MARKS = "byte order marks inside the file (several files put together?), taken off"


@pytest.mark.parametrize("mark", ["", MARK])
@pytest.mark.parametrize("name", ["source\ttarget", '"source"\t"target"', "Source\ttarget"])
def test_a_header_inside_the_file_is_left_out_and_counted(tmp_path, mark, name):
    part = f"{mark}{name}\na\tb\n"
    found, noticed, _ = read(tmp_path, part + part.replace("a\tb", "c\td") + part)
    assert found == [("a", "b"), ("c", "d"), ("a", "b")]
    assert noticed == {HEADERS: 2} | ({MARKS: 2} if mark else {})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("source,target", "target,source"),
        ("source,target", "context,response"),
        ("question1,question2,label,idx", "idx,question1,question2,label"),
        ("id,source,target", "source,target,id"),
    ],
)
def test_another_header_inside_the_file_is_refused_by_line(tmp_path, first, second):
    row = ",".join("1" for _ in first.split(","))
    for skip in (False, True):
        with pytest.raises(UserError, match=r"my\.table:3: another header, .*need the same columns in the same order"):
            read(tmp_path, f"{first}\n{row}\n{second}\n{row}\n", skip)


def test_a_mark_before_rows_that_have_no_header_is_counted(tmp_path):
    found, noticed, _ = read(tmp_path, f"{MARK}1\ta?\tb?\t1\n{MARK}0\tc?\td?\t2\n")
    assert found == [("a?", "b?", True), ("c?", "d?", False)]
    assert noticed == {MARKS: 1}


@pytest.mark.parametrize("header", ["source,target,target", "source,target,note,SOURCE", "id,id,source,target"])
def test_a_column_that_is_read_and_named_twice_is_refused(tmp_path, header):
    with pytest.raises(UserError, match=r"my\.table:1: columns \d and \d are both named (source|target|id); give each"):
        read(tmp_path, f"{header}\n{','.join('abcd'[: header.count(',') + 1])}\n")


def test_a_column_that_nobody_reads_may_be_named_twice(tmp_path):
    assert read(tmp_path, "source,note,target,note\na,1,b,2\n")[0] == [("a", "b")]


def test_a_column_that_fields_names_has_to_be_there(tmp_path):
    with pytest.raises(UserError, match=r"my\.table:1: no column wrong; found: source, target, other"):
        read(tmp_path, "source,target,other\na,b,c\n", fields={"negative": "Wrong"})


@pytest.mark.parametrize("delimiter", "\t,")
def test_columns_go_by_number_where_there_is_no_header(tmp_path, delimiter):
    content = "\n".join(delimiter.join(row) for row in (("你好", "x", "在吗"), ("one", "y", "two"), ("早", "z", "早 啊")))
    expected = [("你好", "在吗"), ("one", "two"), ("早", "早啊")]
    assert read(tmp_path, content, fields={"source": "1", "target": "3"})[0] == expected


def test_columns_by_number_name_negative_and_id_too(tmp_path):
    path = tmp_path / "stc.tsv"
    path.write_text("7\tpost\tgood\tbad\n8\tother\tfine\tworse\n")
    options = ReadOptions(fields={"id": "1", "source": "2", "target": "3", "negative": "4"})
    assert list(formats.read(path, options)) == [Example("7", "post", "good", ("bad",)), Example("8", "other", "fine", ("worse",))]


@pytest.mark.parametrize(
    "fields", [{"source": "1", "target": "3"}, {"source": "0", "target": "1"}, {"source": "1", "target": "2", "negative": "9"}]
)
def test_a_number_beyond_the_columns_is_refused(tmp_path, fields):
    with pytest.raises(UserError, match=r"my\.table:1: "):
        read(tmp_path, "a\tb\nc\td\n", fields=fields)


def test_the_format_without_header_asks_for_numbers(tmp_path):
    with pytest.raises(UserError, match=r"my\.table: .*--fields=source:1,target:2"):
        read(tmp_path, "a\tb\n", format="columns")


@pytest.mark.parametrize("place", [1, 2])
def test_numbers_for_a_table_that_has_a_header_are_refused(tmp_path, place):
    lines = ["a,b", "c,d"]
    lines.insert(place - 1, "target,source")
    with pytest.raises(UserError, match=rf"my\.table:{place}: a header, target, source; --fields has to give its names"):
        read(tmp_path, "\n".join(lines), fields={"source": "2", "target": "1"})


# -- labels and names that nothing reads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label,context,response\n1,a,b\n0,a,c\n", r":3: the column label is 0: if that marks a wrong pair"),
        ('{"context": "a", "response": "c", "label": 0}\n', r":1: the column label is 0"),
        ("source,context,target\na,b,c\n", r":2: both source and context; --fields=source:NAME"),
        ('{"source": "a", "target": "b", "response": "c"}\n', r":1: both target and response; --fields=target:NAME"),
        ("question1,question2,is_duplicate,label\na?,b?,1,0\n", r":2: the columns is_duplicate and label say '1' and '0'"),
    ],
)
def test_what_contradicts_a_row_is_not_passed_over(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)
    rows, _, bad = read(tmp_path, content, skip=True)
    assert bad.count == 1
    assert len(rows) == content.count("label,context")


def test_fields_chooses_between_two_names_and_a_label_of_another_kind_is_no_label(tmp_path):
    assert read(tmp_path, "source,context,target\na,b,c\n", fields={"source": "context"})[0] == [("b", "c")]
    assert read(tmp_path, "label,source,target\nsad,a,b\n")[0] == [("a", "b")]


def test_a_field_that_no_line_has_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no line has the field nope that --fields names"):
        read(tmp_path, '{"source": "a", "target": "b"}\n', fields={"negative": "nope"})


def test_lone_quotes_around_a_damaged_line_stay_characters(tmp_path):
    """The damaged line is the bad one, not all from the first quote to the second."""
    rows = "".join(f"m{i}\tn{i}\t0\n" for i in range(8))
    content = f'question1\tquestion2\tlabel\n"a one\tb\t1\n{rows}x\ty\nc two"\td\t0\n'
    with pytest.raises(UserError, match=r":11: too few fields: 2 instead of 3"):
        read(tmp_path, content)
    found, _, bad = read(tmp_path, content, skip=True)
    assert [pair[0] for pair in found] == ['"a one', *(f"m{i}" for i in range(8)), 'c two"']
    assert bad.count == 1
