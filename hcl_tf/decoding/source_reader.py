"""Turns texts of a user into sources as the model takes them.

A raw text is treated as in preparation: it is cleaned, normalised and cut to the pieces that the model sees, and its keywords are
taken from that part. So the same text gives the same batch, whether it stands in a prepared folder or comes from standard input.
"""

from collections.abc import Sequence

from hcl_tf.data.corpora.examples import TURN_BREAK, clean
from hcl_tf.data.keywords import tagging
from hcl_tf.data.keywords.graph import UNKNOWN, KeywordGraph
from hcl_tf.data.keywords.textrank import KeywordExtractor
from hcl_tf.data.tokenizers import normalization
from hcl_tf.data.tokenizers.wordpiece import Tokenizer, cut
from hcl_tf.decoding.sources import Source
from hcl_tf.errors import UserError

TURN_SEPARATOR = "\t"  # between the turns of a dialogue (or a story's sentences) that stand in one line


class SourceReader:
    """Reads raw texts with the settings that a run's data was prepared with.

    Args:
      manifest: of the prepared data.
      keywords: replace those of each text; None: TextRank's.

    Attributes:
      notes: lines for the user, to be shown before the first output. normal: the function that the data was normalised with.

    Raises:
      UserError: the tagger can't be had, a keyword that is given holds no word, or there are more than the model was made for.
    """

    def __init__(self, manifest: dict, tokenizer: Tokenizer, graph: KeywordGraph, keywords: Sequence[str] | None = None) -> None:
        task, settings = manifest["task"], manifest["settings"]
        self._length, self._keep = task["source_length"], task["source_keep"]
        self._tokenizer, self._numbers = tokenizer, graph.numbers()
        self.normal = normalization.of(manifest)
        self.notes: list[str] = []
        self._extractor = self._load_extractor(task["language"], manifest)
        self._unit, self._most = settings["keyword_unit"], settings["max_keywords"]
        self._given = None
        if keywords is not None:
            self._given = self.normalised(keywords)
            self.notes += [f"keyword {name!r} is not in the keyword graph: it counts as unknown" for name in self.unknown(self._given)]

    def _load_extractor(self, language: str, manifest: dict) -> KeywordExtractor:
        settings = manifest["settings"]
        # "auto" stands for what it was when the data was prepared, not for what is installed here.
        tagger = manifest["tagger"].split(" (")[0] if settings["tagger"] == "auto" else settings["tagger"]
        stop_words = manifest.get("stop_words", [language])  # what was left out before it was recorded
        parsed = manifest.get("parsed", True)  # as for all units before it was recorded
        found = KeywordExtractor(language, tagger, settings["keyword_unit"], settings["max_keywords"], stop_words, parsed)
        if (here := tagging.describe_tagger(language, tagger)) != manifest["tagger"]:
            self.notes.append(f"the data was prepared with the tagger {manifest['tagger']}, here it is {here}: keywords may differ")
        return found

    def normalised(self, keywords: Sequence[str]) -> tuple[str, ...]:
        """Turns keywords that a person gives into the form that the graph's nodes have, in their order, each once.

        Raises:
          UserError: a keyword holds no word, or there are more than the model was made for.
        """
        names: dict[str, None] = {}
        for keyword in keywords:
            found = self._extractor.normalise(self.normal(keyword), self._numbers)
            if not found:
                raise UserError(f"--keywords: {keyword!r} holds no word; give words, separated by commas")
            names.update(dict.fromkeys(found))
        if len(names) > self._most:
            split = " (each word counts)" if self._unit == "word" else ""
            raise UserError(
                f"--keywords: {len(names)} keywords{split}, but the data was prepared with at most {self._most} a text; give fewer"
            )
        return tuple(names)

    def unknown(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns those of normalised keywords that the graph lacks."""
        return tuple(name for name in names if name not in self._numbers)

    def text_of(self, line: str) -> str:
        """Returns the text in one line, clean and in its normal form, uncut; "" for a line without text."""
        return self.normal(TURN_BREAK.join(turn for turn in map(clean, line.split(TURN_SEPARATOR)) if turn))

    def read(self, line: str, keywords: tuple[str, ...] | None = None) -> Source | None:
        """Reads the source in one line; None for a line without text. `keywords`: normalised ones, in place of those of the text."""
        text = self.text_of(line)
        if not text:
            return None
        ((span, _),) = self._tokenizer.kept([text], self._length, self._keep)
        start, end = span or (0, len(text))
        (pieces,) = self._tokenizer.encode([text])
        ids = cut(pieces, self._length, self._keep)
        names = self._given if keywords is None else keywords
        if names is None:
            names = tuple(keyword.text for keyword in self._extractor.extract(text[start:end]))
        return Source(text, ids, tuple(self._numbers.get(name, UNKNOWN) for name in names), names)
