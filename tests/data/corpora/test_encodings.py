"""Encodings: what is guessed of short files, what is refused, and that no text ever comes out as other characters."""

import codecs
from itertools import product
from pathlib import Path

import pytest

from hcl_tf.data.corpora import encodings, text_files
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError

SIMPLIFIED = "今天天气怎么样\t出去走走吧\n你吃饭了吗\t还没有呢，一起去？\n"
TRADITIONAL = "今天天氣怎麼樣\t出去走走吧\n你吃飯了嗎\t還沒有呢，一起去？\n"
WESTERN = "Où est le café – déjà fermé ?\tIl a été fermé à midi.\nDas ist schön.\tÜber alles naïve Gemüt.\n"
# how it is written -> (bytes, the text, the flag that reads it)
WRITTEN = {
    "utf-8": (SIMPLIFIED.encode(), SIMPLIFIED, None),
    "utf-8 Western": (WESTERN.encode(), WESTERN, None),
    "gb18030": (SIMPLIFIED.encode("gb18030"), SIMPLIFIED, "gb18030"),
    "big5": (TRADITIONAL.encode("big5"), TRADITIONAL, "big5"),
    "cp1252": (WESTERN.encode("cp1252"), WESTERN, "cp1252"),
    "utf-16-le": (SIMPLIFIED.encode("utf-16-le"), SIMPLIFIED, "utf-16"),
    "utf-16-be": (SIMPLIFIED.encode("utf-16-be"), SIMPLIFIED, "utf-16"),
    "utf-16-le, mark": (codecs.BOM_UTF16_LE + SIMPLIFIED.encode("utf-16-le"), SIMPLIFIED, "utf-16"),
    "utf-16-be, mark": (codecs.BOM_UTF16_BE + TRADITIONAL.encode("utf-16-be"), TRADITIONAL, "utf-16"),
    "utf-16-le Western": (WESTERN.encode("utf-16-le"), WESTERN, "utf-16"),
}
FLAGS = (None, "utf-8", "utf-16", "gb18030", "gbk", "big5", "cp1252")


def write(folder: Path, data: bytes) -> Path:
    path = folder / "raw.tsv"
    path.write_bytes(data)
    return path


def read(path: Path, encoding: str | None, skip: bool = False, legacy: str | None = None) -> list[str]:
    return [text for _, text in text_files.lines(path, BadLines(skip), legacy, encoding)]


@pytest.mark.parametrize("how", WRITTEN)
def test_the_flag_reads_every_line_exactly(tmp_path, how):
    data, text, flag = WRITTEN[how]
    assert read(write(tmp_path, data), flag) == text.splitlines()


@pytest.mark.parametrize("how", [how for how, (_, _, flag) in WRITTEN.items() if flag])
@pytest.mark.parametrize("legacy", [None, "cp1252"])
def test_without_the_flag_the_likely_encoding_and_its_flag_are_named(tmp_path, how, legacy):
    data, text, flag = WRITTEN[how]
    path = write(tmp_path, data)
    if how == "cp1252" and legacy:
        assert read(path, None, legacy=legacy) == text.splitlines()
        return
    with pytest.raises(UserError, match=f"--encoding={flag}") as caught:
        read(path, None, legacy=legacy)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("flag", ["latin-1", "iso8859-15"])
def test_an_encoding_that_makes_control_characters_of_quotes_is_refused_by_line(tmp_path, flag):
    path = write(tmp_path, "It is fine.\nIt’s “fine”\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"raw\.tsv:2: read as .* it holds control characters; it is probably cp1252"):
        read(path, flag)
    assert read(path, "cp1252") == ["It is fine.", "It’s “fine”"]


@pytest.mark.parametrize(("how", "flag", "skip"), product(WRITTEN, FLAGS, [False, True]))
def test_whatever_flag_is_given_text_comes_out_as_it_is_or_not_at_all(tmp_path, how, flag, skip):
    data, text, right = WRITTEN[how]
    try:
        found = read(write(tmp_path, data), flag, skip)
    except UserError:
        assert flag != right
        return
    assert set(found) <= set(text.splitlines())
    assert (found == text.splitlines()) or flag != right


@pytest.mark.parametrize("line", ["我们去吃饭", "这个怎么用啊", "哈哈", "好的，谢谢", "价格多少钱"])
@pytest.mark.parametrize(("written", "found"), [("gb18030", "gb18030"), ("utf-8", "utf-8"), ("utf-16", "utf-16")])
def test_one_short_line_is_enough_for_a_guess(line, written, found):
    assert encodings.likely(f"{line}\n".encode(written)) == found


@pytest.mark.parametrize("line", ["我們去吃飯", "這個怎麼用", "謝謝你", "價格多少錢", "什麼時候"])
def test_traditional_characters_are_told_apart(line):
    assert encodings.likely(f"{line}\n".encode("big5")) == "big5"
    assert encodings.likely(f"{line}\n".encode("gb18030")) == "gb18030"


@pytest.mark.parametrize("line", ["Où ?", "naïve", "Ça va", "señor", "Straße", "“quoted” – it’s", "Ångström"])
def test_western_text_is_not_taken_for_chinese(line):
    assert encodings.likely(f"{line}\n".encode("cp1252")) == "cp1252"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1", bytes(range(256)) * 40, b"\0" * 64])
def test_what_is_no_text_has_no_encoding(data):
    assert encodings.likely(data) is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [("UTF8", "utf-8"), ("UTF-16", "utf-16"), ("GBK", "gbk"), ("Big5", "big5"), ("latin-1", "iso8859-1"), ("cp1252",) * 2],
)
def test_names_of_encodings_are_those_of_python(name, codec):
    assert encodings.codec_of(name) == codec


