"""The rules of the contract are kept by an honest system that the toolkit has no line of, and each is broken by one that errs."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from system_toolkit import RULES, Kit, Rule
from system_toolkit.breach import DEAREST, Breach, close, close_all, equal
from system_toolkit.broken_toys import TOYS, registered

BY_NAME = {rule.check.__name__: rule for rule in RULES}


def marks(rule: Rule) -> list:
    return [pytest.mark.slow] if rule.cost == DEAREST else []


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    """Are systems as long as this module's tests run."""
    with registered():
        yield


@pytest.fixture(scope="module")
def plain(toys, qqp_folder) -> Kit:
    return Kit(qqp_folder, "Plain")


@pytest.mark.slow
@pytest.mark.parametrize("rule", [pytest.param(rule, id=name, marks=marks(rule)) for name, rule in BY_NAME.items()])
def test_an_honest_system_keeps_the_rule(plain, rule):
    rule(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("toy", "name"),
    [pytest.param(toy, name, marks=marks(BY_NAME[name])) for toy, kind in TOYS.items() for name in kind.breaks],
)
def test_one_that_errs_is_refused_by_rule_system_and_tensor(qqp_folder, toy, name):
    with pytest.raises(AssertionError) as refused:
        BY_NAME[name](Kit(qqp_folder, toy))
    assert re.match(f"rule {BY_NAME[name].name}, system {toy}, {TOYS[toy].breaks[name]}", str(refused.value), re.DOTALL)


def test_every_rule_is_broken_by_one_that_errs():
    assert {name for kind in TOYS.values() for name in kind.breaks} == BY_NAME.keys()


@pytest.mark.parametrize(
    ("compare", "found", "wanted"),
    [(equal, [1.0, np.nan], [1.0, np.nan]), (close, [-np.inf, 1.0], [-np.inf, 1.05]), (close, [0.0], [1e-9])],
)
def test_a_comparison_lets_pass(compare, found, wanted):
    compare("scores", found, wanted, "why", *([] if compare is equal else [0.1, 1e-8]))


@pytest.mark.parametrize(
    ("compare", "found", "wanted", "said"),
    [
        (equal, [1.0, 2.0], [1.0, 3.0], r"2\.0 instead of 3\.0 at \[1\] \(1 of 2 differ\)"),
        (equal, np.float32([1]), [1.0], r"float32\[1\] instead of float64\[1\]"),
        (equal, [1.0], [1.0, 1.0], r"float64\[1\] instead of float64\[2\]"),
        (close, [0.0], [np.nan], "0.0 instead of nan"),
        (close, [np.nan], [0.0], "nan instead of 0.0"),
        (close, [1.0], [1.2], "1.0 instead of 1.2"),
        (close, [1.0], [1.0, 1.0], r"float64\[1\] instead of float64\[2\]"),
    ],
)
def test_a_comparison_says_where_it_fails(compare, found, wanted, said):
    with pytest.raises(Breach, match=f"^scores: {said}.*; why"):
        compare("scores", found, wanted, "why", *([] if compare is equal else [0.1]))


def test_a_term_that_only_one_of_two_has_is_named():
    with pytest.raises(Breach, match=r"^kl: only one of two has it; why"):
        close_all({"nll": 1.0}, {"nll": 1.0, "kl": 0.0}, "why", 0.1)
