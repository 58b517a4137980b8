"""Computes BLEU: the paper's sentence-level one (NLTK, smoothing method 7), a bounded one for iBLEU, and sacreBLEU's of a corpus.

Three properties of NLTK's sentence BLEU under method 7 that readers of a score should know:
  * it is not bounded by 1: an identical sentence of 9 words scores 1.333, 1.217, 1.154 and 1.117 for n = 1 to 4;
  * a hypothesis that shares no word with its reference scores 0, and so does an empty one, or any beside an empty reference;
  * method 5, within method 7, averages each precision with its neighbours', and above the last order it takes the 5-grams'.
    So weights (1,) and (1, 0, 0, 0) differ: the first is what stands here, the weights (1/n,)*n of BLEU-n.

So where a BLEU is subtracted from another, or from 1, it is smoothed by adding one to the counts of all orders but the first (Lin and Och
2004; NLTK's method 2). It lies between 0 and 1, and is 1 for an identical sentence that has an n-gram of each order; of an order that a
sentence is too short for, NLTK counts 0 matches among 1, so its precision is 1/2. What scores 0 above scores 0 here too.

Where a hypothesis has further references, all count an n-gram as often as the reference that has it most, and take the length of the
nearest one (BUILD_NOTES 104).
"""

from collections.abc import Callable, Sequence

import nltk
import numpy as np
import sacrebleu
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from hcl_tf.data.tokenizers.words import TOKENISATION, words
from hcl_tf.metrics.significance import means

ORDERS = (1, 2, 3, 4)
METHOD_7, ADD_ONE = SmoothingFunction().method7, SmoothingFunction().method2  # the paper's; the bounded one
ALPHA, IBLEU_ORDER = 0.8, 4  # weight of the references in iBLEU
SEVERAL = "|references:one or more"  # of a signature, where some hypotheses have further references
_SACREBLEU_TOKENISERS = {"en": "13a", "zh": "zh"}


def score(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], language: str = "en") -> dict[str, dict]:
    """Computes the paper's BLEU-1 to BLEU-4 of n texts, tokenised here: lower-cased words and punctuation marks, or Chinese characters.

    Args:
      hypotheses: n texts. references: for each its reference, or a list of its references.
      language: "en" or "zh".

    Returns:
      BLEU-1 to BLEU-4 -> value, the mean over texts on a scale of 0 to 100 (which it is not bounded by, see above); low and high, the
      mean's 95% bootstrap interval; examples, n; and signature. hcl_tf.evaluate writes the same values of the same
      texts, which it brings into their normal form first.

    Raises:
      ValueError: there is no text, not one reference (or list of them) for each, or no such language.
    """
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise ValueError("a list of hypotheses and a list of references are needed, not a single string")
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise ValueError(f"a reference for each of one or more hypotheses is needed; got {len(references)} for {len(hypotheses)}")
    if language not in TOKENISATION:
        raise ValueError(f"language={language!r}: one of {', '.join(TOKENISATION)} is expected")
    targets = [[words(one, language) for one in ([given] if isinstance(given, str) else given)] for given in references]
    if missing := [place for place, given in enumerate(targets) if not given]:
        raise ValueError(f"references[{missing[0]}]: an empty list; give at least one reference")
    several = SEVERAL if any(len(given) > 1 for given in targets) else ""
    outputs = [words(text, language) for text in hypotheses]
    columns = sentence_scores(outputs, [given[0] for given in targets], further=[given[1:] for given in targets]).T
    found = means({f"BLEU-{order}": column for order, column in zip(ORDERS, columns, strict=True)})
    return {
        name: entry | {"signature": signature(order, language) + several}
        for order, (name, entry) in zip(ORDERS, found.items(), strict=True)
    }


