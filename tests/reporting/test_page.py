"""Pages from sections: what stands out, what is a link and where it leads, and that notes can be read without a network."""

import pytest
from html_page import Page

from hcl_tf.reporting import page
from hcl_tf.reporting.page import Grid, Link, Marked, NoteLinks, Section

NOTES = {3: "**A < b**\n**[D]** a < b, see note 12 and `--flag=<x>`", 12: "**Stated**\n**[P]** as stated; notes 3, note 99"}


@pytest.mark.parametrize(
    ("text", "words", "marked"),
    [
        ("Rain, rainy and brain", ("rain",), ["Rain", "rain"]), ("a (b) c", ("(b",), ["(b"]), ("今天下雨了", ("下雨",), ["下雨"]),
        ("wordpress theme", ("word", "wordpress"), ["wordpress"]), ("nothing", (), []),
    ],
)  # fmt: skip
def test_keywords_stand_out(text, words, marked):
    found = page.pieces(Marked(text, words))
    assert "".join(piece for piece, _ in found) == text
    assert [piece for piece, how in found if how == "mark"] == marked
    assert {how for _, how in found} <= {"", "mark"}


def test_numbers_of_notes_are_links_and_text_that_looks_like_one_is_not():
    assert page.pieces(NoteLinks((3, 12))) == [("3", "#note-3"), (", ", ""), ("12", "#note-12")]
    assert page.pieces(NoteLinks(())) == []
    assert page.pieces("see note 3") == [("see note 3", "")]
    assert str(NoteLinks((3, 12))) == "3, 12"


def test_a_note_s_text_keeps_its_words_and_links_to_notes_that_are_there():
    found = page.note_pieces(NOTES[12], {3, 12})
    assert found[:4] == [("", ""), ("Stated", "strong"), ("\n", ""), ("[P]", "strong")]
    assert found[4:] == [(" as stated; ", ""), ("notes 3", "#note-3"), (", ", ""), ("note 99", ""), ("", "")]
    assert ("--flag=<x>", "code") in page.note_pieces(NOTES[3], set())


def test_a_link_to_a_file_is_its_words_with_the_file_s_name():
    text = "from [0, 1] (seed); [figures](docs/history.md#note-3), [a.md](a.md)"
    found = page.note_pieces(text, {3})
    assert "".join(piece for piece, _ in found) == "from [0, 1] (seed); figures (docs/history.md#note-3), a.md"
    assert {how for _, how in found} == {""}


def test_every_link_leads_to_a_whole_note_that_no_fold_hides():
    sections = [
        Section("Head", see=(12,)), Section("Rows", grids=[Grid([{"row": "hcl", "notes": NoteLinks((3, 12))}])], folded=True),
        Section("Notes", folded=True, notes=NOTES),
    ]  # fmt: skip
    text = page.html(sections)
    shown = Page(text)
    assert shown.open == []
    assert shown.anchors == ["note-3", "note-12"]
    assert {link.removeprefix("#") for link in shown.links} == set(shown.anchors)
    assert text.rindex("</details>") < text.index('id="note-3"'), "a folded section would hide what a link leads to"
    assert "a < b, see note 12 and --flag=<x>" in shown.text
    assert shown.tags.count("strong") == 4


def test_markdown_has_the_titles():
    text = page.markdown([Section("Head", see=(12,)), Section("Notes", folded=True, notes=NOTES)])
    assert "Notes: 12." in text
    assert "| 3 | A &lt; b |\n| 12 | Stated |" in text


def test_columns_stand_below_their_groups_and_links_lead_to_other_pages():
    rows = [{"system": "ours", "a_b: BLEU-1": "1.0", "a_b: BLEU-2": "2.0", "c: BLEU-1": Link("its page", "a_b/report.md")}]
    grid = Grid(rows, grouped=True)
    assert (grid.groups, grid.columns) == ([("", 1), ("a_b", 2), ("c", 1)], ["system", "BLEU-1", "BLEU-2", "BLEU-1"])
    assert (Grid(rows).groups, Grid(rows).columns) == ([], list(rows[0]))
    assert Grid([], grouped=True).groups == []
    section = Section("Scores", ["text"], [grid], points=["first", "second"])
    text, whole = page.markdown([section]), page.html([section])
    assert "- first\n- second\n\ntext" in text
    assert r"| system | a\_b: BLEU-1 |" in text
    assert r"[its page](a\_b/report.md)" in text
    assert '<th colspan="2" class="group">a_b</th><th colspan="1" class="group">c</th>' in whole
    assert '<a href="a_b/report.html">its page</a>' in whole
    assert '<ul class="points"><li>first</li><li>second</li></ul>' in whole
