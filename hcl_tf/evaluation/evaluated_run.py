"""A finished run with what evaluation wrote into its folder, read and checked; whether runs are of the same items."""

from pathlib import Path

from hcl_tf.errors import UserError
from hcl_tf.files.json_text import from_json
from hcl_tf.models import registry
from hcl_tf.training.run_folder import Run, load_run
from hcl_tf.training.trained_run import BEST


def label_of(split: str, checkpoint: str, part: str = "") -> str:
    """The middle of the names of a run's results. The paper's checkpoint is left out; `part` says which part of the split they are of."""
    return ".".join(filter(None, (split, checkpoint if checkpoint != BEST[0] else "", part)))


def title_of(found: dict) -> str:
    """Says what a study's result is a result of; `found` has what `scoring.head_of` returns."""
    model = f"{found['model']} {found['variant']}".rstrip()
    examples = f"{found['examples']:,} examples of {found['split']}"
    return f"{model} on {found['task']}, {examples}, checkpoint {found['checkpoint']} (step {found['step']:,})"


class EvaluatedRun:
    """A finished run with the results of `hcl_tf.evaluate`.

    Args:
      label: which results (`label_of`); default: those of the test split at the paper's checkpoint.
    """

    def __init__(self, folder: Path, label: str = "test") -> None:
        self.run: Run = load_run(folder)
        self.label = label
        self.settings = registry.read(self.run.config["settings"], folder)
        self.name = self.run.config.get("row") or self.settings.row  # recorded since version 0.2.0
        self.done = self.run.finished
        if not self.done:
            raise UserError(f"{folder}: not finished; the same hcl_tf.train command goes on with it")
        (self.scores,), (self.diagnostics,) = (self._read(f"{kind}.{label}.json") for kind in ("scores", "figures"))
        self.metrics = self.run.read_metrics()
        self.predictions = self._read(f"predictions.{label}.jsonl")
        step, best_step = self.diagnostics["step"], self.done["best_step"]
        if self.scores["checkpoint"] == BEST[0] and step != best_step:
            raise UserError(f"{folder}: evaluated at step {step}, but its best is of step {best_step}; evaluate it again")

    def _read(self, name: str) -> list[dict]:
        """A result's JSON: one value, or one a line."""
        path = self.run.path / name
        try:
            data = path.read_bytes()
            return [from_json(part) for part in (data.splitlines() if path.suffix == ".jsonl" else [data])]
        except OSError as error:
            what = f"can't be read ({error.strerror}); make it with python -m hcl_tf.evaluate --run_dir={self.run.path}"
            raise UserError(f"{path}: {what}") from error
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); evaluate the run again") from error

    def validations(self) -> list[dict]:
        """The validation lines of metrics.jsonl, the first of them from before training."""
        return [record for record in self.metrics if record["kind"] == "validation"]


def check_same_items(runs: list[EvaluatedRun]) -> None:
    """Raises `UserError` unless all runs were evaluated on the same test examples, each system once. Budgets may differ."""
    first = runs[0]
    for number, other in enumerate(runs[1:], 1):
        if other.run.config["data"] != first.run.config["data"]:
            raise UserError(f"{other.run.path}: trained on other data than {first.run.path}; the same outputs' sources are needed")
        if other.name in (run.name for run in runs[:number]):
            raise UserError(f"{other.run.path}: a second {other.name}; --runs takes each system once")
        path = other.run.path / "predictions.test.jsonl"
        if len(other.predictions) != len(first.predictions):
            counts = f"{len(other.predictions):,} predictions, {first.run.path} has {len(first.predictions):,}"
            raise UserError(f"{path}: {counts}; evaluate both on the whole split")
        for line, (mine, its) in enumerate(zip(other.predictions, first.predictions, strict=True), 1):
            if differing := [k for k in ("id", "source", "reference", "references") if mine.get(k) != its.get(k)]:
                raise UserError(f"{path}:{line}: another {differing[0]} than in {first.run.path}; evaluate both on the same data again")
