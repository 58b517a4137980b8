"""BUILD_NOTES.md as a report needs it: the numbered notes, and which of them speak of a row or a setting.

A note is a heading with its number and title (`### 7. Negatives`) and the list below it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from hcl_tf.reporting.page import NoteLinks

NAME = "BUILD_NOTES.md"
_HEADING = re.compile(r"### (\d+)\. (.+)")
_OURS = ("**[D]**", "**[R]**")


class BuildNotes:
    """Numbered notes.

    Args:
      texts: number -> text: the title, bold, on its first line; then each item of the note's list on a line of its own.
    """

    def __init__(self, texts: dict[int, str]) -> None:
        self.texts = texts

    @classmethod
    def read(cls, path: Path) -> "BuildNotes":
        """The notes of a file; none where there is no such file, as in an installed package."""
        texts: dict[int, str] = {}
        inside = None
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            if line.startswith("#"):
                heading = _HEADING.fullmatch(line)
                inside = int(heading[1]) if heading else None
                if heading:
                    texts[inside] = f"**{heading[2]}**"
            elif inside and line:
                texts[inside] += f"\n{line[2:]}" if line.startswith("- ") else f" {line.strip()}"
        return cls(dict(sorted(texts.items())))

    @property
    def choices(self) -> dict[int, str]:
        """Those that say what is decided or reconstructed by us."""
        return {number: text for number, text in self.texts.items() if any(mark in text for mark in _OURS)}

    def known(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Those of some numbers that are notes, in order, each once."""
        return tuple(sorted(set(numbers) & self.texts.keys()))

    def of_row(self, row: str) -> tuple[int, ...]:
        """Notes that name a row (`claps`), or what it leaves out (`--ablate=graph` for hcl_without_graph)."""
        left_out = row.partition("_without_")[2]
        return self._naming(rf"`{re.escape(row)}`", *([rf"`--ablate={re.escape(left_out)}`"] if left_out else []))

    def of_settings(self, names: Iterable[str]) -> tuple[int, ...]:
        """Notes that name the flag of any of some settings."""
        return self._naming(*(rf"`--{re.escape(name)}\b" for name in names))

    def column(self, numbers: Iterable[int]) -> dict[str, NoteLinks]:
        """A column with links to notes, for a row of a table; no column where there are no notes at all."""
        return {"notes": NoteLinks(self.known(numbers))} if self.texts else {}

    def _naming(self, *patterns: str) -> tuple[int, ...]:
        return self.known(n for n, text in self.texts.items() if any(re.search(pattern, text) for pattern in patterns))
