"""jieba as a spaCy tokenizer."""

import logging
import warnings
from functools import cache, lru_cache

import numpy as np
from spacy.tokens import Doc
from spacy.vocab import Vocab

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # setuptools says so of jieba's way to find its dictionary
    import jieba.posseg

jieba.setLogLevel(logging.WARNING)

REMEMBERED = 100_000  # runs of characters and their words; chat has the same ones over and over
NEVER = -3.14e100  # jieba's logarithm of 0
_ENDS = "。！？!?\n"
# jieba's tags by first letter: nouns (n), abbreviations (j), places (s), idioms (i, l) and Latin words (eng) name things.
_CHINESE = {**dict.fromkeys("njsile", "NOUN"), **dict.fromkeys("abz", "ADJ"), "v": "VERB", "m": "NUM"}


class JiebaTokenizer:
    """Segments and tags Chinese with jieba. Every character of the text is covered, so offsets stay true.

    The instance is our own, and reads the dictionary that the package ships with. jieba's global one takes what another program left as
    jieba.cache in the folder for temporary files, and the words that another part of this process adds.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab
        segmenter = jieba.Tokenizer()
        segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
        segmenter.initialized = True  # else it would look for a cache
        self._cut = _Tagger(segmenter).lcut

    def __call__(self, text: str) -> Doc:
        pairs = [(pair.word, pair.flag) for pair in self._cut(text)]
        words = [word for word, _ in pairs]
        return Doc(
            self.vocab,
            words=words,
            spaces=[False] * len(words),
            pos=[part_of_speech(*pair) for pair in pairs],
            lemmas=[w.lower() for w in words],
            sent_starts=[i == 0 or words[i - 1] in _ENDS for i in range(len(words))],
        )


@lru_cache(REMEMBERED)
def part_of_speech(word: str, flag: str) -> str:
    """Returns the universal part of speech of a word with jieba's tag."""
    if not any(character.isalnum() for character in word):
        return "PUNCT"
    if flag in ("nr", "ns", "nt", "nz", "nrt", "nrfg"):
        return "PROPN"
    if flag in ("vn", "an"):  # verbs and adjectives used as nouns
        return "NOUN"
    if flag == "e":  # interjections; "eng" is Latin text
        return "INTJ"
    return _CHINESE.get(flag[0], "X")


class _Tagger(jieba.posseg.POSTokenizer):
    """jieba's tagger with `best_states` for its own search of runs of characters that are no words of the dictionary.

    That search goes from state to state in Python and takes most of jieba's time.
    """

    def __init__(self, segmenter: jieba.Tokenizer) -> None:
        super().__init__(segmenter)
        self._POSTokenizer__cut = lru_cache(REMEMBERED)(_words_of_run)


def _words_of_run(run: str) -> tuple[jieba.posseg.pair, ...]:
    """Returns the words of a run with their tags, as its best states begin (B), go on (M) and end (E) them or are one each (S)."""
    found, start = [], 0
    for i, (place, tag) in enumerate(states := best_states(run)):
        if place in "BS":
            start = i
        if place in "ES":
            found.append(jieba.posseg.pair(run[start : i + 1], tag))
            start = i + 1
    if start < len(run):
        found.append(jieba.posseg.pair(run[start:], states[start][1]))
    return tuple(found)


# The states of jieba's hidden Markov model, (place in a word, tag). Of equally likely ones jieba takes the last in order: here the first.
_STATES = sorted(jieba.posseg.trans_P, reverse=True)
_NUMBERS = {state: number for number, state in enumerate(_STATES)}
_START = np.array([jieba.posseg.start_P[state] for state in _STATES])
_STEPS = np.array([[jieba.posseg.trans_P[before].get(after, -np.inf) for after in _STATES] for before in _STATES])
_FOLLOWS = np.isfinite(_STEPS)


@cache
def _emission(character: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the states that may emit a character, in order, and each state's log probability to do so, [states]."""
    states = sorted(_NUMBERS[state] for state in jieba.posseg.char_state_tab_P.get(character, _STATES))
    return np.array(states), np.array([jieba.posseg.emit_P[state].get(character, NEVER) for state in _STATES])


def best_states(run: str) -> list[tuple[str, str]]:
    """Returns the most likely states of the characters of a run by Viterbi's algorithm, those of `jieba.posseg.viterbi`."""
    states, emitted = _emission(run[0])
    scores = _START[states] + emitted[states]
    ways = []  # for each later character: state -> the best one before it
    for character in run[1:]:
        live = _FOLLOWS[states].any(1)
        before, scores = states[live], scores[live]
        reached = _FOLLOWS[before].any(0)
        states, emitted = _emission(character)
        states = states[reached[states]] if reached[states].any() else np.flatnonzero(reached)
        through = scores[:, None] + _STEPS[np.ix_(before, states)] + emitted[states]
        best = through.argmax(0)
        scores = through[best, np.arange(len(states))]
        ways.append(dict(zip(states.tolist(), before[best].tolist(), strict=True)))
    route = [int(states[scores.argmax()])]
    for way in reversed(ways):
        route.append(way[route[-1]])
    return [_STATES[number] for number in reversed(route)]
