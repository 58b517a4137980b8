"""Settings that earlier versions stored are read as what they meant then."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.setting_fields import setting
from hcl_tf.settings import RENAMED


@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
@pytest.mark.parametrize("model", registry.SYSTEMS)
def test_what_this_version_stores_comes_back(model, preset):
    settings = registry.resolve(preset, {"model": model, "seed": 3})
    assert registry.read(settings.to_dict()) == settings


@pytest.mark.parametrize("model", registry.SYSTEMS)
def test_settings_of_other_systems_are_read_over(model):
    """Version 0.1.0 stored every setting of every system."""
    settings = registry.resolve("tiny", {"model": model})
    foreign = {item.name: "read over" for entry in registry.SYSTEMS.values() for item in dataclasses.fields(entry.settings)}
    found = registry.read({**foreign, "a_setting_that_is_gone": 1, **settings.to_dict()})
    assert found == settings
    assert type(found) is registry.entry(model).settings


@dataclass(frozen=True)
class WithMore(registry.entry("bert_gen").settings):
    """A later version's `bert_gen`: its default changed after the setting was made, and stored runs did without it."""

    later: int = setting(5, "What came later.", small=6, tiny=7, low=0, before=-1)


@pytest.fixture
def later(monkeypatch) -> None:
    monkeypatch.setitem(registry.SYSTEMS, "bert_gen", dataclasses.replace(registry.SYSTEMS["bert_gen"], settings=WithMore))


@pytest.fixture
def stored() -> dict:
    return registry.resolve("tiny", {"model": "bert_gen"}).to_dict()


def test_a_setting_that_came_later_means_what_was_done_before(stored, later):
    found = registry.read(stored)
    assert found.later == -1, "not the default of its preset, and not checked: what was done before may be no choice any more"
    assert {name: value for name, value in found.to_dict().items() if name != "later"} == stored
    assert registry.read(found.to_dict()) == found
    assert registry.resolve("tiny", {"model": "bert_gen"}).later == 7
    assert registry.read({**stored, "later": 9}).later == 9


def test_settings_that_came_after_version_0_1_0_say_what_was_done_before():
    """Without it no stored run of that version could be read: fixtures/637db7d has all that it stored."""
    for model in registry.SYSTEMS:
        for item in dataclasses.fields(registry.entry(model).settings):
            if "before" in item.metadata:
                assert isinstance(item.metadata["before"], type(item.default)), item.name


@pytest.mark.parametrize("name", ["seed", "learning_rate", "preset"])
def test_a_setting_that_every_version_had_is_missed_by_name(stored, name):
    del stored[name]
    with pytest.raises(UserError, match=f"^stored settings: the setting {name} is missing; restore the file from a copy"):
        registry.read(stored)
    with pytest.raises(UserError, match=rf"^rows/x\.json: the setting {name} is missing"):
        registry.read(stored, Path("rows/x.json"))


@pytest.mark.parametrize("model", [None, "gpt5"])
def test_a_system_that_is_none_is_refused(stored, model):
    recorded = {name: value for name, value in stored.items() if name != "model"} | ({"model": model} if model else {})
    with pytest.raises(UserError, match=f"^stored settings: of a system {model}, which is none of this version: hcl, "):
        registry.read(recorded)


@pytest.mark.parametrize(("former", "name"), RENAMED.items())
def test_a_former_name_is_read_as_the_new_one(former, name):
    model = registry.systems_with(name)[0]
    recorded = registry.resolve("tiny", {"model": model}).to_dict()
    recorded[former] = recorded.pop(name) + 1
    found = registry.read(recorded)
    assert getattr(found, name) == recorded[former]
    assert former not in found.to_dict()


def test_no_former_name_is_a_name_and_each_leads_to_one():
    names = {item.name for entry in registry.SYSTEMS.values() for item in dataclasses.fields(entry.settings)}
    assert not RENAMED.keys() & names
    assert set(RENAMED.values()) <= names
