"""What a control found: measures of its rows, and checks with a rule, what was expected and what was found."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hcl_tf.evaluation.intervals import entry_text
from hcl_tf.metrics import significance


@dataclass(frozen=True)
class Check:
    """One comparison with what is known beforehand. `passed` follows from `rule` and `found` alone."""

    what: str
    expected: str
    rule: str
    found: str
    passed: bool


@dataclass
class Findings:
    """All that a control found.

    Attributes:
      control: its name. about: what was done, for people. data: the folder's counts and choices.
      rows: name -> measure -> an entry of `significance.means`, or a number or word.
      flags: name of a row -> its settings where they differ from the preset's.
    """

    control: str
    about: str
    data: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def check(self, what: str, expected: str, rule: str, found: str, passed: bool) -> None:
        """Adds a check."""
        self.checks.append(Check(what, expected, rule, found, bool(passed)))

    def to_json(self) -> dict[str, Any]:
        """Returns everything as a JSON value."""
        return asdict(self) | {"passed": self.passed}


def entries(columns: dict[str, np.ndarray]) -> dict[str, dict]:
    """Computes mean and 95% bootstrap interval of each column of values [n]."""
    return significance.means({name: np.asarray(values, np.float64) for name, values in columns.items()})


def shown(value: Any) -> str:
    """Writes a measure for people: a number with its interval, where it has one."""
    if isinstance(value, dict):
        return entry_text(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)
