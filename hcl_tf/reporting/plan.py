"""A plan of an experiment, written down before its first run: which rows, seeds and data, what decides and how.

`reproduce --plan=FILE` makes its rows, `report --plan=FILE` its page. The file is YAML; beside it lies a folder a stage with a flag file a
row, and all.flags for every row of the stage:

    title: What the paper leaves open, decided by experiment
    written: 2026-11-29
    rules: {sentence by sentence: what decides, and what is done in a tie}
    stages:
      questions:
        about: what the stage asks
        task: qqp
        data: tfrecords/qqp-labelled
        split: validation            # whose examples are scored; test where nothing else is said
        checkpoint: best_nll         # which checkpoint is scored; best_loss where nothing else is said
        limit: 1024                  # only the split's first so many examples; all where nothing is said
        samples: 10                  # outputs a source from draws of z; none where nothing is said
        base: base                   # the row that every other is compared with
        rows:
          trunk: {asks: what the row asks}
          base: {asks: ..., from: trunk-1, seeds: [1, 2, 3]}   # begins with the weights of another row's run
          other: {asks: ..., beside: trunk}                    # is compared with another row than the stage's base
          slot: {asks: ..., studies: [channel, keyword_control]}   # what is measured besides scores, where it has z; channel if unsaid
          more: {asks: ..., last: true}                        # is made after those of all stages that are not, if hours are left
    changes: [{date: ..., what: ..., why: ...}]
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hcl_tf.config import SPLITS, TASKS
from hcl_tf.errors import UserError

FOR_ALL = "all.flags"  # flags for every row of a folder
SUFFIX = ".flags"
_STAGE = {"about", "task", "data", "preset", "split", "checkpoint", "base", "samples", "limit", "rows"}
_ROW = {"asks", "from", "seeds", "beside", "studies", "last"}
STUDIES = ("channel", "keyword_control")  # of hcl_tf.studies
_PLAN = {"title", "written", "rules", "hours", "stages", "changes"}


@dataclass(frozen=True)
class PlannedRow:
    """A row of a stage.

    Attributes:
      asks: what it is for. begins: the run, `<row>-<seed>`, whose weights it begins with, or empty. beside: the row that it is compared
        with, or empty: the stage's base. studies: of hcl_tf.studies, whose results are kept with the row if it has a latent variable.
      last: it is made after the rows of all stages that are not.
    """

    name: str
    asks: str
    begins: str
    beside: str
    seeds: tuple[int, ...]
    studies: tuple[str, ...] = ("channel",)
    last: bool = False


@dataclass(frozen=True)
class PlannedStage:
    """Rows of one task, each compared with the row `base` unless it says another. Other attributes are the keys of the file."""

    name: str
    about: str
    task: str
    preset: str
    data: Path
    split: str
    checkpoint: str
    samples: int
    limit: int | None
    base: str
    rows: tuple[PlannedRow, ...]

    def runs(self, last: bool | None = None) -> list[tuple[str, int]]:
        """Every row with every seed of its own, in the file's order, each row once before any twice.

        Args:
          last: only rows that are `last`, or only those that are not. None: all, those that are `last` after the others.
        """
        most = max((len(row.seeds) for row in self.rows), default=0)
        wanted = [(row, place) for place in range(most) for row in self.rows if place < len(row.seeds) and last in (None, row.last)]
        return [(row.name, row.seeds[place]) for row, place in sorted(wanted, key=lambda one: one[0].last)]

    def beside(self, name: str) -> str:
        """The row that a row is compared with."""
        return next(row for row in self.rows if row.name == name).beside or self.base


@dataclass(frozen=True)
class ExperimentPlan:
    """What a plan file says; `path` is where it lies."""

    path: Path
    title: str
    written: str
    rules: dict[str, str]
    hours: float | None
    stages: tuple[PlannedStage, ...]
    changes: tuple[dict[str, str], ...]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.parent.name

    def flag_files(self, stage: PlannedStage) -> Path:
        """The folder of a stage's flag files."""
        return self.path.parent / stage.name


