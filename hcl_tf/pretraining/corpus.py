"""Collects the distinct texts of the training splits of prepared folders, without what a held-out split may not share with them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hcl_tf.config import PARAPHRASES
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.corpora.qqp import Clusters
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import VOCABULARY, Record, content_of
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.errors import UserError
from hcl_tf.pretraining.rows import Texts
from hcl_tf.progress import track

HELD_OUT = ("validation", "test")
FEWEST = 10  # training texts


@dataclass(frozen=True)
class Corpus:
    """The texts of a pretraining.

    Attributes:
      train, held_out: distinct texts; none is in both. Held out are those of the validation splits.
      tokenizer: the one with which all folders were prepared. vocabulary: its file. language: "en" or "zh".
      excluded: training texts left out because of `exclude`. hashes: of the folders' contents (`content_of`), in order.
    """

    train: Texts
    held_out: Texts
    tokenizer: Tokenizer
    vocabulary: Path
    language: str
    excluded: int
    hashes: dict[str, list[str]]


def collect(folders: list[Path], exclude: list[Path]) -> Corpus:
    """Reads the texts.

    A text of a source, a target or a negative counts once, by its pieces as they were cut. Left out is each training text of `folders` that
    is in a held-out split of a folder of `exclude`, or in the cluster of duplicates of one that is: clusters are what the pairs of all
    folders join, of tasks whose pairs mean the same (`config.PARAPHRASES`).

    Raises:
      UserError: there are no folders, vocabularies or languages differ, a folder is missing or damaged, or too few texts are left.
    """
    if not folders:
        raise UserError("--data_dir is needed: one or more folders made by python -m hcl_tf.prepare, joined by commas")
    opened = [PreparedData(folder) for folder in folders]
    barred = [PreparedData(folder) for folder in exclude]
    first = opened[0]
    for data in (*opened[1:], *barred):
        if data.tokenizer.vocabulary() != first.tokenizer.vocabulary():
            raise UserError(f"{data.folder}: prepared with another vocabulary than {first.folder}; prepare both with the same --vocab")
    if len(languages := {data.manifest["task"]["language"] for data in opened}) > 1:
        raise UserError(f"--data_dir: texts in {' and '.join(sorted(languages))}; a body is pretrained on one language")
    forbidden = _forbidden(opened, barred)
    train, left_out = {}, set()
    for data in opened:
        for text, pieces in _texts(data, "train"):
            if forbidden and forbidden(text):
                left_out.add(pieces)
            else:
                train[pieces] = None
    held_out = dict.fromkeys(pieces for data in opened for _, pieces in _texts(data, "validation") if pieces not in train)
    for name, texts in (("training", train), ("held-out", held_out)):
        if len(texts) < FEWEST:
            raise UserError(f"--data_dir: {len(texts)} {name} texts are left, at least {FEWEST} are needed; give more folders")
    return Corpus(
        Texts.of(list(train)), Texts.of(list(held_out)), first.tokenizer, first.folder / VOCABULARY, languages.pop(),
        len(left_out - train.keys()),
        {name: [content_of(data.manifest) for data in part] for name, part in (("data", opened), ("exclude", barred))},
    )  # fmt: skip


def _forbidden(opened: list[PreparedData], barred: list[PreparedData]) -> Callable[[str], bool] | None:
    """Returns what says whether a text may not be trained on; None where nothing is barred."""
    if not barred:
        return None
    clusters = Clusters()
    for data in (*opened, *barred):
        if data.manifest["task"]["name"] in PARAPHRASES:
            for record in _records(data, data.manifest["splits"]):
                clusters.join(record.source.normal, record.target.normal)
    taken = {clusters.find(text) for data in barred for split in HELD_OUT for text, _ in _texts(data, split)}
    return lambda text: clusters.find(text) in taken


def _records(data: PreparedData, splits: Iterable[str]) -> Iterator[Record]:
    count = sum(data.manifest["splits"][split]["examples"] for split in splits)
    records = (record for split in splits for record in data.records(split))
    yield from track(records, f"reading {data.folder.name}", count, " examples")


def _texts(data: PreparedData, split: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields each text of a split in its normal form, and its pieces; empty ones are left out."""
    for record in _records(data, [split]):
        for role in ROLES:
            text = getattr(record, role)
            if text.ids:
                yield text.normal, tuple(text.ids)
