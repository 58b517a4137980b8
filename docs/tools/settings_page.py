"""Writes docs/settings.md from the settings dataclasses: python docs/tools/settings_page.py"""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from hcl_tf.models import registry, setting_flags
from hcl_tf.pretraining.settings import flags_of
from hcl_tf.settings import PRESETS, Settings

PAGE = Path(__file__).parents[1] / "settings.md"
OPENING = """# Settings

<!-- Made by docs/tools/settings_page.py from the settings dataclasses; what is written here by hand is lost. -->

Every setting is a flag of `python -m hcl_tf.train`, and stands in the run's `config.json`. A preset gives the settings that you do not
give: `--preset=tiny` for a first look, `small` for a CPU, `paper` for the paper's size. What the name of a model fixes wins over a preset
([below](#what-a-model-fixes)). Without `--preset` it is `tiny` on a sample that comes with the package, and `paper` on any other data; on
the generated sample, `tiny` is smaller and shorter then ([note 136](../BUILD_NOTES.md#136-a-generated-sample-for-the-first-run)). A flag
file holds flags, one a line: `--flagfile=experiments/qqp/hcl.flags`; flags that stand after it win.

[P] marks a value that the paper states; the others are ours. A flag that the chosen `--model` does not use is refused, and the message
names the models that would. `python -m hcl_tf.train --helpfull` prints this list in the terminal.
"""
FIXED = """## What a model fixes

These win over every preset, and a flag wins over them.
"""
PRETRAINING = """## Pretraining

Settings of `python -m hcl_tf.pretrain`, which trains the body of a BERT, a T5 or a GPT-2 on your texts. It has no presets.
"""


def page() -> str:
    """Returns the page's text."""
    parts, settings = [OPENING], setting_flags.all_settings()
    for kind, names in groups(settings).items():
        about = re.split(r"(?<!et al)\.(?:\s|$)", kind.__doc__)[0]
        parts.append(f"## {kind.group[0].upper()}{kind.group[1:]}\n\n{about}. Used by {setting_flags.takers(names[0], '`')}.\n")
        parts.append(table(settings[name] for name in names))
    parts += [FIXED, fixed()]
    parts += [PRETRAINING, table(flags_of().values(), PRESETS[:1])]
    return "\n".join(parts)


def fixed() -> str:
    """Returns the table of what names of models fix."""
    lines = ["| model | fixed |", "|---|---|"]
    for name, entry in registry.SYSTEMS.items():
        if entry.fixed:
            lines.append(f"| `{name}` | {', '.join(f'`--{key}={str(value).lower()}`' for key, value in entry.fixed.items())} |")
    return "\n".join(lines) + "\n"


def groups(settings: Iterable[str]) -> dict[type[Settings], list[str]]:
    """Returns settings by the class that adds them."""
    found: dict[type[Settings], list[str]] = {}
    for name in settings:
        found.setdefault(setting_flags.added_by(name), []).append(name)
    return found


def table(fields: Iterable[dataclasses.Field], presets: tuple[str, ...] = PRESETS) -> str:
    """Returns the table of some settings, with their values under some presets."""
    lines = ["| setting | value | meaning | allowed |", "|---|---|---|---|"]
    for item in fields:
        mark = "[P] " if item.metadata["stated"] else ""
        lines.append(f"| `--{item.name}` | {values(item, presets)} | {mark}{item.metadata['help'].replace('|', '/')} | {allowed(item)} |")
    return "\n".join(lines) + "\n"


def values(item: dataclasses.Field, presets: tuple[str, ...]) -> str:
    """Returns the value under each preset, or one value where all presets have it."""
    kept = ((preset, item.metadata["presets"][preset]) for preset in presets)
    shown = {preset: "none" if value == "" else f"`{str(value).lower()}`" for preset, value in kept}
    if len(set(shown.values())) == 1:
        return shown[presets[0]]
    return ", ".join(f"{preset} {value}" for preset, value in shown.items())


def allowed(item: dataclasses.Field) -> str:
    """Returns what a setting may be, with its unit."""
    data = item.metadata
    if item.name == "model":
        return ", ".join(f"`{name}`" for name in registry.SYSTEMS)
    if data["choices"]:
        return ", ".join(f"`{choice}`" for choice in data["choices"] if choice)
    if isinstance(item.default, bool):
        return "`true`, `false`"
    low, high = data["low"], data["high"]
    bounds = f"{low} to {high}" if high is not None else f"{low} or more" if low is not None else ""
    return " ".join(filter(None, (bounds, data["unit"]))) or ("text" if isinstance(item.default, str) else "number")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
