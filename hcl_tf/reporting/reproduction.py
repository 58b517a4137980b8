"""What `python -m hcl_tf.reproduce` does: every missing row of a table or of a plan, one after the other, each in processes of its own.

A row is a flag file and a seed. What is finished is known from the run folders and from what was kept, so a killed command goes on.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError, where_experiments_are
from hcl_tf.evaluation import rows
from hcl_tf.evaluation.evaluated_run import EvaluatedRun
from hcl_tf.evaluation.scoring import EvaluationRequest
from hcl_tf.files.whole_file import write_whole
from hcl_tf.models import registry, setting_flags
from hcl_tf.progress import working
from hcl_tf.reporting import arms, at_once, claims, report
from hcl_tf.reporting.plan import FOR_ALL, SUFFIX, ExperimentPlan, PlannedStage
from hcl_tf.reporting.verdicts import Table
from hcl_tf.settings import COMPUTATION, RANDOM, BertSettings
from hcl_tf.training.assembly import default_data_dir
from hcl_tf.training.child import INTERRUPTED
from hcl_tf.training.child import call as _call
from hcl_tf.training.run_folder import has_finished


@dataclass(frozen=True)
class Series:
    """One setting for all rows of a task; fields are the flags of reproduce.py, or the words of a plan's stage.

    Attributes:
      flag_files: folder of <row>.flags. data: stands in for tfrecords/<task>, which most flag files name; a row that names another
        prepared folder keeps it.
      begins: row -> the run, `<row>-<seed>`, whose weights it begins with; the others begin as their flags say.
      split, checkpoint, samples, sampled_sources, limit: as the flags of evaluate.
      studies: row -> those of hcl_tf.studies that are made of it, too.
    """

    task: str
    preset: str
    flag_files: Path
    data: Path
    budget: Path | None
    max_steps: int | None
    runs: Path
    out: Path
    claims: Path
    begins: Mapping[str, str] = field(default_factory=dict)
    split: str = "test"
    checkpoint: str = "best_loss"
    samples: int = 0
    sampled_sources: int | None = None
    limit: int | None = None
    studies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def systems(self) -> list[str]:
        """All rows that have a flag file."""
        found = sorted(path.stem for path in self.flag_files.glob(f"*{SUFFIX}") if path.name != FOR_ALL)
        if not found:
            where = where_experiments_are(self.flag_files)
            raise UserError(f"{self.flag_files}: no <row>.flags there{where or '; start where the experiments lie, or give --experiments'}")
        return found

    def train(self, system: str, seed: int) -> list[str]:
        """The flags of a row's training: its own, then the budget's, then this command's; later ones win.

        What all.flags of the budget or this command gives to every row, a row gets where its system uses it.
        """
        own = self._flag_file(system)
        given = setting_flags.read(own).given
        wanted = registry.used(given.get("model", registry.OURS), self._for_all())
        for_all = [f"--{name}={value}" for name, value in wanted.items()]
        last = [f"--task={self.task}", f"--preset={self.preset}", f"--seed={seed}", f"--row={system}"]
        last += [f"--init_from={self.runs / self.begins[system]}"] if system in self.begins else []
        folders = [f"--data_dir={self.data_of(system)}", f"--run_dir={self.run(system, seed)}"]
        return [*own, *for_all, *self._budget_file(system), *last, *folders]

    def data_of(self, system: str) -> Path:
        """The prepared folder of a row."""
        named = setting_flags.read([*self._flag_file(system), *self._budget_file(system)]).data_folder
        return named if named and named != default_data_dir(self.task) else self.data

    def settings(self, system: str, weights: str | None = None) -> dict[str, Any]:
        """Name -> value of what a row's training would be given and its kept row has to have.

        Args:
          weights: the kind that the kept row began with; None: it has none, or random ones alone.
        """
        found = setting_flags.read(self.train(system, 1))
        given = found.given
        settings = registry.resolve(found.preset.value, given).settled(weights or RANDOM, given)
        left = {"seed", *COMPUTATION}
        if system in self.begins:
            left |= {"init_from"}  # a run folder of this machine
        if not isinstance(settings, BertSettings) or settings.encoder in ("auto", "random", "published"):
            left |= {"encoder"}  # the run has a name or a size for it
        return {name: value for name, value in settings.to_dict().items() if name not in left}

    def check_budget(self) -> None:
        """Raises `UserError` where a flag for every row is used by none of them, or is what this command or the plan's stage says."""
        if self.budget:
            found = setting_flags.read([f"--flagfile={self.budget / FOR_ALL}"])
            said = [holder.name for holder in (found.task, found.preset, found.data_dir, found.run_dir, found.row) if holder.present]
            if said := [*said, *(["seed"] if "seed" in found.given else [])]:
                raise UserError(
                    f"{self.budget / FOR_ALL}: --{said[0]}: this command, or the plan's stage, says that for every row; remove the line"
                )
        models = {setting_flags.read(self._flag_file(system)).given.get("model", registry.OURS) for system in self.systems()}
        for name in self._for_all():
            if not any(name in registry.names_of(model) for model in models):
                raise UserError(
                    f"--{name} of {self.budget / FOR_ALL if self.budget else 'this command'}: no row of {self.task} uses it; "
                    f"{', '.join(registry.systems_with(name))} would"
                )

    def check_flags(self, wanted: list[str]) -> None:
        """Raises `UserError` where one of these rows, or the budget, does not exist, or their flags can't be had."""
        if unknown := set(wanted) - set(self.systems()):
            raise UserError(f"--systems: no {min(unknown)}.flags in {self.flag_files}; there are: {', '.join(self.systems())}")
        if self.budget and not (self.budget / FOR_ALL).is_file():
            raise UserError(
                f"--budget={self.budget}: no {FOR_ALL} there; it holds the flags that every row gets{where_experiments_are(self.budget)}"
            )
        self.check_budget()
        for system in wanted:
            registry.resolve(self.preset, setting_flags.read(self.train(system, 1)).given)

    def _flag_file(self, system: str) -> list[str]:
        return [f"--flagfile={self.flag_files / f'{system}{SUFFIX}'}"]

    def _budget_file(self, system: str) -> list[str]:
        path = self.budget and self.budget / f"{system}{SUFFIX}"
        return [f"--flagfile={path}"] if path and path.is_file() else []

    def _for_all(self) -> dict[str, Any]:
        """Settings for every row that uses them."""
        found = setting_flags.read([f"--flagfile={self.budget / FOR_ALL}"]).given if self.budget else {}
        return found | ({"max_steps": self.max_steps} if self.max_steps else {})

    def run(self, system: str, seed: int) -> Path:
        """The row's run folder."""
        return self.runs / f"{system}-{seed}"

    def kept(self, system: str, seed: int) -> Path:
        """Where the row's result is kept."""
        return rows.place_of(self.out, system, seed)


