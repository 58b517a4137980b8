"""Trains any system: epochs, validation, checkpoints, and resuming exactly after any interruption.

The position of a run in its data is (epoch, batch). A checkpoint holds all variables, that position, and the sums of steps that no line
of metrics.jsonl has yet, so a run that was killed and resumed writes the same bytes as one that was not.
"""

import math
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batches
from hcl_tf.data.keywords.subgraph import CAPS, describe_caps
from hcl_tf.errors import UserError
from hcl_tf.models.base import Batch, System
from hcl_tf.progress import EVERY, bar, working
from hcl_tf.settings import TrainingSettings
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.board import Board
from hcl_tf.training.diagnostics import summarise
from hcl_tf.training.run_folder import RunFolder
from hcl_tf.training.step import TrainStep
from hcl_tf.training.validation import Validation

DIAGNOSED = 64  # each validation takes diagnostics of so many validation examples
MOST_CLIPPED = 0.9  # a warning is given if a larger share of the steps between two validations was clipped


@dataclass
class Position:
    """Where a run is. Every field goes into a checkpoint."""

    step: int = 0  # steps taken
    epoch: int = 0
    batch: int = 0  # batches of this epoch that were trained on
    best_loss: float = math.inf
    best_nll: float = math.inf
    bad: int = 0  # validations since the best loss
    validated: int = -1  # the step of the last validation
    window: dict | None = None  # sums for the next line of metrics, and how many steps they cover


