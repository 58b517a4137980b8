"""What is kept of an evaluated run: read from its folder or from a kept file alike, whichever version wrote it."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from made_results import made

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.models import registry, setting_flags
from hcl_tf.reporting.build_notes import BuildNotes


@pytest.mark.parametrize("row", ["../hcl", "a/b", "..", "-x"])
def test_a_row_whose_name_would_leave_the_folder_is_not_kept(tmp_path, row):
    with pytest.raises(UserError, match="no plain file name"):
        rows.place_of(tmp_path, row, 1)


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


def test_the_command_of_a_task_of_one_s_own_asks_for_its_data():
    assert "--task=custom --data_dir=PREPARED_FOLDER" in made("hcl", task="custom").command()


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


# -- cautions ---------------------------------------------------------------------------------------------------------

MINILM = "encoder: all-MiniLM-L6-v2"


def of_version(arithmetic: int | None) -> dict:
    """Where a result was computed; None: by a version that did not record its arithmetic."""
    known = {name: value for name, value in made().record["environment"].items() if name != "arithmetic"}
    return {"environment": known | ({} if arithmetic is None else {"arithmetic": arithmetic})}


@pytest.mark.parametrize(
    ("given", "encoder", "arithmetic", "marks"),
    [
        ({"model": "hcl"}, MINILM, 2, []),
        ({"model": "hcl"}, MINILM, 1, ["SPOILT"]),
        ({"model": "hcl"}, MINILM, None, ["SPOILT"]),
        ({"model": "bert_cvae"}, MINILM, None, ["SPOILT"]),
        ({"model": "hcl"}, "encoder: random weights", 1, []),
        ({"model": "hcl", "ablate": "keyword"}, MINILM, 1, []),
        ({"model": "hcl", "freeze_encoder": True}, MINILM, 1, ["FROZEN"]),
        ({"model": "hcl", "freeze_encoder": True}, MINILM, 2, ["FROZEN"]),
        ({"model": "hcl", "freeze_encoder": True, "weight_ins": 0.0, "weight_key": 0.0, "weight_ma": 0.0}, MINILM, 2, []),
        ({"model": "hcl", "freeze_encoder": True, "weight_ins": 0.0, "ablate": "keyword"}, MINILM, 2, []),
        ({"model": "bert_cvae", "freeze_encoder": True}, MINILM, 2, []),
        ({"model": "bert_gen"}, MINILM, 1, []),
        ({"model": "claps", "pretrained": "t5-small"}, "t5-small", 2, []),
        ({"model": "claps", "pretrained": "t5-small"}, "t5-small", 1, ["WEAK"]),
        ({"model": "claps", "pretrained": "t5-small", "weight_claps": 0.0}, "t5-small", 1, []),
        ({"model": "claps"}, "no pretrained weights", None, ["NO WEIGHTS", "WEAK"]),
        ({"model": "t5"}, "no pretrained weights", 2, ["NO WEIGHTS"]),
        ({"model": "t5", "pretrained": "w"}, "pretrained: folder w: t5, equal pretraining (span, 9 texts)", 3, ["NO WEIGHTS"]),
        ({"model": "dialogpt", "pretrained": "gpt2"}, "gpt2", 1, []),
        ({"model": "copy"}, "", 1, []),
    ],
)  # fmt: skip
def test_why_a_result_can_t_be_taken_at_face_value(given, encoder, arithmetic, marks):
    result = made(given["model"], settings=registry.resolve("small", given).to_dict(), encoder=encoder, **of_version(arithmetic))
    assert sorted(result.cautions) == marks
    assert all(len(text) > 20 for text in result.cautions.values())


@pytest.mark.parametrize(("share", "marks"), [(0.49, ["DEGENERATE"]), (0.5, []), (None, [])])
def test_a_row_that_repeats_itself_is_degenerate(share, marks):
    result = made("bert_gen")
    result.record["scores"]["distinct-outputs"] = result.record["scores"]["distinct-outputs"] | {"value": share}
    assert list(result.cautions) == marks


@pytest.mark.parametrize(("sources", "marks"), [(100, ["DEGENERATE"]), (80, []), (50, [])])
def test_a_source_that_comes_twice_may_have_the_same_output_twice(sources, marks):
    result = made("bert_gen")
    result.record["scores"]["distinct-outputs"] |= {"value": 0.4, "sentences": 100, "sources": sources}
    assert list(result.cautions) == marks


@pytest.mark.parametrize(("mark", "note"), [("FROZEN", 92), ("SPOILT", 91), ("WEAK", 94)])
def test_cautions_lead_to_notes_that_are_there(mark, note):
    frozen = registry.resolve("small", {"model": "hcl", "freeze_encoder": mark == "FROZEN"}).to_dict()
    claps = registry.resolve("small", {"model": "claps"}).to_dict()
    result = made("hcl", settings=claps if mark == "WEAK" else frozen, encoder=MINILM, **of_version(1))
    assert f"(BUILD_NOTES {note})" in result.cautions[mark]
    assert note in BuildNotes.read(Path(__file__).parents[2] / "BUILD_NOTES.md").texts


@pytest.mark.parametrize(("arithmetic", "name"), [(None, "nll_prior_sampled"), (1, "nll_prior_sampled"), (2, "nll_prior")])
def test_the_prior_s_nll_of_an_earlier_row_had_a_drawn_z(arithmetic, name):
    figures = {"collapsed": False, "means": {"nll_prior": 1, "kl": 2}, "differences": {"nll_prior_minus_posterior": 3}}
    found = made("hcl", figures=figures, **of_version(arithmetic)).diagnostics
    assert found == {"collapsed": False, "means": {name: 1, "kl": 2}, "differences": {f"{name}_minus_posterior": 3}}


# -- samples of z -----------------------------------------------------------------------------------------------------


def test_a_row_keeps_what_samples_of_z_are_worth_where_they_were_drawn(evaluated_run, tmp_path):
    ((result,), _) = rows.collect([evaluated_run])
    assert "samples_of_z" not in result.record
    run = Path(shutil.copytree(evaluated_run, tmp_path / "run"))
    figures = json.loads((run / "figures.test.json").read_bytes())
    drawn = {"of_each": 2, "seed": 1, "means": {"BLEU-2-best": {"value": 1.0, "low": 0.5, "high": 1.5, "examples": 9, "signature": "made"}}}
    (run / "figures.test.json").write_text(json.dumps(figures | {"samples": drawn}), encoding="utf-8")
    ((result,), _) = rows.collect([run])
    rows.keep(path := rows.place_of(tmp_path, "hcl", 1), result)
    assert rows.read_kept(path).record["samples_of_z"] == drawn
    assert result.record["samples"][0]["prediction"], "the shown examples are something else"


# -- negatives --------------------------------------------------------------------------------------------------------


def test_a_row_keeps_the_routes_of_its_negatives(evaluated_run):
    ((result,), _) = rows.collect([evaluated_run])
    assert result.record["corpus"]["negatives"] == {"labelled": 1.0}
