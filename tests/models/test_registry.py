"""Systems by name."""

import pytest

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.base import System


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^--model=gpt9: .*hcl, bert_cvae"):
        registry.entry("gpt9")


@pytest.mark.parametrize("name", registry.SYSTEMS)
def test_every_system_is_one_and_fixes_only_settings_that_exist(name):
    fixed = registry.entry(name).fixed
    assert issubclass(registry.class_of(name), System)
    assert set(fixed) <= registry.names_of(name)
    settings = registry.resolve("tiny", {"model": name})
    assert {key: getattr(settings, key) for key in fixed} == fixed


def test_bert_cvae_has_no_contrast_unless_a_flag_gives_it_one():
    base = registry.resolve("tiny", {"model": "bert_cvae"})
    assert (base.weight_ins, base.weight_key, base.weight_ma) == (0, 0, 0)
    control = registry.resolve("tiny", {"model": "bert_cvae", "weight_ins": 1.0})
    assert (control.weight_ins, control.weight_key, control.weight_ma) == (1, 0, 0)
