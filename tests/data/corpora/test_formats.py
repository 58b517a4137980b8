"""Every raw format: recognised and read to exact values, refused by file and line where it can't be, and fuzzed."""

import csv
import gzip
import io
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.corpora import formats
from hcl_tf.data.corpora.examples import Example, QuestionPair, SampledPair, clean
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

QUORA = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
ROC = "storyid,storytitle,sentence1,sentence2,sentence3,sentence4,sentence5\n"
SAMPLES = " __EOD__ ".join(f"候 选 {i} __EOT__ 上 文 __EOC__ 回 复 {i}" for i in range(20))
RESPONSE_SCORES = [((7 * i) % 20) / 20 for i in range(20)]
CONTEXT_SCORES = [i / 20 for i in range(20)]
DOUBAN = (
    "1 你 好 ， 在 吗 ？ __EOT__ 在 ， 看 iPhone 7 呢\t好 看 吗 ？\n"
    f"2 吃 饭 没 __SAMP__ {SAMPLES} __SAMP__ {' '.join(map(str, RESPONSE_SCORES))} __SAMP__ {' '.join(map(str, CONTEXT_SCORES))}\t刚 吃\n"
    "1 新 对 话\t嗯 嗯\n"
)
STORY = ["He rose.", "He ate, then left.", 'He said "no".', "He ran.", "He slept."]
# name -> (content, format, rows)
VALID = {
    "quora_quoted.tsv": (
        '"id"\t"qid1"\t"qid2"\t"question1"\t"question2"\t"is_duplicate"\n'
        '"0"\t"1"\t"2"\t"What is ""it""?"\t"What\nis  \n\nthis?"\t"1"\n'
        '"1"\t"3"\t"4"\t"Tab\there?"\t"Why?"\t"0"\n',
        "quora",
        [QuestionPair("0", 'What is "it"?', "What is this?", True), QuestionPair("1", "Tab here?", "Why?", False)],
    ),
    "quora_plain.tsv": (
        QUORA + '0\t1\t2\tIs a 5" screen good?\tIs "big good?\t0\n1\t3\t4\tHow?\tIn what way"?\t1\n2\t5\t6\tWho?\tWhose?\t0\n',
        "quora",
        [
            QuestionPair("0", 'Is a 5" screen good?', 'Is "big good?', False),
            QuestionPair("1", "How?", 'In what way"?', True),
            QuestionPair("2", "Who?", "Whose?", False),
        ],
    ),
    "quora_minimal.tsv": (
        QUORA + '0\t1\t2\t"What\tis it?"\tWhat?\t1\n1\t3\t4\tHow?\t"In\nwhat way?"\t0\n',
        "quora",
        [QuestionPair("0", "What is it?", "What?", True), QuestionPair("1", "How?", "In what way?", False)],
    ),
    "hub.csv": (
        'question1,label,question2,idx\n"One, two?",1,What?,7\nWho?,0,"Who\n""now""?",8\n',
        "quora",
        [QuestionPair("7", "One, two?", "What?", True), QuestionPair("8", "Who?", 'Who "now"?', False)],
    ),
    "pairs.tsv": (
        b"1\tIs it  na\xefve ?\tIs it caf\xe9\x96like ?\t101\n0\tWho ?\tWhose caf\xc3\xa9 ?\t102\n",
        "pairs",
        [QuestionPair("101", "Is it naïve ?", "Is it café–like ?", True), QuestionPair("102", "Who ?", "Whose café ?", False)],
    ),
    "stories.csv": (
        ROC + 's-1,A day,He rose.,"He ate, then left.","He said ""no"".",He ran.,He slept.\ns-2,B,One.,Two.,Three.,Four.,Five.\n',
        "rocstories",
        [Example("s-1", "\n".join(STORY[:4]), STORY[4]), Example("s-2", "One.\nTwo.\nThree.\nFour.", "Five.")],
    ),
    "douban.txt": (
        DOUBAN,
        "groupwise",
        [
            Example("1", "你好，在吗？\n在，看 iPhone 7 呢", "好看吗？"),
            Example(
                "2",
                "吃饭没",
                "刚吃",
                tuple(f"回复 {i}" for i in sorted(range(20), key=RESPONSE_SCORES.__getitem__)),
                tuple(SampledPair(f"候选 {i}\n上文", f"回复 {i}", RESPONSE_SCORES[i], CONTEXT_SCORES[i]) for i in range(20)),
            ),
            Example("3", "新对话", "嗯嗯"),
        ],
    ),
    "conversations.txt": (
        "1\t你 好\t在 吗\t在\n0\t你 好\t在 吗\t好 吃\n0\t谁 啊\t你 猜\n1\t谁 啊\t是 Tom\n",
        "douban",
        [Example("1", "你好\n在吗", "在", ("好吃",), group="你好\n在吗"), Example("4", "谁啊", "是 Tom", ("你猜",), group="谁啊")],
    ),
    "named.jsonl": (
        '{"source": "我 们  走", "target": "好 的 ！", "negative": "不 行", "id": "x"}\n\n'
        '{"id": 7, "context": ["A  b", "", "c"], "response": "d", "other": null}\n'
        '{"source": "s", "target": "t", "negative": null}\n{"source": "s\\u4e2d", "target": "t\\nu", "negative": " "}\n',
        "jsonl",
        [
            Example("x", "我们走", "好的！", ("不行",)),
            Example("7", "A b\nc", "d"),
            Example("4", "s", "t"),
            Example("5", "s中", "t u"),
        ],
    ),
    "table.tsv": (
        'ID\tSource\ttarget\tnegative\tnote\nr1\tsay, "it"\tt\tn\t\nr2\t"two\nlines"\tu\t\tx\n',
        "table",
        [Example("r1", 'say, "it"', "t", ("n",)), Example("r2", "two lines", "u")],
    ),
    "table.csv": (
        'context,response\n"one, two",three\n我 们,你 好\n',
        "table",
        [Example("2", "one, two", "three"), Example("3", "我们", "你好")],
    ),
}


