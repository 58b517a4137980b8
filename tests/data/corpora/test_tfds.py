"""Data sets of TensorFlow Datasets, which the tests write with the library's own writer, and what is refused. Nothing is downloaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from commands import command_in
from tensorflow_datasets import public_api as library

from hcl_tf import config
from hcl_tf.config import TASKS
from hcl_tf.data.corpora import reading, tfds
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256

ROOT = Path(__file__).parents[3]
TEXT, NUMBER = library.features.Text(), library.features.Scalar(tf.int64)
PAIRS = {
    "question1": TEXT,
    "question2": TEXT,
    "label": library.features.ClassLabel(num_classes=2),
    "idx": library.features.Scalar(tf.int32),
}


def pairs(prefix: str, count: int) -> list[dict]:
    """So many duplicates, each of whose first questions also has a non-duplicate, as GLUE's rows."""
    found = [(f"{prefix} {i} é", f"{prefix} {i} {kind}", label) for i in range(count) for kind, label in (("same", 1), ("other", 0))]
    return [{"question1": a, "question2": b, "label": label, "idx": number} for number, (a, b, label) in enumerate(found)]


def unlabelled(count: int) -> list[dict]:
    return [{**row, "label": -1} for row in pairs("t", count)]


def write(folder: Path, splits: dict[str, list[dict]], features: dict, name: str = "glue/qqp") -> None:
    """Writes a data set where the library looks for one that it has downloaded."""
    name, _, kind = name.partition("/")
    library.dataset_builders.store_as_tfds_dataset(
        name=name, config=kind or None, version="2.0.0", data_dir=folder, features=library.features.FeaturesDict(features),
        split_datasets={split: list(enumerate(rows)) for split, rows in splits.items()}, disable_shuffling=True,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of the library's data sets; and nothing can be reached."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data_sets"))
    monkeypatch.setattr(tfds, "connects", lambda url: False)
    return tmp_path / "data_sets"


@pytest.fixture
def glue(folder) -> Path:
    """GLUE's question pairs, as the library has them: a test split without labels."""
    write(folder, {"train": pairs("a", 30), "validation": pairs("v", 7), "test": unlabelled(5)}, PAIRS)
    return folder / "glue" / "qqp" / "2.0.0"


def load(raw, task=TASKS["qqp"], negatives="labelled", **options):
    given = {"construction": "one_per_positive", "split_by": "sample", "seed": 1}
    return reading.load(task, Path(raw), ReadOptions(**options), negatives=negatives, **given)


def texts(corpus) -> dict[str, list[tuple]]:
    return {split: [(e.source, e.target, e.negatives) for e in examples] for split, examples in corpus.splits.items()}


def test_gives_what_the_same_rows_in_glues_own_files_give(glue, tmp_path):
    (files := tmp_path / "files").mkdir()
    for name, rows in (("train", pairs("a", 30)), ("dev", pairs("v", 7)), ("test", unlabelled(5))):
        lines = [f"{row['idx']}\t{row['question1']}\t{row['question2']}\t{row['label']}\n" for row in rows]
        (files / f"{name}.tsv").write_text("id\tquestion1\tquestion2\tis_duplicate\n" + "".join(lines), encoding="utf-8")
    found, expected = load("tfds:glue/qqp"), load(files)
    assert texts(found) == texts(expected)
    assert [e.id for e in found.splits["train"]] == [e.id for e in expected.splits["train"]]
    assert len(found.splits["train"]) > 20
    assert [e.source for e in found.splits["validation"]] == [f"v {i} é" for i in range(7)]
    assert found.splits["train"][0].negatives == (found.splits["train"][0].source.replace("é", "other"),)
    assert found.raw_rows == expected.raw_rows == 2 * (30 + 7)


def test_says_what_it_read_and_what_it_left_out(glue):
    found = load("tfds:glue/qqp")
    assert found.notes[:3] == [
        "tfds:glue/qqp/2.0.0/test: 10 pairs without a label left out; the test split is drawn from the training file",
        "tfds:glue/qqp/2.0.0/train: 60 rows, format quora",
        "tfds:glue/qqp/2.0.0/validation: 14 rows, format quora",
    ]
    assert found.files == {path.name: sha256(path) for path in glue.glob("*.tfrecord*") if "test" not in path.name}
    assert len(found.files) == 2


def test_a_test_split_with_labels_is_the_test_split(folder):
    write(folder, {"train": pairs("a", 9), "dev": pairs("v", 3), "test": pairs("t", 4)}, PAIRS)
    found = load("tfds:glue/qqp:2.0.0")
    assert {split: len(examples) for split, examples in found.splits.items()} == {"train": 9, "validation": 3, "test": 4}


def test_limit_is_of_each_split(glue):
    assert load("tfds:glue/qqp", limit=8).raw_rows == 16


def test_a_row_without_a_label_among_others_is_a_bad_line(folder):
    write(folder, {"train": [*pairs("a", 9), *unlabelled(1)]}, PAIRS)
    with pytest.raises(
        UserError, match=r"^tfds:glue/qqp/2\.0\.0/train:19: the duplicate label is '-1', not 0 or 1; mend the line, or pass"
    ):
        load("tfds:glue/qqp")
    assert load("tfds:glue/qqp", bad=BadLines(skip=True)).raw_rows == 18


def test_stories_and_named_texts_are_read_as_tables_are(folder):
    story = {f"sentence{i}": TEXT for i in range(1, 6)}
    write(folder, {"train": [{name: f"{name} of {i}" for name in story} for i in range(10)]}, story, "my_stories")
    ending = load("tfds:my_stories", TASKS["rocstories"]).splits["train"][0]
    assert (ending.source.split("\n")[-1][:9], ending.target[:9]) == ("sentence4", "sentence5")
    chat = {"Turns": library.features.Sequence(TEXT), "Reply": TEXT}
    write(folder, {"train": [{"Turns": ["hello", f"you {i}"], "Reply": f"yes {i}"} for i in range(10)]}, chat, "my_chat")
    fields = {"source": "Turns", "target": "Reply"}
    found = load("tfds:my_chat", config.resolve_task("custom", "en"), "bm25", fields=fields).splits["train"]
    assert {e.source.replace("hello\nyou", "yes") for e in found} == {e.target for e in found}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_thing", r"TensorFlow Datasets can't open it \(DatasetNotFoundError: .*not found\.\); give a name of its catalogue"),
        ("glue/nothing", r"TensorFlow Datasets can't open it \(ValueError: .*BuilderConfig nothing not found"),
        ("glue/qqp:9.0.0", r"TensorFlow Datasets can't open it \(AssertionError: .*9\.0\.0"),
        ("glue/qqp/train", r"TensorFlow Datasets can't open it .*NAME or NAME/CONFIG, without a split"),
        ("glue/cola", r"its features are sentence, label, idx; needed are question1, question2 and label, as in tfds:glue/qqp, or "),
        ("paws_wiki", r"its features are .*which --fields=source:NAME,target:NAME names$"),
    ],
)
def test_what_there_is_not_is_one_line(folder, name, says):
    with pytest.raises(UserError, match=f"^--raw=tfds:{name}: {says}") as error:
        load(f"tfds:{name}")
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_without_a_network_the_way_round_is_named(folder):
    with pytest.raises(UserError) as error:
        load("tfds:glue/qqp")
    said = str(error.value)
    assert said.startswith(f"--raw=tfds:glue/qqp: it is not in {folder} and can't be downloaded (ConnectionError: no network); ")
    assert "tfds.builder('glue/qqp', data_dir='FOLDER').download_and_prepare()" in said
    assert said.endswith("set TFDS_DATA_DIR=FOLDER")
    assert "\n" not in said
    assert not folder.exists()


