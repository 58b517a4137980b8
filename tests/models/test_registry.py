"""Systems by name."""

import pytest

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.settings import FIELDS, resolve


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^--model=gpt9: .*hcl, bert_cvae"):
        registry.defaults_of("gpt9")


@pytest.mark.parametrize("name", registry.SYSTEMS)
def test_every_system_is_one_and_fixes_only_settings_that_exist(name):
    fixed = registry.defaults_of(name)
    assert issubclass(registry.class_of(name), System)
    assert set(fixed) <= set(FIELDS)
    settings = resolve("tiny", {"model": name}, registry.defaults_of(name))
    assert {key: getattr(settings, key) for key in fixed} == fixed


def test_bert_cvae_has_no_contrast_unless_a_flag_gives_it_one():
    defaults = registry.defaults_of("bert_cvae")
    base = resolve("tiny", {"model": "bert_cvae"}, defaults)
    assert (base.weight_ins, base.weight_key, base.weight_ma) == (0, 0, 0)
    control = resolve("tiny", {"model": "bert_cvae", "weight_ins": 1.0}, defaults)
    assert (control.weight_ins, control.weight_key, control.weight_ma) == (1, 0, 0)
