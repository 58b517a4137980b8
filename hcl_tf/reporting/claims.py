"""What the paper says of its results: the numbers of its tables, as far as a user has them, and the comparisons in its text.

The file (experiments/paper_claims.yaml) ships with every cell empty: we had the paper's text without its tables. Who has the paper fills
the cells in, and every page shows them.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hcl_tf.config import TASKS
from hcl_tf.errors import UserError, where_experiments_are
from hcl_tf.studies.human_evaluation.study import SCALES

DIRECTIONS = ("above", "below")
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "Extrema", "Average", "Greedy")  # [P] section 4.1


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper: what `of` scores is above or below what `to` scores, by `percent` of the latter where it says so.

    Attributes:
      of, to: rows, by the names of experiments/<task>/; several stand for their mean. task: None: every task.
      notes: numbers in BUILD_NOTES.md of what our reading of it rests on.
    """

    says: str
    of: tuple[str, ...]
    to: tuple[str, ...]
    direction: str
    metric: str
    task: str | None
    percent: float | None
    notes: tuple[int, ...]


@dataclass(frozen=True)
class HumanClaim:
    """What the paper says of Table 3: people rate `of` above each of `to`, on every scale.

    Attributes:
      of, to, task, notes: as a `Claim` has them. kappa: scale -> the paper's.
      cells: (row, scale) -> the paper's mean; those that are empty are missing.
    """

    says: str
    of: str
    to: tuple[str, ...]
    task: str | None
    notes: tuple[int, ...]
    kappa: dict[str, float]
    cells: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Claims:
    """A claims file.

    Attributes:
      tables: title -> row -> what the paper calls it. cells: (task, row, metric) -> the paper's value; those that are empty are missing.
      credits: row -> what it lacks, which a gain over it is credited to. human: None where nothing is said of Table 3.
    """

    tables: dict[str, dict[str, str]]
    cells: dict[tuple[str, str, str], float]
    claims: tuple[Claim, ...]
    credits: dict[str, str] = field(default_factory=dict)
    human: HumanClaim | None = None

    def of(self, task: str) -> "Claims":
        """What they say of a task. Of a user's own the paper says nothing, and the rows' names are left."""
        return self if task in TASKS else Claims(self.tables, {}, (), self.credits)


def shipped() -> Path:
    """Returns where the claims file is that ships with the repository: below the working directory, or beside the package."""
    place = Path("experiments") / "paper_claims.yaml"
    beside = Path(__file__).parents[2] / place
    return beside if beside.is_file() and not place.is_file() else place


def known(given: str | None, task: str) -> Claims:
    """Reads the claims file that --claims gives, or else the one that ships with the repository.

    A task of one's own can do without: the paper says nothing of it.

    Raises:
      UserError: as `read`.
    """
    path = Path(given) if given else shipped()
    return Claims({}, {}, ()) if task not in TASKS and not given and not path.is_file() else read(path)


