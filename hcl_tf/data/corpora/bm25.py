"""Finds texts of a corpus that are similar to a text, by BM25 (Robertson et al. 1995)."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise

import bm25s
import numpy as np
from scipy.sparse import csr_array

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports every index that it builds

QUERY_WORDS = 25
BLOCK = 64  # texts scored at once: enough to hide what a product of matrices costs besides, few enough for their scores to stay small
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_CHINESE = re.compile(r"[\u3400-\u9fff]+")


class Index:
    """Scores all documents for texts.

    A query is a text's rarest words, at most `QUERY_WORDS`: the frequent ones hardly change a score and cost most of the time
    (Lucene's MoreLikeThis keeps as many).

    Args:
      documents: texts. language: "en" or "zh".
    """

    def __init__(self, documents: Sequence[str], language: str) -> None:
        self._words = words_of(language)
        self._numbers: dict[str, int] = {}
        texts = [[self._numbers.setdefault(word, len(self._numbers)) for word in self._words(text)] for text in documents]
        if self._numbers:
            index = bm25s.BM25()
            index.index((texts, self._numbers), create_empty_token=False, show_progress=False)
            columns = tuple(index.scores[part] for part in ("data", "indices", "indptr"))
        else:  # there is nothing to be similar by
            columns = (np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int32))
        self._weights = csr_array(columns, shape=(len(self._numbers), len(documents)))
        self._texts_with = np.diff(self._weights.indptr).tolist()

    def scores(self, texts: Sequence[str]) -> csr_array:
        """Computes the score of each document for each text, [texts, documents] float32; none for those that share no word with it."""
        # A product of sparse matrices reads and writes only documents that share a word with a text, as a rule some in a hundred.
        queries = [self._query(text) for text in texts]
        ends = np.cumsum([0, *map(len, queries)])
        words = np.fromiter(chain.from_iterable(queries), np.int32, ends[-1])
        return csr_array((np.ones(len(words), np.float32), words, ends), shape=(len(texts), len(self._numbers))) @ self._weights

    def nearest(self, texts: Sequence[str], most: int, threads: int) -> Iterator[np.ndarray]:
        """Yields for each text what `best` does. Neither SciPy's product nor NumPy's partition holds other threads up."""
        blocks = (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))
        with ThreadPoolExecutor(threads) as pool:
            for found in pool.map(lambda block: best(self.scores(block), most), blocks):
                yield from found

    def _query(self, text: str) -> list[int]:
        """Returns the numbers of a text's words that a document has, the rarest first."""
        found = [self._numbers[word] for word in self._words(text) if word in self._numbers]
        return sorted(found, key=self._texts_with.__getitem__)[:QUERY_WORDS]


def best(scores: csr_array, most: int) -> list[np.ndarray]:
    """Returns for each row the numbers of the `most` documents with the highest scores, best first, ties by number."""
    return [_best(scores.indices[start:end], scores.data[start:end], most) for start, end in pairwise(scores.indptr)]


def _best(documents: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    if len(scores) > most:
        kept = scores >= np.partition(scores, -most)[-most]
        documents, scores = documents[kept], scores[kept]
    return documents[np.lexsort((documents, -scores))][:most]


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