def reproduce(series: Series, systems: list[str], seeds: list[int], jobs: int = 1) -> int:
    """Trains, evaluates and keeps every row of a table that is not kept yet, and writes its page anew after each.

    Returns the exit code: 0 where all rows are there; 1 where some failed (the others are done all the same); that of the training
    where a signal ended it.

    Raises:
      UserError: a row or the budget does not exist, or kept rows are of other data or of another budget.
    """
    _check(series, systems)
    known = claims.read(series.claims)
    wanted = [(system, seed) for seed in seeds for system in systems or series.systems()]  # every system once before any twice
    code = _make_missing(series, wanted, lambda: _report(series, known), jobs)
    if code not in INTERRUPTED and any(series.kept(*row).is_file() for row in wanted):
        print("\n" + report.scores(_report(series, known)), flush=True)
        print(f"wrote {series.out / report.PAGE}, {report.HTML} and {report.CSV}", flush=True)
    return code


def reproduce_plan(plan: ExperimentPlan, stages: list[str], runs: Path, out: Path, jobs: int = 1) -> int:
    """Does the same with the rows of a plan's stages; exit code and errors as those of `reproduce`.

    Args:
      stages: their names; empty: all. runs: where run folders go. out: where rows and the page are kept.
    """
    chosen = [(stage, series_of(plan, stage, runs, out)) for stage in _chosen(plan, stages)]
    plan.check_opened(stage for stage, _ in chosen)
    for stage, series in chosen:
        _check(series, [row.name for row in stage.rows])
    worst = 0
    for turn in plan.turns:
        for stage, series in chosen:
            if not (wanted := stage.runs(turn)):
                continue
            print(f"\n=== stage {stage.name}{f', turn {turn}' if len(plan.turns) > 1 else ''}", flush=True)
            code = _make_missing(series, wanted, lambda: arms.write(plan, out), jobs)
            if code in INTERRUPTED:
                return code
            worst = max(worst, code)
    arms.write(plan, out)
    print(f"wrote {out / report.PAGE} and {report.HTML}", flush=True)
    return worst


