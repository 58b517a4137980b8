"""What is kept of an evaluated run: read from its folder or from a kept file alike, whichever version wrote it."""

import json
import shlex

import pytest
from made_results import made

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.models import registry, setting_flags


def test_an_evaluated_run_folder_is_read_as_its_kept_row(evaluated_run):
    found, apart = rows.collect([evaluated_run])
    (result,) = found
    assert apart == []
    entry = result.record["scores"]["BLEU-2"]
    assert sum(result.record["per_sentence"]["BLEU-2"]) / 100 / entry["sentences"] == pytest.approx(entry["value"], abs=0.01)
    assert [item["BLEU-2"] for item in result.record["best"]] == sorted((item["BLEU-2"] for item in result.record["best"]), reverse=True)
    assert result.record["worst"][0]["BLEU-2"] <= result.record["best"][-1]["BLEU-2"]
    assert result.scaled


def test_a_folder_of_runs_tells_which_it_could_not_use(evaluated_run, trained_run, tmp_path):
    (tmp_path / "runs").mkdir()
    for name, source in (("good", evaluated_run), ("not-evaluated", trained_run)):
        (tmp_path / "runs" / name).symlink_to(source)
    found, apart = rows.collect([tmp_path / "runs"])
    assert [result.origin.name for result in found] == ["good"]
    ((folder, reason),) = apart
    assert folder.name == "not-evaluated"
    assert "hcl_tf.evaluate" in reason
    with pytest.raises(UserError, match=r"hcl_tf\.evaluate"):
        rows.collect([tmp_path / "runs" / "not-evaluated"])


def test_a_kept_run_is_what_its_folder_says(evaluated_run, tmp_path):
    ((result,), _), path = rows.collect([evaluated_run]), rows.place_of(tmp_path, "hcl", 1)
    assert (result.row, result.seed, result.record["version"]) == ("hcl", 1, hcl_tf.__version__)
    rows.keep(path, result)
    kept = rows.read_kept(path)
    assert kept.record == json.loads(json.dumps(result.record))
    assert kept.settings == result.settings == result.record["settings"]
    assert rows.collect([tmp_path]) == ([kept], [])


@pytest.mark.parametrize("row", ["hcl", "bert_cvae", "copy", "groupwise"])
def test_the_command_of_a_result_gives_its_settings(row):
    settings = registry.resolve("small", {"model": row, "seed": 3, "no_repeat_ngram": 2, "minimum_length": 0}).to_dict()
    result = made(row, 3, settings=settings)
    words = shlex.split(result.command())
    assert words[:5] == ["python", "-m", "hcl_tf.train", "--task=qqp", "--preset=small"]
    flags = setting_flags.read(words[3:])
    assert registry.resolve(flags.preset.value, flags.given).to_dict() == settings


def test_a_kept_file_of_a_version_that_recorded_less(tmp_path):
    """Settings of other systems are read over; none that was there may be missing."""
    kept = made("transformer")
    stored = kept.record["settings"] | {"latent_size": 7, "mle_steps": 8}
    rows.keep(path := rows.place_of(tmp_path, "transformer", 1), made("transformer", settings=stored))
    assert rows.read_kept(path).settings == kept.settings
    del stored["batch_size"]
    rows.keep(path, made("transformer", settings=stored))
    with pytest.raises(UserError, match=f"^{path}: the setting batch_size is missing"):
        _ = rows.read_kept(path).settings
    rows.keep(path, made("transformer", settings={**stored, "model": "gone"}))
    with pytest.raises(UserError, match=f"^{path}: of a system gone, which is none of this version: hcl, "):
        _ = rows.read_kept(path).settings


@pytest.mark.parametrize(
    ("settings", "changes", "scaled"),
    [
        ({}, {}, False), ({"preset": "small"}, {}, True), ({"max_steps": 5}, {}, True), ({}, {"finished": {"ended": "time"}}, True),
        ({"model": "copy"}, {}, False), ({"model": "copy", "preset": "tiny"}, {}, True),
    ],
)  # fmt: skip
def test_what_is_scaled_down(settings, changes, scaled):
    given = {"model": "hcl"} | settings
    result = made(given["model"], settings=registry.resolve(given.pop("preset", "paper"), given).to_dict(), **changes)
    assert result.scaled == scaled
