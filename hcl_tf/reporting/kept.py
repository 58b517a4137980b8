"""The rows that are kept of a plan's stages: read, and refused where they can't be the plan's."""

from dataclasses import dataclass
from pathlib import Path

from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.evaluation.rows import Result
from hcl_tf.reporting.plan import ExperimentPlan, PlannedStage
from hcl_tf.reporting.verdicts import comparable


@dataclass(frozen=True)
class KeptStage:
    """What is kept of a stage.

    Attributes:
      rows: row -> its results, for every row of the plan in its order; without any where nothing ran. apart: (result, reason) of those that
        can't stand beside the others. trials: row -> the table of the trials of its settings, which `hcl_tf.tune` wrote.
    """

    stage: PlannedStage
    rows: dict[str, list[Result]]
    apart: list[tuple[Result, str]]
    trials: dict[str, list[dict[str, str]]]

    @property
    def results(self) -> list[Result]:
        """All of its rows' results."""
        return [result for results in self.rows.values() for result in results]


def of_plan(plan: ExperimentPlan, out: Path) -> list[KeptStage]:
    """Reads what is kept of each stage below `out`. Raises `UserError` as `results_of` does."""
    found = []
    for stage in plan.stages:
        everything = results_of(stage, out / stage.name)
        results = [result for result in everything if result.seed in stage.row(result.row).seeds]
        usable, apart = comparable(results) if results else ([], [])
        apart += [(result, f"seed {result.seed} is not planned") for result in everything if result not in results]
        by_row: dict[str, list[Result]] = {row.name: [] for row in stage.rows}
        for result in usable:
            by_row[result.row].append(result)
        trials = {row.name: _trials(trials_of(out / stage.name, row.name)) for row in stage.rows}
        found.append(KeptStage(stage, by_row, apart, trials))
    return found


def results_of(stage: PlannedStage, folder: Path) -> list[Result]:
    """Reads a stage's kept rows, in the order of the plan and of their seeds.

    Raises:
      UserError: a row is not the plan's, a row and seed is kept twice, or it is of another task, split or checkpoint than the plan's; names
        the file.
    """
    known: dict[tuple[str, int], Result] = {}
    names = [row.name for row in stage.rows]
    for path in sorted((folder / rows.ROWS).glob("*.json")):
        result = rows.read_kept(path)
        if result.row not in names:
            raise UserError(f"{path}: {result.row} is no row of stage {stage.name}; another plan made it: choose another --out")
        if first := known.get((result.row, result.seed)):
            raise UserError(
                f"{path}: a second {result.row} with seed {result.seed}; {first.origin.name} has it already: remove one of them"
            )
        if path != rows.place_of(folder, result.row, result.seed):
            raise UserError(f"{path}: holds {result.row} with seed {result.seed}; name it {result.row}-{result.seed}.json, or remove it")
        made = {"task": result.record["task"]}
        made |= {"split": result.record.get("split", "test"), "checkpoint": result.record.get("checkpoint", "best_loss")}
        for key, value in made.items():
            if value != getattr(stage, key):
                raise UserError(
                    f"{path}: of {key} {value}, the plan's stage {stage.name} is of {getattr(stage, key)}; choose another --out"
                )
        known[result.row, result.seed] = result
    return sorted(known.values(), key=lambda result: (names.index(result.row), result.seed))


def trials_of(folder: Path, row: str) -> Path:
    """Returns where the table of a row's trials is kept, below the folder of its stage."""
    return folder / "trials" / f"{row}.md"


def _trials(path: Path) -> list[dict[str, str]]:
    """Reads the table of a study; empty where none is kept."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    table = [[cell.strip().replace("\\", "") for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(table[0], cells, strict=False)) for cells in table[2:]]
