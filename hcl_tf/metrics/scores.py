"""Computes every score of one system's outputs."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from hcl_tf.data.store.word_vectors import WordVectors
from hcl_tf.data.tokenizers.normalization import NONE
from hcl_tf.data.tokenizers.words import TOKENISATION, words
from hcl_tf.metrics import bleu, diversity, embedding, significance

IBLEU, SOURCE_BLEU = "iBLEU", "source-BLEU-4"
VERBATIM = "verbatim-training-targets"
ANY_KEYWORD, KEYWORDS = "any-keyword-included", "keywords-included"
MATCHED = ("BLEU-2", SOURCE_BLEU)  # of each sentence, what comparisons at matched overlap need (matched_overlap.py)
CORPUS_BLEU, DISTINCT_OUTPUTS = "sacreBLEU", "distinct-outputs"


def score(
    predictions: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    keywords: Sequence[Sequence[str]],
    training_targets: Iterable[str],
    language: str,
    vectors: WordVectors,
    seed: int = 1,
    normalization: str = NONE,
    further: Sequence[Sequence[str]] | None = None,
    units: np.ndarray | None = None,
) -> tuple[dict[str, dict], list[dict]]:
    """Scores n predictions.

    Args:
      predictions, references, sources: n texts each, uncut.
      keywords: for each prediction the keywords that it should contain, in the form that is looked for.
      training_targets: verbatim copies of these are counted.
      language: "en" or "zh".
      vectors: for the embedding scores, the same for all systems of a comparison.
      seed: of the bootstrap. normalization: of all these texts, which signatures name.
      further: for each prediction its references beyond the first. BLEU, iBLEU, sacreBLEU and the embedding scores take all references of a
        prediction, each in its way (bleu.py, embedding.py); no other score looks at references.
      units: [n] the unit that each is of, where some are not independent of each other; whole units are resampled.

    Returns:
      scores: name -> value, low and high (95% bootstrap interval; None for scores that count different outputs, which resampling
        sentences would bias), signature, and counts: the sentences that the value is over, and those that were left out. A value is None
        where no sentence has the score.
      per_example: for each prediction name -> value, of the scores that are means over sentences.
      Both are ready for JSON. The value of a mean is the mean of its per-example values, those that are None left out.

    Raises:
      ValueError: there is no prediction, or the lists do not have the same length.
    """
    lengths = set(map(len, (predictions, references, sources, keywords)))
    if lengths != {len(predictions)} or not predictions:
        raise ValueError(
            f"one or more predictions with a reference, source and keyword list each are needed; got lengths {sorted(lengths)}"
        )
    outputs, targets, inputs = ([words(text, language) for text in texts] for texts in (predictions, references, sources))
    more = [[words(text, language) for text in texts] for texts in further] if further else None
    known = (words(text, language) for text in dict.fromkeys(training_targets))
    looked_for = [[words(keyword, language) for keyword in given] for given in keywords]

    names, columns, signatures = _sentence_scores(outputs, targets, more, inputs, looked_for, known, language, vectors)
    samples = significance.resampled_means(columns, seed=seed, units=units)
    scores = {
        name: _entry(_mean(column), significance.percentiles(resampled), signature, _counts(name, column, outputs))
        for name, column, resampled, signature in zip(names, columns.T, samples.T, signatures, strict=True)
    }
    scores |= _corpus_scores(predictions, references, further, outputs, inputs, language, seed, units)
    per_example = [{name: _number(value) for name, value in zip(names, row, strict=True)} for row in columns]
    return with_normalization(scores, normalization), per_example


def with_normalization(scores: dict[str, dict], normalization: str) -> dict[str, dict]:
    """Returns scores whose signatures name the normalisation of the texts, if they had one."""
    named = "" if normalization == NONE else f"|text:{normalization}"
    return {name: entry | {"signature": entry["signature"] + named} for name, entry in scores.items()}


def _sentence_scores(outputs, targets, more, inputs, looked_for, known, language, vectors) -> tuple[list[str], np.ndarray, list[str]]:
    """Computes the scores that are means over sentences. Returns their names, values [n, scores] and signatures."""
    token = TOKENISATION[language]
    several = bleu.SEVERAL if more else ""
    inclusion = diversity.keyword_inclusion(outputs, looked_for)
    parts: list[tuple[str, np.ndarray, str]] = []
    for order, column in zip(bleu.ORDERS, bleu.sentence_scores(outputs, targets, further=more).T, strict=True):
        parts.append((f"BLEU-{order}", column, bleu.signature(order, language) + several))
    parts.append((IBLEU, bleu.ibleu(outputs, targets, inputs, more), bleu.ibleu_signature(language) + several))
    for name, column in zip(embedding.NAMES, embedding.similarities(outputs, targets, vectors, more).T, strict=True):
        parts.append((name, column, embedding.signature(name, language, vectors) + several))
    overlap = bleu.sentence_scores(outputs, inputs, orders=(4,))[:, 0]
    parts += [
        (SOURCE_BLEU, overlap, f"{bleu.signature(4, language)}|against:the source, not the reference (self-BLEU)"),
        (VERBATIM, diversity.verbatim(outputs, known), f"share of outputs equal to a training target|{token}|scale:1"),
        (ANY_KEYWORD, np.where(np.isnan(inclusion), np.nan, inclusion > 0), f"share of outputs with one of their keywords|{token}|scale:1"),
        (KEYWORDS, inclusion, f"share of its keywords that an output has, mean|{token}|scale:1"),
    ]
    names, columns, signatures = zip(*parts, strict=True)
    return list(names), np.stack(columns, axis=1).astype(np.float64), list(signatures)


def _corpus_scores(predictions, references, further, outputs, inputs, language, seed, units) -> dict[str, dict]:
    """Computes the scores of the outputs as a whole."""
    token = TOKENISATION[language]
    counts = {"sentences": len(outputs)}
    corpus = bleu.CorpusBleu(language)
    statistics = corpus.statistics(predictions, references, further)
    interval = significance.percentiles(significance.resampled(statistics, corpus.of, seed=seed, units=units))
    (value,) = corpus.of(statistics.sum(axis=0, keepdims=True))
    scores = {CORPUS_BLEU: _entry(value, interval, f"{corpus.signature(bool(further))}|scale:100", counts)}
    for order in (1, 2):
        signature = f"distinct-{order}|level:corpus|different {order}-grams / all {order}-grams|{token}|scale:1"
        scores[f"distinct-{order}"] = _entry(diversity.distinct(outputs, order), None, signature, counts)
    signature = f"different outputs / all outputs|{token}|scale:1"
    counts |= {"sources": len(set(map(tuple, inputs)))}  # a source that comes twice has the same output twice
    return scores | {DISTINCT_OUTPUTS: _entry(diversity.distinct_share(outputs), None, signature, counts)}


def _counts(name: str, column: np.ndarray, outputs: Sequence[Sequence[str]]) -> dict[str, int]:
    """Counts the sentences that a mean is over, those that were left out and why, and outputs without a word."""
    missing = int(np.isnan(column).sum())
    why = "without_keywords" if name in (ANY_KEYWORD, KEYWORDS) else "uncovered" if name in embedding.NAMES else None
    counts = {"sentences": len(column) - missing, "empty_outputs": sum(not output for output in outputs)}
    return counts | ({why: missing} if why else {})


def _mean(column: np.ndarray) -> float:
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else float("nan")


def _entry(value: float, interval: tuple[float, float] | None, signature: str, counts: dict[str, int]) -> dict:
    low, high = map(_number, interval) if interval else (None, None)
    return {"value": _number(value), "low": low, "high": high, "signature": signature, **counts}


def _number(value: float) -> float | None:
    """Returns a plain number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)
