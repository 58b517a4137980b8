"""Writes what controls found as pages in Markdown."""

from collections.abc import Mapping
from typing import Any

from hcl_tf.markdown import markdown_table
from hcl_tf.studies.controls.findings import shown

TITLES = {
    "planted_word": "Planted word", "masked_keywords": "Masked keywords", "disagreement": "Planted disagreement",
    "impostors": "Level impostors",
}  # fmt: skip


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns one page for all controls that were run.

    Args:
      found: name of a control -> what it found, as JSON has it (`study.control`).
    """
    rows = [{"control": TITLES[name], "verdict": _verdict(one["passed"]), "failed": _failed(one)} for name, one in _sorted(found)]
    parts = ["# Controls with a known answer", "Written by `python -m hcl_tf.studies.controls`.", markdown_table(rows)]
    return "\n\n".join([*parts, *(section(one) for _, one in _sorted(found))]) + "\n"


def section(one: Mapping[str, Any]) -> str:
    """Returns the part of the page about one control."""
    checks = [
        {
            "what": check["what"], "expected": check["expected"], "rule": check["rule"], "found": check["found"],
            "verdict": _verdict(check["passed"]),
        }
        for check in one["checks"]
    ]  # fmt: skip
    names = list(dict.fromkeys(name for row in one["rows"].values() for name in row))
    rows = [
        {"row": name, "flags": _flags(one["flags"].get(name, {}))} | {measure: shown(row.get(measure, "")) for measure in names}
        for name, row in one["rows"].items()
    ]
    parts = [
        f"## {TITLES[one['control']]}: {_verdict(one['passed'])}", one["about"], markdown_table(checks),
        "Means over examples [95% bootstrap interval over examples; of one seed, so what training varies by is not in it].",
        markdown_table(rows), "\n".join(f"- {name}: {_value(value)}" for name, value in one["data"].items()),
        f"Settings of all rows: `{_flags(one['settings'])}`. {one['seconds']:.0f} seconds. `{one['command']}`",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _sorted(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, found[name]) for name in TITLES if name in found]


def _verdict(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def _failed(one: Mapping[str, Any]) -> str:
    return "; ".join(f"{check['what']} {check['found']}" for check in one["checks"] if not check["passed"])


def _flags(settings: Mapping[str, Any]) -> str:
    return " ".join(f"--{name}={value}" for name, value in settings.items())


def _value(value: Any) -> str:
    return ", ".join(f"{name} {shown(part)}" for name, part in value.items()) if isinstance(value, dict) else shown(value)
