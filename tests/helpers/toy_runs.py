"""Runs of the real loop on a toy system, in one folder."""

from pathlib import Path

from toy_system import read, toy, toy_settings

from hcl_tf.decoding.generator import Generator
from hcl_tf.training import checkpoints
from hcl_tf.training.launch import Samples
from hcl_tf.training.loop import Loop
from hcl_tf.training.run_folder import RunFolder
from hcl_tf.training.step import TrainStep
from hcl_tf.training.validation import Validation

SETTINGS = {"batch_size": 60, "max_steps": 17, "checkpoint_every": 3, "log_every": 2, "learning_rate": 0.05}  # 7 batches an epoch


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it, and nothing is tidied up."""


def kill():
    raise Killed


class Toys:
    """Runs in one folder; each `go` is what a new process would do. The step is traced once for all."""

    def __init__(self, folder: Path, poison: dict | None = None, boundaries: tuple[int, ...] = (), **given) -> None:
        self.settings = toy_settings(**{**SETTINGS, **given})
        self.system, self.batches = toy(folder, self.settings, poison=poison, boundaries=boundaries)
        self.step = TrainStep(self.system, self.settings, None, compiled=False)
        data, _, held_out = read(folder)
        self.validation = Validation.of_pairs(self.system, data, held_out)
        self.samples = Samples(Generator(self.system, data.tokenizer), self.validation, list(data.records("validation")))
        self.everything = {**self.system_variables(), **self.step.state()}
        self.fresh = checkpoints.variables_of(self.everything)

    def system_variables(self) -> dict:
        return {f"model/{v.name}": v for v in self.system.variables}

    def go(self, path: Path, stop: int | None = None, how=None, after=lambda step, scalars: scalars) -> tuple[str, Loop]:
        """Trains; before step number `stop` is taken, `how()` happens. `after` may change a step's scalars."""
        checkpoints.assign(self.everything, self.fresh)

        def step(batch, number):
            if number == stop:
                how()
            return after(number, self.step(batch, number))

        step.state, step.norms_by_term = self.step.state, self.step.norms_by_term
        with RunFolder.open(path, {"settings": self.settings.to_dict()}, ["train"]) as run:
            saved = checkpoints.Checkpoints(path / "checkpoints", self.settings.keep_checkpoints)
            loop = Loop(self.system, step, self.batches, self.validation, None, self.settings, run, saved, self.samples)
            loop.resume()
            return loop.train(), loop
