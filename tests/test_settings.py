"""Settings: the presets' values, what a flag overrides, what a system does not take, and the refusal of values that can't be."""

import dataclasses
import json

import pytest

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.registry import resolve
from hcl_tf.setting_fields import setting
from hcl_tf.settings import PRESETS, Settings, preset_values

# Every setting of every system once, with the first system that takes it.
SETTINGS = {
    item.name: (model, item) for model in reversed(registry.SYSTEMS) for item in dataclasses.fields(registry.entry(model).settings)
}  # fmt: skip
BOUNDED = [(name, end) for name, (_, item) in SETTINGS.items() for end in ("low", "high") if item.metadata[end] is not None]
FLOATS = [name for name, (_, item) in SETTINGS.items() if isinstance(item.default, float)]
CHOICES = [name for name, (_, item) in SETTINGS.items() if item.metadata["choices"] and name != "preset"]

# What the paper states, and what notes of BUILD_NOTES.md decide.
EVERYWHERE = {"dropout": 0.1, "log_variance_bound": 10.0, "gradient_clip": 1.0, "tau_key": 0.1, "tau_ins": 1.0, "tau_ma": 1.0}
STATED = {
    "paper": {
        "encoder": "published", "decoder_layers": 6, "latent_size": 16, "learning_rate": 0.0001, "encoder_learning_rate": 2e-05,
        "warmup_steps": 1000, "kl_ramp": 10000, "batch_size": 256, "epochs": 30, "patience": 3, "latent_to": "inputs", "free_bits": 0.25,
        "kl_delay": 300,
    },
    "small": {
        "decoder_layers": 4, "latent_size": 16, "learning_rate": 0.0005, "encoder_learning_rate": 5e-05, "warmup_steps": 300,
        "kl_ramp": 300, "kl_delay": 100, "batch_size": 64, "epochs": 5,
    },
    "tiny": {
        "encoder": "random:2x128", "decoder_layers": 2, "latent_size": 32, "learning_rate": 0.001, "encoder_learning_rate": 0.001,
        "warmup_steps": 50, "kl_ramp": 100, "batch_size": 32,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
    settings, expected = resolve(preset, {}), EVERYWHERE | STATED[preset]
    assert settings.preset == preset
    assert {name: getattr(settings, name) for name in expected} == expected
    assert (settings.beams, settings.minimum_length, settings.maximum_length) == (4, 5, 20)  # stated in the paper
    assert (settings.weight_ins, settings.weight_key, settings.weight_ma) == (1, 1, 1)  # the paper adds its losses
    assert settings.fanout == (8, 4)
    assert preset_values(type(settings), preset) == settings.to_dict()


def test_a_flag_goes_before_the_model_and_the_model_before_the_preset():
    assert preset_values(registry.entry("groupwise").settings, "tiny")["patience"] == 3
    assert resolve("tiny", {"model": "groupwise"}).patience == 0
    assert resolve("tiny", {"model": "groupwise", "patience": 7}).patience == 7


@pytest.mark.parametrize(("name", "end"), BOUNDED)
def test_a_value_beyond_its_bound_is_refused_by_name(name, end):
    model, item = SETTINGS[name]
    beyond = item.metadata[end] + (1 if end == "high" else -1) * (1 if isinstance(item.default, int) else 1e-3)
    with pytest.raises(UserError, match=f"^--{name}={beyond}: at {'most' if end == 'high' else 'least'} "):
        resolve("tiny", {"model": model, name: beyond})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(name, value):
    with pytest.raises(UserError, match=f"^--{name}={value}: a finite number"):
        resolve("tiny", {"model": SETTINGS[name][0], name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(name):
    model, item = SETTINGS[name]
    with pytest.raises(UserError, match=f"^--{name}=nonsense: one of .*{item.metadata['choices'][-1]}"):
        resolve("tiny", {"model": model, name: "nonsense"})


@pytest.mark.parametrize(
    "given",
    [
        *({"graph_fanout": text} for text in ("", "8,", "8,0", "8,-4", "many", "8 4", "2²")),
        {"micro_batch": 5, "batch_size": 32},
        {"cooldown_steps": 1},
        {"cooldown_steps": 51, "max_steps": 100},
        {"micro_batch": 64, "batch_size": 32},
        {"in_batch_negatives": True, "micro_batch": 8},
        {"in_batch_negatives": True, "strategy": "mirrored"},
        {"minimum_length": 9, "maximum_length": 8},
        {"minimum_length": 9, "maximum_length": 8, "model": "copy"},
        {"ablate": "keyword", "decoder_keyword": True},
        {"ablate": "keyword", "decoder_keyword": True, "model": "bert_cvae"},
        {"micro_batch": 8, "model": "claps"},
        {"claps_group": 5, "model": "claps"},
        {"trainable_layers": 1, "freeze_encoder": True},
        {"init_checkpoint": "best_nll"},
    ],
    ids=str,
)
def test_contradictions_are_refused_by_flag(given):
    with pytest.raises(UserError, match=f"--{next(iter(given))}"):
        resolve("tiny", given)


def test_what_does_not_contradict_is_accepted():
    settings = resolve("tiny", {"micro_batch": 8, "graph_fanout": "5", "ablate": "keyword", "minimum_length": 8, "maximum_length": 8})
    assert settings.fanout == (5,)
    assert resolve("tiny", {"model": "claps", "micro_batch": 8, "claps_group": 4}).claps_group == 4


@pytest.mark.parametrize("model", registry.SYSTEMS)
def test_settings_survive_json(model):
    settings = resolve("small", {"seed": 5, "model": model})
    assert type(settings)(**json.loads(json.dumps(settings.to_dict()))) == settings


def test_settings_can_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve("tiny", {}).seed = 2


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_is_and_its_default_is_allowed(name):
    model, item = SETTINGS[name]
    assert item.metadata["help"].endswith(".")
    assert name == "preset" or resolve("paper", {"model": model, name: item.default})


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_the_same_wherever_a_system_takes_it(name):
    """One flag stands for all of them."""
    kinds = {registry.entry(model).settings for model in registry.systems_with(name)}
    found = [(item.default, dict(item.metadata)) for kind in kinds for item in dataclasses.fields(kind) if item.name == name]
    assert all(one == found[0] for one in found)


# -- foreign settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", registry.SYSTEMS)
def test_a_setting_that_a_system_does_not_use_is_refused_with_those_that_do(model):
    for name, (_, item) in SETTINGS.items():
        if name in registry.names_of(model):
            continue
        with pytest.raises(UserError) as refused:
            resolve("tiny", {"model": model, name: item.default})
        others = ", ".join(registry.systems_with(name))
        assert str(refused.value) == f"--{name}: --model={model} does not use it; {others} would. Drop the flag"


@pytest.mark.parametrize(
    ("model", "name", "others"),
    [
        ("transformer", "freeze_encoder", "hcl, bert_cvae, bert_cvae_ins, bert_gen, seq2seq_du"), ("hcl", "mle_steps", "groupwise"),
        ("copy", "learning_rate", "hcl, .*cvae"), ("bert_gen", "latent_size", "hcl, bert_cvae, bert_cvae_ins, cvae"),
    ],
)  # fmt: skip
def test_which_systems_those_are(model, name, others):
    with pytest.raises(UserError, match=f"^--{name}: --model={model} does not use it; {others} would. Drop the flag$"):
        resolve("tiny", {"model": model, name: SETTINGS[name][1].default})


def test_what_no_system_takes_and_the_first_of_several_by_name():
    with pytest.raises(UserError, match=r"^--nothing: --model=hcl does not use it; no system would"):
        resolve("tiny", {"nothing": 1})
    given = dict.fromkeys(["tau_ins", "mle_steps", "latent_size", "claps_group", "kl_ramp"], 1)
    with pytest.raises(UserError, match=r"^--claps_group: --model=transformer "):
        resolve("tiny", {"model": "transformer", **given})


def test_a_system_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"^--model=gpt5: there is no such system; there are: hcl, "):
        resolve("tiny", {"model": "gpt5"})


# -- names of runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "variant", "row"),
    [
        ({}, "", "hcl"), ({"ablate": "graph"}, "without graph", "hcl_without_graph"), ({"in_batch_negatives": True}, "", "hcl_in_batch"),
        ({"ablate": "keyword", "in_batch_negatives": True}, "without keyword", "hcl_without_keyword_in_batch"),
        ({"model": "bert_cvae_ins", "in_batch_negatives": True}, "", "bert_cvae_ins_in_batch"),
        ({"model": "transformer_keywords"}, "", "transformer_keywords"), ({"model": "copy"}, "", "copy"),
    ],
)  # fmt: skip
def test_variants_and_rows_are_named_by_settings(given, variant, row):
    settings = resolve("tiny", given)
    assert (settings.variant, settings.row) == (variant, row)


def test_a_field_keeps_what_it_was_given():
    @dataclasses.dataclass(frozen=True)
    class More(Settings):
        one: int = setting(3, "What it is.", tiny=1, low=0, unit="steps", before=0)

    (item,) = (item for item in dataclasses.fields(More) if item.name == "one")
    assert item.metadata["presets"] == {"paper": 3, "small": 3, "tiny": 1}
    assert (item.default, item.metadata["unit"], item.metadata["low"], item.metadata["before"]) == (3, "steps", 0, 0)
    assert "before" not in next(iter(dataclasses.fields(More))).metadata
