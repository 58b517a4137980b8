"""Turns labelled question pairs into samples (a question, a positive and a negative rewriting), and joins duplicates in clusters.

The paper keeps the questions that have both a positive and a negative rewriting and reports 44,949 of them; how it
counted is unknown, so three constructions are offered and the nearest one is the default (BUILD_NOTES.md).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from hcl_tf.config import TASKS
from hcl_tf.data.corpora.examples import Example, QuestionPair
from hcl_tf.errors import UserError

CONSTRUCTIONS = ("one_per_positive", "one_per_input", "all_pairs")


def text_key(text: str) -> str:
    """Returns a key that is the same for texts that differ only in case and white space."""
    return " ".join(text.casefold().split())


class Clusters:
    """Sets of texts that mean the same by the labels, joined transitively (union-find over text keys)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, text: str) -> str:
        """Returns the key that represents the text's cluster; a text that was never joined represents itself."""
        key = text_key(text)
        root = key
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while (parent := self._parent.get(key, key)) != root:
            self._parent[key] = root
            key = parent
        return root

    def join(self, first: str, second: str) -> None:
        """Joins the clusters of two texts. The smaller key represents the result, whatever the order of calls."""
        a, b = sorted((self.find(first), self.find(second)))
        self._parent[b] = a

    def together(self, first: str, second: str) -> bool:
        """Says whether two texts are in one cluster."""
        return self.find(first) == self.find(second)


def build(
    rows: dict[str, list[QuestionPair]], construction: str, labelled: bool, held_out: int = 0, seed: int = 1,
    held_out_labelled: bool = False,
) -> tuple[dict[str, list[Example]], Clusters, list[str]]:  # fmt: skip
    """Makes the samples of each split by one construction.

    Args:
      construction: one of `CONSTRUCTIONS`, or "nearest", the one whose count is nearest to the paper's 44,949.
      labelled: whether inputs without a labelled non-duplicate are left out; else they stay and get their negative later.
      held_out: makes the test split of the training rows: one duplicate pair of each of so many clusters, whether or not it has a labelled
        non-duplicate. No pair with a text of these clusters stays in training. 0: what the corpus gives. seed: of what is drawn for it.
      held_out_labelled: takes for the test split only pairs that have a labelled non-duplicate.

    Returns:
      The samples by split; the clusters over all splits; notes with the counts.

    Raises:
      UserError: there are not more clusters than are to be held out.
    """
    clusters = Clusters()
    for pair in (pair for split_rows in rows.values() for pair in split_rows):
        if pair.duplicate:
            clusters.join(pair.question1, pair.question2)
    fill = not labelled
    if held_out:
        rest, held, notes_of_test = _hold_out(rows["train"], clusters, held_out, seed, held_out_labelled)
        rows = rows | {"train": rest, "test": held}
    tables = {split: _Table(split_rows, clusters) for split, split_rows in rows.items()}
    counts = {name: sum(sum(1 for _ in table.samples(name, fill)) for table in tables.values()) for name in CONSTRUCTIONS}
    paper = sum(TASKS["qqp"].sizes)
    chosen = min(CONSTRUCTIONS, key=lambda name: abs(counts[name] - paper)) if construction == "nearest" else construction
    examples = {split: list(table.samples(chosen, fill)) for split, table in tables.items()}
    if held_out:
        examples["test"] = list(tables["test"].samples("one_per_positive", fill=True))
    both = sum(sum(1 for q in table.positives if table.negatives.get(q)) for table in tables.values())
    contradictions, identical = (sum(getattr(table, name) for table in tables.values()) for name in ("contradictions", "identical"))
    notes = [
        f"questions with both labels: {both:,}; non-duplicates left out because other labels join them: {contradictions:,}; "
        f"pairs of one and the same text left out: {identical:,}",
        "samples by construction: "
        + ", ".join(f"{name} {count:,}" for name, count in counts.items())
        + f" (paper: {paper:,}); used: {chosen}",
    ]
    return examples, clusters, notes + (notes_of_test if held_out else [])


