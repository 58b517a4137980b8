"""Wraps the tokeniser that belongs to published weights (T5's SentencePiece, GPT-2's byte pairs), so that it serves as our own does.

Texts are framed as WordPiece's are: the start token, the pieces, the end token, padding. Which ids these are differs: T5 starts with its
padding, GPT-2 starts and ends with one and the same token and has no padding, which gets the first number past its pieces.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from hcl_tf.data.corpora.examples import clean
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.errors import UserError

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model", "vocab.json", "merges.txt", "vocab.txt")
FRAME = "frame.json"  # beside the tokeniser's own files: what its model's configuration says
PAIR = ("vocab.json", "merges.txt")  # of a tokeniser of byte pairs: its pieces, and how bytes become these
LOST = 0.01  # share of pieces that no text can give, from which merges count as cut short; some models have unused pieces
REPLACEMENT = "\ufffd"


class LibraryTokenizer(Tokenizer):
    """Does as `wordpiece.Tokenizer`, with a library's tokeniser.

    Args:
      fast: the library's tokeniser. name: what the user called it.
      rows: how many pieces the model has; the tokeniser may have fewer. start: id of the token before an output; None: the end token.

    Raises:
      UserError: it has no end token, or more pieces than the model.
    """

    def __init__(self, fast: PreTrainedTokenizerFast, name: str, rows: int, start: int | None) -> None:
        self._fast, self._rows, self._start, self.name, self.lowercase = fast, rows, start, name, False
        if fast.eos_token_id is None:
            raise UserError(f"{name}: its tokeniser has no end token; give weights with their own tokeniser")
        self._pieces = len(fast)  # which takes the library long
        if self._pieces > rows:
            raise UserError(f"{name}: its tokeniser has {self._pieces:,} pieces, but the model {rows:,}; give those that belong together")
        self.sep_id = fast.eos_token_id
        self.cls_id = self.sep_id if start is None else start
        self.pad_id = rows if fast.pad_token_id in (None, self.sep_id) else fast.pad_token_id
        # Bytes know no unknown piece: the mark that Unicode has for it stands for pieces that --output_vocab=train leaves out.
        self.unknown_id = super().encode([REPLACEMENT])[0][0] if fast.unk_token_id in (None, self.sep_id) else fast.unk_token_id

    def __len__(self) -> int:
        return self._rows

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Encodes each text as ids, without start and end, uncut. "</s>" in a text, which is a piece of T5's, becomes the unknown piece."""
        frame = {self.cls_id, self.sep_id, self.pad_id}
        return [[self.unknown_id if piece in frame else piece for piece in pieces] for pieces in super().encode(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """Decodes ids to text; special tokens and numbers without a piece are left out."""
        pieces = [int(i) for i in ids if int(i) < self._pieces]
        return clean(self._fast.decode(pieces, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def save(self, folder: Path) -> None:
        """Writes the tokeniser into a folder, from which `load` reads it."""
        self._fast.save_pretrained(folder)
        (folder / FRAME).write_text(json.dumps({"name": self.name, "rows": self._rows, "start": self._start}) + "\n", encoding="utf-8")

    def digest(self) -> str:
        """Returns the SHA-256 of everything that determines ids."""
        parts = self._fast.backend_tokenizer.to_str(), self.cls_id, self.sep_id, self.pad_id, self.unknown_id, self._rows
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load(folder: Path) -> LibraryTokenizer:
    """Reads what `LibraryTokenizer.save` wrote. Raises `UserError` where it is damaged."""
    try:
        frame = json.loads((folder / FRAME).read_text(encoding="utf-8"))
        return LibraryTokenizer(_fast(folder), frame["name"], frame["rows"], frame["start"])
    except Exception as error:  # the library raises nothing narrower for a damaged tokenizer.json
        raise UserError(f"{folder}: no tokeniser that can be read ({error}); restore the run from a copy") from error


def published(folder: Path, name: str, rows: int, start: int | None) -> LibraryTokenizer:
    """Reads the tokeniser that lies beside published weights in `folder`. Raises `UserError` where there is none.

    Args:
      name: what the user called the weights. rows, start: as of `LibraryTokenizer`.
    """
    if not any((folder / file).is_file() for file in FILES if not file.endswith(("config.json", "map.json"))):
        raise UserError(f"--pretrained={name}: {folder.name} has no tokeniser (tokenizer.json, spiece.model, or vocab.json and merges.txt)")
    there = [file for file in PAIR if (folder / file).is_file()]
    if len(there) == 1 and not any((folder / file).is_file() for file in ("tokenizer.json", "spiece.model", "vocab.txt")):
        (missing,) = set(PAIR) - set(there)
        raise UserError(
            f"--pretrained={name}: {folder.name} has {there[0]} without {missing}, and byte pairs need both; fetch {missing} too"
        )
    try:
        with tempfile.TemporaryDirectory() as copy:
            # As a run will keep it: written and read again, scores differ in their last digits from those of a spiece.model.
            fast = _fast(folder)
            _check_pieces(fast, folder, name)
            LibraryTokenizer(fast, name, rows, start).save(Path(copy))
            return load(Path(copy))
    except UserError:
        raise
    except Exception as error:  # as in `load`
        why = str(error).splitlines()[0]
        raise UserError(f"--pretrained={name}: its tokeniser can't be read ({why}); fetch its files again") from error


def _check_pieces(fast: PreTrainedTokenizerFast, folder: Path, name: str) -> None:
    """Raises `UserError` where files beside each other name different pieces, or merges are missing without which pieces never occur."""
    pieces, listed = fast.get_vocab(), folder / PAIR[0]
    if listed.is_file() and any(pieces.get(piece) != number for piece, number in json.loads(listed.read_text(encoding="utf-8")).items()):
        raise UserError(f"--pretrained={name}: {listed.name} and its tokenizer.json name different pieces; fetch both again")
    model = json.loads(fast.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE":
        return
    made = {"".join(merge) if isinstance(merge, list) else merge.replace(" ", "") for merge in model["merges"]} | set(
        fast.get_added_vocab()
    )
    lost = [piece for piece in model["vocab"] if len(piece) > 1 and piece not in made]
    if len(lost) > LOST * len(pieces):
        raise UserError(
            f"--pretrained={name}: {len(lost):,} of its {len(pieces):,} pieces come from no merge, such as {lost[0]!r}: merges were cut "
            "short, or are another model's; fetch the tokeniser again"
        )


def _fast(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer  # half a second that runs with WordPiece need not wait for

    return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True, clean_up_tokenization_spaces=False)
