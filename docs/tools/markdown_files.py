"""What the tests and the site read in a Markdown file: its links, anchors, names of code, and the commands that are marked as runnable.

A block of commands is runnable where the line before it is `<!-- run -->`. A block behind `<!-- prints -->` is what the last runnable block
before it prints; numbers in it may differ, and `...` stands for anything. GitHub and the site show neither mark.
"""

import re
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^ *(`{3,}).*?^ *\1 *$", re.M | re.S)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
_LINK = re.compile(
    r"(?P<before>!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()(?P<target>[^()\s]+)(?P<after>(?:\s+\"[^\"]*\")?\))|(?:src|href)=\"(?P<html>[^\"]+)\""
)
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *#* *$", re.M)
_ANCHOR = re.compile(r"<[a-z]+ [^>]*\b(?:id|name)=\"([^\"]+)\"")
_SYMBOL = re.compile(r"\[`([A-Za-z_][\w.]*)`\]\(([^()\s]+\.py)\)")
_MARKED = re.compile(r"^<!-- (run|prints) -->\n```\w*\n(.*?)^```$", re.M | re.S)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Link(NamedTuple):
    """A link: its line, and what it points to as it is written."""

    line: int
    target: str


class Commands(NamedTuple):
    """A runnable block: the line where its commands begin, its commands, and a pattern of what they print ("": not said)."""

    line: int
    text: str
    prints: str


def links(markdown: str) -> list[Link]:
    """Returns all links and pictures of a text, those in code left out; of escaped signs (`a\\_b`) the sign."""
    bare = _without_code(markdown)
    return [
        Link(_line(bare, found.start()), re.sub(r"\\([\\`*_|])", r"\1", found["target"]) if found["target"] else found["html"])
        for found in _LINK.finditer(bare)
    ]


def with_links(markdown: str, changed) -> str:
    """Returns a text whose links point to `changed(target)`. Links in code stay; `None` leaves a link's words alone."""
    code = [found.span() for found in (*_FENCE.finditer(markdown), *_CODE.finditer(markdown))]

    def change(found: re.Match) -> str:
        if any(begin <= found.start() < end for begin, end in code) or found["html"]:
            return found[0]
        target = changed(found["target"])
        return found["before"].lstrip("!")[1:-2] if target is None else f"{found['before']}{target}{found['after']}"

    return _LINK.sub(change, markdown)


def anchors(markdown: str) -> set[str]:
    """Returns the anchors of a text: those of its headings, as GitHub makes them, and those that it names itself."""
    bare, found = _FENCE.sub("", markdown), set(_ANCHOR.findall(markdown))
    for _, heading in _HEADING.findall(bare):
        slug = slugify(heading)
        repeated = next(number for number in range(1000) if (f"{slug}-{number}" if number else slug) not in found)
        found.add(f"{slug}-{repeated}" if repeated else slug)
    return found


def slugify(heading: str, separator: str = "-") -> str:
    """Returns the anchor of a heading: lower case, without marks, a hyphen for each space."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", separator)


def symbols(markdown: str) -> list[tuple[str, str]]:
    """Returns the names of code that a text links to, as [`Class.method`](file.py): (name, file)."""
    return _SYMBOL.findall(re.sub(r"``.+?``", "", _FENCE.sub("", markdown)))


def runnable(markdown: str) -> list[Commands]:
    """Returns the blocks that are marked as runnable, in their order."""
    found: list[Commands] = []
    for block in _MARKED.finditer(markdown):
        if block[1] == "run":
            found.append(Commands(_line(markdown, block.start(2)), block[2], ""))
        else:
            found[-1] = found[-1]._replace(prints=block[2])
    return found


def is_printed(expected: str, printed: str) -> bool:
    """Says whether a text was printed: its numbers may differ, its `...` stand for anything, and white space counts as one space."""
    pieces = [" ".join(_NUMBER.sub("0", piece).split()) for piece in expected.split("...")]
    return re.search(".*".join(map(re.escape, pieces)), " ".join(_NUMBER.sub("0", printed).split()), re.S) is not None


def in_repository(file: Path, target: str, root: Path) -> tuple[Path, str] | None:
    """Returns the file or folder that a link in `file` points to, and its anchor; None for a link out of the repository."""
    if re.match(r"[a-z]+:", target):
        return None
    path, _, anchor = target.partition("#")
    found = (file.parent / path).resolve() if path else file.resolve()
    return (found, anchor) if found.is_relative_to(root) else None


def _without_code(markdown: str) -> str:
    """The same text with as many lines, without what stands in code."""
    return _CODE.sub("code", _FENCE.sub(lambda found: "\n" * found[0].count("\n"), markdown))


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
