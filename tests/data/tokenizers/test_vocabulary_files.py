"""Vocabularies from files as editors and hubs leave them: the same pieces in the same order, or one line that says what is wrong."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast, GPT2TokenizerFast

from hcl_tf.data.tokenizers import vocabulary_files, wordpiece
from hcl_tf.data.tokenizers.vocabulary_files import SPECIAL
from hcl_tf.errors import UserError

# A published vocabulary has pieces that end a line for some programs, and one that is a mark which editors put before texts.
PIECES = [*SPECIAL, "the", "coffee", "\u2028", "##s", "\x85", "我", "\ufeff", "\x0b", "cat", "\u3000"]
TEXT = "The cats coffee 我"
REMEDY = r"\b(give|fetch|save)\b"


def spelled(pieces: list[str], end: str = "\n", mark: str = "") -> bytes:
    return f"{mark}{''.join(piece + end for piece in pieces)}".encode()


def tokenizer_json(pieces: list[str], folder: Path) -> Path:
    """A folder with tokenizer.json alone, as the library saves it."""
    folder.mkdir()
    (folder / "vocab.txt").write_bytes(spelled(pieces))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    for path in folder.iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize("last", ["", "\n", "\r\n\r\n"])
def test_line_ends_and_marks_of_editors_change_no_piece(tmp_path, end, mark, last):
    (tmp_path / "vocab.txt").write_bytes(spelled(PIECES, end, mark) + last.encode())
    assert vocabulary_files.pieces_in(tmp_path / "vocab.txt") == PIECES
    tokenizer, note = wordpiece.load(str(tmp_path), "en", [], 0)
    assert tokenizer.vocabulary() == PIECES
    assert "vocabulary of folder" in note
    assert [PIECES[i] for i in tokenizer.encode([TEXT])[0]] == ["the", "cat", "##s", "coffee", "我"]


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(
    pieces=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), min_size=1, max_size=4), unique=True, max_size=8
    )
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_pieces_come_back(tmp_path_factory, end, pieces):
    expected = [*SPECIAL, *(piece for piece in pieces if piece not in SPECIAL)]
    path = tmp_path_factory.getbasetemp() / "any-vocab.txt"
    path.write_bytes(spelled(expected, end))
    assert vocabulary_files.pieces_in(path) == expected


def test_a_prepared_folder_s_vocabulary_is_the_published_one(tmp_path):
    """What preparation writes is read as the same pieces."""
    (tmp_path / "vocab.txt").write_bytes(spelled(PIECES, "\r\n", "\ufeff"))
    tokenizer = wordpiece.from_file(tmp_path / "vocab.txt")
    (tmp_path / "again.txt").write_text("\n".join(tokenizer.vocabulary()) + "\n", encoding="utf-8")
    assert wordpiece.from_file(tmp_path / "again.txt").vocabulary() == PIECES


def test_a_folder_with_tokenizer_json_alone(tmp_path):
    folder = tokenizer_json(PIECES, tmp_path / "json")
    assert vocabulary_files.of_folder(folder) == PIECES
    for given_as in (folder, folder / "tokenizer.json"):
        tokenizer, _ = wordpiece.load(str(given_as), "en", [], 0)
        assert tokenizer.vocabulary() == PIECES
        assert tokenizer.lowercase
        assert [PIECES[i] for i in tokenizer.encode([TEXT])[0]] == ["the", "cat", "##s", "coffee", "我"]


def test_added_tokens_are_pieces(tmp_path):
    folder = tokenizer_json(PIECES, tmp_path / "json")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"].append({"id": len(PIECES), "content": "[NAME]", "special": False})
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert vocabulary_files.of_folder(folder) == [*PIECES, "[NAME]"]


def test_a_folder_without_either_has_no_vocabulary(tmp_path):
    assert vocabulary_files.of_folder(tmp_path) is None
    with pytest.raises(UserError, match=r"the folder has no vocab.txt or tokenizer.json; give"):
        wordpiece.load(str(tmp_path), "en", [], 0)


def test_two_files_have_to_agree(tmp_path):
    folder = tokenizer_json(PIECES, tmp_path / "json")
    (folder / "vocab.txt").write_bytes(spelled(PIECES))
    assert vocabulary_files.of_folder(folder) == PIECES
    (folder / "vocab.txt").write_bytes(spelled([piece.replace("coffee", "tea") for piece in PIECES]))
    with pytest.raises(UserError, match=r"json: piece 6 is 'tea' in vocab.txt, 'coffee' in tokenizer.json; fetch both again"):
        vocabulary_files.of_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["model"].update(type="Unigram"), "a Unigram tokeniser, and BERT's is WordPiece; give"),
        (lambda content: content["model"]["vocab"].pop("coffee"), "its pieces do not have the ids 0 to 13; fetch it again"),
        (lambda content: content["model"]["vocab"].update(coffee="six"), r"not a tokeniser that can be read|do not have the ids"),
        (lambda content: content.pop("model"), r"not a tokeniser that can be read \(KeyError: 'model'\); fetch it again"),
        (lambda content: content.update(added_tokens=[3]), "not a tokeniser that can be read .*; fetch it again"),
    ],
)
def test_a_tokenizer_json_that_can_not_be_used_is_named(tmp_path, change, message):
    path = tokenizer_json(PIECES, tmp_path / "json") / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        wordpiece.load(str(path.parent), "en", [], 0)
    assert re.search(REMEDY, str(error.value))
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"null", b"\xff\xfe{", b"[[[["])
def test_a_damaged_tokenizer_json_is_named(tmp_path, data):
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(UserError, match=r"tokenizer.json: not a tokeniser that can be read \(.*\); fetch it again"):
        vocabulary_files.of_folder(tmp_path)


def test_gpt2_s_tokeniser_is_told_from_bert_s(tmp_path):
    (tmp_path / "vocab.json").write_text('{"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    GPT2TokenizerFast(vocab_file=str(tmp_path / "vocab.json"), merges_file=str(tmp_path / "merges.txt")).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UserError, match="a BPE tokeniser, and BERT's is WordPiece"):
        vocabulary_files.of_folder(tmp_path / "gpt2")
