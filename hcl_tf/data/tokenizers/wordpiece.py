"""BERT's WordPiece tokeniser, with a published vocabulary (hub name, folder or file) or one learned from the training split."""

import os
import string
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertTokenizerFast

from hcl_tf.data.corpora.examples import clean
from hcl_tf.data.tokenizers import vocabulary_files
from hcl_tf.data.tokenizers.vocabulary_files import SPECIAL, TEXT, pieces_in
from hcl_tf.errors import UserError
from hcl_tf.files import hub, minilm
from hcl_tf.progress import working

SPECIAL_PIECES = 2  # [CLS] before and [SEP] after every text
PUBLISHED = {"en": "bert-base-uncased", "zh": "bert-base-chinese"}  # [P] BERT's vocabulary
LEARN = "learn"
LATIN = string.ascii_lowercase + string.digits + "ßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿđħıłŋœŧ"
BATCH = 1000


class Tokenizer:
    """Turns texts into WordPiece ids without special tokens around them, and ids back into text.

    Attributes:
      name: for the manifest. lowercase: whether texts are lower-cased first.
      pad_id, unknown_id, cls_id, sep_id: ids of the special pieces.
    """

    def __init__(self, fast: BertTokenizerFast, name: str) -> None:
        self._fast = fast
        self.name = name
        self.lowercase = bool(fast.do_lower_case)
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, _ = fast.convert_tokens_to_ids(list(SPECIAL))
        self._pieces = len(fast)  # which takes the library 10 ms a call

    def __len__(self) -> int:
        return self._pieces

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Encodes each text as WordPiece ids, without [CLS] and [SEP], uncut."""
        return [encoding.ids for encoding in self._encodings(texts)]

    def _encodings(self, texts: list[str]) -> Iterator[tokenizers.Encoding]:
        """Yields the library's encoding of each text, by all cores; transformers' own call takes four times as long, for its lists."""
        backend = self._fast.backend_tokenizer
        backend.encode_special_tokens = True  # a user's text that spells "[SEP]" is text, not a separator
        backend.no_truncation()  # which a tokenizer.json may ask for
        backend.no_padding()
        for start in range(0, len(texts), BATCH):
            yield from backend.encode_batch(texts[start : start + BATCH], add_special_tokens=False)

    def kept(self, texts: list[str], length: int, keep: str) -> list[tuple[tuple[int, int] | None, list[int]]]:
        """Cuts each text to its first (`keep` is "head") or last ("tail") `length` pieces.

        Returns:
          Of each text which characters the kept pieces cover, (start, end), without a word that the cut goes through, or None where the
          text has no more pieces than that; and the kept pieces.
        """
        found = []
        for encoding in self._encodings(texts):
            count, ids = len(encoding), encoding.ids
            if count <= length:
                found.append((None, ids))
                continue
            offsets, words = encoding.offsets, encoding.word_ids
            places, dropped = (range(length), length) if keep == "head" else (range(count - length, count), -length - 1)
            whole = [offsets[place] for place in places if words[place] != words[dropped]]
            found.append(((whole[0][0], whole[-1][1]) if whole else (0, 0), cut(ids, length, keep)))
        return found

    def decode(self, ids: Iterable[int], copied: Mapping[int, str] | None = None) -> str:
        """Decodes ids to text: word pieces are joined, Chinese has no spaces, special tokens are left out.

        Args:
          copied: id beyond the vocabulary -> the word that it stands for; one that is not among them is left out.
        """
        ids = [int(i) for i in ids]
        if max(ids, default=0) < len(self):
            return clean(self._fast.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True))
        special = set(self._fast.all_special_ids)
        pieces = [self._fast.convert_ids_to_tokens(i) if i < len(self) else (copied or {}).get(i) for i in ids if i not in special]
        joined = self._fast.convert_tokens_to_string(list(filter(None, pieces)))
        return clean(self._fast.clean_up_tokenization(joined))

    def unknown_words(self, text: str, ids: Sequence[int]) -> dict[int, str]:
        """Finds the word behind each unknown piece among `ids`, the first or last pieces of `text`. Returns place -> word."""
        places = [place for place, i in enumerate(ids) if i == self.unknown_id]
        if not places:
            return {}
        encoded = self._fast(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
        cut = 0 if encoded["input_ids"][: len(ids)] == list(ids) else len(encoded["input_ids"]) - len(ids)
        spans = (encoded["offset_mapping"][cut + place] for place in places)
        return {place: text[start:end] for place, (start, end) in zip(places, spans, strict=True)}

    def framed(self, texts: Sequence[list[int]], length: int) -> np.ndarray:
        """Puts [CLS] before and [SEP] behind the pieces of each text, and pads to `length` pieces. Returns [texts, length + 2] int32."""
        ids = np.full((len(texts), length + SPECIAL_PIECES), self.pad_id, np.int32)
        for row, pieces in zip(ids, texts, strict=True):
            row[: len(pieces) + SPECIAL_PIECES] = [self.cls_id, *pieces, self.sep_id]
        return ids

    def vocabulary(self) -> list[str]:
        """Returns the pieces in the order of their ids."""
        return [piece for piece, _ in sorted(self._fast.get_vocab().items(), key=lambda item: item[1])]


def cut(pieces: list[int], length: int, keep: str) -> list[int]:
    """Cuts a text to at most `length` pieces, of which the first ones are kept (`keep` is "head") or the last ones ("tail")."""
    return pieces[-length:] if keep == "tail" else pieces[:length]


def load(vocab: str | None, language: str, training_texts: Iterable[str], vocab_size: int) -> tuple[Tokenizer, str]:
    """Loads the tokeniser that --vocab asks for. Returns it, and a line that says which it is.

    Args:
      vocab: hub name, folder, vocabulary file, `minilm`, `learn`, or None: the paper's published vocabulary if a hub, its local
        cache or, in English, an installed MiniLM has it, else learned.
      language: picks the published vocabulary.
      training_texts: read only where a vocabulary is learned.
      vocab_size: of a learned vocabulary.

    Raises:
      UserError: the named vocabulary can't be had or lacks a piece that BERT needs.
    """
    if vocab == LEARN:
        return learn(training_texts, vocab_size)
    if vocab == minilm.NAME:
        return _of_minilm(minilm.needed("vocab"))
    if vocab is None:
        try:
            return from_hub(PUBLISHED[language]), f"tokeniser: {PUBLISHED[language]}"
        except UserError:
            if language == "en" and (folder := minilm.folder()):
                return _of_minilm(folder)
            tokenizer, note = learn(training_texts, vocab_size)
            return tokenizer, f"{note}, because no --vocab was given and {PUBLISHED[language]} could not be fetched from a hub"
    path = Path(vocab)
    instead = "give the path of a vocab.txt, or --vocab=learn"
    if os.path.isfile(path):  # unlike Path.is_file, false for a name too long to be a file's
        return from_file(path), f"tokeniser: vocabulary file {path.name}"
    if os.path.isdir(path):
        if (pieces := vocabulary_files.of_folder(path)) is None:
            raise UserError(f"--vocab={vocab}: the folder has no {' or '.join(vocabulary_files.FILES)}; {instead}")
        return from_pieces(pieces, TEXT), f"tokeniser: vocabulary of folder {path.name}"
    if vocab.startswith((".", "/", "~")) or vocab.endswith(".txt"):
        raise UserError(f"--vocab={vocab}: no such file or folder; {instead}")
    return from_hub(vocab), f"tokeniser: {vocab}"


def from_hub(name: str) -> Tokenizer:
    """Loads a tokeniser by hub name, from the local cache if it is there. Raises `UserError` where it can't be had."""
    try:
        offline = not hub.reachable()
        with working(f"fetching {name} from the hub"):
            pieces = BertTokenizerFast.from_pretrained(name, local_files_only=offline).get_vocab()
            # bert-base-chinese is published as case-sensitive, yet has no upper-case letter: every Latin capital would be unknown.
            fast = BertTokenizerFast.from_pretrained(name, local_files_only=offline, do_lower_case=not _is_cased(pieces))
    except (OSError, ValueError, TypeError) as error:  # TypeError: transformers found no vocabulary file in an offline cache
        raise UserError(
            f"--vocab={name}: neither a file here nor to be had from a hub ({type(error).__name__}); give a path, or --vocab=learn"
        ) from error
    vocabulary_files.check_special(set(fast.get_vocab()), name)
    return Tokenizer(fast, name)