class Loop:
    """Trains a system in a run folder.

    Args:
      batches: those of the training split. validation: passes over the validation split. texts: what `System.before_epoch` gets.
      run: the folder to write to; None in a process that computes but does not write (a worker that is not the chief).
      saved: the run's checkpoints. samples: returns a table of outputs for TensorBoard; None: the system writes no texts.
    """

    def __init__(
        self, system: System, step: TrainStep, batches: Batches, validation: Validation, texts: Any, settings: TrainingSettings,
        run: RunFolder | None, saved: checkpoints.Checkpoints, samples: Callable[[], list[dict[str, str]]] | None = None,
    ) -> None:  # fmt: skip
        self.system, self.train_step, self.batches, self.validation, self.texts = system, step, batches, validation, texts
        self.settings, self.run, self.saved = settings, run, saved
        self.at, self._stop = Position(), None
        self._kept: int | None = None  # the step of the newest checkpoint
        self._variables = {**assembly.variables(system), **step.state()}
        self._board = Board(run.path / "tensorboard", settings) if run else None
        self._samples = samples
        self._caps = np.zeros(len(CAPS), np.int64)
        self._warned: set[str] = set()  # terms of whose large gradient a warning was given; each is named once
        self._clipped = 0, 0.0  # steps since the last validation, and how many of them were clipped; of this process
        self._phases = system.phases()
        # Of this process: whether it took a step, examples and seconds that its speed is computed from, and the time of the last status.
        self._going, self._trained, self._spent, self._status = False, 0, 0.0, time.monotonic()

    def resume(self) -> bool:
        """Resumes from the newest checkpoint that is not damaged. Returns whether there was one.

        Raises:
          UserError: every checkpoint is damaged, or the checkpoint does not fit the system.
        """
        found = self.saved.newest()
        if self.run:
            self.run.rewind(found.step if found else -1)
            self._board.rewind(found.step if found else -1)
        if not found:
            return False
        checkpoints.assign(self._variables, found.arrays, found.path)
        self.at, self._kept = Position(**found.state), found.step
        print(f"going on from step {self.at.step} (epoch {self.at.epoch}, batch {self.at.batch})", flush=True)
        return True

    @property
    def last_step(self) -> int:
        """The step at which training ends, unless patience or a signal ends it before."""
        at_most = self.settings.epochs * len(self.batches)
        return min(self.settings.max_steps or at_most, at_most)

    def warnings(self) -> list[str]:
        """Says what is still on its way when training ends."""
        ends, remedy = f"warning: training ends at step {self.last_step:,}, and", "or train for more steps (--epochs, --max_steps)"
        rates, weights = self.settings.warmup_steps, self.system.ramp_steps
        found = []
        if rates > self.last_step:
            found.append(f"{ends} learning rates rise until step {rates:,}: give a smaller --warmup_steps, {remedy}")
        if self.settings.cooldown_steps and self.settings.max_steps > self.last_step:
            falling = self.settings.max_steps - self.settings.cooldown_steps
            found.append(f"{ends} learning rates fall from step {falling:,} to step {self.settings.max_steps:,}: give more --epochs")
        if weights > self.last_step:
            found.append(f"{ends} the KL term counts in full from step {weights:,} on: give a smaller --kl_delay and --kl_ramp, {remedy}")
        return found

    def train(self) -> str:
        """Trains to the end, or until a signal. Returns why it ended: `steps`, `epochs`, `patience` or a signal's name.

        Raises:
          UserError: a loss, or a gradient's norm, is not finite.
        """
        handlers = {name: signal.signal(name, self._on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._train()
        finally:  # after training a signal need not wait for a checkpoint
            for name, handler in handlers.items():
                signal.signal(name, handler)

    def _train(self) -> str:
        per_epoch, last = len(self.batches), self.last_step
        with bar("training", last, " steps", lines=False) as progress:
            progress.update(self.at.step)
            while not (why := self._why_end(last)):
                if self.at.batch == 0:
                    self.system.before_epoch(self.at.epoch, self.texts)
                if self.at.step == 0 and self.at.validated < 0:
                    for line in [*self.warnings(), *self.system.told_at_start(self.texts)]:
                        print(line, flush=True)
                    self._validate()  # the values before training, to compare with
                self._epoch(per_epoch, last, progress)
        if self._board:
            self._board.close()
        if not why.startswith("SIG") and self._phase() <= len(self._phases):
            print(f"ended in phase {self._phase()} of {len(self._phases) + 1}; the next begins at step {self._phases[self._phase() - 1]}")
        return why

    def _why_end(self, last: int) -> str:
        if self._stop:
            return self._stop
        if self.settings.patience and self.at.bad >= self.settings.patience:
            return "patience"
        return ("steps" if last == self.settings.max_steps else "epochs") if self.at.step >= last else ""

    def _epoch(self, per_epoch: int, last: int, progress) -> None:
        """Trains on what is left of the epoch, or until training ends."""
        s, at = self.settings, self.at
        for batch in self.batches.dataset(at.epoch, at.batch):
            if at.step in self._phases:
                self._begin_phase()
            began = time.monotonic()
            with nullcontext() if self._going else working("first step, with compilation"):
                scalars = self._step(batch)
            if "graph_caps" in batch:
                self._caps += batch["graph_caps"].numpy()
            self._clipped = self._clipped[0] + 1, self._clipped[1] + scalars["clipped"]
            self._guard(scalars)
            self._trained, self._spent = self._trained + s.batch_size, self._spent + time.monotonic() - began
            if not self._going:
                print(f"first step (with compilation): {time.monotonic() - began:.1f} s", flush=True)
                self._going, self._trained, self._spent, self._status = True, 0, 0.0, time.monotonic()
            at.step, at.batch = at.step + 1, at.batch + 1
            self._log(scalars)
            progress.update(1)
            progress.set_postfix_str(f"loss {scalars['objective']:.3f}, {self.rate():.0f} examples/s", refresh=False)
            self._say_status(scalars, last)
            ended = at.step >= last
            whole = at.batch == per_epoch
            if whole:
                at.epoch, at.batch = at.epoch + 1, 0
            if ended or (at.step % s.validate_every == 0 if s.validate_every else whole):
                self._validate(batch)
            ended = bool(self._why_end(last))
            if ended or whole or at.step % s.checkpoint_every == 0:
                self._checkpoint()
            if ended or whole:
                if self._caps.any():
                    print(f"step {at.step}: {describe_caps(self._caps)}", flush=True)
                return

    def _step(self, batch: Batch) -> dict[str, float]:
        try:
            return self.train_step(batch, self.at.step)
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                f"step {self.at.step + 1}: out of memory with --batch_size={self.settings.batch_size}; a smaller --micro_batch gives the "
                "same result in parts, and --dry_run says which fits"
            ) from error

    def _phase(self) -> int:
        """Returns the number, from 1, of the phase that the last step belongs to."""
        return 1 + sum(self.at.step > first for first in self._phases)

    def _begin_phase(self) -> None:
        """Begins a phase. Its losses are other losses, so its best values and its patience start anew (`System.phases`)."""
        self.system.begin_phase()
        self.at.best_loss = self.at.best_nll = math.inf
        self.at.bad = 0
        print(f"step {self.at.step}: phase {self._phase() + 1} of {len(self._phases) + 1} begins", flush=True)

    def _log(self, scalars: dict[str, float]) -> None:
        """Adds a step to the sums for the next line of metrics, and writes that line every `log_every` steps."""
        window = self.at.window or {"steps": 0, "sums": {}}
        window["steps"] += 1
        for name, value in scalars.items():
            window["sums"][name] = window["sums"].get(name, 0.0) + value
        self.at.window = window
        if self.at.step % self.settings.log_every:
            return
        means = {name: total / window["steps"] for name, total in window["sums"].items()}
        self.at.window = None
        if self.run:
            self.run.append({"kind": "train", "step": self.at.step, "epoch": self.at.epoch, **means})
            self._board.scalars("train", means, self.at.step)
            self._board.scalars("speed", {"examples_per_second": self.rate()}, self.at.step)
            self.run.append_speed({"step": self.at.step, "examples_per_second": round(self.rate(), 2)})

    def rate(self) -> float:
        """Returns the examples a second of this process's steps; 0 before the second step."""
        return self._trained / self._spent if self._spent else 0.0

    def _say_status(self, scalars: dict[str, float], last: float) -> None:
        if sys.stderr.isatty() or time.monotonic() - self._status < EVERY or not self._spent:
            return
        self._status = time.monotonic()
        left = (last - self.at.step) * self.settings.batch_size / self.rate() / 60
        print(
            f"step {self.at.step} of {last}: loss {scalars['objective']:.3f}, gradient norm {scalars['grad_norm']:.3g}, "
            f"{self.rate():.1f} examples/s, {left:.0f} min left",
            flush=True,
        )

    def _validate(self, batch: Batch | None = None) -> None:
        """Measures and reports the validation split, and saves the weights if they are the best; `batch`: the last training batch."""
        at = self.at
        began = time.monotonic()
        with working("states of the keyword graph"):
            self.system.before_inference()
        means = self.validation.loss(self.settings.validate_examples)
        if not math.isfinite(means["loss"]):
            raise UserError(f"step {at.step}: the validation loss is {means['loss']}; {self._remedy()}")
        per_example = self.validation.diagnose(DIAGNOSED)
        diagnostics = summarise(per_example)
        with working("gradient norms"):
            norms = self.train_step.norms_by_term(batch, at.step - 1) if batch is not None else {}
        diagnostics |= {f"grad_norm_{name}": norm for name, norm in norms.items()}
        at.validated = at.step
        if at.step:  # values before training are there to compare with, and never the best
            self._keep_best("best_nll", means[self.system.output_nll])
            better = self._keep_best("best_loss", means["loss"])
            at.bad = 0 if better or self._phase() <= len(self._phases) or at.step <= self.system.ramp_steps else at.bad + 1
        if self.run:
            self.run.append(
                {"kind": "validation", "step": at.step, "epoch": at.epoch, **means, **{f"examined/{k}": v for k, v in diagnostics.items()}}
            )
            self._board.scalars("validation", means, at.step)
            self._board.scalars("examined", diagnostics, at.step)
            if "kl_by_dimension" in per_example:
                self._board.histogram("kl_by_dimension", per_example["kl_by_dimension"].mean(0), at.step)
            shown = self._samples() if at.step and self._samples else []
            if shown:
                self._board.samples(shown, at.step)
            orders = [f"{name.removeprefix('order_')} {diagnostics[name]:.0%}" for name in self.system.orders if name in diagnostics]
            said = [
                f"validation loss {means['loss']:.3f}", f"NLL {means['nll']:.3f} ({means['nll_token']:.3f} a token)",
                self.system.progress(means | diagnostics), self._say_gradients(norms),
                f"order right: {', '.join(orders)}" if orders else "",
            ]  # fmt: skip
            print(f"step {at.step}: {', '.join(filter(None, said))} ({time.monotonic() - began:.0f} s)", flush=True)
            for row in shown[:1]:  # the same example each time, so that one sees it change
                print(f"  {row['source']} => {row['output']}".replace("\n", " / "), flush=True)

    def _say_gradients(self, norms: dict[str, float]) -> str:
        """Says how large each term's gradient is, and how many steps were clipped since the last validation; warns where most were."""
        (steps, clipped), self._clipped = self._clipped, (0, 0.0)
        if not norms or not steps:
            return ""
        share = clipped / steps
        largest = max(norms, key=norms.__getitem__)
        if share > MOST_CLIPPED and self.at.step > self.settings.warmup_steps and largest not in self._warned:
            self._warned.add(largest)
            print(
                f"warning: {share:.0%} of the last {steps} steps were clipped, so the largest gradient decides where they go: that of "
                f"{largest}, of norm {norms[largest]:.3g} where --gradient_clip={self.settings.gradient_clip:g}",
                flush=True,
            )
        return f"gradient norms {', '.join(f'{name} {norm:.3g}' for name, norm in norms.items())}, {share:.0%} of steps clipped"

    def _keep_best(self, name: str, value: float) -> bool:
        if value >= getattr(self.at, name):
            return False
        setattr(self.at, name, value)
        if self.run:
            self.saved.save_best(name, self.at.step, checkpoints.variables_of(assembly.variables(self.system)), {"validation": value})
        return True

    def _checkpoint(self) -> None:
        if self.run:
            self.run.sync()
            self._board.flush()
            self.saved.save(self.at.step, checkpoints.variables_of(self._variables), vars(self.at))
        self._kept = self.at.step

    def _guard(self, scalars: dict[str, float]) -> None:
        """Raises `UserError` where a number is not finite, before it gets into a checkpoint."""
        bad = [name for name, value in scalars.items() if not math.isfinite(value)]
        if bad:
            raise UserError(f"step {self.at.step + 1}: {bad[0]} is {scalars[bad[0]]}; {self._remedy()}")

    def _remedy(self) -> str:
        kept = "there is no checkpoint yet" if self._kept is None else f"the checkpoint of step {self._kept} is kept"
        return f"{kept}; try a smaller --learning_rate or a longer --warmup_steps in another --run_dir"

    def _on_signal(self, number: int, _) -> None:
        if self._stop:
            raise KeyboardInterrupt  # the second signal: leave at once; the run resumes from its last checkpoint
        self._stop = signal.Signals(number).name
        print(f"{self._stop}: saving after this step, then leaving; the same command goes on", flush=True)