def read(path: Path) -> ExperimentPlan:
    """Reads and checks a plan.

    Raises:
      UserError: it can't be read, lacks something, has a key that means nothing, names a row twice or one that has no flag file, or
        has flag files that it does not name.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"--plan={path}: can't be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--plan={path}: no YAML ({' '.join(str(error).split())})") from error
    _check_keys(path, "the plan", found, _PLAN, {"title", "written", "stages"})
    stages = tuple(_stage(path, name, entry) for name, entry in (found["stages"] or {}).items())
    if not stages:
        raise UserError(f"--plan={path}: it has no stage")
    changes = tuple({key: str(value) for key, value in change.items()} for change in found.get("changes") or ())
    rules = {str(key): str(value) for key, value in (found.get("rules") or {}).items()}
    return ExperimentPlan(path, str(found["title"]), str(found["written"]), rules, found.get("hours"), stages, changes)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if twice := [key for number, key in enumerate(keys) if key in keys[:number]]:
            raise ValueError(f"line {node.start_mark.line + 1}: {twice[0]} stands twice")
        return super().construct_mapping(node, deep)


def _stage(path: Path, name: str, entry: Any) -> PlannedStage:
    where = f"stage {name}"
    _check_keys(path, where, entry, _STAGE, {"task", "data", "base", "rows"})
    rows = tuple(_row(path, name, row, keys or {}) for row, keys in (entry["rows"] or {}).items())
    stage = PlannedStage(
        str(name), str(entry.get("about", "")), entry["task"], entry.get("preset", "small"), Path(entry["data"]),
        entry.get("split", "test"), entry.get("checkpoint", "best_loss"), int(entry.get("samples", 0)), entry.get("limit"),
        entry["base"], rows,
    )  # fmt: skip
    if stage.task not in TASKS:
        raise UserError(f"--plan={path}: {where}: task {stage.task} is none of {', '.join(TASKS)}")
    if stage.split not in SPLITS:
        raise UserError(f"--plan={path}: {where}: split {stage.split} is none of {', '.join(SPLITS)}")
    names = [row.name for row in rows]
    files = {file.stem for file in (path.parent / stage.name).glob(f"*{SUFFIX}")} - {Path(FOR_ALL).stem}
    for row in names:
        if row not in files:
            raise UserError(f"--plan={path}: {where}: {row} has no flag file {path.parent / stage.name / row}{SUFFIX}")
    if unplanned := sorted(files - set(names)):
        raise UserError(f"--plan={path}: {where}: {path.parent / stage.name / unplanned[0]}{SUFFIX} is no row of the plan")
    if stage.base not in names:
        raise UserError(f"--plan={path}: {where}: its base {stage.base} is none of its rows")
    runs = {f"{row.name}-{seed}" for row in rows for seed in row.seeds}
    for row in rows:
        if row.beside and row.beside not in names:
            raise UserError(f"--plan={path}: {where}: {row.name} stands beside {row.beside}, which is none of its rows")
        if row.begins and row.begins not in runs:
            raise UserError(f"--plan={path}: {where}: {row.name} begins from {row.begins}, which is no run of the stage")
    return stage


def _row(path: Path, stage: str, name: str, entry: Any) -> PlannedRow:
    where = f"stage {stage}: {name}"
    _check_keys(path, where, entry, _ROW, set())
    seeds = tuple(entry.get("seeds", (1,)))
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise UserError(f"--plan={path}: {where}: seeds {list(seeds)}; whole numbers are expected, none of them twice")
    studies = tuple(entry.get("studies", ("channel",)))
    if unknown := sorted(set(studies) - set(STUDIES)):
        raise UserError(f"--plan={path}: {where}: study {unknown[0]} is none of {', '.join(STUDIES)}")
    return PlannedRow(
        str(name),
        str(entry.get("asks", "")),
        str(entry.get("from", "")),
        str(entry.get("beside", "")),
        seeds,
        studies,
        entry.get("last", False) is True,
    )


def _check_keys(path: Path, where: str, entry: Any, known: set[str], needed: set[str]) -> None:
    if not isinstance(entry, dict):
        raise UserError(f"--plan={path}: {where}: names with values are expected, found {type(entry).__name__}")
    if missing := sorted(needed - entry.keys()):
        raise UserError(f"--plan={path}: {where} has no {missing[0]}")
    if unknown := sorted(map(str, entry.keys() - known)):
        raise UserError(f"--plan={path}: {where} has {unknown[0]}, which means nothing; {', '.join(sorted(known))} do")
