"""jieba as a spaCy tokenizer."""

import logging
from functools import lru_cache

import jieba.posseg
from spacy.tokens import Doc
from spacy.vocab import Vocab

jieba.setLogLevel(logging.WARNING)

REMEMBERED = 100_000  # runs of characters and their words; chat has the same ones over and over
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
    """jieba's tagger, which remembers what it made of runs of characters that are no words of the dictionary.

    Its search over the states of a hidden Markov model, in Python, takes most of its time.
    """

    def __init__(self, segmenter: jieba.Tokenizer) -> None:
        super().__init__(segmenter)
        search = self._POSTokenizer__cut
        self._POSTokenizer__cut = lru_cache(REMEMBERED)(lambda run: tuple(search(run)))
