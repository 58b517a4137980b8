"""A setting: a dataclass field that says what it means, its unit, its bounds, its value under each preset, and what is tried of it."""

from dataclasses import dataclass, field
from typing import Any

_REQUIRED = object()


@dataclass(frozen=True)
class Tried:
    """What hcl_tf.tune tries of a setting: some values, or any number between two bounds, evenly by its logarithm."""

    among: tuple[Any, ...] = ()
    within: tuple[float, float] = ()

    def with_start(self, value: Any) -> "Tried":
        """Returns the same, widened so that a value is among them."""
        if self.among:
            return Tried(among=tuple(dict.fromkeys((value, *self.among))))
        return Tried(within=(min(value, self.within[0]), max(value, self.within[1])))


def setting(
    paper: Any, text: str, *, small: Any = None, tiny: Any = None, unit: str = "", stated: bool = False, choices: tuple[str, ...] = (),
    low: float | None = None, high: float | None = None, before: Any = _REQUIRED, tried: Tried | None = None,
) -> Any:  # fmt: skip
    """A field.

    Args:
      paper, small, tiny: its value under each preset; the other two take the paper's unless given.
      text: what it means. unit: of its value. stated: whether the paper states the value.
      choices: the words that it may be. low, high: its bounds, inclusive.
      before: what the program did before the setting existed, which is what a stored run without it means; needed for every setting
        that is added after version 0.1.0. Where the default changes later, stored runs keep their recorded value.
      tried: what is tried of it where a system that has it is tuned; None: it is left as it is.
    """
    presets = {"paper": paper, "small": paper if small is None else small, "tiny": paper if tiny is None else tiny}
    kept = {"help": text, "unit": unit, "stated": stated, "choices": choices, "low": low, "high": high, "presets": presets, "tried": tried}
    return field(default=paper, metadata=kept if before is _REQUIRED else kept | {"before": before})
