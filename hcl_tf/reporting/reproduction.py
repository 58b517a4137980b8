"""What `python -m hcl_tf.reproduce` does: every missing row of a table or of a plan, one after the other, each in processes of its own.

A row is a flag file and a seed. What is finished is known from the run folders and from what was kept, so a killed command goes on.
"""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.evaluation.evaluated_run import EvaluatedRun
from hcl_tf.evaluation.scoring import EvaluationRequest
from hcl_tf.files.whole_file import write_whole
from hcl_tf.models import registry, setting_flags
from hcl_tf.progress import working
from hcl_tf.reporting import arms, at_once, claims, consistency, report
from hcl_tf.reporting.kept import trials_of
from hcl_tf.reporting.plan import SUFFIX, ExperimentPlan, PlannedStage
from hcl_tf.reporting.series import Series, refuse_said, series_of
from hcl_tf.reporting.verdicts import Table
from hcl_tf.training.child import INTERRUPTED
from hcl_tf.training.child import call as _call
from hcl_tf.training.run_folder import has_finished


def reproduce(series: Series, systems: list[str], seeds: list[int], jobs: int = 1) -> int:
    """Trains, evaluates and keeps every row of a table that is not kept yet, and writes its page anew after each.

    Returns the exit code: 0 where all rows are there; 1 where some failed (the others are done all the same); that of the training
    where a signal ended it.

    Raises:
      UserError: a row or the budget does not exist, or kept rows are of other data or of another budget.
    """
    wanted = [(system, seed) for seed in seeds for system in systems or series.systems()]  # every system once before any twice
    consistency.check(series, systems, wanted)
    known = claims.read(series.claims)
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
        _check_row_files(stage, series)
    for stage, series in chosen:
        consistency.check(series, [row.name for row in stage.rows], [run for turn in plan.turns for run in stage.runs(turn)])
    worst = 0
    for turn in plan.turns:
        for stage, series in chosen:
            if not (wanted := stage.runs(turn)):
                continue
            print(f"\n=== stage {stage.name}{f', turn {turn}' if len(plan.turns) > 1 else ''}", flush=True)
            _check_trials(plan, stage, series, wanted)
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
        series = series_of(plan, stage, Path(), out)
        series.check_flags([row.name for row in stage.rows])
        _check_row_files(stage, series)
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


def _check_row_files(stage: PlannedStage, series: Series) -> None:
    """Raises `UserError` where a row's own file says what the stage says."""
    for row in stage.rows:
        refuse_said(series.flag_files / f"{row.name}{SUFFIX}")


def _check_trials(plan: ExperimentPlan, stage: PlannedStage, series: Series, wanted: list[tuple[str, int]]) -> None:
    """Raises `UserError` where a row would be made before the trials that are to choose its settings."""
    for system in dict.fromkeys(system for system, seed in wanted if not series.kept(system, seed).is_file()):
        trials, kept = stage.row(system).trials, trials_of(series.out, system)
        if plan.primary and trials and not kept.is_file():
            raise UserError(
                f"--plan={plan.path}: stage {stage.name}: {system} is planned with {trials} trials of its settings, and none are kept; "
                f"make them with hcl_tf.tune, keep the study's trials.md as {kept}, and lay what was chosen into the flag files"
            )


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