def read(path: Path) -> Claims:
    """Reads a claims file.

    Raises:
      UserError: it can't be read, is no YAML, or holds something unexpected; the line is named.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        remedy = where_experiments_are(path) or "; give a file such as experiments/paper_claims.yaml"
        raise UserError(f"--claims={path}: can't be read ({getattr(error, 'strerror', error)}){remedy}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{where}: no YAML ({getattr(error, 'problem', None) or error}); compare it with the file as shipped"
        ) from error
    if root is None:
        raise UserError(f"{path}: empty; compare it with the file as shipped")
    reader = _Reader(path)
    parts = reader.mapping(root, ("tables", "credits", "cells", "claims", "human"))
    tables = {
        title: {row: str(reader.value(name)) for row, name in reader.mapping(rows).items()}
        for title, rows in reader.mapping(parts["tables"]).items()
    }
    reader.rows = {row for rows in tables.values() for row in rows}
    cells = {
        (task, row, metric): value
        for task, rows in reader.mapping(parts["cells"], known=TASKS).items()
        for row, metrics in reader.mapping(rows, known=reader.rows).items()
        for metric, node in reader.mapping(metrics, known=METRICS).items()
        if (value := reader.number(node, f"cells: {task}: {row}: {metric}")) is not None
    }
    credits = {row: str(reader.value(node)) for row, node in reader.mapping(parts["credits"], known=reader.rows).items()}
    claims = tuple(map(reader.claim, reader.sequence(parts["claims"])))
    return Claims(tables, cells, claims, credits, reader.human(parts["human"]))


class _Reader:
    """YAML nodes, which know their lines, to values."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, set()

    def wrong(self, node: yaml.Node, what: str) -> UserError:
        """The error that names the node's line."""
        return UserError(f"{self.path}:{node.start_mark.line + 1}: {what}")

    def value(self, node: yaml.Node) -> Any:
        """A scalar as YAML reads it."""
        if not isinstance(node, yaml.ScalarNode):
            raise self.wrong(node, "a single value is expected here")
        return yaml.SafeLoader("").construct_object(node)

    def mapping(self, node: yaml.Node, needed: tuple[str, ...] = (), known: Collection[str] = ()) -> dict[str, yaml.Node]:
        """Keys -> nodes; an empty value is an empty mapping. `needed`: these keys and no others; `known`: no others than these."""
        if isinstance(node, yaml.ScalarNode) and self.value(node) is None and not needed:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, "keys and values are expected here, `key: value`")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value in found:
                raise self.wrong(key, f"a second {key.value}")
            self.check(key, key.value, needed or known)
            found[key.value] = value
        if missing := [name for name in needed if name not in found]:
            raise self.wrong(node, f"{missing[0]} is missing")
        return found

    def check(self, node: yaml.Node, value: Any, known: Collection[str]) -> Any:
        """The value, if it is one of those that are known here, or all are."""
        if known and value not in known:
            raise self.wrong(node, f"{value} is not known here; expected: {', '.join(sorted(known))}")
        return value

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        """The items of a list."""
        if not isinstance(node, yaml.SequenceNode):
            raise self.wrong(node, "a list is expected here")
        return node.value

    def number(self, node: yaml.Node, what: str) -> float | None:
        """A number, or None where nothing stands."""
        value = self.value(node)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf")):
            raise self.wrong(node, f"{what}: {node.value!r} is no number; write one such as 23.45, or leave it empty")
        return None if value is None else float(value)

    def claim(self, node: yaml.Node) -> Claim:
        """One entry of `claims`."""
        parts = self.mapping(node, ("says", "of", "to", "direction", "metric", "task", "percent", "notes"))
        of, to = self.known_rows(parts["of"]), self.known_rows(parts["to"])
        direction = self.check(parts["direction"], self.value(parts["direction"]), DIRECTIONS)
        metric = self.check(parts["metric"], self.value(parts["metric"]), METRICS)
        percent = self.number(parts["percent"], "percent")
        if percent is not None and (percent > 0) != (direction == "above"):
            raise self.wrong(parts["percent"], f"percent: {percent:g} contradicts direction: {direction}")
        task, notes = self.task(parts["task"]), self.notes(parts["notes"])
        return Claim(self.value(parts["says"]), of, to, direction, metric, task, percent, notes)

    def human(self, node: yaml.Node) -> HumanClaim:
        """The entry `human`."""
        parts = self.mapping(node, ("says", "of", "to", "task", "notes", "kappa", "cells"))
        kappa = {scale: self.number(value, f"kappa: {scale}") for scale, value in self.mapping(parts["kappa"], known=SCALES).items()}
        cells = {
            (row, scale): value
            for row, scales in self.mapping(parts["cells"], known=self.rows).items()
            for scale, cell in self.mapping(scales, known=SCALES).items()
            if (value := self.number(cell, f"human: cells: {row}: {scale}")) is not None
        }
        return HumanClaim(
            self.value(parts["says"]), self.check(parts["of"], self.value(parts["of"]), self.rows), self.known_rows(parts["to"]),
            self.task(parts["task"]), self.notes(parts["notes"]), {k: v for k, v in kappa.items() if v is not None}, cells,
        )  # fmt: skip

    def known_rows(self, node: yaml.Node) -> tuple[str, ...]:
        """A list of rows that the tables have."""
        rows = tuple(self.check(item, self.value(item), self.rows) for item in self.sequence(node))
        if not rows:
            raise self.wrong(node, "at least one row is needed here")
        return rows

    def task(self, node: yaml.Node) -> str | None:
        """A task of the paper's; None, every one, where nothing stands."""
        task = self.value(node)
        return None if task is None else self.check(node, task, TASKS)

    def notes(self, node: yaml.Node) -> tuple[int, ...]:
        """A list of numbers in BUILD_NOTES.md."""
        numbers = tuple(self.value(item) for item in self.sequence(node))
        if wrong := [number for number in numbers if type(number) is not int]:
            raise self.wrong(node, f"{wrong[0]!r} is no number of a note")
        return numbers
