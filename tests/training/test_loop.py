"""The loop on a toy system: stopped anywhere and taken up again, it ends with the same bytes; what it refuses, keeps and writes."""

import json
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_system import read, toy, toy_settings, values

from hcl_tf.decoding.generator import Generator
from hcl_tf.errors import UserError
from hcl_tf.training import checkpoints, run_folder
from hcl_tf.training.launch import Samples
from hcl_tf.training.loop import Loop
from hcl_tf.training.run_folder import RunFolder, load_run
from hcl_tf.training.step import TrainStep
from hcl_tf.training.validation import Validation

SETTINGS = {"batch_size": 60, "max_steps": 17, "checkpoint_every": 3, "log_every": 2, "learning_rate": 0.05}  # 7 batches an epoch
STOPS = (1, 3, 7, 8, 16)  # before, at and after a checkpoint; the end of an epoch; a metrics line in progress


@pytest.fixture(scope="module", autouse=True)
def _same_machine():
    """Asking git and the machine for each of a hundred runs would take longer than training."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_folder, "describe_environment", lambda: {})
        yield


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it, and nothing is tidied up."""


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


def kill():
    raise Killed


def outcome(path: Path, toys: Toys) -> tuple:
    """All that two runs have to agree on, as bytes."""
    newest = checkpoints.Checkpoints(path / "checkpoints").newest()
    best = {name: checkpoints.Checkpoints(path / "checkpoints").read(name) for name in ("best_loss", "best_nll")}
    as_bytes = lambda c: (c.step, {name: array.tobytes() for name, array in c.arrays.items()}, c.state)  # noqa: E731
    now = {name: value.tobytes() for name, value in checkpoints.variables_of(toys.everything).items()}
    return as_bytes(newest), {name: as_bytes(c) for name, c in best.items()}, now, (path / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def toys(qqp_folder) -> Toys:
    return Toys(qqp_folder)


@pytest.fixture(scope="module")
def whole(toys, tmp_path_factory) -> tuple:
    """The outcome of the run that nothing interrupts."""
    path = tmp_path_factory.mktemp("whole") / "run"
    why, _ = toys.go(path)
    assert why == "steps"
    return outcome(path, toys)


@pytest.mark.parametrize("stop", STOPS)
def test_killed_anywhere_it_ends_the_same(toys, whole, tmp_path, stop) -> None:
    with pytest.raises(Killed):
        toys.go(tmp_path / "run", stop, kill)
    toys.go(tmp_path / "run")
    assert outcome(tmp_path / "run", toys) == whole


@pytest.fixture(scope="module")
def phased(qqp_folder) -> Toys:
    """Three phases: one begins at a checkpoint, one between two and within an epoch."""
    return Toys(qqp_folder, boundaries=(6, 10))


@pytest.fixture(scope="module")
def whole_in_phases(phased, tmp_path_factory) -> tuple:
    path = tmp_path_factory.mktemp("phased") / "run"
    phased.go(path)
    return outcome(path, phased)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop", [pytest.param(stop, marks=[pytest.mark.slow] if stop in (6, 10, 11) else []) for stop in (5, 6, 7, 9, 10, 11, 12)]
)
def test_killed_around_a_phase_s_beginning_it_ends_the_same(phased, whole, whole_in_phases, tmp_path, stop) -> None:
    with pytest.raises(Killed):
        phased.go(tmp_path / "run", stop, kill)
    phased.go(tmp_path / "run")
    assert outcome(tmp_path / "run", phased) == whole_in_phases
    assert whole_in_phases[2] != whole[2], "a phase changes something"


@pytest.mark.slow
def test_killed_again_and_again(toys, whole, tmp_path) -> None:
    draw, path = random.Random(5), tmp_path / "run"
    for _ in range(6):
        newest = checkpoints.Checkpoints(path / "checkpoints").newest()
        with pytest.raises(Killed):
            toys.go(path, min((newest.step if newest else 0) + draw.randint(0, 4), 16), kill)
    toys.go(path)
    assert outcome(path, toys) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (RunFolder, "append", 1), (RunFolder, "append", 5), (checkpoints.Checkpoints, "save", 1), (checkpoints.Checkpoints, "save", 3),
        (checkpoints.Checkpoints, "save_best", 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("done", [False, True])
def test_killed_while_writing_it_ends_the_same(toys, whole, tmp_path, monkeypatch, owner, method, call, done) -> None:
    """Right before and right after each kind of write: what is on disk is then a line ahead, or a checkpoint behind."""
    original, calls = getattr(owner, method), []

    def counted(*arguments):
        calls.append(None)
        if len(calls) == call and not done:
            raise Killed
        result = original(*arguments)
        if len(calls) == call:
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, method, counted)
        with pytest.raises(Killed):
            toys.go(tmp_path / "run")
    toys.go(tmp_path / "run")
    assert outcome(tmp_path / "run", toys) == whole


