"""What a breach of a rule says: which rule, which system, which tensor."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from system_toolkit.kit import Kit

SHOWN = 600  # characters of an error that a rule died of
CHEAP, DEAR, DEAREST = "about a second", "some seconds", "half a minute or a process of its own"


class Breach(AssertionError):
    """A rule is broken; `term`: the tensor, term, variable or setting that shows it."""

    def __init__(self, term: str, text: str) -> None:
        super().__init__(f"{term}: {text}")


@dataclass(frozen=True)
class Rule:
    """A rule, which is called with a kit.

    Attributes:
      cost: `CHEAP`, `DEAR` or `DEAREST` for each system. untrained: it is also one for systems without weights.
    """

    check: Callable[["Kit"], None]
    cost: str
    untrained: bool

    @property
    def name(self) -> str:
        """The function's, as words."""
        return self.check.__name__.replace("_", " ")

    def __repr__(self) -> str:
        return self.check.__name__

    def __call__(self, kit: "Kit") -> None:
        try:
            self.check(kit)
        except Breach as breach:
            raise AssertionError(f"rule {self.name}, system {kit.model}, {breach}") from breach
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise AssertionError(f"rule {self.name}, system {kit.model}, died of {text[:SHOWN]}") from error


def rule(cost: str = CHEAP, untrained: bool = False) -> Callable[[Callable[["Kit"], None]], Rule]:
    """Makes a function of a kit, which raises `Breach`, a rule."""
    return functools.partial(Rule, cost=cost, untrained=untrained)


def need(condition: bool, term: str, text: str) -> None:
    """Raises `Breach` unless the condition holds."""
    if not condition:
        raise Breach(term, text)


def equal(term: str, found: Any, wanted: Any, why: str) -> None:
    """Bit for bit, NaN included."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    need(found.dtype == wanted.dtype and found.shape == wanted.shape, term, f"{_kind(found)} instead of {_kind(wanted)}; {why}")
    _compare(term, found, wanted, (found == wanted) | ((found != found) & (wanted != wanted)), why)


def close(term: str, found: Any, wanted: Any, why: str, rel: float, abs_: float = 0.0) -> None:
    """Within a part of the wanted value or an absolute bound, whichever is larger; equal infinities are close."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    need(found.shape == wanted.shape, term, f"{_kind(found)} instead of {_kind(wanted)}; {why}")
    with np.errstate(invalid="ignore"):
        near = (abs(found - wanted) <= np.maximum(rel * abs(wanted), abs_)) | (found == wanted)
    _compare(term, found, wanted, near, why)


def close_all(found: Mapping[str, Any], wanted: Mapping[str, Any], why: str, rel: float, abs_: float = 0.0) -> None:
    """`close` for each of some named numbers, all of which both have to have."""
    need(found.keys() == wanted.keys(), ", ".join(sorted(found.keys() ^ wanted.keys())), f"only one of two has it; {why}")
    for name, value in wanted.items():
        close(name, found[name], value, why, rel, abs_)


def _compare(term: str, found: np.ndarray, wanted: np.ndarray, same: np.ndarray, why: str) -> None:
    if same.all():
        return
    place = tuple(int(i) for i in np.argwhere(~same)[0]) if same.ndim else ()
    at = f" at {list(place)}" if place else ""
    raise Breach(term, f"{found[place]!s} instead of {wanted[place]!s}{at} ({int((~same).sum())} of {same.size} differ); {why}")


def _kind(values: np.ndarray) -> str:
    return f"{values.dtype}{list(values.shape)}"
