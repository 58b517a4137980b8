"""Reads the pieces of WordPiece vocabularies from the files that people have: a vocab.txt as any editor writes it, or a tokenizer.json."""

import json
from pathlib import Path

from hcl_tf.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXT, JSON = FILES = ("vocab.txt", "tokenizer.json")  # in which published weights bring their vocabulary


def of_folder(folder: Path) -> list[str] | None:
    """Reads the vocabulary that lies beside published weights; None: there is none.

    Raises:
      UserError: a file can't be used (`pieces_in`), or there are two whose pieces differ.
    """
    found = {name: pieces_in(folder / name) for name in FILES if (folder / name).is_file()}
    if len(found) == 2:
        for number, (ours, theirs) in enumerate(zip(found[TEXT], found[JSON], strict=False)):
            if ours != theirs:
                raise UserError(
                    f"{folder}: piece {number} is {ours!r} in {TEXT}, {theirs!r} in {JSON}; fetch both again, or "
                    "leave the one that belongs to the weights"
                )
    return next(iter(found.values()), None)


def pieces_in(path: Path) -> list[str]:
    """Reads the pieces of a WordPiece vocabulary in the order of their ids, from a text file (one a line) or from a tokenizer.json.

    Raises:
      UserError: the file is damaged, a piece stands in it twice, or one that BERT needs is missing.
    """
    pieces = _pieces_in_json(path) if path.suffix == ".json" else _pieces_in_text(path)
    check_special(set(pieces), str(path))
    return pieces


def _pieces_in_text(path: Path) -> list[str]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")  # an editor may have put a mark before the first piece
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8; save the vocabulary as UTF-8 text, one piece a line") from error
    # Not splitlines: U+2028, which ends a line too, is a piece of bert-base-chinese's.
    pieces = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while pieces and not pieces[-1]:
        pieces.pop()
    first_line: dict[str, int] = {}
    for number, piece in enumerate(pieces, 1):
        if first_line.setdefault(piece, number) != number:
            raise UserError(f"{path}:{number}: piece {piece!r} stands on line {first_line[piece]} already; each line is one id")
    return pieces


def _pieces_in_json(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
        model = content["model"]
        if model.get("type", "WordPiece") != "WordPiece":
            raise UserError(f"{path}: a {model['type']} tokeniser, and BERT's is WordPiece; give the folder of a BERT")
        if (prefix := model.get("continuing_subword_prefix", "##")) != "##" or model.get("unk_token", "[UNK]") != "[UNK]":
            raise UserError(
                f"{path}: pieces within words begin with {prefix!r}, or an unknown word is no [UNK]: not the tokeniser of a BERT"
            )
        numbers = {**model["vocab"], **{token["content"]: token["id"] for token in content.get("added_tokens") or []}}
        pieces = sorted(numbers, key=numbers.__getitem__)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a tokeniser that can be read ({type(error).__name__}: {error}); fetch it again") from error
    if sorted(numbers.values()) != list(range(len(pieces))):
        raise UserError(f"{path}: its pieces do not have the ids 0 to {len(pieces) - 1}; fetch it again")
    return pieces


def check_special(pieces: set[str], where: str) -> None:
    """Raises `UserError` where a piece that BERT needs is missing."""
    missing = [piece for piece in SPECIAL if piece not in pieces]
    if missing:
        raise UserError(f"{where}: not a BERT WordPiece vocabulary: {', '.join(missing)} missing (one piece a line is expected)")
