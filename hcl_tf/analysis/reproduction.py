"""What `python -m hcl_tf.reproduce` does: every missing row of a table, one after the other, each in processes of its own.

A row is a flag file and a seed. What is finished is known from the run folders and from what was kept, so a killed command goes on.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hcl_tf.analysis import reproduction_page
from hcl_tf.data.pipeline import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.training.checkpoints import from_json, to_json, write_whole
from hcl_tf.training.loop import sample_rows
from hcl_tf.training.run_folder import Run, load_run

ROWS = "rows"
SAMPLES = 20
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

    def run(self, system: str, seed: int) -> Path:
        """The row's run folder."""
        return self.runs / f"{system}-{seed}"

    def kept(self, system: str, seed: int) -> Path:
        """Where the row's result is kept."""
        return self.out / ROWS / f"{system}-{seed}.json"


def reproduce(plan: Plan, systems: list[str], seeds: list[int]) -> int:
    """Trains, evaluates and keeps every row that is not kept yet, and writes the page anew after each.

    Returns the exit code: 0 where all rows are there; 1 where some failed (the others are done all the same); that of the training
    where a signal ended it.

    Raises:
      UserError: a row or the budget does not exist, or kept rows are of other data.
    """
    data = _check(plan, systems)
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
        reproduction_page.write(plan.out, data.manifest)
    if any(plan.kept(*row).is_file() for row in rows):
        print("\n" + reproduction_page.write(plan.out, data.manifest), flush=True)
        print(f"wrote {plan.out / reproduction_page.PAGE}", flush=True)
    if failed:
        print(f"failed: {', '.join(map(_name, failed))}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _check(plan: Plan, systems: list[str]) -> PreparedData:
    if unknown := set(systems) - set(plan.systems()):
        raise UserError(f"--systems: no {min(unknown)}.flags in {plan.experiments / plan.task}; there are: {', '.join(plan.systems())}")
    if plan.budget and not (plan.budget / "all.flags").is_file():
        raise UserError(f"--budget={plan.budget}: no all.flags there; it holds the flags that every row gets")
    data = PreparedData(plan.data)
    for path in sorted((plan.out / ROWS).glob("*.json")):
        try:
            other = from_json(path.read_bytes())["data"] != data.manifest["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); remove it, and its row is made again") from error
        if other:
            raise UserError(f"{path}: kept from other data than {plan.data}; one table has one data set: choose another --out")
    return data


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
    run = load_run(plan.run(system, seed))
    scores, figures = (from_json((run.path / f"{name}.test.json").read_bytes()) for name in ("scores", "figures"))
    predictions = [from_json(line) for line in (run.path / "predictions.test.jsonl").read_bytes().splitlines()]
    shown = ("id", "source", "keywords", "reference", "prediction")
    record = {
        "system": system, "seed": seed, "flags": plan.train(system, seed)[:-2],  # without folders
        "settings": run.config["settings"], "encoder": run.config["encoder"], "data": run.config["data"], "finished": run.finished,
        "examples": scores["examples"], "training_examples": scores["training_examples"], "step": scores["step"],
        "validation": _best_validation(run), "scores": scores["scores"], "floors": figures["floors"], "figures": figures["figures"],
        "environment": run.environment, "samples": [{k: predictions[i][k] for k in shown} for i in sample_rows(len(predictions), SAMPLES)],
    }  # fmt: skip
    path = plan.kept(system, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_json(record, indent=1) + b"\n")


def _best_validation(run: Run) -> dict[str, float]:
    """The validation line of the checkpoint that was scored."""
    step = (run.finished or {}).get("best_step")
    lines = [line for line in run.read_metrics() if line["kind"] == "validation" and line["step"] == step]
    return lines[-1] if lines else {}


def _name(row: tuple[str, int]) -> str:
    return f"{row[0]} seed {row[1]}"


def _left(spent: list[float], rows: int) -> str:
    return f", about {timedelta(seconds=round(rows * sum(spent) / len(spent)))} left" if spent else ""
