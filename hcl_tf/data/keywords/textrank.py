"""Extracts TextRank keywords from texts (paper section 3.2), with pytextrank on spaCy.

A keyword is a content word (`word`, the default: TextRank's own unit, Mihalcea and Tarau 2004) or a noun phrase
(`phrase`), written as its lemma in lower case, so that the same word in two texts is one node of the keyword graph.
"""

import os
import threading
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from importlib import import_module
from multiprocessing import connection, get_context, parent_process

from threadpoolctl import threadpool_limits

from hcl_tf.data.corpora.examples import Keyword
from hcl_tf.data.keywords import word_ranks
from hcl_tf.data.keywords.tagging import NOMINAL, load_pipeline
from hcl_tf.errors import UserError
from hcl_tf.progress import bar

STOP_WORDS = {"en": ("en",), "zh": ("zh", "en")}  # language -> the languages whose stop words are no keywords: chat mixes two
_TITLES = frozenset(("mr", "mr.", "mrs", "mrs.", "ms", "ms.", "dr", "dr."))  # name nobody by themselves
# What a tokeniser for Chinese leaves of "don't" and "I'll" (spaCy's lists have "n't" and "'ll").
_CUT_CONTRACTIONS = frozenset((
    "ain", "aren", "couldn", "didn", "doesn", "don", "hadn", "hasn", "haven", "isn", "ll", "mustn", "needn", "shouldn", "ve", "wasn",
    "weren", "won", "wouldn",
))  # fmt: skip
BATCH = 128  # texts that a trained tagger tags at once
CHUNK = 500  # texts a task handed to a worker: large enough to hide the hand-over, small enough for a smooth bar
WORTH_A_WORKER = 15_000  # texts; starting workers takes as long as some 8,000 texts take in one process
LONGEST = 10_000  # characters of a text that are looked at; TextRank's cost grows with the square of a text's words


class KeywordExtractor:
    """Extracts keywords in this process. Settings are plain values, so that a worker can build the same extractor.

    Args:
      language: "en" or "zh". tagger: as of `tagging.load_pipeline`. unit: "word" or "phrase". most: keywords of a text.
      stop_words: languages whose stop words are no keywords; None: `STOP_WORDS`.
      parsed: as of `tagging.load_pipeline`; None: where the unit is the phrase.
    """

    def __init__(
        self, language: str, tagger: str = "auto", unit: str = "word", most: int = 4, stop_words: Sequence[str] | None = None,
        parsed: bool | None = None,
    ) -> None:  # fmt: skip
        self.language, self.unit, self.most = language, unit, most
        self.nlp = load_pipeline(language, tagger, unit == "phrase" if parsed is None else parsed)
        if unit == "word":
            self.nlp.disable_pipe("textrank")  # its phrases are not read, and words have their ranks from `word_ranks`
        self._stop_words = _stop_words(tuple(STOP_WORDS[language] if stop_words is None else stop_words))

    def extract(self, text: str) -> tuple[Keyword, ...]:
        """Returns the keywords of a text, best first, at most `most`; none only where the text has no content word."""
        return self.of_doc(self.nlp(text[:LONGEST]))

    def extract_each(self, texts: Iterable[str]) -> list[tuple[Keyword, ...]]:
        """Does as `extract` for many texts, which a trained tagger tags in batches."""
        return [self.of_doc(doc) for doc in self.nlp.pipe((text[:LONGEST] for text in texts), batch_size=BATCH)]

    def of_doc(self, doc) -> tuple[Keyword, ...]:
        """Does as `extract`, for a spaCy document that has been through the pipeline."""
        words = self._words(doc)
        found = self._phrases(doc, words) if self.unit == "phrase" else []
        return tuple(_best(found or words, self.most))

    def normalise(self, keyword: str, nodes: Container[str]) -> list[str]:
        """Turns a keyword that a person gives into the form that the graph's `nodes` have: its words' lemmas in lower case.

        A word that is a node as it stands is left so: outside of a sentence, a word's part of speech, and so its lemma, is a guess.

        Returns:
          Where the unit is the word, a keyword for each word; else at most one. None where there is no word.
        """
        whole = " ".join(keyword.lower().split())
        if whole in nodes:
            return [whole]
        words = [token.lower_ if token.lower_ in nodes else self._node(token) for token in self.nlp(whole) if _is_word(token.text)]
        return [" ".join(words)] if words and self.unit == "phrase" else words

    def _is_content(self, token) -> bool:
        """Says whether a token is a noun, name, adjective or verb, and not a stop word."""
        return (
            token.pos_ in (*NOMINAL, "VERB")
            and _is_word(token.text)
            and _has_letter(self._node(token))
            and token.lower_ not in self._stop_words
            and self._node(token) not in self._stop_words
        )

    def _node(self, token) -> str:
        return (token.lemma_ or token.text).lower()

    def _words(self, doc) -> list[Keyword]:
        """Returns nouns and adjectives (the filter that Mihalcea and Tarau found best); verbs where a text has neither."""
        ranks = word_ranks.ranks(doc)
        content = [token for token in doc if self._is_content(token)]
        chosen = [token for token in content if token.pos_ in NOMINAL] or content
        return [Keyword(self._node(t), t.idx, t.idx + len(t), ranks.get((t.lemma_, t.pos_), 0.0), t.pos_ != "ADJ") for t in chosen]

    def _phrases(self, doc, words: list[Keyword]) -> list[Keyword]:
        """Returns pytextrank's phrases, each written as the lemmas of its content words."""
        by_start = {word.start: word for word in words}
        found = []
        for phrase in doc._.phrases:
            inside = [by_start[token.idx] for token in phrase.chunks[0] if token.idx in by_start]
            if inside:
                found.append(Keyword(" ".join(word.text for word in inside), inside[0].start, inside[-1].end, phrase.rank))
        return found


