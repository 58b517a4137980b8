"""What a page consists of, sections of paragraphs, tables, pictures and notes, and how it becomes Markdown or HTML."""

import base64
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import jinja2

from hcl_tf.markdown import markdown_table

_IN_A_NOTE = re.compile(
    r"\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`|\b(?P<note>[Nn]otes? (?P<number>\d+))|\[(?P<label>[^]]+)\]\((?P<target>[^)]+)\)"
)


@dataclass(frozen=True)
class Marked:
    """A text in which some words are to stand out."""

    text: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class NoteLinks:
    """Numbers of notes that stand on the same page."""

    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.numbers))


@dataclass(frozen=True)
class Link:
    """A link to another page, by the address of its Markdown from this one; HTML leads to the HTML of the same name."""

    text: str
    address: str

    def __str__(self) -> str:
        return f"[{self.text}]({self.address})"


@dataclass(frozen=True)
class Grid:
    """A table: one dictionary a row, keys are the columns. grouped: columns named `group: name` stand below a head of their group."""

    rows: list[dict[str, str | Marked | NoteLinks | Link]]
    title: str = ""
    grouped: bool = False

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Groups of neighbouring columns, and how many columns each has; columns of no group have an empty one. None where not grouped."""
        groups = [name.partition(": ")[0] if ": " in name else "" for name in self.rows[0]] if self.grouped and self.rows else []
        return [(group, len(list(same))) for group, same in itertools.groupby(groups)]

    @property
    def columns(self) -> list[str]:
        """The columns' names, without their groups where these stand above."""
        return [name.partition(": ")[2] if self.grouped and ": " in name else name for name in self.rows[0]] if self.rows else []


@dataclass(frozen=True)
class Section:
    """Part of a page.

    Attributes:
      points: a list, before the paragraphs. pictures: file name -> PNG bytes. folded: closed until the reader opens it. see: numbers of the
        notes that say more.
      notes: number -> text; all of it in HTML, where links lead to it, and its title, which is its first line, in Markdown.
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    folded: bool = False
    see: tuple[int, ...] = ()
    notes: dict[int, str] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)


def markdown(sections: Iterable[Section]) -> str:
    """The page as Markdown."""
    parts = []
    for number, section in enumerate(sections):
        points = ["\n".join(f"- {point}" for point in section.points)] if section.points else []
        body = [*points, *section.paragraphs, *(f"![{name.partition('.')[0]}]({name})" for name in section.pictures)]
        if section.see:
            body.append(f"Notes: {NoteLinks(section.see)}.")
        for table in [*section.grids, *([_titles(section.notes)] if section.notes else [])]:
            body += [f"**{table.title}**"] if table.title else []
            body.append(grid(table))
        title = f"{'#' if number == 0 else '##'} {section.title}"
        folded = [f"<details><summary>{section.title}</summary>", *body, "</details>"]
        parts += folded if section.folded else [title, *body]
    return "\n\n".join(parts) + "\n"


def grid(table: Grid) -> str:
    """A table as Markdown."""
    return markdown_table([{name: str(value) for name, value in row.items()} for row in table.rows])


def _titles(notes: dict[int, str]) -> Grid:
    return Grid([{"note": str(number), "title": text.partition("\n")[0].strip("*")} for number, text in notes.items()])


def html(sections: list[Section]) -> str:
    """The page as HTML: one file, no network; everything that is text is escaped."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("hcl_tf.reporting", "templates"), autoescape=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.filters["pieces"] = pieces
    known = {number for section in sections for number in section.notes}
    environment.filters["note_pieces"] = lambda text: note_pieces(text, known)
    environment.globals["links"] = NoteLinks
    return environment.get_template("report.html").render(sections=sections)


def pieces(text: str | Marked | NoteLinks | Link) -> list[tuple[str, str]]:
    """A table's cell as (piece, how it is shown): plain (empty), `mark`, or where a link leads.

    Keywords are lemmas, so a word that begins with one is marked.
    """
    if isinstance(text, Link):
        return [(text.text, re.sub(r"\.md$", ".html", text.address))]
    if isinstance(text, NoteLinks):
        shown = [piece for number in text.numbers for piece in ((", ", ""), (str(number), f"#note-{number}"))]
        return shown[1:]
    if isinstance(text, str) or not text.words:
        return [(str(text), "")]
    pattern = "|".join(re.escape(word) for word in sorted(text.words, key=len, reverse=True))
    boundary = r"(?<!\w)" if pattern.isascii() else ""  # Chinese has no spaces
    found, end = [], 0
    for match in re.finditer(f"{boundary}(?:{pattern})", text.text, re.IGNORECASE):
        found += [(text.text[end : match.start()], ""), (match[0], "mark")]
        end = match.end()
    return [*found, (text.text[end:], "")]


def note_pieces(text: str, known: set[int]) -> list[tuple[str, str]]:
    """A note's Markdown as `pieces` has it: bold, code, and links to the other `known` notes that it names.

    A link to a file is words with the file's name, no link: the page is read without the files beside it.
    """
    found, end = [], 0
    for match in _IN_A_NOTE.finditer(text):
        shown, how = match[match.lastgroup], match.lastgroup
        if how == "note":
            how = f"#note-{match['number']}" if int(match["number"]) in known else ""
        elif how == "target":
            shown, how = match["label"] if match["label"] == shown else f"{match['label']} ({shown})", ""
        found += [(text[end : match.start()], ""), (shown, how)]
        end = match.end()
    return [*found, (text[end:], "")]
