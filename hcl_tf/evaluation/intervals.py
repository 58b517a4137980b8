"""Values and their intervals as text: of entries three digits, or what a table asks for; of scores alone as many as their scale needs.

An entry is what `metrics.significance.means` gives: a dictionary with `value`, `low` and `high`, each of which may be None.
"""

FORM = ".3f"


def number(value: float | None, form: str = FORM) -> str:
    """`0.123`; `-` where there is none."""
    return "-" if value is None else format(value, form)


def score_text(value: float | None) -> str:
    """`23.45` from 10 on, `0.123` below, since scores are on scales of 100 and of 1; nothing where there is none."""
    return "" if value is None else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(entry: dict, form: str = FORM) -> str:
    """`[0.100, 0.150]`; nothing where there is none."""
    return "" if entry["low"] is None else f"[{entry['low']:{form}}, {entry['high']:{form}}]"


def entry_text(entry: dict | None, form: str = FORM) -> str:
    """`0.123 [0.100, 0.150]`, as much of it as there is; nothing without a value."""
    if not entry or entry["value"] is None:
        return ""
    return f"{number(entry['value'], form)} {interval(entry, form)}".rstrip()


def columns(entry: dict) -> str:
    """Value and interval for a table of plain text: 9 columns, 2 blanks, 18 columns."""
    return f"{number(entry['value']):>9}  {interval(entry):<18}"


def table(title: str, entries: dict[str, dict]) -> list[str]:
    """Lines of plain text, a blank one first: the title, then each entry under its name."""
    head = f"{title:<30}{'value':>9}  95% interval"
    return ["", head, *(f"{name:<30}{columns(entry)}".rstrip() for name, entry in entries.items())]
