"""Draws a study of outputs by people: which items are rated, and which system each label stands for.

Items, labels and orders depend on the seed and the outputs alone. The key file holds all of them, with the texts as annotators were shown
them, so that filled sheets are read back without the runs.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.files.json_text import from_json, to_json

KEY, SHEETS_FOLDER, FILLED_FOLDER = "key.json", "annotators", "filled"  # in a study's folder (folder.py)
FORMAT = 1
SCALES = ("Fluency", "Meaningfulness", "Differential")
SCORES = (1, 2, 3)
MOST_SYSTEMS = len(ascii_uppercase)
ID_LENGTH = 8


@dataclass(frozen=True)
class Item:
    """A source and the output of each system for it.

    Attributes:
      number: 1, 2, ... in the order of the split; the only name of the item that annotators see.
      id: the example's id in the prepared data.
      systems, outputs: of each label, A first.
    """

    number: int
    id: str
    source: str
    systems: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Study:
    """A study, as its key file holds it.

    Attributes:
      seed: of the draw, the labels and the orders.
      origin: task, data, and the run of each system; for the record only.
      items: by number. orders: for each annotator, the item numbers in the order of the sheet.
    """

    seed: int
    origin: dict[str, Any]
    items: tuple[Item, ...]
    orders: tuple[tuple[int, ...], ...]

    @property
    def id(self) -> str:
        """The first digits of a hash, which tell this study's sheets from those of any other."""
        return hashlib.sha256(to_json(self._content())).hexdigest()[:ID_LENGTH]

    @property
    def labels(self) -> list[str]:
        """The labels A, B, ..., the same for every item. Which system a label stands for changes from item to item."""
        return sorted(self.items[0].systems)

    @property
    def systems(self) -> list[str]:
        """The names of the systems, in the order in which they were given."""
        return [system["name"] for system in self.origin["systems"]]

    def sheet(self, annotator: int) -> str:
        """Returns the id of an annotator's sheet; annotators count from 1."""
        return f"{self.id}-{annotator}"

    def _content(self) -> dict[str, Any]:
        items = [{k: getattr(item, k) for k in ("number", "id", "source", "systems", "outputs")} for item in self.items]
        return {"format": FORMAT, "seed": self.seed, "origin": self.origin, "items": items, "orders": list(map(list, self.orders))}

    def to_bytes(self) -> bytes:
        """Writes the key file."""
        return to_json({"study": self.id, **self._content()}, indent=1) + b"\n"


def draw(
    outputs: dict[str, list[str]], examples: list[dict], count: int, annotators: int, seed: int, keep_case: bool, origin: dict[str, Any]
) -> Study:
    """Draws the items without replacement, and for each item an order of the systems.

    Args:
      outputs: of each system, for each of `examples`.
      examples: dicts with `id` and `source`.
      keep_case: show outputs as they are. Else in lower case: some systems write capitals and others can't, which would tell them apart.
      origin: `Study.origin`; `origin["systems"]` has a `name` for each system.

    Raises:
      UserError: too few examples or too many systems.
    """
    if count > len(examples):
        raise UserError(f"--items={count}: there are only {len(examples)} examples; ask for fewer")
    if not 2 <= len(outputs) <= MOST_SYSTEMS:
        raise UserError(f"--runs: {len(outputs)} systems; a study compares 2 to {MOST_SYSTEMS}")
    # Streams of their own: another number of annotators changes neither the items nor what the labels stand for.
    items_random, labels_random, orders_random = (np.random.default_rng([seed, stream]) for stream in range(3))
    chosen = np.sort(items_random.choice(len(examples), count, replace=False))
    names, items = list(outputs), []
    for number, place in enumerate(chosen, 1):
        systems = {ascii_uppercase[i]: names[j] for i, j in enumerate(labels_random.permutation(len(names)))}
        texts = {label: _shown(outputs[name][place]) for label, name in systems.items()}
        shown = texts if keep_case else {label: text.lower() for label, text in texts.items()}
        items.append(Item(number, examples[place]["id"], _shown(examples[place]["source"]), systems, shown))
    orders = tuple(tuple(int(i) + 1 for i in orders_random.permutation(count)) for _ in range(annotators))
    return Study(seed, origin, tuple(items), orders)


def _shown(text: str) -> str:
    """Replaces characters that no sheet can carry by blanks: control characters and halves of surrogate pairs."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", " ", text.replace("\r\n", "\n"))


def read_key(folder: Path) -> Study:
    """Reads the study of a folder. Raises `UserError` where there is no key, or it was changed."""
    path = folder / KEY
    try:
        key = from_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); --sheets is the folder that was made with --runs and --out") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); make the folder again with the same flags, which gives the same key") from error
    try:
        items = tuple(Item(**item) for item in key["items"])
        study = Study(key["seed"], key["origin"], items, tuple(map(tuple, key["orders"])))
        whole = key["format"] == FORMAT and key["study"] == study.id
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a key file ({error!r}); make the folder again with the same flags") from error
    if not whole:
        raise UserError(f"{path}: changed since it was written; make the folder again with the same flags, which gives the same key")
    return study
