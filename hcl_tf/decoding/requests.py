"""Texts of a user, or records of a prepared folder, to the batches that generation takes.

A raw text goes the way that preparation sends it: cleaned, cut to the pieces that the model sees, keywords taken from that
part. So the same text gives the same batch, whether it stands in a prepared folder or comes from standard input.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

from hcl_tf.data import appended, tagging
from hcl_tf.data.formats import TURN_BREAK, clean
from hcl_tf.data.graph import UNKNOWN, KeywordGraph
from hcl_tf.data.keywords import KeywordExtractor
from hcl_tf.data.pipeline import SPECIAL_PIECES
from hcl_tf.data.tfrecords import Text
from hcl_tf.data.tokenization import Tokenizer
from hcl_tf.errors import UserError
from hcl_tf.models.base import Batch

TURN_SEPARATOR = "\t"  # between the turns of a dialogue (or a story's sentences) that stand in one line
SHAPES = (1, 8, 32)  # rows of a batch: one text need not cost as much as 32, and few shapes mean few compilations


@dataclass(frozen=True)
class Request:
    """One source: its text, and as the model takes it WordPiece ids (cut, without special ones); each keyword's node, or `UNKNOWN`, and
    its name."""

    text: str
    ids: list[int]
    nodes: tuple[int, ...]
    keywords: tuple[str, ...] = ()


def from_record(source: Text) -> Request:
    """The request of a prepared source."""
    return Request(source.raw, source.ids, source.nodes, tuple(keyword.text for keyword in source.keywords))


class SourceReader:
    """Raw texts to requests, with the settings that the data was prepared with.

    Args:
      manifest: of the prepared data (its task and settings count).
      keywords: given ones, which replace those of each text; None: TextRank's.

    Attributes:
      notes: what is worth saying before the first output.

    Raises:
      UserError: the tagger can't be had, a given keyword holds no word, or there are more than the model was made for.
    """

    def __init__(self, manifest: dict, tokenizer: Tokenizer, graph: KeywordGraph, keywords: Sequence[str] | None = None) -> None:
        task, settings = manifest["task"], manifest["settings"]
        self._length, self._keep = task["source_length"], task["source_keep"]
        self._tokenizer, self._numbers = tokenizer, graph.numbers()
        self.notes: list[str] = []
        self._extractor = self._load_extractor(task["language"], manifest)
        self._given = None
        if keywords is not None:
            self._given = self._normalised(keywords, settings["keyword_unit"], settings["max_keywords"])

    def _load_extractor(self, language: str, manifest: dict) -> KeywordExtractor:
        settings = manifest["settings"]
        # "auto" stands for what it was when the data was prepared, not for what is installed here.
        tagger = manifest["tagger"].split(" (")[0] if settings["tagger"] == "auto" else settings["tagger"]
        found = KeywordExtractor(language, tagger, settings["keyword_unit"], settings["max_keywords"])
        if (here := tagging.describe_tagger(language, tagger)) != manifest["tagger"]:
            self.notes.append(f"the data was prepared with the tagger {manifest['tagger']}, here it is {here}: keywords may differ")
        return found

    def _normalised(self, keywords: Sequence[str], unit: str, most: int) -> tuple[str, ...]:
        """Given keywords as the graph names its nodes."""
        names: dict[str, None] = {}
        for keyword in keywords:
            found = self._extractor.normalise(keyword, self._numbers)
            if not found:
                raise UserError(f"--keywords: {keyword!r} holds no word; give words, separated by commas")
            names.update(dict.fromkeys(found))
        if len(names) > most:
            split = " (each word counts)" if unit == "word" else ""
            raise UserError(f"--keywords: {len(names)} keywords{split}, but the data was prepared with at most {most} a text; give fewer")
        for name in names:
            if name not in self._numbers:
                self.notes.append(f"keyword {name!r} is not in the keyword graph: it counts as unknown")
        return tuple(names)

    def read(self, line: str) -> Request | None:
        """The request of one line; None for a line without text."""
        raw = TURN_BREAK.join(turn for turn in map(clean, line.split(TURN_SEPARATOR)) if turn)
        if not raw:
            return None
        (span,) = self._tokenizer.kept_spans([raw], self._length, self._keep)
        start, end = span or (0, len(raw))
        (pieces,) = self._tokenizer.encode([raw])
        ids = pieces[-self._length :] if self._keep == "tail" else pieces[: self._length]
        names = self._given
        if names is None:
            names = tuple(keyword.text for keyword in self._extractor.extract(raw[start:end]))
        return Request(raw, ids, tuple(self._numbers.get(name, UNKNOWN) for name in names), names)


class RequestBatches:
    """Requests to batches of few shapes (see `Batches.make` for the columns).

    Args:
      source_length, max_keywords: S and K of the data that the system was trained on (`Inputs`).
      append_keywords: the sources of that data have their keywords appended.
    """

    def __init__(self, tokenizer: Tokenizer, source_length: int, max_keywords: int, append_keywords: bool = False) -> None:
        self._tokenizer, self._width, self._keywords = tokenizer, source_length + SPECIAL_PIECES, max_keywords
        self._append = append_keywords

    def make(self, requests: Sequence[Request], first: int) -> Batch:
        """One batch, of the smallest of `SHAPES` that holds them.

        Args:
          requests: 1 to the largest of `SHAPES`. first: the number of the first; the numbers decide a sampled z.

        Returns:
          source_ids [B, S + 2], source_nodes [B, K], source_unknown, example_rows [B] int32, example_mask [B] float32.
        """
        t, rows = self._tokenizer, next(size for size in SHAPES if size >= len(requests))
        ids = np.full((rows, self._width), t.pad_id, np.int32)
        nodes = np.full((rows, self._keywords), UNKNOWN, np.int32)
        unknown = np.zeros(rows, np.int32)
        sources = [request.ids for request in requests]
        if self._append:
            sources = appended.append(sources, [request.keywords for request in requests], t, appended.room(self._keywords))
        for row, request in enumerate(requests):
            pieces = [t.cls_id, *sources[row], t.sep_id]
            ids[row, : len(pieces)] = pieces
            nodes[row, : len(request.nodes)] = request.nodes
            unknown[row] = request.nodes.count(UNKNOWN)
        ids[len(requests) :] = ids[0]  # a row of nothing but padding has no text vector
        columns = {
            "source_ids": ids, "source_nodes": nodes, "source_unknown": unknown,
            "example_rows": np.arange(first, first + rows, dtype=np.int32),
            "example_mask": (np.arange(rows) < len(requests)).astype(np.float32),
        }  # fmt: skip
        return {name: tf.constant(column) for name, column in columns.items()}

    def of(self, requests: Iterable[Request], size: int = SHAPES[-1]) -> Iterator[Batch]:
        """All requests, `size` at a time."""
        remaining, first = iter(requests), 0
        while block := list(islice(remaining, size)):
            yield self.make(block, first)
            first += len(block)