def as_bytes(content):
    return content if isinstance(content, bytes) else content.encode()


def write(folder, name, content):
    path = folder / name
    path.write_bytes(as_bytes(content))
    return path


def read(path, skip=False, **options):
    return list(formats.read(path, ReadOptions(bad=BadLines(skip), **options)))


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("name", VALID)
def test_every_format_is_recognised_and_read_exactly(tmp_path, name, newline):
    content, kind, rows = VALID[name]
    path = write(tmp_path, name, as_bytes(content).replace(b"\n", newline))
    assert formats.recognise(path, ReadOptions()) == kind
    assert read(path) == rows


@pytest.mark.parametrize("name", [name for name in VALID if isinstance(VALID[name][0], str)])
def test_a_byte_order_mark_and_a_missing_last_line_break_change_nothing(tmp_path, name):
    content, kind, rows = VALID[name]
    path = write(tmp_path, name, b"\xef\xbb\xbf" + content.encode().rstrip())
    assert formats.recognise(path, ReadOptions()) == kind
    assert read(path) == rows


@pytest.mark.parametrize("name", VALID)
def test_a_limit_takes_the_first_rows(tmp_path, name):
    content, _, rows = VALID[name]
    assert read(write(tmp_path, name, content), limit=1) == rows[:1]


def test_a_cp1252_line_is_counted_as_noticed_not_as_bad(tmp_path):
    options = ReadOptions()
    list(formats.read(write(tmp_path, "train.tsv", VALID["pairs.tsv"][0]), options))
    assert options.bad.count == 0
    assert sum(options.bad.noticed.values()) == 1


def test_a_pair_with_an_empty_question_is_left_out_with_a_notice(tmp_path):
    options = ReadOptions()
    path = write(tmp_path, "q.tsv", QUORA + "0\t1\t2\tWhat?\t\t0\n1\t3\t4\tHow?\tWhy?\t1\n")
    assert [row.id for row in formats.read(path, options)] == ["1"]
    assert list(options.bad.noticed) == ["q.tsv: pairs with an empty question, left out"]


def test_next_mode_predicts_every_next_sentence(tmp_path):
    path = write(tmp_path, "stories.csv", VALID["stories.csv"][0])
    assert read(path, story_mode="next")[:4] == [
        Example("s-1#1", STORY[0], STORY[1], group="s-1"),
        Example("s-1#2", "\n".join(STORY[:2]), STORY[2], group="s-1"),
        Example("s-1#3", "\n".join(STORY[:3]), STORY[3], group="s-1"),
        Example("s-1#4", "\n".join(STORY[:4]), STORY[4], group="s-1"),
    ]
    assert len(read(path, story_mode="next")) == 8
    listed = write(tmp_path, "s.jsonl", json.dumps({"id": "s-1", "source": STORY[:4], "target": STORY[4]}))
    assert read(listed, story_mode="next") == read(path, story_mode="next")[:4]


