"""Finds texts of a corpus that are similar to a text, by BM25 (Robertson et al. 1995)."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence

import bm25s
import numpy as np

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports every index that it builds

QUERY_WORDS = 25
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_CHINESE = re.compile(r"[\u3400-\u9fff]+")


class Index:
    """Scores all documents for a text.

    A query is a text's rarest words, at most `QUERY_WORDS`: the frequent ones hardly change a score and cost most of the time
    (Lucene's MoreLikeThis keeps as many).

    Args:
      documents: texts. language: "en" or "zh".
    """

    def __init__(self, documents: Sequence[str], language: str) -> None:
        self._words = words_of(language)
        self._numbers: dict[str, int] = {}
        self._count = len(documents)
        texts = [[self._numbers.setdefault(word, len(self._numbers)) for word in self._words(text)] for text in documents]
        self._texts_with = Counter(number for words in texts for number in set(words))
        self._index = bm25s.BM25()
        if self._numbers:  # else there is nothing to be similar by
            self._index.index((texts, self._numbers), show_progress=False)

    def scores(self, text: str) -> np.ndarray:
        """Computes the score of each document, [documents] float32; 0 for those that share no word with the text."""
        query = [self._numbers[word] for word in self._words(text) if word in self._numbers]
        if not query:
            return np.zeros(self._count, np.float32)
        return self._index.get_scores_from_ids(np.array(sorted(query, key=self._texts_with.get)[:QUERY_WORDS], np.int32))


def best(scores: np.ndarray, most: int) -> np.ndarray:
    """Returns the numbers of the `most` documents with the highest scores, best first, ties by number. Those that score 0 are left out."""
    # bm25s's own `retrieve` partitions all scores, of which nearly all are 0: this is 20 times faster (BUILD_NOTES.md, 20).
    touched = np.flatnonzero(scores)
    if len(touched) > most:
        touched = touched[np.argpartition(-scores[touched], most)[:most]]
    return touched[np.lexsort((touched, -scores[touched]))]


def words_of(language: str) -> Callable[[str], list[str]]:
    """Returns the function that splits texts of a language for BM25: into lower-cased words without stop words, or, as search engines do
    with Chinese, into pairs of characters."""
    return _english_words if language == "en" else _chinese_words


def _english_words(text: str) -> list[str]:
    from spacy.lang.en.stop_words import STOP_WORDS

    stems = (word.partition("'")[0] for word in _WORD.findall(text.lower().replace("’", "'")) if not word.endswith("n't"))
    return [stem for stem in stems if stem not in STOP_WORDS]


def _chinese_words(text: str) -> list[str]:
    pairs = [run[i : i + 2] for run in _CHINESE.findall(text) for i in range(max(1, len(run) - 1))]
    return pairs + _WORD.findall(text.lower())
