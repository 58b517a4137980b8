"""Finds the splits of a raw corpus, by the names of its files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hcl_tf.data.corpora import formats
from hcl_tf.data.corpora.examples import Row
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.errors import UserError

ENDINGS = (".tsv", ".csv", ".jsonl", ".json", ".txt")
BESIDE = (".md5", ".sha1", ".sha256", ".md")  # files about a split's file
STEMS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


@dataclass
class RawSplit:
    """A split of a raw corpus before it is read: a file, or a part of a data set that a library keeps (tfds.py).

    Attributes:
      place: what errors call it. name: what notes call it. kind: its format, one of `formats.READERS`.
      rows: yields its rows, at most `ReadOptions.limit`. files: what it is read from; the manifest has their checksums.
      unlabelled: what the part of a corpus is that is left out where nobody gave it labels.
    """

    place: Path
    name: str
    kind: str
    rows: Iterator[Row]
    files: list[Path]
    unlabelled: str = "GLUE's unlabelled test file"


def open_files(raw: Path, options: ReadOptions) -> dict[str, RawSplit]:
    """Returns the files of a corpus by split. Raises `UserError` as `find_files` does, or where a format is none that is known."""
    return {
        split: RawSplit(path, path.name, formats.recognise(path, options), formats.read(path, options), [path])
        for split, path in find_files(raw).items()
    }


def find_files(raw: Path) -> dict[str, Path]:
    """Finds the raw files by split. A lone file counts as `train`, from which the other splits are then drawn.

    Raises:
      UserError: no file fits, two files claim one split, or one that is named after a split can't be read.
    """
    if not raw.exists():
        raise UserError(f"{raw}: no such file or folder; check --raw")
    if not raw.is_dir():
        return {"train": raw}
    candidates = sorted(path for path in raw.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    found: dict[str, Path] = {}
    for split, stems in STEMS.items():
        matching = [path for path in candidates if path.stem.lower() in stems]
        if len(matching) > 1:
            raise UserError(
                f"{raw}: {matching[0].name} and {matching[1].name} both claim to be the {split} split; give one file or remove one"
            )
        if matching:
            found[split] = matching[0]
    for path in sorted(raw.iterdir()):
        if path.is_file() and path.suffix.lower() not in (*ENDINGS, *BESIDE) and path.name.lower().split(".")[0] in sum(STEMS.values(), ()):
            raise UserError(f"{path}: named after a split, but it does not end in {' '.join(ENDINGS)}; unpack, rename or remove it")
    if not found and len(candidates) == 1:
        found["train"] = candidates[0]
    if "train" not in found:
        names = ", ".join(path.name for path in candidates[:8]) or "no file ending in " + " ".join(ENDINGS)
        raise UserError(f"{raw}: no training file (train.tsv, train.jsonl, ...); found: {names}")
    return found
