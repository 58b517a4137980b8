"""Chooses the negative y- of every example (the paper's "negative samples" of section 3.3; how: BUILD_NOTES.md).

Three rules hold whatever the mode:
  * a negative is never the source, a turn of it, or the target of its own example, nor a text of the same cluster of
    duplicates or the same group (story);
  * no source, target or negative of the validation and test splits is ever a negative in training;
  * the choice is a function of the corpus and the seed alone.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache, partial
from itertools import islice
from typing import Any

import numpy as np

from hcl_tf.data.corpora import bm25
from hcl_tf.data.corpora.examples import TURN_BREAK, Example
from hcl_tf.data.corpora.qqp import Clusters, text_key
from hcl_tf.errors import UserError
from hcl_tf.progress import track

Allowed = Callable[..., bool]  # (text[, the example whose target it is]) -> whether it may be the negative
Rules = Callable[[Example], Allowed]
HELD_OUT = ("validation", "test")
RETRIEVED = 50  # texts looked at for each example, the most similar first, until enough are eligible


def choose(
    splits: dict[str, list[Example]],
    clusters: Clusters,
    *,
    mode: str,
    language: str,
    candidates: int,
    own_split: bool,
    seed: int,
    normal: Callable[[str], str] = str,
    threads: int = 1,
    filled: Collection[str] = (),
) -> tuple[dict[str, list[Example]], list[str]]:
    """Sets `negative` and `route` of every example; those for which none can be had are left out and counted.

    Args:
      splits: train, validation and test.
      clusters: which texts are paraphrases of each other.
      mode: "labelled" takes the corpus's own candidates; "bm25" the targets of similar sources; "labelled_then_bm25" the second where the
        first has none; "random" any target. Where any mode but "labelled" finds none, a random target is taken.
      language: decides what BM25 takes as words.
      candidates: the negative is drawn from this many best eligible BM25 hits.
      own_split: held-out examples take their BM25 negatives from their own split (else from the training targets).
      seed: seeds every draw, together with the example's id.
      normal: gives the form of a text in which BM25 compares it.
      threads: how many of them look for similar texts; the choice does not depend on it.
      filled: splits whose examples take a text found by BM25 where "labelled" finds none.

    Returns:
      The splits and notes for the user.

    Raises:
      UserError: a split is left without an example.
    """
    if not splits["train"]:
        raise UserError("there is no training example; give a larger corpus")
    given = sum(bool(e.negatives) for examples in splits.values() for e in examples)
    total = sum(map(len, splits.values()))
    notes = [f"examples with a negative of the corpus's own: {given:,} of {total:,} ({given / total:.1%})"]
    # Held-out examples choose first: what they take is then forbidden in training.
    forbidden: set[str] = {text_key(text) for split in HELD_OUT for e in splits[split] for text in (e.source, e.target, *e.references)}
    kept: dict[str, list[Example]] = {}

    @cache  # all splits may take from one
    def index(place: str) -> bm25.Index:
        return bm25.Index([normal(e.source) for e in splits[place]], language)

    def similar(place: str, examples: list[Example]) -> Iterator[np.ndarray]:
        return index(place).nearest([normal(e.source) for e in examples], RETRIEVED, threads)

    for split in (*HELD_OUT, "train"):
        training = split == "train"
        rules = partial(_rules, clusters, forbidden if training else set())
        place = split if own_split else "train"
        of_split = "labelled_then_bm25" if mode == "labelled" and split in filled else mode
        if of_split in ("labelled", "labelled_then_bm25"):
            _take_given(splits[split], rules)
        if of_split in ("labelled_then_bm25", "bm25"):
            _fill(splits[split], splits[place], "bm25", partial(similar, place), candidates, rules, seed)
        if of_split != "labelled":  # what shares no word with any other text, or only with its paraphrases, still needs a negative
            _fill(splits[split], splits[place], "random", partial(_random_ranks, len(splits[place]), seed), 1, rules, seed)
        kept[split] = [e for e in splits[split] if e.negative]
        if not training:
            forbidden.update(text_key(e.negative) for e in kept[split])
        if lost := len(splits[split]) - len(kept[split]):
            advice = "; --split_by=question loses none to held-out texts" if training and mode == "labelled" and not own_split else ""
            notes.append(f"{split}: {lost:,} examples without an allowed negative left out{advice}")
        if splits[split] and not kept[split]:
            remedy = "pass --negatives=labelled_then_bm25, or give a larger corpus" if mode == "labelled" else "give a larger corpus"
            raise UserError(
                f"no {split} example has a usable negative (none of its own texts or paraphrases nor, in training, a held-out text); "
                f"{remedy}"
            )
    for split in ("train", *HELD_OUT):
        routes = Counter(e.route for e in kept[split])
        notes.append(
            f"negatives in {split}: "
            + ", ".join(f"{route} {count:,} ({count / len(kept[split]):.1%})" for route, count in sorted(routes.items()))
        )
    return {split: kept[split] for split in splits}, notes


def negative_routes(manifest: dict[str, Any]) -> dict[str, float]:
    """Reads from a manifest which share of the training negatives comes from where; of folders before version 0.3 from their notes."""
    if known := manifest["splits"]["train"].get("negatives"):
        return known["routes"]
    note = next((note for note in manifest.get("notes", []) if note.startswith("negatives in train: ")), "")
    return {route: float(share) / 100 for route, share in re.findall(r"(\w+) [\d,]+ \(([\d.]+)%\)", note)}


def _take_given(examples: list[Example], rules: Rules) -> None:
    """Sets the negative to one that the corpus offers, where one is allowed. Examples of one source start at different candidates."""
    turn: Counter[str] = Counter()
    for example in examples:
        offered = example.negatives
        start = turn[example.source] % len(offered) if offered and not example.sampled else 0
        turn[example.source] += 1
        allowed = rules(example)
        for text in offered[start:] + offered[:start]:
            if allowed(text):
                example.negative, example.route = text, "sampled" if example.sampled else "labelled"
                break


def _rules(clusters: Clusters, forbidden: set[str], example: Example) -> Allowed:
    """Returns what says whether the rules at the top let a text (the target of `owner`, if it is another example's) be its negative."""
    own_texts = {text_key(text) for text in (example.source, example.target, *example.references, *example.source.split(TURN_BREAK))}
    source, target = clusters.find(example.source), clusters.find(example.target)

    def allowed(text: str, owner: Example | None = None) -> bool:
        key = text_key(text)
        if key in forbidden or key in own_texts or clusters.find(text) in (source, target):
            return False
        if owner is None:
            return True
        same_group = bool(example.group) and example.group == owner.group
        return not same_group and clusters.find(owner.source) != source

    return allowed


def _fill(examples: list[Example], pool: list[Example], route: str, ranks: Callable, candidates: int, rules: Rules, seed: int) -> None:
    """Sets the negative of each example that has none to one of the first `candidates` allowed targets of the `pool`, drawn.

    `ranks` yields for each of some examples the numbers of the pool's in the order in which they are looked at.
    """
    waiting = [e for e in examples if not e.negative]
    if not waiting:
        return
    ranking = ranks(waiting)  # makes an index, which the bar's rate leaves out
    for example, ranked in zip(track(waiting, f"negatives ({route})"), ranking, strict=True):
        allowed = rules(example)
        found = list(islice((pool[i].target for i in ranked if allowed(pool[i].target, pool[i])), candidates))
        if found:
            draw = np.random.default_rng([seed, zlib.crc32(example.id.encode())])
            example.negative, example.route = found[draw.integers(len(found))], route


def _random_ranks(count: int, seed: int, examples: list[Example]) -> Iterable[Iterable[int]]:
    for example in examples:
        yield _shuffled(count, np.random.default_rng([seed, 1, zlib.crc32(example.id.encode())]))


def _shuffled(count: int, random: np.random.Generator) -> Iterator[int]:
    """Yields every number below `count` in random order, after some independent draws that as a rule make shuffling needless."""
    yield from random.integers(count, size=RETRIEVED)
    yield from random.permutation(count)