def listed(plan: ExperimentPlan, stages: list[str], out: Path) -> list[str]:
    """Says of each turn and stage which rows are kept below `out` and which are missing.

    Raises:
      UserError: a stage does not exist, or the flags of one of its rows can't be had. Prepared data are not looked at.
    """
    chosen, found = _chosen(plan, stages), []
    for stage in chosen:
        series_of(plan, stage, Path(), out).check_flags([row.name for row in stage.rows])
    for turn in plan.turns:
        for stage in chosen:
            if wanted := stage.runs(turn):
                missing = [row for row in wanted if not rows.place_of(out / stage.name, *row).is_file()]
                counts = f"turn {turn}, {stage.name}: {len(wanted) - len(missing)} of {len(wanted)} rows are there"
                found.append(f"{counts}, missing: {', '.join(map(_name, missing)) or 'none'}")
    return found


def _chosen(plan: ExperimentPlan, stages: list[str]) -> list[PlannedStage]:
    if unknown := sorted(set(stages) - {stage.name for stage in plan.stages}):
        raise UserError(f"--stages: {unknown[0]} is no stage of {plan.path}; there are: {', '.join(stage.name for stage in plan.stages)}")
    return [stage for stage in plan.stages if not stages or stage.name in stages]


def series_of(plan: ExperimentPlan, stage: PlannedStage, runs: Path, out: Path) -> Series:
    """The setting of a stage's rows. What its all.flags gives is laid over by a row's own file."""
    folder = plan.flag_files(stage)
    begins = {row.name: row.begins for row in stage.rows if row.begins}
    return Series(
        stage.task, stage.preset, folder, stage.data, folder if (folder / FOR_ALL).is_file() else None, None,
        runs / (stage.runs_of or stage.name),
        out / stage.name, Path(), begins, stage.split, stage.checkpoint, stage.samples, stage.sampled_sources,
        stage.limit, {row.name: row.studies for row in stage.rows},
    )  # fmt: skip


def _make_missing(series: Series, wanted: list[tuple[str, int]], kept: Callable[[], object], jobs: int) -> int:
    """Makes the rows that are not kept yet, so many at once; returns the exit code of `reproduce`. `kept` is called after each."""
    missing = [row for row in wanted if not series.kept(*row).is_file()]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} rows are there, missing: {', '.join(map(_name, missing)) or 'none'}", flush=True)
    failed, spent, interrupted = [], [], 0
    for row, code, seconds in _made(series, missing, jobs, spent):
        noted = series.runs / f"{row[0]}-{row[1]}.seconds"  # what attempts took, until the row is kept
        seconds += float(noted.read_text()) if noted.is_file() else 0.0
        if code in INTERRUPTED:
            print(f"interrupted in {_name(row)}; the same command goes on there", flush=True)
            interrupted = code
        elif code:
            failed.append(row)
            print(f"{_name(row)} failed with exit code {code}; going on with the others", flush=True)
        else:
            spent.append(seconds)
            _keep(series, *row, seconds)
            noted.unlink(missing_ok=True)
            kept()
            continue
        series.runs.mkdir(parents=True, exist_ok=True)
        write_whole(noted, f"{seconds:.1f}\n".encode())
    if failed:
        print(f"failed: {', '.join(map(_name, failed))}", file=sys.stderr, flush=True)
    return interrupted or (1 if failed else 0)


def _made(series: Series, missing: list[tuple[str, int]], jobs: int, spent: list[float]) -> Iterator[tuple[tuple[str, int], int, float]]:
    """Makes rows, and yields each with its exit code and its seconds as soon as it has ended. After a signal no further one begins."""
    if jobs > 1:
        for trunk in dict.fromkeys(series.begins[system] for system, _ in missing if system in series.begins):  # else two would make one
            name, _, of_seed = trunk.rpartition("-")
            if code := _train(series, name, int(of_seed)):
                yield (name, int(of_seed)), code, 0.0
                return
        yield from at_once.run(missing, lambda row, call: _make(series, *row, call), series.runs, _name, jobs)
        return
    for number, row in enumerate(missing):
        print(f"\n== {_name(row)} ({number + 1} of {len(missing)} missing{_left(spent, len(missing) - number)})", flush=True)
        began = time.monotonic()
        code = _make(series, *row)
        yield row, code, time.monotonic() - began
        if code in INTERRUPTED:
            return