@pytest.mark.parametrize("name", ["gb", "utf-7", "base64", "cp037", "hz", "utf-32", "", "nothing"])
def test_what_is_no_encoding_of_text_lines_is_refused_with_those_that_are(name):
    with pytest.raises(UserError, match=f"--encoding={name}: .*utf-16, gb18030, big5 or cp1252"):
        encodings.codec_of(name)


def test_question_pairs_in_gbk_are_not_read_as_cp1252(tmp_path):
    path = write(tmp_path, "".join(f"1\t天气怎么样{i}\t今天天气如何{i}\t{i}\n" for i in range(9)).encode("gbk"))
    for skip in (False, True):
        with pytest.raises(UserError, match=r"raw\.tsv:1: not UTF-8 but Chinese .*gb18030; pass --encoding=gb18030"):
            read(path, None, skip, legacy="cp1252")


def test_a_damaged_chinese_line_among_pairs_is_a_bad_line_and_not_cp1252(tmp_path):
    lines = [f"1\t天气怎么样{i}\t今天天气如何{i}\t{i}\n".encode() for i in range(9)]
    path = write(tmp_path, b"".join([*lines[:4], lines[4].replace("今".encode(), "今".encode()[:2]), *lines[5:]]))
    with pytest.raises(UserError, match=r"raw\.tsv:5: not valid UTF-8 at byte"):
        read(path, None, legacy="cp1252")
    assert read(path, None, skip=True, legacy="cp1252") == [line.decode().rstrip() for line in lines[:4] + lines[5:]]


def test_bytes_that_cp1252_lacks_are_counted_apart(tmp_path):
    bad = BadLines()
    assert [text for _, text in text_files.lines(write(tmp_path, b"caf\xe9 \x81\n"), bad, "cp1252")] == ["café \ufffd"]
    assert list(bad.noticed) == [
        "raw.tsv: lines that are not UTF-8, read as cp1252",
        "raw.tsv: lines with bytes that cp1252 does not have either, read as U+FFFD",
    ]


def test_a_line_that_the_named_encoding_can_not_read_is_a_bad_line(tmp_path):
    path = write(tmp_path, SIMPLIFIED.encode("gb18030") * 5 + b"\xff\xff\n")
    with pytest.raises(UserError, match=r"raw\.tsv:11: not valid gb18030 at byte 1; mend the line"):
        read(path, "gb18030")
    assert read(path, "gb18030", skip=True) == SIMPLIFIED.splitlines() * 5


def test_utf16_that_ends_in_half_a_character_is_refused_by_line(tmp_path):
    path = write(tmp_path, SIMPLIFIED.encode("utf-16")[:-3])
    with pytest.raises(UserError, match=r"raw\.tsv:2: not valid UTF-16"):
        read(path, "utf-16")


def test_gbk_that_is_utf8_by_chance_is_read_where_the_flag_says_so(tmp_path):
    data = "一毛\n".encode("gbk")
    assert data.decode("utf-8")  # so there is no telling
    assert read(write(tmp_path, data), "gbk") == ["一毛"]


@pytest.mark.parametrize("flag", ["gb18030", "big5", "cp1252"])
def test_utf8_with_a_damaged_line_is_not_read_in_another_encoding(tmp_path, flag):
    path = write(tmp_path, SIMPLIFIED.encode() * 3 + "今".encode()[:2] + b"\n")
    with pytest.raises(UserError, match=f"probably not {flag}, as --encoding says, but utf-8; leave --encoding out"):
        read(path, flag, skip=True)
