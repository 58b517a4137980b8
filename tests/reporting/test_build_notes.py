"""The notes as a report reads them, and that every number that code and claims refer to is one of the notes shipped."""

from pathlib import Path

import pytest

from hcl_tf.reporting import sections, tables
from hcl_tf.reporting.build_notes import NAME, BuildNotes
from hcl_tf.reporting.claims import read
from hcl_tf.reporting.page import NoteLinks

ROOT = Path(__file__).parents[2]
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
    shipped, claims = BuildNotes.read(ROOT / NAME), read(ROOT / "experiments" / "paper_claims.yaml")
    constants = [value for module in (sections, tables) for name, value in vars(module).items() if name.startswith("SEE_")]
    assert len(constants) == 7
    for numbers in (*constants, *(claim.notes for claim in (*claims.claims, claims.human))):
        assert shipped.known(numbers) == numbers
    assert len(shipped.texts) == max(shipped.texts), "numbers are stable, and none is missing"
