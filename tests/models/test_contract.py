"""Every entry of the registry keeps every rule (helpers/system_toolkit)."""

from collections.abc import Iterator

import pytest
from system_toolkit import RULES, Kit, Rule
from system_toolkit.breach import CHEAP, DEAREST

from hcl_tf.models import registry

# The default suite runs the dear rules too for four that differ most: a latent variable, a graph and states of all texts; a body of a
# library and negatives of a group; phases and draws; a recurrent one. The others' dear rules, and the dearest of all, are slow tests.
WHOLE = ("hcl", "claps", "groupwise", "seq2seq_du")


def cases() -> Iterator:
    for model in registry.SYSTEMS:
        for rule in RULES:
            late = rule.cost == DEAREST or (rule.cost != CHEAP and model not in WHOLE)
            if registry.class_of(model).is_trained or rule.untrained:
                yield pytest.param(model, rule, id=f"{model}-{rule.check.__name__}", marks=[pytest.mark.slow] if late else [])


@pytest.fixture(scope="module")
def kit(request, qqp_folder) -> Kit:
    """Rules share a system's small model and its first steps; pytest keeps one kit at a time."""
    return Kit(qqp_folder, request.param)


@pytest.mark.parametrize(("kit", "rule"), cases(), indirect=["kit"], scope="module")
def test_system(kit, rule: Rule):
    rule(kit)
