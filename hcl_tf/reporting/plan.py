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
        sampled_sources: 1000        # of the split's first so many sources; of all where nothing is said
        base: base                   # the row that every other is compared with
        counts: {NLL of y+: 0.5}     # a row that is worse by more than this counts for nothing; all count where nothing is said
        margins: {BLEU-2: 0.5}       # what is no difference: the 90% interval over seeds and examples within it
        rows:
          trunk: {asks: what the row asks}
          base: {asks: ..., from: trunk-1, seeds: [1, 2, 3]}   # begins with the weights of another row's run
          other: {asks: ..., beside: trunk}                    # is compared with another row than the stage's base
          slot: {asks: ..., studies: [channel, keyword_control]}   # what is measured besides scores, where it has z; channel if unsaid
    changes: [{date: ..., what: ..., why: ...}]

A plan whose results are to be believed says more. Of a stage: `stop` (what ends a training), `hours`, `at_least` (examples scored),
`raw_file` (the first digits of the SHA-256 of a file that its data are made of), and `runs_of`, the stage whose trained runs it scores in
another way. Of a row: `trials` of its settings before, and `turn`: rows of a lower one, of any stage, are made before all of a higher one.
Of the whole:

    primary:              # the comparison that decides; several measures are corrected by Holm. margin: what counts as no difference
      {stage: questions, row: hcl, beside: [bert_cvae], margins: {BLEU-2: 0.5}, open_channel: true}
    secondary: {name: {stage: ..., row: ..., beside: [...], margins: {...}}}  # families, each corrected by itself
    variances: {of_seeds: 0.3, of_sentences: 60, of_rest: 150, from: ...}     # of differences in the primary's first measure
    opened: 2026-12-01    # from when the test split may be scored, which is refused before: trials, forms and budgets are fixed then
    limits: [what the numbers can't say, a sentence each]
    causes: {"<task>: <what the paper says>": why it does not hold here, with the experiment that shows it}
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from hcl_tf.config import CUSTOM, SPLITS, STUDIES, TASKS
from hcl_tf.errors import UserError, where_experiments_are
from hcl_tf.metrics.power import Components
from hcl_tf.reporting.measures import NAMED, Measure

FOR_ALL = "all.flags"  # flags for every row of a folder
SUFFIX = ".flags"
Kinds = dict[str, type | tuple[type, ...]]
_NUMBER, _DATE, _NAMES = (int, float), (str, date), (str, list)
_PLAN: Kinds = {
    "title": str, "written": _DATE, "opened": _DATE, "hours": _NUMBER, "rules": dict, "stages": dict, "changes": list, "primary": dict,
    "secondary": dict, "variances": dict, "limits": list, "causes": dict,
}  # fmt: skip
_STAGE: Kinds = {
    "about": str, "task": str, "data": str, "preset": str, "split": str, "checkpoint": str, "base": str, "samples": int, "limit": int,
    "sampled_sources": int, "rows": dict, "stop": str, "hours": _NUMBER, "at_least": int, "runs_of": str, "counts": dict, "margins": dict,
    "raw_file": str,
}  # fmt: skip
_ROW: Kinds = {"asks": str, "from": str, "seeds": list, "beside": str, "studies": list, "trials": int, "turn": int}
_TEST: Kinds = {"stage": str, "row": str, "beside": _NAMES, "margins": dict, "open_channel": bool}
_VARIANCES: Kinds = {"of_seeds": _NUMBER, "of_sentences": _NUMBER, "of_rest": _NUMBER, "from": str}
_CHANGE: Kinds = {"date": _DATE, "what": str, "why": str}
_CALLED = {
    str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "names with values", _NUMBER: "a number",
    _DATE: "a date", _NAMES: "a name or a list of names",
}  # fmt: skip


@dataclass(frozen=True)
class PlannedRow:
    """A row of a stage.

    Attributes:
      asks: what it is for. begins: the run, `<row>-<seed>`, whose weights it begins with, or empty. beside: the row that it is compared
        with, or empty: the stage's base. studies: of hcl_tf.studies, whose results are kept with the row if it has a latent variable.
      trials: how many trainings choose its settings before (hcl_tf.tune). turn: rows of a lower one are made before.
    """

    name: str
    asks: str
    begins: str
    beside: str
    seeds: tuple[int, ...]
    studies: tuple[str, ...] = ("channel",)
    trials: int = 0
    turn: int = 1


@dataclass(frozen=True)
class PlannedTest:
    """A row beside others, in measures with the margin of what counts as no difference. Its p-values are corrected together.

    Attributes:
      open_channel: whether it is said only where z reaches the text in both rows.
    """

    name: str
    stage: str
    row: str
    beside: tuple[str, ...]
    margins: dict[Measure, float]
    open_channel: bool = False


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
    stop: str = ""
    hours: float | None = None
    at_least: int = 0
    runs_of: str = ""
    counts: dict[Measure, float] = field(default_factory=dict)
    margins: dict[Measure, float] = field(default_factory=dict)
    sampled_sources: int | None = None
    raw_file: str = ""

    def runs(self, turn: int | None = None) -> list[tuple[str, int]]:
        """Every row, or those of a turn, with every seed of its own, in the file's order, each row once before any twice."""
        rows = [row for row in self.rows if turn in (None, row.turn)]
        last = max((len(row.seeds) for row in rows), default=0)
        return [(row.name, row.seeds[place]) for place in range(last) for row in rows if place < len(row.seeds)]

    def beside(self, name: str) -> str:
        """The row that a row is compared with."""
        return self.row(name).beside or self.base

    def row(self, name: str) -> PlannedRow:
        """The row of a name that is one of its rows'."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class ExperimentPlan:
    """What a plan file says; `path` is where it lies. Of `variances`, the last word says where they come from."""

    path: Path
    title: str
    written: str
    rules: dict[str, str]
    hours: float | None
    stages: tuple[PlannedStage, ...]
    changes: tuple[dict[str, str], ...]
    primary: PlannedTest | None = None
    secondary: tuple[PlannedTest, ...] = ()
    variances: tuple[Components, str] | None = None
    limits: tuple[str, ...] = ()
    causes: dict[str, str] = field(default_factory=dict)
    opened: date | None = None

    def check_opened(self, stages: Iterable[PlannedStage]) -> None:
        """Raises `UserError` where a plan with a test that decides would score a test split that it has not opened."""
        closed = [stage.name for stage in stages if self.decides(stage)]
        if closed and not (self.opened and self.opened <= date.today()):
            when = f"opens on {self.opened}" if self.opened else "has not opened"
            raise UserError(
                f"--plan={self.path}: stage {closed[0]} scores the test split, which this plan {when}; fix trials, settings and "
                "budgets, and write the date as `opened` into the plan. hcl_tf.tune and a training by hand need no test split"
            )

    def decides(self, stage: PlannedStage) -> bool:
        """Whether the plan's own tests alone judge a stage's rows: it has a test that decides, and they are scored on the test split."""
        return self.primary is not None and stage.split == "test"

    @property
    def turns(self) -> list[int]:
        """The turns of its rows, in their order."""
        return sorted({row.turn for stage in self.stages for row in stage.rows})

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.parent.name

    def flag_files(self, stage: PlannedStage) -> Path:
        """The folder of a stage's flag files."""
        return self.path.parent / (stage.runs_of or stage.name)

    def stage(self, name: str) -> PlannedStage:
        """The stage of a name that is one of its stages'."""
        return next(stage for stage in self.stages if stage.name == name)


def read(path: Path) -> ExperimentPlan:
    """Reads and checks a plan.

    Raises:
      UserError: it can't be read, lacks something, has a key that means nothing, names a row twice or one that has no flag file, or
        has flag files that it does not name.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"--plan={path}: can't be read ({error.strerror}){where_experiments_are(path)}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--plan={path}: no YAML ({' '.join(str(error).split())})") from error
    found = _checked(path, "the plan", found, _PLAN, {"title", "written", "stages"})
    stages = tuple(_stage(path, name, entry) for name, entry in found["stages"].items())
    if not stages:
        raise UserError(f"--plan={path}: it has no stage")
    changes = tuple(
        {key: str(value) for key, value in _checked(path, f"change {number}", change, _CHANGE, set(_CHANGE)).items()}
        for number, change in enumerate(found.get("changes", ()), 1)
    )
    rules = found.get("rules", {})
    if unquoted := [key for key in rules if not isinstance(key, str)]:
        raise UserError(f"--plan={path}: rules: a name is read as {unquoted[0]}, as YAML reads yes, no and numbers; put it in quotes")
    rules = {key: str(value) for key, value in rules.items()}
    for stage in stages:
        if stage.runs_of and stage.runs_of not in (other.name for other in stages if not other.runs_of):
            raise UserError(f"--plan={path}: stage {stage.name}: runs_of {stage.runs_of}, which is no stage that trains")
    primary = _test(path, "primary", found["primary"], stages) if "primary" in found else None
    secondary = tuple(_test(path, f"secondary {name}", entry, stages) for name, entry in found.get("secondary", {}).items())
    return ExperimentPlan(
        path, found["title"], str(found["written"]), rules, found.get("hours"), stages, changes, primary, secondary,
        _variances(path, found["variances"]) if "variances" in found else None, tuple(map(str, found.get("limits", ()))),
        {str(key): str(value) for key, value in found.get("causes", {}).items()}, _opened(path, found),
    )  # fmt: skip


def _opened(path: Path, found: Mapping[str, Any]) -> date | None:
    """Returns from when the test split may be scored; None: the plan does not say it. Raises `UserError` where that is no date."""
    if "opened" not in found:
        return None
    try:
        return date.fromisoformat(str(found["opened"]))
    except ValueError as error:
        raise UserError(f"--plan={path}: opened: {found['opened']!r} is no date; write it as 2026-12-01") from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if twice := [key for number, key in enumerate(keys) if key in keys[:number]]:
            raise ValueError(f"line {node.start_mark.line + 1}: {twice[0]} stands twice")
        return super().construct_mapping(node, deep)


def _stage(path: Path, name: str, entry: Any) -> PlannedStage:
    where = f"stage {name}"
    entry = _checked(path, where, entry, _STAGE, {"task", "data", "base", "rows"})
    rows = tuple(_row(path, name, row, keys or {}) for row, keys in entry["rows"].items())
    stage = PlannedStage(
        str(name), entry.get("about", ""), entry["task"], entry.get("preset", "small"), Path(entry["data"]), entry.get("split", "test"),
        entry.get("checkpoint", "best_loss"), entry.get("samples", 0), entry.get("limit"), entry["base"], rows, entry.get("stop", ""),
        entry.get("hours"), entry.get("at_least", 0), entry.get("runs_of", ""),
        _of_measures(path, f"{where}: counts", entry.get("counts", {})), _of_measures(path, f"{where}: margins", entry.get("margins", {})),
        entry.get("sampled_sources"), entry.get("raw_file", ""),
    )  # fmt: skip
    if stage.task not in (*TASKS, CUSTOM):
        raise UserError(f"--plan={path}: {where}: task {stage.task} is none of {', '.join((*TASKS, CUSTOM))}")
    if stage.sampled_sources is not None and (stage.sampled_sources < 2 or not stage.samples):
        raise UserError(
            f"--plan={path}: {where}: sampled_sources {stage.sampled_sources}; at least 2 are expected, of a stage with samples"
        )
    if stage.split not in SPLITS:
        raise UserError(f"--plan={path}: {where}: split {stage.split} is none of {', '.join(SPLITS)}")
    names = [row.name for row in rows]
    folder = path.parent / (stage.runs_of or stage.name)
    files = {file.stem for file in folder.glob(f"*{SUFFIX}")} - {Path(FOR_ALL).stem}
    for row in names:
        if row not in files:
            raise UserError(f"--plan={path}: {where}: {row} has no flag file {folder / row}{SUFFIX}")
    if unplanned := sorted(files - set(names)) if not stage.runs_of else []:
        raise UserError(f"--plan={path}: {where}: {folder / unplanned[0]}{SUFFIX} is no row of the plan")
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
    entry = _checked(path, where, entry, _ROW, set())
    seeds = tuple(entry.get("seeds", (1,)))
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UserError(f"--plan={path}: {where}: seeds {list(seeds)}; whole numbers are expected, none of them twice")
    studies = tuple(map(str, entry.get("studies", ("channel",))))
    if unknown := sorted(set(studies) - set(STUDIES)):
        raise UserError(f"--plan={path}: {where}: study {unknown[0]} is none of {', '.join(STUDIES)}")
    return PlannedRow(
        str(name), entry.get("asks", ""), entry.get("from", ""), entry.get("beside", ""), seeds, studies, entry.get("trials", 0),
        entry.get("turn", 1),
    )  # fmt: skip


def _test(path: Path, where: str, entry: Any, stages: tuple[PlannedStage, ...]) -> PlannedTest:
    entry = _checked(path, where, entry, _TEST, _TEST.keys() - {"open_channel"})
    known = {stage.name: {row.name for row in stage.rows} for stage in stages}
    if entry["stage"] not in known:
        raise UserError(f"--plan={path}: {where}: stage {entry['stage']} is none of {', '.join(known)}")
    beside = tuple(map(str, entry["beside"] if isinstance(entry["beside"], list) else [entry["beside"]]))
    for row in (entry["row"], *beside):
        if row not in known[entry["stage"]]:
            raise UserError(f"--plan={path}: {where}: {row} is no row of stage {entry['stage']}")
    margins = _of_measures(path, where, entry["margins"])
    return PlannedTest(where.removeprefix("secondary "), entry["stage"], entry["row"], beside, margins, entry.get("open_channel", False))


def _of_measures(path: Path, where: str, entry: dict[str, Any]) -> dict[Measure, float]:
    """Reads a margin for each of some measures."""
    for name, margin in entry.items():
        if name not in NAMED:
            raise UserError(f"--plan={path}: {where}: measure {name} is none of {', '.join(NAMED)}")
        if isinstance(margin, bool) or not isinstance(margin, int | float) or margin <= 0:
            raise UserError(f"--plan={path}: {where}: the margin of {name} is {margin}; a number above 0 is expected")
    return {NAMED[name]: float(margin) for name, margin in entry.items()}


def _variances(path: Path, entry: dict[str, Any]) -> tuple[Components, str]:
    entry = _checked(path, "variances", entry, _VARIANCES, set(_VARIANCES))
    numbers = {name: value for name, value in entry.items() if name != "from"}
    if wrong := [name for name, value in numbers.items() if value < 0]:
        raise UserError(f"--plan={path}: variances: {wrong[0]} is {numbers[wrong[0]]}; a number that is not negative is expected")
    return Components(**{name: float(value) for name, value in numbers.items()}), entry["from"]


def _checked(path: Path, where: str, entry: Any, kinds: Kinds, needed: Collection[str]) -> dict[str, Any]:
    """The entries that have a value. Raises `UserError` where one is needed, is not known, or is of another kind."""
    if not isinstance(entry, dict):
        raise UserError(f"--plan={path}: {where}: names with values are expected, found {type(entry).__name__}")
    given = {name: value for name, value in entry.items() if value is not None}
    if missing := sorted(needed - given.keys()):
        raise UserError(f"--plan={path}: {where} has no {missing[0]}")
    if unknown := sorted(map(str, entry.keys() - kinds.keys())):
        raise UserError(f"--plan={path}: {where} has {unknown[0]}, which means nothing; {', '.join(sorted(kinds))} do")
    for name, value in given.items():
        kind = kinds[name]
        # To Python, True is a whole number too.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or (kind is int and value < 0):
            raise UserError(f"--plan={path}: {where}: {name} {value}; {_CALLED[kind]} is expected")
    return given
