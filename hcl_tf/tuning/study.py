"""A study: trials of one system, kept in a folder, and gone on with after any interruption.

    study.db      Optuna's storage: every trial with its settings, its value or its failure
    trial-0000    run folders; the first trial has the settings as they are
    trials.md     a table of all trials, the best first
    best.flags    the settings that the best trial tried, to be laid over a row with --flagfile

What a trial draws depends on the seed and its number alone, so an interrupted study goes on as it would have.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hcl_tf.errors import UserError
from hcl_tf.files import locks
from hcl_tf.files.whole_file import write_whole
from hcl_tf.markdown import markdown_table
from hcl_tf.setting_fields import Tried
from hcl_tf.training import child
from hcl_tf.training.run_folder import has_finished, load_run

DATABASE, TABLE, BEST, LOCK = "study.db", "trials.md", "best.flags", ".lock"
FIXED = "fixed"  # in the storage: what all trials have


class Study:
    """Trials of one system.

    Args:
      folder: where it is kept. space: setting -> what is tried of it. start: the same settings as they are without any trial.
      fixed: what all trials have besides, in words; a study is gone on with only where it is the same. seed: of what is drawn.
      train: trains a trial in a run folder, with flags for what is tried. Returns the exit code.
      value: reads from a run folder what is to be small. sampler: `tpe` or `random`, as --sampler of tune.py.
    """

    def __init__(
        self, folder: Path, space: Mapping[str, Tried], start: Mapping[str, Any], fixed: str, seed: int,
        train: Callable[[Path, list[str]], int], value: Callable[[Path], float], sampler: str = "tpe",
    ) -> None:  # fmt: skip
        self._sampler = sampler
        self.folder, self.space, self.start, self.fixed, self.seed = folder, space, start, fixed, seed
        self._train, self._value = train, value

    def run(self, trials: int) -> int:
        """Makes trials until there are so many that did not fail by a signal. Returns 0, or the exit code of what a signal ended.

        Raises:
          UserError: the folder can't be used, is of another study, or another process is at work in it; or every trial failed.
        """
        with self._locked():
            study = self._open()
            while waiting := self._next(study, trials):
                run = self.folder / f"trial-{waiting.number:04}"
                print(f"\n== trial {waiting.number + 1} of {trials}: {_said(waiting.params)}", flush=True)
                code = self._train(run, _flags(waiting.params))
                if code in child.INTERRUPTED:
                    print(f"interrupted in trial {waiting.number + 1}; the same command goes on there", flush=True)
                    return code
                if code:
                    study.tell(waiting.number, state=TrialState.FAIL)
                    print(f"trial {waiting.number + 1} failed with exit code {code}; going on with the others", flush=True)
                else:
                    study.tell(waiting.number, self._value(run))
                self._write(study)
            self._write(study)
            if not _complete(study):
                raise UserError(f"--study={self.folder}: every trial failed; what they print says why")
            print(f"\n{(self.folder / TABLE).read_text(encoding='utf-8')}\nwrote {self.folder / BEST} and {TABLE}", flush=True)
            return 0

    def _open(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        found = optuna.create_study(
            storage=f"sqlite:///{self.folder / DATABASE}", study_name=self.folder.name, load_if_exists=True, direction="minimize"
        )
        if (before := found.user_attrs.get(FIXED, self.fixed)) != self.fixed:
            raise UserError(f"--study={self.folder}: its trials have other flags ({before}); choose another folder")
        for trial in _complete(found):
            if trial.params.keys() != self.space.keys():
                tried, now = ", ".join(sorted(trial.params)), ", ".join(sorted(self.space))
                raise UserError(f"--study={self.folder}: its trials tried {tried}, and now {now} would be tried; choose another folder")
        found.set_user_attr(FIXED, self.fixed)
        return found

    def _next(self, study: optuna.Study, trials: int) -> FrozenTrial | optuna.Trial | None:
        """Returns the trial that was interrupted, or a new one; None where there are enough."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.params.keys() == self.space.keys():
                return trial
            study.tell(trial.number, state=TrialState.FAIL)  # killed before it had all its settings; the same are drawn again
        known = self._drawn(study)
        if len(known) >= trials:
            return None
        if not known:
            study.enqueue_trial(dict(self.start))  # so no tuned row is worse than it was without
        # Independent of how often the study was interrupted: a sampler's own state would begin anew with each process.
        seed = self.seed * 10_000 + len(known)
        if self._sampler == "random":
            study.sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, trials // 3))
        trial = study.ask()
        for name, tried in self.space.items():
            if tried.among:
                trial.suggest_categorical(name, list(tried.among))
            else:
                trial.suggest_float(name, *tried.within, log=True)
        return trial

    def _drawn(self, study: optuna.Study) -> list[FrozenTrial]:
        """Returns the trials that have all their settings."""
        return [trial for trial in study.get_trials(deepcopy=False) if trial.params.keys() == self.space.keys()]

    def _write(self, study: optuna.Study) -> None:
        """Writes the table of all trials and the flags of the best."""
        done = _complete(study)
        failed = [trial for trial in self._drawn(study) if trial.state == TrialState.FAIL]
        rows = [{"trial": str(trial.number + 1), "value": f"{trial.value:.4f}", **_shown(trial.params)} for trial in done]
        rows += [{"trial": str(trial.number + 1), "value": "failed", **_shown(trial.params)} for trial in failed]
        if rows:
            head = f"{len(done)} trials, smallest value first. Fixed: {self.fixed}.\n\n"
            write_whole(self.folder / TABLE, (head + markdown_table(rows) + "\n").encode())
        if done:
            text = f"# The best of {len(done)} trials, value {done[0].value:.4f}.\n" + "".join(
                f"{flag}\n" for flag in _flags(done[0].params)
            )
            write_whole(self.folder / BEST, text.encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()) and not (self.folder / DATABASE).exists() and not (self.folder / LOCK).exists():
                raise UserError(f"--study={self.folder}: not empty and not a study (no {DATABASE}); choose another folder")
            lock = (self.folder / LOCK).open("a+b")
        except OSError as error:
            raise UserError(f"--study={self.folder}: can't be written ({error.strerror}); choose another folder") from error
        with lock:
            try:
                locks.take(lock)
            except locks.Taken as taken:
                raise locks.refused("--study", self.folder, "is at work in it", taken) from taken
            yield


def train(run: Path, flags: list[str]) -> int:
    """Trains in a process of its own, unless the run is finished. Returns the exit code."""
    if has_finished(run):
        return 0
    return child.call("hcl_tf.train", [*flags, f"--run_dir={run}"])


def smallest(run: Path, name: str) -> float:
    """Returns the smallest value of a validation loss after the first step."""
    return min(line[name] for line in load_run(run).read_metrics() if line["kind"] == "validation" and line["step"])


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that have a value, the smallest first."""
    found = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    return sorted(found, key=lambda trial: (trial.value, trial.number))


def _flags(params: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in sorted(params.items())]


def _shown(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in sorted(params.items())}


def _said(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _shown(params).items())
