"""Which file of a folder is which split, and what is refused."""

from pathlib import Path

import pytest

from hcl_tf.data.corpora import raw_splits
from hcl_tf.errors import UserError


def fill(folder: Path, *names: str) -> None:
    """Makes files of these names."""
    for name in names:
        (folder / name).write_text("x")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train.tsv"], {"train": "train.tsv"}),
        (["train.tsv", "dev.tsv", "test.tsv"], {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}),
        (["TRAIN.jsonl", "Valid.JSONL", "README.md"], {"train": "TRAIN.jsonl", "validation": "Valid.JSONL"}),
        (["train.txt", "val.txt", "test.csv"], {"train": "train.txt", "validation": "val.txt", "test": "test.csv"}),
        (["validation.json", "train.json"], {"train": "train.json", "validation": "validation.json"}),
        (["train.tsv", "test.tsv", "test.md5"], {"train": "train.tsv", "test": "test.tsv"}),
        (["quora_duplicate_questions.tsv", "licence.pdf"], {"train": "quora_duplicate_questions.tsv"}),
    ],
)
def test_files_are_found_by_split(tmp_path, names, found):
    fill(tmp_path, *names)
    assert {split: path.name for split, path in raw_splits.find_files(tmp_path).items()} == found


def test_a_lone_file_is_the_training_file_whatever_its_name(tmp_path):
    fill(tmp_path, "anything.raw")
    raw = tmp_path / "anything.raw"
    assert raw_splits.find_files(raw) == {"train": raw}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no training file \(train\.tsv"),
        (["README.md"], r"no training file \(train\.tsv"),
        (["dev.tsv"], r"no training file \(train\.tsv, .*found: dev\.tsv"),
        (["a.tsv", "b.tsv"], r"no training file .*found: a\.tsv, b\.tsv"),
        (["train.tsv", "valid.tsv.gz"], r"valid\.tsv\.gz: named after a split, but it does not end in .*; unpack, rename or remove it"),
        (["train.tsv", "test"], r"test: named after a split"),
        (["train.tsv", "train.csv"], r"train\.csv and train\.tsv both claim to be the train split; give one file or remove one"),
        (["train.tsv", "dev.tsv", "valid.tsv"], r"dev\.tsv and valid\.tsv both claim to be the validation split; give one"),
    ],
)
def test_a_folder_that_fits_nothing_is_refused_by_name(tmp_path, names, message):
    fill(tmp_path, *names)
    with pytest.raises(UserError, match=message) as caught:
        raw_splits.find_files(tmp_path)
    assert str(tmp_path) in str(caught.value)