def test_what_downloading_raises_is_one_line_and_a_full_disk_is_left_to_the_command(folder, monkeypatch):
    raised = RuntimeError("checksum\nand more")

    def refuse(*_args, **_kwargs):
        raise raised

    monkeypatch.setattr(tfds, "connects", lambda url: True)
    monkeypatch.setattr("tensorflow_datasets.core.dataset_builder.DatasetBuilder.download_and_prepare", refuse)
    with pytest.raises(UserError, match=r"can't be downloaded \(RuntimeError: checksum\); where there is a network run: python -c"):
        load("tfds:glue/qqp")
    raised = OSError(28, "No space left on device", "somewhere")
    with pytest.raises(OSError, match="No space left"):
        load("tfds:glue/qqp")


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        (("validation", "test"), "it has no training split, only test, validation"),
        (("train", "dev", "validation"), "dev and validation both claim to be the validation split; give another data set"),
    ],
)
def test_splits_that_are_missing_or_claimed_twice(folder, splits, says):
    write(folder, {split: pairs("a", 3) for split in splits}, PAIRS)
    with pytest.raises(UserError, match=says):
        load("tfds:glue/qqp")


def test_flags_of_files_are_refused(glue):
    with pytest.raises(UserError, match=r"^--format is of raw files, and --raw=tfds:glue/qqp is none; drop the flag"):
        load("tfds:glue/qqp", format="quora")


def test_a_damaged_file_is_named(glue):
    (record := next(glue.glob("*-train.tfrecord*"))).write_bytes(record.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"^tfds:glue/qqp/2\.0\.0/train:60: can't be read \(DataLossError: .*; remove .* fetch it again"):
        load("tfds:glue/qqp")


def test_a_library_that_can_not_be_imported_is_named_with_the_command_that_mends_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets.public_api", None)
    with pytest.raises(
        UserError, match=r"can't be imported \(ModuleNotFoundError: .*; mend it with: .* -m pip install 'tensorflow-metadata"
    ):
        load("tfds:glue/qqp")
    assert set(tfds.NEEDED) <= set((ROOT / "requirements.txt").read_text().splitlines())


def test_it_is_imported_for_nothing_else(tmp_path):
    (raw := tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"source": f"s {i}", "target": f"t {i}"}) + "\n" for i in range(9)))
    program = f"""
import sys
from pathlib import Path
from hcl_tf import config
from hcl_tf.data.corpora import reading
from hcl_tf.data.corpora.formats import ReadOptions
given = dict(construction="nearest", negatives="bm25", split_by="sample", seed=1)
reading.load(config.resolve_task("custom", "en"), Path({str(raw)!r}), ReadOptions(), **given)
print(*(name for name in sys.modules if name.startswith("tensorflow")))
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "\n", "")


@pytest.mark.slow
def test_the_command_prepares_it_as_it_does_files(glue, tmp_path, monkeypatch, capsys):
    run = command_in(tmp_path, "prepare", monkeypatch, capsys)
    done = run("--task=qqp", "--raw=tfds:glue/qqp", "--vocab=learn", "--vocab_size=300", "--tagger=builtin", "--workers=1")
    assert done.returncode == 0, done.stderr
    assert "preparing qqp from tfds:glue/qqp" in done.stdout
    manifest = json.loads((tmp_path / "tfrecords" / "qqp" / "manifest.json").read_text())
    assert [part["negatives"]["routes"] for part in manifest["splits"].values()] == 3 * [{"labelled": 1}]
    assert any("10 pairs without a label" in note for note in manifest["notes"])
    assert run("--verify=tfrecords/qqp").returncode == 0
    refused = run("--task=qqp", "--raw=tfds:no_such_thing", "--out=other", "--vocab=learn")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "other").exists()