def _hold_out(
    pairs: list[QuestionPair], clusters: Clusters, count: int, seed: int, labelled: bool
) -> tuple[list[QuestionPair], list[QuestionPair], list[str]]:
    """Draws clusters, and of each a duplicate pair, with equal chances. One pair each, because pairs of one cluster are not independent.

    Returns:
      The pairs that have no text of these clusters; the drawn pairs with the non-duplicates of their questions; notes.
    """
    with_negative = {text_key(text) for text in _Table(pairs, clusters).negatives} if labelled else set()
    of_cluster: dict[str, list[QuestionPair]] = defaultdict(list)
    for pair in pairs:
        keys = {text_key(pair.question1), text_key(pair.question2)}
        if pair.duplicate and len(keys) == 2 and (keys & with_negative or not labelled):
            of_cluster[clusters.find(pair.question1)].append(pair)
    if len(of_cluster) <= count:
        what = "clusters of duplicates with a labelled negative" if labelled else "clusters of duplicates"
        raise UserError(f"--held_out_pairs={count}: the corpus has {len(of_cluster):,} {what}; give a smaller number")
    draw = np.random.default_rng(seed)
    names = sorted(of_cluster)
    drawn = [names[i] for i in draw.permutation(len(names))[:count]]
    taken = {name: of_cluster[name][draw.integers(len(of_cluster[name]))] for name in drawn}
    kept = {text_key(text) for pair in taken.values() for text in (pair.question1, pair.question2)}
    chosen = {id(pair) for pair in taken.values()}
    rest, held = [], []
    for pair in pairs:
        if not {clusters.find(pair.question1), clusters.find(pair.question2)} & taken.keys():
            rest.append(pair)
        elif id(pair) in chosen or (not pair.duplicate and {text_key(pair.question1), text_key(pair.question2)} & kept):
            held.append(pair)
    note = (
        f"test: one duplicate pair of each of {count:,} clusters, drawn with seed {seed}; {len(pairs) - len(rest):,} of {len(pairs):,} "
        "rows have a text of these and are not trained on"
    )
    return rest, held, [note]


def from_examples(
    rows: dict[str, list[Example]], paraphrases: bool, required: bool
) -> tuple[dict[str, list[Example]], Clusters, list[str]]:
    """Takes over examples that the corpus has as such.

    Args:
      paraphrases: whether a source and its target mean the same, and so are of one cluster; a dialogue's context and response are not.
      required: leaves examples without a labelled negative out.

    Returns:
      The examples by split; the clusters over all splits; notes with the counts.
    """
    clusters = Clusters()
    for example in (example for split_rows in rows.values() for example in split_rows):
        if paraphrases:
            clusters.join(example.source, example.target)
    kept = {split: [e for e in split_rows if e.negatives or not required] for split, split_rows in rows.items()}
    lost = sum(map(len, rows.values())) - sum(map(len, kept.values()))
    return kept, clusters, [f"examples without a labelled negative left out: {lost:,}"] if lost else []


class _Table:
    """The questions of a split with their positive and negative partners, by the question's first spelling, in file order."""

    def __init__(self, pairs: Iterable[QuestionPair], clusters: Clusters) -> None:
        spelling: dict[str, str] = {}
        self.positives: dict[str, dict[str, None]] = defaultdict(dict)  # question -> partners, ordered and distinct
        self.negatives: dict[str, dict[str, None]] = defaultdict(dict)
        self.duplicates: list[QuestionPair] = []
        self.contradictions = self.identical = 0
        for pair in pairs:
            first = spelling.setdefault(text_key(pair.question1), pair.question1)
            second = spelling.setdefault(text_key(pair.question2), pair.question2)
            if first == second:
                self.identical += 1
            elif pair.duplicate:
                self.duplicates.append(QuestionPair(pair.id, first, second, True))
                self.positives[first][second] = self.positives[second][first] = None
            elif clusters.together(first, second):
                self.contradictions += 1
            else:
                self.negatives[first][second] = self.negatives[second][first] = None

    def samples(self, construction: str, fill: bool) -> Iterator[Example]:
        """Yields the samples of one construction: each duplicate row once, each question once, or every triple."""
        if construction == "one_per_positive":
            for pair in self.duplicates:
                source, target = pair.question1, pair.question2
                if not self.negatives.get(source) and self.negatives.get(target):
                    source, target = target, source
                if self.negatives.get(source) or fill:
                    yield Example(pair.id, source, target, tuple(self.negatives.get(source, ())))
            return
        for number, (source, partners) in enumerate(self.positives.items()):
            candidates = tuple(self.negatives.get(source, ()))
            if not candidates and not fill:
                continue
            targets = list(partners) if construction == "all_pairs" else list(partners)[:1]
            for i, target in enumerate(targets):
                for j, negative in enumerate(candidates or ("",)) if construction == "all_pairs" else [(0, "")]:
                    yield Example(f"q{number}-{i}-{j}", source, target, (negative,) if negative else candidates)