FIELDS = {"source": "Query", "target": "Answer", "negative": "Wrong", "id": "Key"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.jsonl", '{"Key": "k", "Query": "q q", "Answer": "a", "Wrong": "w", "source": "no", "target": "no"}\n'),
        ("f.tsv", "Key\tQuery\tAnswer\tWrong\nk\tq  q\ta\tw\n"),
        ("f.csv", "Key,Query,Answer,Wrong\nk,q  q,a,w\n"),
    ],
)
def test_a_fields_mapping_names_other_columns(tmp_path, name, content):
    assert read(write(tmp_path, name, content), fields=FIELDS) == [Example("k", "q q", "a", ("w",))]


GOOD = '{"source": "s", "target": "t"}\n'
SCORES = " ".join(["0.5"] * 2)
# name -> (content, line or None, text of the message)
BAD = {
    "missing": (None, None, "no such file; check --raw"),
    "empty": (b"", None, "empty.*(check|give|download|unpack|replace)"),
    "blank": (b"\n \n\t\n", None, "empty.*(check|give|download|unpack|replace)"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1", None, "binary file.*unpack"),
    "gzip": (gzip.compress(QUORA.encode() * 9), None, "binary file.*unpack"),
    "utf16": (QUORA.encode("utf-16"), None, "UTF-16; convert it"),
    "nul": ((QUORA + "0\t1\t2\tWh\0at?\tHow?\t1\n").encode(), None, "binary|NUL"),
    "unknown": ("just some prose\nand more\n", 1, "no known format.*Expected JSONL"),
    "unknown_header": ("alpha\tbeta\nx\ty\n", 1, "no known format.*--fields"),
    "missing_column": ("id\tquestion1\tis_duplicate\n1\ta\t0\n", 1, "no known format.*Expected"),
    "missing_sentence": ("storyid,storytitle,sentence1,sentence2,sentence3,sentence4\n1,t,a,b,c,d\n", 1, "no known format.*Expected"),
    "mapped_column_missing": ("source\ttarget\na\tb\n", 1, "no known format.*--fields"),
    "unlabelled": ("id\tquestion1\tquestion2\n0\ta\tb\n", None, "no is_duplicate column.*give the folder"),
}
# These are single bad lines: refused, or skipped and counted under --skip_bad_lines. name -> (content, line, text, rows left)
BAD_LINES = {
    "quora_truncated_last_line": (QUORA + "0\t1\t2\tWhat?\tHow?\t1\n1\t3\t4\tWh", 3, "too few fields: 4 instead of 6", 1),
    "quora_truncated_in_quotes": (QUORA + '"0"\t"1"\t"2"\t"What"\t"How"\t"1"\n"1"\t"3"\t"4"\t"Wh', 3, "too few fields: 4 instead of 6", 1),
    "quora_truncated_before_label": (QUORA + "0\t1\t2\tWhat?\tHow?\t1\n1\t3\t4\tWhy?\tWho?\t", 3, "duplicate label is ''", 1),
    "quora_too_few": (QUORA + "0\t1\tWhat?\t0\n1\t2\t3\tHow?\tWhy?\t1\n", 2, "too few fields: 4 instead of 6", 1),
    "quora_too_many": (QUORA + "0\t1\t2\t3\tWhat?\tHow?\t0\n1\t2\t3\tHow?\tWhy?\t1\n", 2, "too many fields: 7 instead of 6", 1),
    "quora_bad_label": (QUORA + "0\t1\t2\tWhat?\tHow?\tyes\n1\t2\t3\tHow?\tWhy?\t1\n", 2, "duplicate label is 'yes', not 0 or 1", 1),
    "pairs_bad_label": ("1\ta\tb\t7\n2\tc\td\t8\n", 2, "duplicate label is '2', not 0 or 1", 1),
    "pairs_truncated": ("1\ta\tb\t7\n0\tc\td", 2, "too few fields: 3 instead of 4", 1),
    "story_truncated": (ROC + "1,t,a,b,c,d,e\n2,t,a,b,c", 3, "too few fields: 5 instead of 7", 1),
    "story_empty_sentence": (ROC + "1,t,a,b,,d,e\n2,t,a,b,c,d,e\n", 2, "sentence3 is empty", 1),
    "table_too_few": ("source\ttarget\na\nb\tc\n", 2, "too few fields: 1 instead of 2", 1),
    "table_empty_source": ("source,target\n ,t\nb,c\n", 2, "field source is empty", 1),
    "groupwise_no_tab": ("1 a\tb\n2 c\n", 2, "no TAB between context and response", 1),
    "groupwise_empty_context": ("1 a\tb\n2 \tc\n", 2, "empty context or response", 1),
    "groupwise_empty_response": ("1 a\tb\n2 c\t \n", 2, "empty context or response", 1),
    "groupwise_few_scores": (f"1 a\tb\n2 c __SAMP__ x __EOC__ y __SAMP__ 0.5 __SAMP__ {SCORES}\td\n", 2, "matching scores", 1),
    "groupwise_no_scores": ("1 a\tb\n2 c __SAMP__ x __EOC__ y\td\n", 2, "__SAMP__ fields instead of 3", 1),
    "groupwise_no_eoc": ("1 a\tb\n2 c __SAMP__ x __SAMP__ 0.5 __SAMP__ 0.5\td\n", 2, "without __EOC__", 1),
    "groupwise_word_as_score": ("1 a\tb\n2 c __SAMP__ x __EOC__ y __SAMP__ half __SAMP__ 0.5\td\n", 2, "half", 1),
    "groupwise_nan_as_score": ("1 a\tb\n2 c __SAMP__ x __EOC__ y __SAMP__ nan __SAMP__ 0.5\td\n", 2, "nan|score", 1),
    "groupwise_not_utf8": (b"1 a\tb\n2 caf\xe9\td\n", 2, "not valid UTF-8", 1),
    "jsonl_truncated": (GOOD + '{"source": "s", "tar', 2, "not JSON", 1),
    "jsonl_bad": (GOOD + "source: s\n" + GOOD, 2, "not JSON", 2),
    "jsonl_not_utf8": (GOOD.encode() + b'{"source": "caf\xe9", "target": "t"}\n', 2, "not valid UTF-8", 1),
    "jsonl_nested_deeply": (GOOD + "[" * 200_000 + "\n", 2, "not JSON", 1),
    "jsonl_endless_number": (GOOD + '{"source": "s", "target": "t", "id": ' + "9" * 5000 + "}\n", 2, "JSON|number|digits", 1),
    "jsonl_lone_surrogate": (GOOD + '{"source": "a \\ud83d", "target": "t"}\n', 2, "surrogate|JSON|UTF-8", 1),
    "jsonl_a_list": (GOOD + '["s", "t"]\n', 2, "a JSON object is expected", 1),
    "jsonl_a_number": (GOOD + "3\n", 2, "a JSON object is expected", 1),
    "jsonl_number_as_source": (GOOD + '{"source": 3, "target": "t"}\n', 2, "field source: a text or a list of texts is expected", 1),
    "jsonl_numbers_as_turns": (GOOD + '{"source": ["a", 3], "target": "t"}\n', 2, "field source: a text or a list of texts", 1),
    "jsonl_list_as_target": (GOOD + '{"source": "s", "target": ["t"]}\n', 2, "field target: a text is expected", 1),
    "jsonl_object_as_negative": (GOOD + '{"source": "s", "target": "t", "negative": {}}\n', 2, "field negative: a text is expected", 1),
    "jsonl_list_as_id": (GOOD + '{"id": [], "source": "s", "target": "t"}\n', 2, "field id: a text is expected", 1),
    "jsonl_no_target": (GOOD + '{"source": "s", "reply": "t"}\n', 2, "no field target or response; found: source, reply.*target:NAME", 1),
    "jsonl_null_source": (GOOD + '{"source": null, "target": "t"}\n', 2, "source", 1),
    "jsonl_null_target": (GOOD + '{"source": "s", "target": null}\n', 2, "the value of field target is null; a text is expected", 1),
    "jsonl_key_twice": (GOOD + '{"source": "s", "target": "t", "source": "u"}\n', 2, "the key source stands twice", 1),
    "jsonl_empty_source": (GOOD + '{"source": " ", "target": "t"}\n', 2, "field source is empty", 1),
    "jsonl_empty_turns": (GOOD + '{"source": ["", " "], "target": "t"}\n', 2, "field source is empty", 1),
    "jsonl_no_turns": (GOOD + '{"source": [], "target": "t"}\n', 2, "field source is empty", 1),
    "jsonl_empty_target": (GOOD + '{"source": "s", "target": ""}\n', 2, "field target is empty", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name_with_a_remedy(tmp_path, case):
    content, line, message = BAD[case]
    path = tmp_path / f"{case}.txt"
    if content is not None:
        write(tmp_path, path.name, content)
    fields = {"source": "Query"} if case == "mapped_column_missing" else {}
    for skip in (False, True):
        with pytest.raises(UserError, match=message) as caught:
            read(path, skip, fields=fields)
        assert f"{path}:{line}: " in str(caught.value) if line else str(path) in str(caught.value)


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_refused_by_number_with_a_remedy(tmp_path, case):
    content, line, message, _ = BAD_LINES[case]
    path = write(tmp_path, f"{case}.txt", content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "mend the line, or pass --skip_bad_lines" in str(caught.value)


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_skipped_and_counted_when_asked(tmp_path, case):
    content, line, message, left = BAD_LINES[case]
    path = write(tmp_path, f"{case}.txt", content)
    options = ReadOptions(bad=BadLines(skip=True))
    assert len(list(formats.read(path, options))) == left
    assert options.bad.count == 1
    assert options.bad.first.startswith(f"{path.name}:{line}: ")
    assert re.search(message, options.bad.first)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three random edits of the kinds that damage files."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) or 1)
        kind = rng.choice(("flip", "delete", "insert", "truncate", "swap", "quote", "repeat"))
        if kind == "flip":
            data = data[:at] + bytes([(data[at] if data else 0) ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif kind == "delete":
            data = data[:at] + data[at + rng.randint(1, 12) :]
        elif kind == "insert":
            data = (
                data[:at] + rng.choice([rng.randbytes(3), b"\t", b"\n", b"\r", b",", b"{", b"\\ud800", b"__SAMP__", b"1e999"]) + data[at:]
            )
        elif kind == "truncate":
            data = data[:at]
        elif kind == "swap":
            lines = data.split(b"\n")
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i]
            data = b"\n".join(lines)
        elif kind == "quote":
            data = data[:at] + b'"' * rng.randint(1, 2) + data[at:]
        else:
            data = data[:at] + data[max(0, at - 20) :]
    return data


def assert_well_formed(row):
    if isinstance(row, QuestionPair):
        assert isinstance(row.duplicate, bool)
        texts = [row.question1, row.question2]
    else:
        assert isinstance(row, Example)
        texts = [row.source, row.target, *row.negatives]
        assert all(isinstance(pair, SampledPair) for pair in row.sampled)
    assert isinstance(row.id, str)
    for text in texts:
        assert isinstance(text, str)
        assert text.strip()
        text.encode()  # whatever is written later is UTF-8


@pytest.mark.parametrize("name", VALID)
def test_a_damaged_file_is_read_well_formed_or_refused_by_name(tmp_path, name):
    rng = random.Random(f"damage {name}")
    path = tmp_path / "damaged.raw"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1000 // len(VALID) + 1):
        data = mutate(as_bytes(VALID[name][0]), rng)
        path.write_bytes(data)
        refusal = ""
        try:
            for row in read(path, skip=rng.random() < 0.5, story_mode=rng.choice(("ending", "next"))):
                assert_well_formed(row)
        except UserError as error:
            refusal = str(error)
        outcomes["refused" if refusal else "read"] += 1
        assert not refusal or str(path) in refusal, data
    assert min(outcomes.values()) > 5, outcomes  # both ways are exercised


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


@settings(deadline=None)
@given(first=TEXT, second=TEXT, delimiter=st.sampled_from("\t,"))
def test_any_text_survives_a_quoted_table(tmp_path_factory, first, second, delimiter):
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["source", "target"], [first, second]])
    path = write(tmp_path_factory.getbasetemp(), "table.raw", buffer.getvalue())
    expected = [clean(first), clean(second)]
    assert [[row.source, row.target] for row in read(path, skip=True)] == ([expected] if all(expected) else [])