def _best(found: list[Keyword], most: int) -> list[Keyword]:
    """Returns the best distinct keywords: nouns before adjectives, then by score, then by place.

    In a text of ten words all scores are nearly equal, and without the first rule "crisp" and "thick" push "bread" out.
    Scores that differ only in rounding count as equal.
    """
    distinct: dict[str, Keyword] = {}
    for keyword in found:
        known = distinct.get(keyword.text)
        if known is None or (-round(keyword.rank, 6), keyword.start) < (-round(known.rank, 6), known.start):
            distinct[keyword.text] = keyword
    return sorted(distinct.values(), key=lambda keyword: (not keyword.nominal, -round(keyword.rank, 6), keyword.start))[:most]


def _is_word(text: str) -> bool:
    """Says whether a text has letters, and more than one character unless it is Chinese ("r" and "'s" name nothing)."""
    return _has_letter(text) and (len(text) > 1 or "\u3400" <= text <= "\u9fff")


def _has_letter(text: str) -> bool:
    """Says whether a text has a letter that stands for itself; accents and length marks alone make faces ("ˊ_ˋ")."""
    return any(character.isalpha() and unicodedata.category(character) != "Lm" for character in text)


@lru_cache
def _stop_words(languages: tuple[str, ...]) -> frozenset[str]:
    found = frozenset().union(*(import_module(f"spacy.lang.{language}.stop_words").STOP_WORDS for language in languages))
    return found | _TITLES | (_CUT_CONTRACTIONS if languages == STOP_WORDS["zh"] else frozenset())


_worker: KeywordExtractor | None = None


def _start_worker(*settings) -> None:
    global _worker
    if (parent := parent_process()) is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
        threadpool_limits(1)  # every worker is one core's work: BLAS threads of all workers together made two slower than one
    _worker = KeywordExtractor(*settings)


def _die_with(sentinel: int) -> None:
    """Ends this worker when its parent is gone: a killed run leaves no idle processes."""
    connection.wait([sentinel])
    os._exit(1)


def _extract_chunk(texts: list[str]) -> list[tuple[Keyword, ...]]:
    return _worker.extract_each(texts)


def extract_all(texts: Iterable[str], language: str, tagger: str, unit: str, most: int, workers: int) -> dict[str, tuple[Keyword, ...]]:
    """Extracts the keywords of each distinct text. The result does not depend on `workers` (processes).

    Raises:
      UserError: a worker died (as a rule: out of memory).
    """
    distinct = list(dict.fromkeys(texts))
    chunks = [distinct[i : i + CHUNK] for i in range(0, len(distinct), CHUNK)]
    settings = (language, tagger, unit, most)
    found: dict[str, tuple[Keyword, ...]] = {}
    with bar("keywords (TextRank)", len(distinct)) as progress:
        for chunk, result in zip(chunks, _map(chunks, settings, min(workers, -(-len(distinct) // WORTH_A_WORKER))), strict=True):
            found.update(zip(chunk, result, strict=True))
            progress.update(len(chunk))
    return found


def _map(chunks: list[list[str]], settings: tuple, workers: int) -> Iterator[list[tuple[Keyword, ...]]]:
    if workers <= 1:
        _start_worker(*settings)
        with threadpool_limits(1):
            yield from map(_extract_chunk, chunks)
        return
    KeywordExtractor(*settings)  # a tagger that can't be had is refused here; in a worker it would look like a crash
    # Not "fork": forking a process that has TensorFlow's threads can hang. The fork server imports spaCy once for all workers.
    context = get_context("forkserver")
    context.set_forkserver_preload(["hcl_tf.data.keywords.tagging"])
    with ProcessPoolExecutor(workers, context, _start_worker, settings) as pool:
        try:
            yield from pool.map(_extract_chunk, chunks)
        except BrokenProcessPool as error:
            raise UserError("a keyword worker died, most likely for want of memory; try --workers=1") from error
        finally:
            pool.shutdown(cancel_futures=True)
