"""The loop on a toy system: what it refuses, keeps and writes."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_runs import Killed, Toys, kill
from toy_system import values

from hcl_tf.errors import UserError
from hcl_tf.training import checkpoints
from hcl_tf.training.loop import Loop
from hcl_tf.training.run_folder import load_run

pytestmark = pytest.mark.usefixtures("quick_environment")


@pytest.fixture(scope="module")
def toys(qqp_folder) -> Toys:
    return Toys(qqp_folder)


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
