"""Draws docs/floors.svg from the floors in pyproject.toml and the way of the data: python docs/tools/floors_drawing.py"""

import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[1]
PICTURE = DOCS / "floors.svg"
WIDTH, HEIGHT, GAP, LEFT = 760, 34, 10, 310
# What a floor is for; the floors themselves are read from pyproject.toml.
MEANING = {
    "prepare": "the commands: flags in, exit code out",
    "reporting": "pages, exports, demo, training elsewhere",
    "studies": "experiments about one run; tuning",
    "evaluation": "what a finished run is worth; pretraining",
    "training": "the loop, the step, run folders",
    "models": "one file a system",
    "decoding": "beam search, contrastive search",
    "layers": "parts of systems; scores of texts",
    "data": "raw files, keywords, graph, batches",
    "files": "whole files or none, checksums",
    "cli": "settings, flags, terminal",
    "errors": "one class: UserError",
}


def floors() -> list[list[str]]:
    """Returns the floors of the package, highest first: the folders and modules of each."""
    text = (DOCS.parent / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.search(r'name = "floors"\n.*?layers = \[\n(.*?)\n\]', text, re.S)[1]  # tomllib begins with Python 3.11
    return [re.split(r" [|:] ", floor) for floor in re.findall(r'"(.+?)"', layers)]


def picture() -> str:
    """Returns the drawing as SVG: a bar for each floor, and beside it what it is for."""
    parts, top = [], GAP
    for floor in floors():
        lines = _wrapped(floor)
        high = HEIGHT + 17 * (len(lines) - 1)
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - GAP}" height="{high}" rx="6"/>')
        for number, line in enumerate(lines):
            parts.append(f'<text class="names" x="{LEFT + 14}" y="{top + 22 + 17 * number}">{escape(line)}</text>')
        parts.append(f'<text class="meaning" x="{LEFT - 14}" y="{top + 22}">{escape(MEANING[floor[0]])}</text>')
        top += high + GAP
    style = (
        "text{font:14px system-ui,sans-serif}.names{fill:#1a237e;font-family:ui-monospace,monospace;font-size:13px}"
        ".meaning{fill:#555;text-anchor:end}rect{fill:#e8eaf6;stroke:#7986cb}.page{fill:#fff;stroke:none}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img">'
    title = "<title>The floors of hcl_tf, highest first: each imports only from floors below it</title>"
    return "\n".join([head, title, f"<style>{style}</style>", f'<rect class="page" width="{WIDTH}" height="{top}"/>', *parts, "</svg>", ""])


def _wrapped(names: list[str], most: int = 50) -> list[str]:
    """Joins names to lines that fit a bar."""
    lines = [names[0]]
    for name in names[1:]:
        if len(lines[-1]) + len(name) + 3 > most:
            lines.append(name)
        else:
            lines[-1] += f" · {name}"
    return lines


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
