"""Settings: the presets' values, what a flag overrides, and the refusal of values that can't be."""

import dataclasses
import json

import pytest

from hcl_tf.errors import UserError
from hcl_tf.settings import FIELDS, PRESETS, Settings, resolve

BOUNDED = [(name, end) for name, item in FIELDS.items() for end in ("low", "high") if item.metadata[end] is not None]
FLOATS = [name for name, item in FIELDS.items() if isinstance(item.default, float)]
CHOICES = [name for name, item in FIELDS.items() if item.metadata["choices"] and name != "preset"]

# The table "Presets" of METHOD.md.
EVERYWHERE = {"dropout": 0.1, "log_variance_bound": 10.0, "gradient_clip": 1.0, "tau_key": 0.1, "tau_ins": 1.0, "tau_ma": 1.0}
STATED = {
    "paper": {
        "encoder": "published", "decoder_layers": 6, "latent_size": 200, "learning_rate": 0.0001, "encoder_learning_rate": 2e-05,
        "warmup_steps": 1000, "kl_ramp": 10000, "batch_size": 256, "epochs": 30, "patience": 3,
    },
    "small": {
        "decoder_layers": 4, "latent_size": 64, "learning_rate": 0.0005, "encoder_learning_rate": 5e-05, "warmup_steps": 300,
        "kl_ramp": 1000, "batch_size": 64, "epochs": 5,
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


def test_a_flag_goes_before_the_model_and_the_model_before_the_preset():
    assert resolve("tiny", {"batch_size": 7}, {"batch_size": 9, "epochs": 2}).batch_size == 7
    assert resolve("tiny", {}, {"batch_size": 9}).batch_size == 9


@pytest.mark.parametrize(("name", "end"), BOUNDED)
def test_a_value_beyond_its_bound_is_refused_by_name(name, end):
    item = FIELDS[name]
    beyond = item.metadata[end] + (1 if end == "high" else -1) * (1 if isinstance(item.default, int) else 1e-3)
    with pytest.raises(UserError, match=f"^--{name}={beyond}: at {'most' if end == 'high' else 'least'} "):
        resolve("tiny", {name: beyond})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(name, value):
    with pytest.raises(UserError, match=f"^--{name}={value}: a finite number"):
        resolve("tiny", {name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(name):
    with pytest.raises(UserError, match=f"^--{name}=nonsense: one of .*{FIELDS[name].metadata['choices'][-1]}"):
        resolve("tiny", {name: "nonsense"})


@pytest.mark.parametrize(
    "given",
    [
        *({"graph_fanout": text} for text in ("", "8,", "8,0", "8,-4", "many", "8 4", "2²")),
        {"micro_batch": 5, "batch_size": 32},
        {"micro_batch": 64, "batch_size": 32},
        {"in_batch_negatives": True, "micro_batch": 8},
        {"in_batch_negatives": True, "strategy": "mirrored"},
        {"minimum_length": 9, "maximum_length": 8},
        {"ablate": "keyword", "decoder_keyword": True},
        {"ablate": "keyword", "decoder_keyword": True, "model": "bert_cvae"},
    ],
    ids=str,
)
def test_contradictions_are_refused_by_flag(given):
    with pytest.raises(UserError, match=f"--{next(iter(given))}"):
        resolve("tiny", given)


def test_what_does_not_contradict_is_accepted():
    settings = resolve("tiny", {"micro_batch": 8, "graph_fanout": "5", "ablate": "keyword", "minimum_length": 8, "maximum_length": 8})
    assert settings.fanout == (5,)


def test_settings_survive_json():
    settings = resolve("small", {"seed": 5})
    assert Settings(**json.loads(json.dumps(settings.to_dict()))) == settings


def test_settings_can_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve("tiny", {}).seed = 2


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_what_it_is_and_its_default_is_allowed(name):
    item = FIELDS[name]
    assert item.metadata["help"]
    assert name == "preset" or resolve("paper", {name: item.default})
