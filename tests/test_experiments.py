"""The flag files of the tables' rows: all there, each read by the real flags, with settings that can be."""

from pathlib import Path

import pytest
from absl import flags
from conftest import entry_point

from hcl_tf import config, setting_flags
from hcl_tf.models import registry
from hcl_tf.settings import resolve

FOLDER = Path(__file__).parents[1] / "experiments"
ROWS = {
    "cvae", "seq2seq", "transformer", "seq2seq_du", "dialogpt", "bert_gen", "t5", "groupwise", "claps", "hcl",
    "hcl_without_graph", "hcl_without_keyword", "hcl_without_mahalanobis",
    "hcl_in_batch", "bert_cvae", "bert_cvae_ins", "transformer_keywords", "copy",
}  # fmt: skip


@pytest.mark.parametrize("task", config.TASKS)
def test_every_row_has_its_file(task):
    assert {path.stem for path in (FOLDER / task).glob("*.flags")} == ROWS


@pytest.mark.parametrize("row", sorted(ROWS))
@pytest.mark.parametrize("task", config.TASKS)
def test_a_file_resolves_to_the_settings_of_its_row(task, row):
    path = FOLDER / task / f"{row}.flags"
    train = entry_point("train")
    assert flags.FLAGS(["train", f"--flagfile={path}"]) == ["train"]
    given = setting_flags.given(train.SETTINGS)
    assert (train.TASK.value, train.DATA_DIR.value, train.PRESET.value) == (task, f"tfrecords/{task}", "paper")
    model, _, ablated = row.removesuffix("_in_batch").partition("_without_")
    assert (given["model"], given.get("ablate", "")) == (model, ablated)
    settings = resolve("paper", given, registry.defaults_of(model))
    assert settings.batch_size == 256
    phases = settings.mle_steps + settings.contrast_middle + 2 * settings.contrast_width
    steps = {"qqp": 158, "douban": 852, "rocstories": 307}[task] * settings.epochs
    assert model != "groupwise" or phases < steps, "long enough for the contrast to take over"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.flags")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_opens_with_its_row_and_its_command(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    assert comments[0].startswith(("# Table ", "# control", "# Beyond the paper: "))
    assert comments[1] == f"# python -m hcl_tf.train --flagfile=experiments/{path.parent.name}/{path.name}"
