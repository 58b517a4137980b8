"""One toolkit for all systems: small ones on real examples (`kit`), and the rules that every entry of the registry keeps.

A rule is a function of a `Kit` that raises AssertionError, with a text that names rule, system and tensor. What a rule has to know of a
system it asks the system; the rest is `kit.FACTS`, where a new system needs no line.
"""

from system_toolkit import rules, training_rules
from system_toolkit.breach import Rule
from system_toolkit.kit import Kit

__all__ = ["RULES", "VARIED", "Kit", "Rule", "rules", "training_rules"]

RULES: tuple[Rule, ...] = (*rules.RULES, *training_rules.RULES)
VARIED: tuple[Rule, ...] = rules.VARIED
