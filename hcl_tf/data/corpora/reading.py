"""Reads a corpus (one file, a folder of splits, or a data set that a library fetches) into examples by split.

The user's own division of the data is respected: a file named after a split is that split, and only splits that are missing are drawn
from the rest (splits.py).
"""

from dataclasses import dataclass, field
from pathlib import Path

from hcl_tf.config import CUSTOM, PARAPHRASES, SPLITS, Task
from hcl_tf.data.corpora import qqp, raw_splits, tfds
from hcl_tf.data.corpora.examples import Example, QuestionPair
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.splits import divide
from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256
from hcl_tf.progress import track


@dataclass
class Corpus:
    """A corpus that was read.

    Attributes:
      splits: examples by split. clusters: of texts that mean the same. files: raw file -> its SHA-256. raw_rows: rows of all files.
      negatives: the --negatives mode that is in force. notes: lines about the reading, for people.
    """

    splits: dict[str, list[Example]]
    clusters: "qqp.Clusters"
    files: dict[str, str]
    raw_rows: int
    negatives: str
    notes: list[str] = field(default_factory=list)


def load(
    task: Task, raw: Path, options: ReadOptions, *, construction: str, negatives: str | None, split_by: str, seed: int,
    require_labelled: bool = False, held_out_pairs: int = 0,
) -> Corpus:  # fmt: skip
    """Reads a corpus and divides it.

    Args:
      task: the task's settings; its paper sizes apply when the corpus is the full one.
      raw: a file, a folder with train, validation and test files, or `tfds:NAME`.
      options: field names, story mode, what to do about bad lines, --limit (raw rows a file), --format and --encoding.
      construction: how question pairs become samples (`qqp.CONSTRUCTIONS`, or `nearest`).
      negatives: the --negatives mode; it decides which QQP inputs are usable. None: the task's, or BM25 for the Douban Conversation Corpus,
        whose wrong responses were drawn for another purpose.
      split_by: `sample`, or `question` (no text in two splits).
      seed: decides what is drawn for the splits that no file gives.
      require_labelled: leaves QQP inputs without a labelled non-duplicate out, whatever `negatives` says, also of `held_out_pairs`.
      held_out_pairs: draws the test split of question pairs before all else (`qqp.build`). 0: as the others say.

    Raises:
      UserError: file and line of whatever can't be read, or why nothing is left.
    """
    parts = tfds.open_splits(str(raw), options) if tfds.is_named(raw) else raw_splits.open_files(raw, options)
    notes: list[str] = []
    if "test" in parts and parts["test"].kind == "unlabelled":
        part = parts.pop("test")
        notes.append(f"{part.name}: {part.unlabelled} left out; the test split is drawn from the training file")
    rows: dict[str, list] = {}
    for split, part in parts.items():
        rows[split] = list(track(part.rows, f"reading {part.name}", unit=" rows"))
        notes.append(f"{part.name}: {len(rows[split]):,} rows, format {part.kind}")
        if not rows[split]:
            raise UserError(
                f"{part.place}: no usable row"
                f"{f' ({options.bad.count} bad lines, the first: {options.bad.first})' if options.bad.count else ''}; check --raw"
            )
    kinds = {part.kind for part in parts.values()}
    notes += [f"{what}: {count:,}" for what, count in options.bad.noticed.items()]
    if options.bad.count:
        notes.append(f"bad lines skipped: {options.bad.count:,}, the first: {options.bad.first}")
    raw_rows = sum(map(len, rows.values()))
    files = {path.name: sha256(path) for part in parts.values() for path in part.files}

    is_pairs = isinstance(rows["train"][0], QuestionPair)
    if any(isinstance(split_rows[0], QuestionPair) != is_pairs for split_rows in rows.values()):
        raise UserError(f"{raw}: some splits hold labelled question pairs and some hold examples; give all in one format")
    if is_pairs and task.name not in (*PARAPHRASES, CUSTOM):
        raise UserError(f"{raw}: labelled question pairs do not fit --task={task.name}; use --task=qqp")
    if "douban" in kinds and task.name not in ("douban", CUSTOM):
        raise UserError(f"{raw}: labelled responses of dialogues do not fit --task={task.name}; use --task=douban")
    negatives = negatives or ("bm25" if "douban" in kinds else task.negatives)
    labelled = negatives == "labelled" or require_labelled
    if held_out_pairs and (not is_pairs or "test" in parts):
        why = f"{parts['test'].name} is its test split already" if "test" in parts else "the corpus has examples, and not labelled pairs"
        raise UserError(f"--held_out_pairs={held_out_pairs}: {why}; drop the flag")
    if is_pairs:
        splits, clusters, found = qqp.build(rows, construction, labelled, held_out_pairs, seed, require_labelled)
        notes += found
    else:
        means_same = task.name in PARAPHRASES
        splits, clusters, found = qqp.from_examples(rows, paraphrases=means_same, required=means_same and labelled)
        notes += found
    for split, examples in splits.items():
        if not examples:
            raise UserError(
                f"{parts[split].place}: no input has both a duplicate and a labelled non-duplicate, so no negative can be had; "
                "pass --negatives=labelled_then_bm25 to fill them from similar inputs"
            )
    full = raw_rows >= task.full_corpus > 0
    try:
        splits, found = divide(
            splits, task.sizes if full else None, proportions=task.sizes or (8, 1, 1), by_text=split_by == "question", seed=seed
        )
    except UserError as error:
        read = "; ".join(f"{what}: {count:,}" for what, count in options.bad.noticed.items())
        raise UserError(f"{raw}: {error}{f' ({read})' if read else ''}") from error
    if "douban" in kinds:
        found += _join_references(splits)
    _make_ids_unique(splits)
    return Corpus({split: splits[split] for split in SPLITS}, clusters, files, raw_rows, negatives, notes + found)


def _join_references(splits: dict[str, list[Example]]) -> list[str]:
    """Makes the right responses of one context several references of one test example. Returns a note where there are such contexts."""
    joined: dict[str, Example] = {}
    for example in splits["test"]:
        first = joined.setdefault(example.source, example)
        if first is not example:
            first.references += (example.target,)
    splits["test"] = list(joined.values())
    several = sum(bool(example.references) for example in joined.values())
    return [f"test: {several:,} of {len(joined):,} contexts have several references"] if several else []


def _make_ids_unique(splits: dict[str, list[Example]]) -> None:
    """Appends its split and a number to each id that is there already: ids name examples in predictions and reports."""
    seen: set[str] = set()
    for split, examples in splits.items():
        for example in examples:
            identity, count = example.id, 1
            while identity in seen:
                count += 1
                identity = f"{example.id}~{split}{count}"
            example.id = identity
            seen.add(identity)
