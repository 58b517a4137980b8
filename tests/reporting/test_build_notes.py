"""The notes as a report reads them; the form of those shipped; and that what refers to a note, and what a note refers to, is there."""

import re
from functools import cache
from pathlib import Path

import pytest

from hcl_tf.reporting import sections, tables
from hcl_tf.reporting.build_notes import NAME, BuildNotes
from hcl_tf.reporting.claims import read
from hcl_tf.reporting.page import NoteLinks

ROOT = Path(__file__).parents[2]
FILE = (ROOT / NAME).read_text(encoding="utf-8")
SHIPPED = BuildNotes.read(ROOT / NAME)
TEXT = """# Notes

What they are.

## Model

### 2. As the paper has it

- **[P]** as stated, with `claps`
  and more of it.
- **[D]** `--free_bits`.

### 10. Graph

- **[R]** ours alone, `--ablate=graph`, `claps_group`

### 9. Speed

- measured, `--free_bits_more=1`

## Versions

- not a note, **[D]**
"""


@pytest.fixture
def notes(tmp_path):
    (path := tmp_path / "notes.md").write_text(TEXT)
    return BuildNotes.read(path)


def test_a_note_is_its_title_and_all_of_its_list(notes):
    assert list(notes.texts) == [2, 9, 10]
    assert notes.texts[2] == "**As the paper has it**\n**[P]** as stated, with `claps` and more of it.\n**[D]** `--free_bits`."
    assert notes.texts[9] == "**Speed**\nmeasured, `--free_bits_more=1`"
    assert list(notes.choices) == [2, 10]


def test_rows_and_settings_find_the_notes_that_name_them(notes):
    assert notes.of_row("claps") == (2,)
    assert notes.of_row("hcl_without_graph") == (10,)
    assert notes.of_row("t5") == ()
    assert notes.of_settings(["free_bits"]) == (2,)
    assert notes.of_settings(["ablate", "free_bits"]) == (2, 10)
    assert notes.of_settings([]) == ()


def test_links_lead_to_notes_that_are_there(notes, tmp_path):
    assert notes.column([10, 2, 2, 99]) == {"notes": NoteLinks((2, 10))}
    missing = BuildNotes.read(tmp_path / "none.md")
    assert (missing.texts, missing.column([2]), missing.known([2])) == ({}, {}, ())


def test_all_that_refers_to_the_shipped_notes_refers_to_one():
    claims = read(ROOT / "experiments" / "paper_claims.yaml")
    constants = [value for module in (sections, tables) for name, value in vars(module).items() if name.startswith("SEE_")]
    assert len(constants) == 7
    for numbers in (*constants, *(claim.notes for claim in (*claims.claims, claims.human))):
        assert SHIPPED.known(numbers) == numbers


# -- the notes shipped ------------------------------------------------------------------------------------------------


def test_every_number_stands_once_and_none_is_missing():
    numbers = [int(number) for number in re.findall(r"^#+ (\d+)\.", FILE, re.MULTILINE)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)) == list(SHIPPED.texts), "each note is a heading `### 7. Title`"


@pytest.mark.parametrize("name", [NAME, "docs/history.md"])
def test_lines_are_short(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) >= 120] == []


def test_a_note_has_its_parts():
    for number, text in SHIPPED.texts.items():
        _, *items = text.splitlines()
        labels = [re.match(r"\*\*\[[PRD]\]\*\* |(Here|Runs|Why|Effect|Code|History|Figures): ", item) for item in items]
        assert all(labels), f"{number}: every item of its list says what it is"
        assert {"Effect", "Code"} <= {label[1] for label in labels}, number


def test_files_and_symbols_that_notes_name_are_there():
    missing = []
    for number, text in SHIPPED.texts.items():
        (code,) = (item for item in text.splitlines() if item.startswith("Code: "))
        for names in code.split("; "):
            file, *symbols = re.findall(r"`([^`]+)`", names)
            found = text_of(file)
            missing += [(number, file)] if found is None else []
            missing += [(number, file, symbol) for symbol in symbols if not re.search(rf"\b{re.escape(symbol)}\b", found or "")]
    assert missing == []


@cache
def text_of(name: str) -> str | None:
    """What a file has in it, below the package or the root; of a folder nothing; None where there is neither."""
    for path in (ROOT / "hcl_tf" / name, ROOT / name):
        if path.is_dir():
            return ""
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def test_what_notes_link_to_is_there():
    for number, text in SHIPPED.texts.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            name, _, anchor = target.partition("#")
            found = text_of(name)
            assert found is not None, (number, target)
            assert not anchor or (anchor == f"note-{number}" and f"\n## Note {number}\n" in found), (number, target)


def test_every_section_of_the_history_is_linked_from_its_note():
    sections = re.findall(r"^## Note (\d+)$", text_of("docs/history.md"), re.MULTILINE)
    assert sections == sorted(set(sections), key=int)
    assert [number for number in sections if f"docs/history.md#note-{number}" not in SHIPPED.texts[int(number)]] == []


@pytest.mark.parametrize("name", [NAME, "docs/history.md"])
def test_notes_that_notes_name_are_there(name):
    named = {int(number) for number in re.findall(r"\b[Nn]otes? (\d+)", text_of(name))}
    assert named <= SHIPPED.texts.keys()
