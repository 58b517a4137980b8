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

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.evaluation.evaluated_run import EvaluatedRun
from hcl_tf.models import registry, setting_flags
from hcl_tf.progress import working
from hcl_tf.reporting import claims, report
from hcl_tf.reporting.verdicts import Table, differing
from hcl_tf.settings import COMPUTATION, BertSettings
from hcl_tf.training.assembly import default_data_dir

INTERRUPTED = (130, 143)  # exit codes of a training that saved and left
ALL = "all.flags"  # of a budget: for every row


@dataclass(frozen=True)
class Plan:
    """One setting for all rows of a task; fields are the flags of reproduce.py.

    Attributes:
      data: stands in for tfrecords/<task>, which most flag files name; a row that names another prepared folder keeps it.
    """

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
        """The flags of a row's training: its own, then the budget's, then this command's; later ones win.

        What all.flags of the budget or this command gives to every row, a row gets where its system uses it.
        """
        own = self._flag_file(system)
        given = setting_flags.read(own).given
        wanted = registry.used(given.get("model", registry.OURS), self._for_all())
        for_all = [f"--{name}={value}" for name, value in wanted.items()]
        last = [f"--task={self.task}", f"--preset={self.preset}", f"--seed={seed}", f"--row={system}"]
        folders = [f"--data_dir={self.data_of(system)}", f"--run_dir={self.run(system, seed)}"]
        return [*own, *for_all, *self._budget_file(system), *last, *folders]

    def data_of(self, system: str) -> Path:
        """The prepared folder of a row."""
        named = setting_flags.read([*self._flag_file(system), *self._budget_file(system)]).data_folder
        return named if named and named != default_data_dir(self.task) else self.data

    def settings(self, system: str) -> dict[str, Any]:
        """Name -> value of what a row's training would be given and its kept row has to have."""
        found = setting_flags.read(self.train(system, 1))
        given, settings = found.given, registry.resolve(found.preset.value, found.given)
        # What a start settles itself where no flag does, is not known here.
        left = {"seed", *COMPUTATION, *differing(*(settings.settled(published, given).to_dict() for published in (True, False)))}
        if not isinstance(settings, BertSettings) or settings.encoder in ("auto", "random", "published"):
            left |= {"encoder"}  # the run has a name or a size for it
        return {name: value for name, value in settings.to_dict().items() if name not in left}

    def check_budget(self) -> None:
        """Raises `UserError` where a flag for every row is used by none of them."""
        models = {setting_flags.read(self._flag_file(system)).given.get("model", registry.OURS) for system in self.systems()}
        for name in self._for_all():
            if not any(name in registry.names_of(model) for model in models):
                raise UserError(
                    f"--{name} of {self.budget / ALL if self.budget else 'this command'}: no row of {self.task} uses it; "
                    f"{', '.join(registry.systems_with(name))} would"
                )

    def _flag_file(self, system: str) -> list[str]:
        return [f"--flagfile={self.experiments / self.task / f'{system}.flags'}"]

    def _budget_file(self, system: str) -> list[str]:
        path = self.budget and self.budget / f"{system}.flags"
        return [f"--flagfile={path}"] if path and path.is_file() else []

    def _for_all(self) -> dict[str, Any]:
        """Settings for every row that uses them."""
        found = setting_flags.read([f"--flagfile={self.budget / ALL}"]).given if self.budget else {}
        return found | ({"max_steps": self.max_steps} if self.max_steps else {})

    def run(self, system: str, seed: int) -> Path:
        """The row's run folder."""
        return self.runs / f"{system}-{seed}"

    def kept(self, system: str, seed: int) -> Path:
        """Where the row's result is kept."""
        return rows.place_of(self.out, system, seed)


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
    if plan.budget and not (plan.budget / ALL).is_file():
        raise UserError(f"--budget={plan.budget}: no {ALL} there; it holds the flags that every row gets")
    plan.check_budget()
    known = plan.systems()
    wanted = systems or known
    data = {folder: PreparedData(folder) for folder in {plan.data, *map(plan.data_of, wanted)}}
    for system in wanted:
        registry.resolve(plan.preset, setting_flags.read(plan.train(system, 1)).given)  # what a row can't have is refused before the first
    first = data[plan.data]
    for folder, other in data.items():
        if other.manifest["raw_files"] != first.manifest["raw_files"]:
            raise UserError(f"--data_dir={folder}: prepared from other raw files than {plan.data}; one table has one corpus")
    kept = [rows.read_kept(path) for path in sorted((plan.out / rows.ROWS).glob("*.json"))]
    for result in kept:
        folder = plan.data_of(result.row) if result.row in known else plan.data
        manifest = data[folder].manifest if folder in data else PreparedData(folder).manifest
        if result.record["data"] != manifest["sha256"]:
            raise UserError(f"{result.origin}: kept from other data than {folder}; a row has one data set: choose another --out")
    _check_budget(plan, kept)


def _check_budget(plan: Plan, kept: list[rows.Result]) -> None:
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
    return code or _call("hcl_tf.evaluate", [f"--run_dir={run}", f"--data_dir={plan.data_of(system)}"])


def _call(module: str, flags: list[str]) -> int:
    """Runs a command of the package; on Ctrl-C, which the child gets too, waits until it has saved."""
    child = subprocess.Popen([sys.executable, "-m", module, *flags])
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _keep(plan: Plan, system: str, seed: int) -> None:
    """The row's settings, scores, diagnostics and samples, in one file that is whole or not there."""
    flags = plan.train(system, seed)[:-2]  # without folders
    run = plan.run(system, seed)
    rows.keep(plan.kept(system, seed), rows.Result(run, rows.record_of(EvaluatedRun(run), system, flags)))


def _report(plan: Plan, known: claims.Claims) -> Table:
    """Writes the pages of everything kept."""
    with working("reporting"):
        table, apart = report.table_of(plan.task, rows.collect([plan.out])[0], known)
        report.write(table, apart, plan.out)
    return table


def _name(row: tuple[str, int]) -> str:
    return f"{row[0]} seed {row[1]}"


def _left(spent: list[float], rows: int) -> str:
    return f", about {timedelta(seconds=round(rows * sum(spent) / len(spent)))} left" if spent else ""