def sentence_scores(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    orders: Sequence[int] = ORDERS,
    further: Sequence[Sequence[Sequence[str]]] | None = None,
    smoothing: Callable = METHOD_7,
) -> np.ndarray:
    """Computes sentence BLEU of n tokenised hypotheses against one reference each, and those in `further`.

    Returns [n, orders] on a scale of 0 to 100, which `METHOD_7` is not bounded by and `ADD_ONE` is.
    """
    scores = [
        [sentence_bleu([reference, *others], hypothesis, (1 / order,) * order, smoothing) for order in orders]
        for hypothesis, reference, others in zip(hypotheses, references, further or [()] * len(references), strict=True)
    ]
    return 100.0 * np.array(scores, np.float64).reshape(len(hypotheses), len(orders))


def ibleu(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    sources: Sequence[Sequence[str]],
    further: Sequence[Sequence[Sequence[str]]] | None = None,
) -> np.ndarray:
    """Computes iBLEU (Sun and Zhou 2012), which rewards likeness to the references and punishes likeness to the source.

    It is ALPHA * BLEU(hypothesis, references) - (1 - ALPHA) * BLEU(hypothesis, source), with the bounded BLEU-4.

    Returns [n], between -100 * (1 - ALPHA) and 100 * ALPHA.
    """
    rewarded = sentence_scores(hypotheses, references, (IBLEU_ORDER,), further, ADD_ONE)[:, 0]
    return ALPHA * rewarded - (1 - ALPHA) * sentence_scores(hypotheses, sources, (IBLEU_ORDER,), smoothing=ADD_ONE)[:, 0]


def signature(order: int, language: str, smoothing: Callable = METHOD_7) -> str:
    """Returns the signature of `sentence_scores` of one order."""
    scale = "scale:100" if smoothing is ADD_ONE else "scale:100, not bounded by it"
    return (
        f"BLEU-{order}|level:sentence, mean|smooth:nltk.{smoothing.__name__}|weights:(1/{order},)*{order}|{TOKENISATION[language]}"
        f"|{scale}|nltk:{nltk.__version__}"
    )


def ibleu_signature(language: str) -> str:
    """Returns the signature of `ibleu`."""
    return f"iBLEU|alpha:{ALPHA}|{signature(IBLEU_ORDER, language, ADD_ONE)}"


class CorpusBleu:
    """Computes sacreBLEU of a corpus of raw texts, lower-cased, with sacreBLEU's own tokenisation.

    `statistics` counts, for each sentence, what the score is computed from; `of` computes scores from sums of these counts. So a bootstrap
    can sum them over any resample.
    """

    def __init__(self, language: str) -> None:
        settings = {"tokenize": _SACREBLEU_TOKENISERS[language], "lowercase": True}
        self._corpus = sacrebleu.BLEU(**settings)
        self._sentence = sacrebleu.BLEU(**settings, effective_order=True)  # the counts are the same, without a warning a sentence

    def statistics(
        self, hypotheses: Sequence[str], references: Sequence[str], further: Sequence[Sequence[str]] | None = None
    ) -> np.ndarray:
        """Counts each sentence's n-gram matches of orders 1 to 4, n-grams of the hypothesis, and both lengths. Returns [n, 10] float64."""
        rows = []
        for hypothesis, reference, others in zip(hypotheses, references, further or [()] * len(references), strict=True):
            found = self._sentence.sentence_score(hypothesis, [reference, *others])
            rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
        return np.array(rows, np.float64).reshape(len(hypotheses), 10)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Computes scores [m], on a scale of 0 to 100, from m sums of rows of `statistics`, [m, 10]."""
        compute, method = self._corpus.compute_bleu, self._corpus.smooth_method
        rows = np.asarray(sums).astype(np.int64).tolist()  # it formats the lengths as integers
        return np.array([compute(row[:4], row[4:8], row[8], row[9], smooth_method=method).score for row in rows], np.float64)

    def signature(self, several: bool = False) -> str:
        """Returns sacreBLEU's own signature, for one reference a sentence or, with `several`, for some that have more."""
        self._corpus.corpus_score(["a", "a"], [["a", "a"], ["a", None]] if several else [["a", "a"]])  # it knows their number only now
        return f"BLEU|{self._corpus.get_signature()}"
