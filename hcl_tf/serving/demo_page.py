"""The page of `python -m hcl_tf.demo`: what a person asks for in an address, and the comparisons (serving/keyword_edits.py) as HTML.

A page is made whole by the server and needs no script. Its form sends the text, the keywords that stand as chips, and what is done to them;
so an address holds all that its page shows. templates/demo.html has the markup, in which Jinja escapes every value.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from importlib import resources
from urllib.parse import parse_qs

import jinja2
import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.serving.keyword_edits import Comparison, EditableRun, Example

PAGE = jinja2.Environment(
    loader=jinja2.PackageLoader("hcl_tf.serving", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
).get_template("demo.html")  # fmt: skip
STYLE = resources.files("hcl_tf.serving").joinpath("templates", "demo.css").read_text(encoding="utf-8")
LONGEST = 5_000  # characters that the field takes: a text goes into an address, and models read its first few hundred pieces at most
_WORDS = re.compile(r"\s+|[\u3400-\u9fff]|\w+|.")  # a Chinese character counts as a word


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    Attributes:
      keywords: the chips; None: the text's own keywords, because the text is new or they were asked for.
      added, removed: what is done to them.
    """

    text: str
    keywords: tuple[str, ...] | None = None
    added: tuple[str, ...] = ()
    removed: str | None = None


@dataclass(frozen=True)
class Shown:
    """What a page shows.

    Attributes:
      compared: the comparisons of the runs, in their order; empty where `problem` says why there are none.
      focus: the number of the chip that a keyboard goes on with; None: the field for a new one; -1: the page begins at its top.
    """

    text: str
    keywords: tuple[str, ...] = ()
    compared: Sequence[tuple[EditableRun, Comparison]] = ()
    problem: str = ""
    focus: int | None = -1


def split(keywords: str) -> tuple[str, ...]:
    """Splits what a person typed at commas, English or Chinese ones, and line ends. No keywords at all is a choice too."""
    return tuple(found for part in re.split("[,，、\n]", keywords) if (found := part.strip()))


def read(query: str, examples: Sequence[Example]) -> Asked | None:
    """Reads an address's query. Without a text it asks for an example; None where there is none."""
    fields = parse_qs(query, keep_blank_values=True)
    one = lambda name: fields.get(name, [""])[0]  # noqa: E731
    if "text" not in fields:
        number = one("example")
        place = int(number) % len(examples) if examples and re.fullmatch("[0-9]{1,6}", number) else 0
        return Asked(examples[place].text) if examples else None
    text = plain(one("text"))
    # Keywords of another text would say nothing about this one.
    kept = None if "own" in fields or one("of") != mark(text) else tuple(fields.get("keyword", ()))
    return Asked(text, kept, split(one("add")), one("remove") if "remove" in fields else None)


def plain(text: str) -> str:
    """Returns a text without what browsers change: line ends, and space around it."""
    return "\n".join(text.splitlines()).strip()


def mark(text: str) -> str:
    """Returns what tells a text from others in a page's form."""
    return hashlib.sha256(plain(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def answer(runs: Sequence[EditableRun], asked: Asked | None) -> Shown:
    """Answers with every run. What can't be answered stays in the form, with the reason."""
    if asked is None:
        return Shown("")
    before = asked.keywords
    try:
        if before is None:
            before = next((run for run in runs if run.uses_keywords), runs[0]).own_keywords(asked.text)
        keywords = tuple(word for word in (*before, *asked.added) if word != asked.removed)
        compared = [(run, run.compare(asked.text, keywords)) for run in runs]
    except UserError as error:
        problem = re.sub("^--(keywords|run_dir): ", "", str(error))  # the page has no flags
        if before is not None and asked.added:  # what can't be added is no reason to take away what is there
            return replace(answer(runs, Asked(asked.text, before)), problem=problem, focus=None)
        return Shown(asked.text, before or (), problem=problem)
    taken = next((found.edited.keywords for run, found in compared if run.uses_keywords), keywords)  # as the graph has them
    focus = None if asked.added else -1
    if asked.removed in before:
        focus = min(before.index(asked.removed), len(taken) - 1) if taken else None
    return Shown(asked.text, taken, compared, focus=focus)


def page(runs: Sequence[EditableRun], shown: Shown, examples: Sequence[Example] = ()) -> str:
    """Returns a page as HTML."""
    number = next((place for place, example in enumerate(examples) if mark(example.text) == mark(shown.text)), None)
    return PAGE.render(
        runs=runs, shown=shown, mark=mark(shown.text), longest=LONGEST, changed_words=changed_words, bars=bars,
        most=min(run.most_keywords for run in runs), language=runs[0].language,
        next=None if not examples else 0 if number is None else (number + 1) % len(examples),
        target=None if number is None else examples[number].target,
    )  # fmt: skip


def changed_words(before: str, after: str) -> list[tuple[str, bool]]:
    """Cuts a text into pieces, each with whether it is new beside another text. Joined they are the text."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    edits = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [("".join(new[start:end]), kind != "equal") for kind, _, _, start, end in edits if end > start]


def bars(values: np.ndarray) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    """Lays out values [Z] of at least 0 as bars.

    Returns:
      The bars' sides as SVG attributes, and the marks of the axis as (where from the top, number). 1 is always in sight and marked. All
      places are in percent of the picture, so that words in it keep their size on any screen.
    """
    top = max(1.0, float(values.max()))
    width = 100 / len(values)
    percent = "{:.3f}%".format
    sides = [
        {
            "x": percent((i + 0.1) * width),
            "y": percent(100 * (1 - v / top)),
            "width": percent(0.8 * width),
            "height": percent(100 * v / top),
        }
        for i, v in enumerate(values)
    ]
    ticks = [0.0, 1.0] + ([top] if top > 1.25 else [])  # nearer to 1 the two numbers would stand in each other
    return sides, [(percent(100 * (1 - tick / top)), f"{tick:.1f}" if tick > 1 else f"{tick:.0f}") for tick in ticks]
