"""One setting for all rows of a task: the flags of each row's training, and where its run and its result go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcl_tf.errors import UserError, where_experiments_are
from hcl_tf.evaluation import rows
from hcl_tf.models import registry, setting_flags
from hcl_tf.reporting.plan import FOR_ALL, SUFFIX, ExperimentPlan, PlannedStage
from hcl_tf.settings import COMPUTATION, PUBLISHED, RANDOM, BertSettings
from hcl_tf.training.assembly import default_data_dir


def refuse_said(path: Path, data_too: bool = False) -> None:
    """Raises `UserError` where a flag file says what this command, or a plan's stage, says for every row; of data a row may say its own."""
    found = setting_flags.read([f"--flagfile={path}"])
    holders = [found.task, found.preset, found.run_dir, found.row, *([found.data_dir] if data_too else [])]
    said = [holder.name for holder in holders if holder.present] + (["seed"] if "seed" in found.given else [])
    if said:
        raise UserError(f"{path}: --{said[0]}: this command, or the plan's stage, says that for every row; remove the line")


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
        asked = {"auto": weights, "random": RANDOM, "published": PUBLISHED}  # the run has a name or a size for it
        if not isinstance(settings, BertSettings) or (settings.encoder in asked and weights in (None, asked[settings.encoder])):
            left |= {"encoder"}
        return {name: value for name, value in settings.to_dict().items() if name not in left}

    def check_budget(self) -> None:
        """Raises `UserError` where a flag for every row is used by none of them, or is what this command or the plan's stage says."""
        if self.budget:
            refuse_said(self.budget / FOR_ALL, data_too=True)
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