@pytest.mark.slow
@pytest.mark.parametrize(("number", "stop"), [(signal.SIGTERM, 0), (signal.SIGINT, 6), (signal.SIGTERM, 10)])
def test_a_signal_saves_and_the_same_command_goes_on(toys, whole, tmp_path, capsys, number, stop) -> None:
    before = signal.getsignal(number)
    why, loop = toys.go(tmp_path / "run", stop, lambda: os.kill(os.getpid(), number))
    assert why == number.name
    assert checkpoints.Checkpoints(tmp_path / "run/checkpoints").newest().step == loop.at.step == stop + 1
    assert f"{number.name}: saving" in capsys.readouterr().out
    assert signal.getsignal(number) == before, "what the loop takes over it gives back"
    why, _ = toys.go(tmp_path / "run")
    assert why == "steps"
    assert outcome(tmp_path / "run", toys)[2:] == whole[2:]
    assert f"going on from step {stop + 1} " in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_signal_leaves_at_once(toys, whole, tmp_path) -> None:
    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        toys.go(tmp_path / "run", 7, twice)
    toys.go(tmp_path / "run")
    assert outcome(tmp_path / "run", toys) == whole


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["variables.safetensors", "checkpoint.json", "missing"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(toys, whole, tmp_path, capsys, harm) -> None:
    path = tmp_path / "run"
    with pytest.raises(Killed):
        toys.go(path, 13, kill)
    newest = path / "checkpoints" / "step-00000012"
    if harm == "missing":
        (newest / "variables.safetensors").unlink()
    else:
        data = bytearray((newest / harm).read_bytes())
        data[len(data) // 2] ^= 1
        (newest / harm).write_bytes(data)
    capsys.readouterr()
    toys.go(path)
    said = capsys.readouterr().out
    assert "checkpoint refused" in said
    assert str(newest) in said
    assert "going on from step 9 " in said
    assert outcome(path, toys) == whole


def test_where_every_checkpoint_is_damaged_nothing_is_started_anew(toys, tmp_path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Killed):
        toys.go(path, 8, kill)
    for place in (path / "checkpoints").glob("step-*"):
        (place / "variables.safetensors").write_bytes(b"")
    metrics = (path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="no checkpoint is whole"):
        toys.go(path)
    assert (path / "metrics.jsonl").read_bytes() == metrics


def test_metrics_say_what_the_steps_returned(toys, tmp_path) -> None:
    steps: dict[int, dict] = {}
    toys.go(tmp_path / "run", after=lambda number, scalars: steps.setdefault(number, scalars))
    lines = load_run(tmp_path / "run").read_metrics()
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == list(range(2, 17, 2))
    for line in train:
        for name in ("nll", "kl", "objective", "grad_norm", "kl_weight", "learning_rate_rest"):
            assert line[name] == pytest.approx((steps[line["step"] - 2][name] + steps[line["step"] - 1][name]) / 2, rel=1e-12), name
    assert [(line["step"], line["epoch"]) for line in lines if line["kind"] == "validation"] == [(0, 0), (7, 1), (14, 2), (17, 2)]


@pytest.mark.slow
def test_every_epoch_takes_every_example_once_and_begins_with_its_features(qqp_folder, tmp_path) -> None:
    toys = Toys(qqp_folder, max_steps=0, epochs=2)
    seen = []
    original = toys.step

    class Watching:
        state, norms_by_term = original.state, original.norms_by_term

        def __call__(self, batch, number):
            seen.append(batch["example_rows"].numpy()[batch["example_mask"].numpy() > 0])
            return original(batch, number)

    toys.step = Watching()
    why, loop = toys.go(tmp_path / "run")
    assert (why, loop.at.step, loop.at.epoch, loop.at.batch) == ("epochs", 14, 2, 0)
    for epoch in (seen[:7], seen[7:]):
        assert sorted(np.concatenate(epoch)) == list(range(toys.batches.count))
    assert toys.system.refreshed == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("term", ["nll", "kl", "key"])
def test_a_number_that_is_none_names_term_and_step_and_keeps_the_checkpoint(qqp_folder, tmp_path, term) -> None:
    toys = Toys(qqp_folder, poison={10: term})
    path = tmp_path / "run"
    with pytest.raises(UserError, match=rf"step 11: {term} is nan; the checkpoint of step 9 is kept; .*--learning_rate"):
        toys.go(path)
    newest = checkpoints.Checkpoints(path / "checkpoints").newest()
    assert newest.step == 9
    assert all(np.isfinite(array).all() for array in newest.arrays.values())
    assert not [name for name in path.rglob("*") if "partial" in name.name]
    assert [line["step"] for line in load_run(path).read_metrics()][-1] == 10
    assert load_run(path).finished is None


@pytest.mark.slow
def test_a_number_that_is_none_before_any_checkpoint(qqp_folder, tmp_path) -> None:
    toys = Toys(qqp_folder, poison={1: "kl"})
    with pytest.raises(UserError, match="step 2: kl is nan; there is no checkpoint yet"):
        toys.go(tmp_path / "run")
    assert checkpoints.Checkpoints(tmp_path / "run/checkpoints").newest() is None


@pytest.mark.parametrize("name", ["grad_norm", "objective"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_gradients_count_too(toys, tmp_path, name, value) -> None:
    with pytest.raises(UserError, match=f"step 5: {name} is {value}"):
        toys.go(tmp_path / "run", after=lambda number, scalars: scalars | ({name: value} if number == 4 else {}))


def test_too_little_memory_names_the_flags_that_help(toys, tmp_path) -> None:
    def full(number, scalars):
        if number == 4:
            raise tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory")
        return scalars

    with pytest.raises(UserError, match=r"^step 5: out of memory with --batch_size=\d+; a smaller --micro_batch .* --dry_run says which"):
        toys.go(tmp_path / "run", after=full)


def test_a_validation_loss_that_is_none_is_reported(toys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(toys.validation, "loss", lambda most: {"loss": float("nan"), "nll": 1.0, "nll_token": 1.0})
    with pytest.raises(UserError, match="step 0: the validation loss is nan"):
        toys.go(tmp_path / "run")


def fixed_losses(monkeypatch, toys, losses: list[float], nlls: list[float]) -> None:
    pairs = iter(zip([9.0, *losses], [9.0, *nlls], strict=True))

    def loss(most=0):
        total, nll = next(pairs)
        return {"loss": total, "nll": nll, "nll_token": nll / 10}

    monkeypatch.setattr(toys.validation, "loss", loss)


@pytest.mark.slow
def test_best_checkpoints_are_those_of_the_smallest_losses(qqp_folder, tmp_path, monkeypatch) -> None:
    toys = Toys(qqp_folder, validate_every=3, max_steps=15, patience=0)
    fixed_losses(monkeypatch, toys, [5.0, 4.0, 4.0, 6.0, 4.5], [3.0, 2.0, 1.0, 1.0, 2.0])
    weights = {}

    def remember(number, scalars):
        weights[number + 1] = values(toys.system)
        return scalars

    toys.go(tmp_path / "run", after=remember)
    saved = load_run(tmp_path / "run").checkpoints
    best, by_nll = saved.read("best_loss"), saved.read("best_nll")
    assert (best.step, best.state) == (6, {"validation": 4.0})
    assert (by_nll.step, by_nll.state) == (9, {"validation": 1.0})
    for checkpoint in (best, by_nll):
        assert checkpoint.arrays.keys() == weights[6].keys(), "weights alone: what evaluation needs"
        for name, value in weights[checkpoint.step].items():
            np.testing.assert_array_equal(checkpoint.arrays[name], value, err_msg=name)


@pytest.mark.slow
def test_the_best_nll_is_that_under_which_outputs_are_made(qqp_folder, tmp_path, monkeypatch) -> None:
    """Under the posterior the smallest is at step 9, at the prior's mean at step 3."""
    toys = Toys(qqp_folder, validate_every=3, max_steps=9, patience=0)
    monkeypatch.setattr(type(toys.system), "output_nll", "nll_prior")
    found = iter([(9.0, 9.0, 9.0), (5.0, 3.0, 6.0), (4.0, 2.0, 7.0), (4.5, 1.0, 8.0)])
    names = ("loss", "nll", "nll_prior")
    monkeypatch.setattr(toys.validation, "loss", lambda most: {"nll_token": 0.1, **dict(zip(names, next(found), strict=True))})
    _, loop = toys.go(tmp_path / "run")
    saved = load_run(tmp_path / "run").checkpoints
    assert (saved.read("best_nll").step, saved.read("best_nll").state) == (3, {"validation": 6.0})
    assert saved.read("best_loss").step == 6
    assert loop.at.best_nll == 6.0


# -- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_validation_says_each_term_s_gradient_norm_and_how_many_steps_were_clipped(qqp_folder, tmp_path, capsys) -> None:
    toys = Toys(qqp_folder, validate_every=4, max_steps=8)
    clipped = iter([0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    toys.go(tmp_path / "run", after=lambda number, scalars: scalars | {"clipped": next(clipped)})
    lines = [line for line in capsys.readouterr().out.splitlines() if "validation loss" in line]
    assert "gradient norms" not in lines[0], "before training there is no batch"
    metrics = {line["step"]: line for line in load_run(tmp_path / "run").read_metrics() if line["kind"] == "validation"}
    last = next(iter(toys.batches.dataset(1, 0).take(1)))  # of 7 batches an epoch, the eighth step's
    wanted = toys.step.norms_by_term(last, 7)
    assert wanted.keys() == {"nll", "kl_objective", "key"}
    for name, norm in wanted.items():
        assert metrics[8][f"examined/grad_norm_{name}"] == norm, "after the step: of the weights that were validated"
    shown = ", ".join(f"{name} {norm:.3g}" for name, norm in wanted.items())
    assert f"gradient norms {shown}, 75% of steps clipped" in lines[2]
    assert "25% of steps clipped" in lines[1], "of the four steps since the validation before"


@pytest.mark.slow
@pytest.mark.parametrize(("share", "warmup", "warns"), [(10, 5, True), (9, 5, False), (10, 10, False)])
def test_too_many_clipped_steps_are_warned_of_after_warm_up(qqp_folder, tmp_path, capsys, share, warmup, warns) -> None:
    toys = Toys(qqp_folder, validate_every=10, max_steps=10, warmup_steps=warmup, gradient_clip=0.7)
    toys.go(tmp_path / "run", after=lambda number, scalars: scalars | {"clipped": float(number < share)})
    said = capsys.readouterr().out
    assert f"{share * 10}% of steps clipped" in said
    warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert bool(warnings) == warns
    if warns:
        (line,) = (line for line in load_run(tmp_path / "run").read_metrics() if line["kind"] == "validation" and line["step"] == 10)
        norms = {name.removeprefix("examined/grad_norm_"): value for name, value in line.items() if "grad_norm_" in name}
        largest = max(norms, key=norms.get)
        assert len(norms) == 3
        assert warnings == [
            "warning: 100% of the last 10 steps were clipped, so the largest gradient decides where they go: that of "
            f"{largest}, of norm {norms[largest]:.3g} where --gradient_clip=0.7"
        ]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, 7])
def test_patience_counts_validations_without_a_better_loss(qqp_folder, tmp_path, monkeypatch, stop) -> None:
    toys = Toys(qqp_folder, validate_every=2, max_steps=17, patience=2, checkpoint_every=100)
    fixed_losses(monkeypatch, toys, [5.0, 5.0, 4.0, 4.0, 4.5], [1.0] * 5)
    if stop:
        toys.go(tmp_path / "run", stop, lambda: os.kill(os.getpid(), signal.SIGTERM))
        fixed_losses(monkeypatch, toys, [4.5], [1.0])
        next_losses = toys.validation.loss
        next_losses()  # a run that goes on validates no second time before its first step
    why, loop = toys.go(tmp_path / "run")
    assert (why, loop.at.step, loop.at.bad) == ("patience", 10, 2)
    assert checkpoints.Checkpoints(tmp_path / "run/checkpoints").newest().step == 10
    assert toys.go(tmp_path / "run")[0] == "patience", "started again it knows that it has ended"


@pytest.mark.slow
def test_what_is_still_on_its_way_at_the_end_is_said_at_the_start(qqp_folder, tmp_path, monkeypatch, capsys) -> None:
    toys = Toys(qqp_folder, max_steps=4, warmup_steps=5, validate_every=2)
    toys.go(tmp_path / "one")
    said = capsys.readouterr().out
    assert "warning: training ends at step 4, and learning rates rise until step 5: give a smaller --warmup_steps" in said
    assert "KL term" not in said
    toys = Toys(qqp_folder, max_steps=4, warmup_steps=4, validate_every=2)
    monkeypatch.setattr(type(toys.system), "ramp_steps", 9)
    _, loop = toys.go(tmp_path / "other")
    assert "training ends at step 4, and the KL term counts in full from step 9 on" in capsys.readouterr().out
    assert [line.split(", ")[1].split(":")[0] for line in loop.warnings()] == ["and the KL term counts in full from step 9 on"]
    toys = Toys(qqp_folder, max_steps=1000, cooldown_steps=900, epochs=1, validate_every=2)
    _, loop = toys.go(tmp_path / "short")
    assert f"training ends at step {loop.last_step}, and learning rates fall from step 100 to step 1,000: give more --epochs" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_patience_waits_for_the_end_of_ramps(qqp_folder, tmp_path, monkeypatch) -> None:
    """Until then training and validation weigh the terms differently."""
    toys = Toys(qqp_folder, validate_every=2, max_steps=17, patience=2)
    monkeypatch.setattr(type(toys.system), "ramp_steps", 6)
    fixed_losses(monkeypatch, toys, [5.0, 4.0, 4.5, 4.5, 4.5, 4.5], [1.0] * 6)
    why, loop = toys.go(tmp_path / "run")
    assert (why, loop.at.step, loop.at.bad) == ("patience", 10, 2)


@pytest.mark.slow
def test_each_phase_has_best_checkpoints_of_its_own(qqp_folder, tmp_path, monkeypatch, capsys) -> None:
    """Losses of different phases are not compared, and patience counts in the last one."""
    toys = Toys(qqp_folder, boundaries=(6,), validate_every=2, max_steps=14, patience=3)
    fixed_losses(monkeypatch, toys, [1.0, 2.0, 3.0, 9.0, 8.0, 8.5, 8.5], [1.0, 1.0, 1.0, 7.0, 7.5, 7.0, 7.0])
    why, loop = toys.go(tmp_path / "run")
    assert (why, loop.at.step, loop.at.bad) == ("steps", 14, 2), "two validations after the first phase's best did not end it"
    saved = load_run(tmp_path / "run").checkpoints
    assert (saved.read("best_loss").step, saved.read("best_nll").step) == (10, 8)
    said = capsys.readouterr().out
    assert "step 6: phase 2 of 2 begins" in said
    assert "ended in phase" not in said


@pytest.mark.slow
def test_a_run_that_ends_before_its_last_phase_says_so_and_can_be_used(qqp_folder, tmp_path, capsys) -> None:
    toys = Toys(qqp_folder, boundaries=(6,), max_steps=6)
    assert toys.go(tmp_path / "run")[0] == "steps"
    assert "ended in phase 1 of 2; the next begins at step 6" in capsys.readouterr().out
    assert load_run(tmp_path / "run").checkpoints.read("best_loss").step == 6


@pytest.mark.slow
def test_a_process_that_is_not_the_chief_reads_and_writes_nothing(toys, tmp_path) -> None:
    with pytest.raises(Killed):
        toys.go(tmp_path / "run", 8, kill)
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    checkpoints.assign(toys.everything, toys.fresh)
    saved = checkpoints.Checkpoints(tmp_path / "run/checkpoints", 2)
    worker = Loop(toys.system, toys.step, toys.batches, toys.validation, None, toys.settings, None, saved)
    assert worker.resume()
    assert worker.at.step == 7
    assert worker.train() == "steps"
    after = checkpoints.variables_of(toys.everything)
    assert files == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    toys.go(tmp_path / "run")
    for name, value in checkpoints.variables_of(toys.everything).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_tensorboard_has_the_loops_curves(toys, tmp_path) -> None:
    toys.go(tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard"), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    assert {"train/nll", "train/objective", "train/grad_norm", "speed/examples_per_second", "validation/loss", "samples"} <= tags
    assert [event.step for event in events.Tensors("train/nll")] == list(range(2, 17, 2))
    lines = {line["step"]: line for line in load_run(tmp_path / "run").read_metrics() if line["kind"] == "validation"}
    for event in events.Tensors("validation/loss"):
        assert float(np.frombuffer(event.tensor_proto.tensor_content, np.float32)[0]) == pytest.approx(lines[event.step]["loss"], rel=1e-6)
    speeds = [json.loads(line) for line in (tmp_path / "run/speed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in speeds] == list(range(2, 17, 2))


@pytest.mark.slow
def test_a_system_that_writes_no_texts_has_no_samples(qqp_folder, tmp_path) -> None:
    toys = Toys(qqp_folder, max_steps=7)
    toys.samples = None
    assert toys.go(tmp_path / "run")[0] == "steps"
    events = EventAccumulator(str(tmp_path / "run/tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert "validation/loss" in events.Tags()["tensors"]
    assert "samples" not in events.Tags()["tensors"]
