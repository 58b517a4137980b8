"""What `python -m hcl_tf.reproduce` does: every missing row of a table, one after the other, each in processes of its own.

A row is a flag file and a seed. What is finished is known from the run folders and from what was kept, so a killed command goes on.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hcl_tf import setting_flags
from hcl_tf.analysis import claims, report, results
from hcl_tf.analysis.compared import EvaluatedRun
from hcl_tf.analysis.verdicts import Table
from hcl_tf.data.pipeline import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.settings import resolve

# Settings that change no number, and those that a start settles itself where no flag does.
NO_MATTER = {"seed", "micro_batch", "jit_compile", "strategy", "logical_cpus", "log_every", "checkpoint_every", "keep_checkpoints"}
SETTLED = {"encoder", "encoder_learning_rate", "refresh_graph_every"}
INTERRUPTED = (130, 143)  # exit codes of a training that saved and left


@dataclass(frozen=True)
class Plan:
    """One setting for all rows of a task; fields are the flags of reproduce.py."""

    task: str
    preset: str
    experiments: Path
    data: Path
    budget: Path | None
    max_steps: int | None
    runs: Path
    out: Path
    claims: Path

    def systems(self) -> list[str]:
        """All rows that have a flag file."""
        found = sorted(path.stem for path in (self.experiments / self.task).glob("*.flags"))
        if not found:
            raise UserError(f"--experiments={self.experiments}: no {self.task}/<system>.flags there; start where the experiments lie")
        return found

    def train(self, system: str, seed: int) -> list[str]:
        """The flags of a row's training: its own, then the budget's, then this command's; later ones win."""
        files = [self.experiments / self.task / f"{system}.flags"]
        if self.budget:
            files += [path for path in (self.budget / "all.flags", self.budget / f"{system}.flags") if path.is_file()]
        steps = [f"--max_steps={self.max_steps}"] if self.max_steps else []
        own = [f"--task={self.task}", f"--preset={self.preset}", f"--seed={seed}", *steps]
        return [*(f"--flagfile={path}" for path in files), *own, f"--data_dir={self.data}", f"--run_dir={self.run(system, seed)}"]

    def settings(self, system: str) -> dict[str, Any]:
        """Name -> value of what a row's training would be given and its kept row has to have."""
        preset, given = setting_flags.read(self.train(system, 1))
        model = given.get("model", "hcl")
        settings = resolve(preset, given, registry.defaults_of(model)).to_dict()
        left = NO_MATTER | (SETTLED - given.keys())
        if given.get("encoder") in ("auto", "random", "published") or not registry.class_of(model).takes_bert:
            left |= {"encoder"}  # the run has a name or a size for it
        return {name: value for name, value in settings.items() if name not in left}

    def run(self, system: str, seed: int) -> Path:
        """The row's run folder."""
        return self.runs / f"{system}-{seed}"

    def kept(self, system: str, seed: int) -> Path:
        """Where the row's result is kept."""
        return results.place_of(self.out, system, seed)


def reproduce(plan: Plan, systems: list[str], seeds: list[int]) -> int:
    """Trains, evaluates and keeps every row that is not kept yet, and writes the page anew after each.

    Returns the exit code: 0 where all rows are there; 1 where some failed (the others are done all the same); that of the training
    where a signal ended it.

    Raises:
      UserError: a row or the budget does not exist, or kept rows are of other data or of another budget.
    """
    _check(plan, systems)
    known = claims.read(plan.claims)
    rows = [(system, seed) for seed in seeds for system in systems or plan.systems()]  # every system once before any twice
    missing = [row for row in rows if not plan.kept(*row).is_file()]
    print(f"{len(rows) - len(missing)} of {len(rows)} rows are there, missing: {', '.join(map(_name, missing)) or 'none'}", flush=True)
    failed, spent = [], []
    for number, row in enumerate(missing):
        print(f"\n== {_name(row)} ({number + 1} of {len(missing)} missing{_left(spent, len(missing) - number)})", flush=True)
        began = time.monotonic()
        code = _make(plan, *row)
        if code in INTERRUPTED:
            print(f"interrupted in {_name(row)}; the same command goes on there", flush=True)
            return code
        if code:
            failed.append(row)
            print(f"{_name(row)} failed with exit code {code}; going on with the others", flush=True)
            continue
        spent.append(time.monotonic() - began)
        _keep(plan, *row)
        _report(plan, known)
    if any(plan.kept(*row).is_file() for row in rows):
        print("\n" + report.scores(_report(plan, known)), flush=True)
        print(f"wrote {plan.out / report.PAGE}, {report.HTML} and {report.CSV}", flush=True)
    if failed:
        print(f"failed: {', '.join(map(_name, failed))}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _check(plan: Plan, systems: list[str]) -> None:
    if unknown := set(systems) - set(plan.systems()):
        raise UserError(f"--systems: no {min(unknown)}.flags in {plan.experiments / plan.task}; there are: {', '.join(plan.systems())}")
    if plan.budget and not (plan.budget / "all.flags").is_file():
        raise UserError(f"--budget={plan.budget}: no all.flags there; it holds the flags that every row gets")
    data = PreparedData(plan.data)
    kept = [results.read_kept(path) for path in sorted((plan.out / results.ROWS).glob("*.json"))]
    for result in kept:
        if result.record["data"] != data.manifest["sha256"]:
            raise UserError(f"{result.origin}: kept from other data than {plan.data}; one table has one data set: choose another --out")
    _check_budget(plan, kept)


def _check_budget(plan: Plan, kept: list[results.Result]) -> None:
    """Kept rows count as done, so they have to be what the plan would make."""
    known = set(plan.systems())
    for result in kept:
        planned = plan.settings(result.row) if result.row in known else {}
        if other := [name for name, value in planned.items() if result.settings.get(name) != value]:
            name = "preset" if "preset" in other else other[0]  # of which the others may be a part
            raise UserError(
                f"{result.origin}: kept with --{name}={result.settings.get(name)}, and this command's flags and files give "
                f"{planned[name]}; one table has one budget: choose another --out"
            )


def _make(plan: Plan, system: str, seed: int) -> int:
    """Trains and evaluates; the exit code of what failed, or 0. Both know what they have done already."""
    run = plan.run(system, seed)
    code = _call("hcl_tf.train", plan.train(system, seed))
    return code or _call("hcl_tf.evaluate", [f"--run_dir={run}", f"--data_dir={plan.data}"])


def _call(module: str, flags: list[str]) -> int:
    """Runs a command of the package; on Ctrl-C, which the child gets too, waits until it has saved."""
    child = subprocess.Popen([sys.executable, "-m", module, *flags])
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _keep(plan: Plan, system: str, seed: int) -> None:
    """The row's settings, scores, figures and samples, in one file that is whole or not there."""
    flags = plan.train(system, seed)[:-2]  # without folders
    run = plan.run(system, seed)
    results.keep(plan.kept(system, seed), results.Result(run, results.record_of(EvaluatedRun(run), system, flags)))


def _report(plan: Plan, known: claims.Claims) -> Table:
    """Writes the pages of everything kept."""
    table, apart = report.table_of(plan.task, results.collect([plan.out])[0], known)
    report.write(table, apart, plan.out)
    return table


def _name(row: tuple[str, int]) -> str:
    return f"{row[0]} seed {row[1]}"


def _left(spent: list[float], rows: int) -> str:
    return f", about {timedelta(seconds=round(rows * sum(spent) / len(spent)))} left" if spent else ""
