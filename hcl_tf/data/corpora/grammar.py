"""A grammar of small templates and slot words: it writes the generated samples, and says which texts could be theirs.

A grammar is a file, data/samples/grammars/<task>.yaml, with a family of texts under each name:

  words: slot -> its words, what the family is about first. "bike | bicycle" are synonyms. "Anna/she/her" are the forms that the slot's
    title `hero(name they their)` names: {hero} in a wording is the first, {hero.they} the second.
  begin: how sources begin: for each turn or sentence its wordings. Left out where a source is one text.
  moves: name -> {last: how the source ends, target: what fits}; or one list of wordings, two of which are source and target of an example.

A meaning is a family, a word of each slot, and a move; meanings that differ in the move alone are a group.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from hcl_tf.config import SAMPLES
from hcl_tf.data.corpora.examples import TURN_BREAK, clean

GRAMMARS = SAMPLES / "grammars"
ROLES = ("source", "target")
_SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
Word = Mapping[str, tuple[str, ...]]  # form -> its synonyms
Wording = str  # a text with slots
Part = tuple[Wording, ...]  # a turn or sentence: one of some wordings


@dataclass(frozen=True)
class Group:
    """A family with a word of each of its slots: slot -> the word's number."""

    family: str
    words: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Reading:
    """How a text can be derived: a family, a move, and for each slot in the text the numbers of the words that it may be."""

    family: str
    move: str
    words: Mapping[str, frozenset[int]]

    def agrees(self, other: "Reading") -> bool:
        """Says whether two texts can have one meaning: the same family, move and words."""
        shared = self.words.keys() & other.words.keys()
        return (self.family, self.move) == (other.family, other.move) and all(self.words[slot] & other.words[slot] for slot in shared)


@dataclass(frozen=True)
class Family:
    """A family of a grammar.

    Attributes:
      words: slot -> its words. forms: slot -> the names of its words' forms. moves: move -> role -> the parts of such a text.
    """

    name: str
    words: Mapping[str, tuple[Word, ...]]
    forms: Mapping[str, tuple[str, ...]]
    moves: Mapping[str, Mapping[str, tuple[Part, ...]]]

    @property
    def topic(self) -> str:
        """The slot that a text is about."""
        return next(iter(self.words))

    def groups(self) -> list[Group]:
        """Lists all groups, in order."""
        numbers = product(*(range(len(words)) for words in self.words.values()))
        return [Group(self.name, tuple(zip(self.words, each, strict=True))) for each in numbers]

    def slot(self, found: re.Match) -> tuple[str, str]:
        """Returns the slot and the form that a place in a wording names."""
        return found[1], found[2] or self.forms[found[1]][0]

    def write(self, wording: Wording, group: Group, draw: random.Random) -> str:
        """Fills a wording's slots with the words of a group, each with one of its synonyms, drawn."""
        numbers = dict(group.words)

        def word(found: re.Match) -> str:
            slot, form = self.slot(found)
            return draw.choice(self.words[slot][numbers[slot]][form])

        text = _SLOT.sub(word, wording)
        return text[0].upper() + text[1:]

    @cached_property
    def meanings(self) -> dict[tuple[str, str], dict[str, frozenset[int]]]:
        """Returns (slot, form) -> what may stand there, in canonical form -> the numbers of the words that it may be."""
        found: dict[tuple[str, str], dict[str, frozenset[int]]] = {}
        for slot, words in self.words.items():
            for number, form in product(range(len(words)), self.forms[slot]):
                known = found.setdefault((slot, form), {})
                for text in map(canonical, words[number][form]):
                    known[text] = known.get(text, frozenset()) | {number}
        return found

    @cached_property
    def patterns(self) -> dict[str, dict[str, "_Pattern"]]:
        """Returns role -> move -> what recognises such a text."""
        return {role: {move: _Pattern(self, texts[role]) for move, texts in self.moves.items()} for role in ROLES}


class _Pattern:
    """Recognises the texts of one role and move.

    Args:
      parts: of such a text; each is one of its wordings.
    """

    def __init__(self, family: Family, parts: tuple[Part, ...]) -> None:
        self._family, self._places = family, []  # the slot and form for which each group of the expression stands
        wordings = ("|".join(map(self._wording, part)) for part in parts)
        self._expression = re.compile(TURN_BREAK.join(f"(?:{part})" for part in wordings))

    def _wording(self, wording: Wording) -> str:
        pieces, at = [], 0
        for found in _SLOT.finditer(wording):
            self._places.append(self._family.slot(found))
            words = self._family.meanings[self._places[-1]]
            pieces += [re.escape(wording[at : found.start()].casefold()), f"({'|'.join(map(re.escape, words))})"]
            at = found.end()
        return "".join([*pieces, re.escape(wording[at:].casefold())])

    def read(self, text: str) -> dict[str, frozenset[int]] | None:
        """Returns the words that a text in canonical form may have in each slot; None: it is none of these texts."""
        if not (match := self._expression.fullmatch(text)):
            return None
        words: dict[str, frozenset[int]] = {}
        for place, found in zip(self._places, match.groups(), strict=True):
            if found is not None:
                fitting = self._family.meanings[place][found]
                words[place[0]] = words.get(place[0], fitting) & fitting
        return words if all(words.values()) else None


@dataclass(frozen=True)
class Grammar:
    """All families of a task."""

    families: Mapping[str, Family]

    def readings(self, text: str, role: str = "target") -> list[Reading]:
        """Lists the ways in which a text can be derived as a source or target; there is none for a text that is not of the grammar."""
        text = canonical(text)
        found = []
        for family in self.families.values():
            for move, pattern in family.patterns[role].items():
                words = pattern.read(text)
                found += [Reading(family.name, move, words)] if words is not None else []
        return found

    def topics(self, source: str) -> list[str]:
        """Lists the words, in canonical form, by which a source's topic can be called."""
        found = set()
        for reading in self.readings(source, "source"):
            family = self.families[reading.family]
            for number in reading.words[family.topic]:
                found.update(map(canonical, family.words[family.topic][number][family.forms[family.topic][0]]))
        return sorted(found)


@cache
def of_task(task: str) -> Grammar:
    """Returns the grammar of a task."""
    return read(GRAMMARS / f"{task}.yaml")


def read(path: Path) -> Grammar:
    """Reads a grammar from a file."""
    families = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Grammar({name: _family(name, entry) for name, entry in families.items()})


def _family(name: str, entry: Mapping[str, Any]) -> Family:
    words, forms = {}, {}
    for title, entries in entry["words"].items():
        slot, _, named = title.partition("(")
        forms[slot] = tuple(named.rstrip(")").split()) or ("word",)
        words[slot] = tuple(_word(text, forms[slot]) for text in entries)
    begin = tuple(map(tuple, entry.get("begin", ())))
    moves = {}
    for move, texts in entry["moves"].items():
        last, target = (texts["last"], texts["target"]) if isinstance(texts, dict) else (texts, texts)
        moves[move] = {"source": (*begin, tuple(last)), "target": (tuple(target),)}
    return Family(name, words, forms, moves)


def _word(text: str, forms: tuple[str, ...]) -> Word:
    return {form: tuple(map(str.strip, part.split("|"))) for form, part in zip(forms, text.split("/"), strict=True)}


def canonical(text: str) -> str:
    """Returns a text as it is compared: without case and without spaces that mean nothing. Turns stay turns."""
    return TURN_BREAK.join(clean(turn) for turn in text.casefold().split(TURN_BREAK))
