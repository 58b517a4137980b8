"""BUILD_NOTES.md as a report needs it: the numbered notes, and which of them speak of a row or a setting."""

import re
from collections.abc import Iterable
from pathlib import Path

from hcl_tf.reporting.page import NoteLinks

NAME = "BUILD_NOTES.md"
_BEGINS, _GOES_ON = re.compile(r"(\d+)\. (.+)"), re.compile(r"\s+(\S.*)")
_OURS = ("**[D]**", "**[R]**")


class BuildNotes:
    """Numbered notes.

    Args:
      texts: number -> text, on one line, as it stands in the file.
    """

    def __init__(self, texts: dict[int, str]) -> None:
        self.texts = texts

    @classmethod
    def read(cls, path: Path) -> "BuildNotes":
        """The notes of a file; none where there is no such file, as in an installed package."""
        texts: dict[int, str] = {}
        inside = None
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            if begins := _BEGINS.fullmatch(line):
                inside = int(begins[1])
                texts[inside] = begins[2].strip()
            elif inside and (more := _GOES_ON.fullmatch(line)):
                texts[inside] += f" {more[1].strip()}"
            else:
                inside = None
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