def _check(series: Series, systems: list[str]) -> None:
    known = series.systems()
    wanted = systems or known
    series.check_flags(wanted)  # What a row can't have is refused before the first is made.
    data = {folder: PreparedData(folder) for folder in {series.data, *map(series.data_of, wanted)}}
    first = data[series.data]
    for folder, other in data.items():
        if other.manifest["raw_files"] != first.manifest["raw_files"]:
            raise UserError(f"--data_dir={folder}: prepared from other raw files than {series.data}; one table has one corpus")
    kept = [rows.read_kept(path) for path in sorted((series.out / rows.ROWS).glob("*.json"))]
    for result in kept:
        folder = series.data_of(result.row) if result.row in known else series.data
        manifest = data[folder].manifest if folder in data else PreparedData(folder).manifest
        if not result.is_of(manifest):
            raise UserError(f"{result.origin}: kept from other data than {folder}; a row has one data set: choose another --out")
    _check_budget(series, kept)


def _check_budget(series: Series, kept: list[rows.Result]) -> None:
    """Kept rows count as done, so they have to be what the plan would make."""
    known = set(series.systems())
    for result in kept:
        scored = result.record.get("split", "test"), result.record.get("checkpoint", "best_loss")
        if scored != (series.split, series.checkpoint):
            raise UserError(
                f"{result.origin}: scored on {scored[0]} at {scored[1]}, and {series.split} at {series.checkpoint} are asked for; choose "
                "another --out"
            )
        planned = series.settings(result.row, result.weights) if result.row in known else {}
        if other := [name for name, value in planned.items() if result.settings.get(name) != value]:
            name = "preset" if "preset" in other else other[0]  # of which the others may be a part
            raise UserError(
                f"{result.origin}: kept with --{name}={result.settings.get(name)}, and this command's flags and files give "
                f"{planned[name]}; one table has one budget: choose another --out"
            )


def _make(series: Series, system: str, seed: int, call: Callable[[str, list[str]], int] | None = None) -> int:
    """Trains and evaluates; the exit code of what failed, or 0. Both know what they have done already. `call`: in place of `_call`."""
    call = call or _call
    if trunk := series.begins.get(system):  # kept rows outlive run folders, so it may have to be trained again
        name, _, of_seed = trunk.rpartition("-")
        if code := _train(series, name, int(of_seed), call):
            return code
    if code := _train(series, system, seed, call):
        return code
    asked = [f"--run_dir={series.run(system, seed)}", f"--data_dir={series.data_of(system)}", f"--split={series.split}"]
    asked += [f"--checkpoint={series.checkpoint}", *([f"--limit={series.limit}"] if series.limit else [])]
    has_z = setting_flags.read(series.train(system, seed)).given.get("model", registry.OURS) in registry.systems_with("latent_size")
    further = [f"--study={study}" for study in series.studies.get(system, ())]
    further += [f"--samples={series.samples}"] if series.samples else []
    further += [f"--sampled_sources={series.sampled_sources}"] if series.sampled_sources else []
    return call("hcl_tf.evaluate", [*asked, *(further if has_z else [])])


def _train(series: Series, system: str, seed: int, call: Callable[[str, list[str]], int] | None = None) -> int:
    """Trains a row, unless its run is finished."""
    if has_finished(series.run(system, seed)):
        return 0
    return (call or _call)("hcl_tf.train", series.train(system, seed))


def _keep(series: Series, system: str, seed: int, seconds: float) -> None:
    """The row's settings, scores, diagnostics and samples, and how long it took, in one file that is whole or not there."""
    flags = series.train(system, seed)[:-2]  # without folders
    run = series.run(system, seed)
    label = EvaluationRequest(run, series.split, series.checkpoint, limit=series.limit).label
    record = rows.record_of(EvaluatedRun(run, label), system, flags) | {"seconds": round(seconds)}
    rows.keep(series.kept(system, seed), rows.Result(run, record))


def _report(series: Series, known: claims.Claims) -> Table:
    """Writes the pages of everything kept."""
    with working("reporting"):
        table, apart = report.table_of(series.task, rows.collect([series.out])[0], known)
        report.write(table, apart, series.out)
    return table


def _name(row: tuple[str, int]) -> str:
    return f"{row[0]} seed {row[1]}"


def _left(spent: list[float], rows: int) -> str:
    return f", about {timedelta(seconds=round(rows * sum(spent) / len(spent)))} left" if spent else ""
