"""Which data a training takes, which settings go with them, and that older runs on the hand-written sample go on."""

import json
import shutil

import pytest
from conftest import fresh_copy

from hcl_tf.data import preparation
from hcl_tf.data.corpora import generated
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.training import launch
from hcl_tf.training.chosen_data import ON_GENERATED, STEPS, chosen_data, settings_on


@pytest.fixture
def nothing_is_made(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("data were made where some are there")

    monkeypatch.setattr(generated, "write", refuse)
    monkeypatch.setattr(preparation, "prepare", refuse)


def test_an_older_run_on_the_hand_written_sample_goes_on(tmp_path, qqp_folder, trained_run, monkeypatch, nothing_is_made, capsys):
    """Its data lie where they were prepared; no flag says which they are."""
    fresh_copy(qqp_folder, tmp_path / "tfrecords" / "qqp")
    monkeypatch.chdir(tmp_path)
    older = json.loads((trained_run / "config.json").read_text())
    given = {
        name: value for name, value in older["settings"].items()
        if name not in ("preset", "encoder_learning_rate", "refresh_graph_every")  # settled by the others
    }  # fmt: skip
    data, settings, begun_with = launch.settle("qqp", None, None, given)
    now = launch.recorded_of("qqp", data, settings, begun_with)
    assert launch.what_has_to_be_the_same(now) == launch.what_has_to_be_the_same(older)
    assert "GENERATED" not in capsys.readouterr().out


def test_the_hand_written_sample_has_tiny_as_it_was(qqp_folder):
    assert settings_on(PreparedData(qqp_folder), None, {"seed": 3}) == registry.resolve("tiny", {"seed": 3})


def test_the_generated_sample_has_its_own_settings_under_what_flags_give(generated_folder, capsys):
    data = chosen_data("qqp", generated_folder)
    assert "120 GENERATED training examples (grammar qqp.yaml, seed 1)" in capsys.readouterr().out
    wanted = ON_GENERATED | {"max_steps": STEPS["qqp"], "cooldown_steps": STEPS["qqp"] // 2}
    assert settings_on(data, None, {}) == registry.resolve("tiny", wanted)
    shorter = settings_on(data, None, {"max_steps": 7})
    assert (shorter.max_steps, shorter.cooldown_steps) == (7, 0), "rates that fall by our own choice fall over our own steps alone"
    for preset in ("tiny", "paper"):  # a preset that is asked for is that preset
        assert settings_on(data, preset, {}) == registry.resolve(preset, {})


@pytest.mark.parametrize("model", registry.SYSTEMS)
def test_every_system_can_have_the_generated_sample(generated_folder, model):
    """It takes what it uses, and what makes it that system stays."""
    settings = settings_on(PreparedData(generated_folder), None, {"model": model}).to_dict()
    fixed = registry.entry(model).fixed
    suited = ON_GENERATED | {"max_steps": STEPS["qqp"], "cooldown_steps": STEPS["qqp"] // 2}
    wanted = {name: value for name, value in suited.items() if name in settings} | dict(fixed)
    assert {name: settings[name] for name in wanted} == wanted


def test_other_data_have_the_papers_settings(tmp_path, qqp_folder):
    data = PreparedData(qqp_folder)
    data.manifest["raw_files"] = {"questions.tsv": "0" * 64}
    assert settings_on(data, None, {}) == registry.resolve("paper", {})


def test_data_of_another_task_are_refused(qqp_folder, tmp_path, nothing_is_made):
    with pytest.raises(UserError, match="prepared for qqp, not for --task=douban"):
        chosen_data("douban", qqp_folder)
    with pytest.raises(UserError, match=r"missing|no such|not a prepared"):
        chosen_data("qqp", tmp_path)
    shutil.rmtree(tmp_path)