def _of_minilm(folder: Path) -> tuple[Tokenizer, str]:
    return from_pieces(vocabulary_files.of_folder(folder), minilm.NAME), f"tokeniser: that of {PUBLISHED['en']}, as {minilm.PACKAGE} has it"


def from_file(path: Path) -> Tokenizer:
    """Loads a tokeniser from a vocabulary file, one piece a line, or from a tokenizer.json.

    It lower-cases unless the vocabulary has upper-case pieces. Raises `UserError` where the file can't be used (`pieces_in`).
    """
    return from_pieces(pieces_in(path), path.name)


def from_pieces(pieces: list[str], name: str) -> Tokenizer:
    """Makes a tokeniser of pieces in the order of their ids. It lower-cases unless some of them have capitals."""
    with tempfile.TemporaryDirectory() as folder:  # the library reads a file, and has its own ideas of where a line ends
        path = Path(folder) / TEXT
        path.write_bytes("".join(f"{piece}\n" for piece in pieces).encode())
        return Tokenizer(BertTokenizerFast(vocab_file=str(path), do_lower_case=not _is_cased(pieces)), name)


def learn(texts: Iterable[str], size: int) -> tuple[Tokenizer, str]:
    """Learns a WordPiece vocabulary of `size` pieces from texts; Chinese characters are pieces of their own, as in BERT's.

    Returns the tokeniser, and a line that describes it.

    The same texts give the same vocabulary. The library alone does not: it numbers the inner pieces ("##e") in the order
    of a hash table, breaks ties between merges by number, and ties between equally rare characters at random. So the inner
    pieces are named first, sorted, and the alphabet is chosen here.
    """
    trainer = BertWordPieceTokenizer(lowercase=True)
    normalizer, splitter = trainer.normalizer, trainer.pre_tokenizer
    texts = list(texts)
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    # Latin letters and digits are always in it, so that a word never seen in training is spelled out, not unknown.
    inner = sorted({f"##{c}" for c in LATIN} | {f"##{c}" for word in words for c in word[1:]})
    counts = Counter({c: words.total() + 1 for c in LATIN})  # before all others
    for word, count in words.items():
        counts.update(dict.fromkeys(word, count))
    most = max(len(LATIN), size - len(SPECIAL) - len(inner))
    alphabet = sorted(counts, key=lambda c: (-counts[c], c))[:most]
    trainer.train_from_iterator(
        texts,
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL, *inner],
        show_progress=False,
    )
    # Rebuilt from the pieces, because training leaves the inner ones registered as special tokens.
    fast = BertTokenizerFast(
        tokenizer_object=BertWordPieceTokenizer(vocab=trainer.get_vocab(), lowercase=True)._tokenizer, do_lower_case=True
    )
    tokenizer = Tokenizer(fast, "learned")
    return tokenizer, f"tokeniser: a WordPiece vocabulary of {len(tokenizer):,} pieces learned from the training split"


def _is_cased(pieces: Iterable[str]) -> bool:
    """Says whether a vocabulary has capitals; a handful ("<S>", "[unused1]") does not make it so."""
    pieces = list(pieces)
    return sum(piece != piece.lower() for piece in pieces if not piece.startswith("[")) > len(pieces) / 100
