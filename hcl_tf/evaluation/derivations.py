"""Says of outputs on a generated sample whether they are sentences of its grammar, are varied, keep the topic, and fit their source."""

from collections.abc import Mapping, Sequence
from typing import Any

from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.corpora.grammar import Grammar, canonical

SHOWN = 4
MEASURES = {  # name -> what it is the share of
    "parse": "outputs that the grammar can derive as a target",
    "distinct": "different outputs among all",
    "topic kept": "outputs that have their source's topic word, or a synonym of it",
    "fit": "outputs that, by the grammar, go with their source and do not repeat it",
}


def measures(grammar: Grammar, sources: Sequence[str], outputs: Sequence[str]) -> dict[str, float]:
    """Returns name -> value, from 0 to 1, of `MEASURES`.

    Args:
      sources: of the sample, in their normal form, with turns or sentences apart. outputs: one of each.

    Raises:
      ValueError: there is no output, or the lists do not have the same length.
    """
    if not outputs:
        raise ValueError("one or more outputs are needed")
    texts = [canonical(output) for output in outputs]
    parse, kept, fit = [], [], []
    for source, text in zip(sources, texts, strict=True):
        readings = grammar.readings(text)
        parse.append(bool(readings))
        kept.append(any(_has(text, topic) for topic in grammar.topics(source)))
        agree = any(reading.agrees(other) for reading in readings for other in grammar.readings(source, "source"))
        fit.append(agree and text != canonical(source))
    return {name: sum(found) / len(texts) for name, found in (("parse", parse), ("topic kept", kept), ("fit", fit))} | {
        "distinct": len(set(texts)) / len(texts)
    }


def _has(text: str, words: str) -> bool:
    """Says whether some words occur in a text, as whole words where both have spaces between words."""
    if not words.isascii():
        return words in text
    return f" {words} " in f" {''.join(c if c.isalnum() else ' ' for c in text)} "


def lines(found: Mapping[str, Mapping[str, float]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Shows the measures of several systems, then some examples.

    Args:
      found: system -> `measures`. rows: of predictions.jsonl (`source` and `prediction`).
    """
    table = [f"{'on the GENERATED sample':<26}" + "".join(f"{name:>14}" for name in found)]
    for name, meaning in MEASURES.items():
        table.append(f"{name:<26}" + "".join(f"{values[name]:>14.1%}" for values in found.values()) + f"  {meaning}")
    chosen = [rows[i] for i in sample_rows(len(rows), SHOWN)]
    return table + [f"  {row['source']} => {row['prediction']}".replace("\n", " / ") for row in chosen]
