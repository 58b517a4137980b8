"""A study: the first trial as it is, every trial kept, the same trials however often it was interrupted."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from commands import environment

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.setting_fields import Tried
from hcl_tf.settings import EQUAL, PUBLISHED, RANDOM
from hcl_tf.training.child import INTERRUPTED
from hcl_tf.training.run_folder import load_run
from hcl_tf.tuning.study import BEST, TABLE, Study

SPACE = {"rate": Tried(within=(1e-3, 1.0)), "form": Tried(among=("a", "b")), "on": Tried(among=(False, True))}
START = {"rate": 0.9, "form": "b", "on": False}


def study(folder: Path, seen: list[list[str]], fail=lambda number: 0, **changes) -> Study:
    """A study of a sum that is smallest at rate 0.1, form a and on; `fail` gives the exit code of the n-th training."""

    def train(run: Path, flags: list[str]) -> int:
        seen.append(flags)
        if code := fail(len(seen)):
            return code
        run.mkdir(exist_ok=True)
        values = dict(flag.removeprefix("--").split("=") for flag in flags)
        loss = abs(math.log(float(values["rate"]) / 0.1)) + (values["form"] == "b") + (values["on"] == "false")
        (run / "value").write_text(str(loss))
        return 0

    value = lambda run: float((run / "value").read_text())  # noqa: E731
    return Study(
        **{"folder": folder, "space": SPACE, "start": START, "fixed": "--task=x", "seed": 1, "train": train, "value": value} | changes
    )


@pytest.mark.slow
def test_the_first_trial_is_as_it_is_and_the_best_is_written(tmp_path):
    seen: list[list[str]] = []
    assert study(tmp_path / "s", seen).run(12) == 0
    assert seen[0] == ["--form=b", "--on=false", "--rate=0.9"]
    assert len(seen) == 12
    values = [float((tmp_path / "s" / f"trial-{n:04}" / "value").read_text()) for n in range(12)]
    best = (tmp_path / "s" / BEST).read_text().splitlines()
    assert best[1:] == seen[values.index(min(values))]
    assert f"{min(values):.4f}" in best[0]
    table = (tmp_path / "s" / TABLE).read_text()
    assert table.count("\n| ") >= 12
    assert min(values) < values[0]


@pytest.mark.slow
def test_a_random_sampler_tries_the_same_values_whatever_they_give(tmp_path):
    one: list[list[str]] = []
    other: list[list[str]] = []
    study(tmp_path / "one", one, sampler="random").run(8)
    study(tmp_path / "other", other, sampler="random", value=lambda run: -float((run / "value").read_text())).run(8)
    assert one == other
    assert len(set(map(tuple, one))) == 8
    third: list[list[str]] = []
    study(tmp_path / "third", third, value=lambda run: -float((run / "value").read_text())).run(8)
    fourth: list[list[str]] = []
    study(tmp_path / "fourth", fourth).run(8)
    assert third != fourth, "the estimator follows what trials gave"


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 5, 12])
def test_an_interrupted_study_goes_on_with_the_trials_that_it_would_have_made(tmp_path, at):
    whole: list[list[str]] = []
    study(tmp_path / "whole", whole).run(12)
    seen: list[list[str]] = []
    assert study(tmp_path / "parts", seen, lambda number: 143 if number == at else 0).run(12) == 143
    assert study(tmp_path / "parts", seen).run(12) == 0
    assert seen[at - 1] == seen[at], "the interrupted one again"
    assert seen[: at - 1] + seen[at:] == whole
    for name in (TABLE, BEST):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    more: list[list[str]] = []
    assert study(tmp_path / "parts", more).run(12) == 0
    assert more == []
    assert study(tmp_path / "parts", more).run(14) == 0
    assert len(more) == 2


@pytest.mark.slow
def test_a_trial_that_was_killed_before_it_had_all_its_settings_is_drawn_again(tmp_path, monkeypatch):
    whole: list[list[str]] = []
    study(tmp_path / "whole", whole).run(4)
    seen: list[list[str]] = []
    assert study(tmp_path / "parts", seen).run(2) == 0
    suggest = optuna.Trial.suggest_categorical

    def killed(trial: optuna.Trial, name: str, choices: list) -> object:
        if name == "on":
            raise KeyboardInterrupt
        return suggest(trial, name, choices)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "suggest_categorical", killed)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "parts", seen).run(4)
    assert study(tmp_path / "parts", seen).run(4) == 0
    assert seen == whole


@pytest.mark.slow
def test_a_failed_trial_is_kept_as_failed_and_the_others_go_on(tmp_path):
    seen: list[list[str]] = []
    assert study(tmp_path / "s", seen, lambda number: 1 if number == 2 else 0).run(5) == 0
    assert len(seen) == 5
    assert (tmp_path / "s" / TABLE).read_text().count("failed") == 1
    with pytest.raises(UserError, match="every trial failed"):
        study(tmp_path / "all", [], lambda _: 1).run(3)


@pytest.mark.slow
def test_what_does_not_belong_to_the_study_is_refused(tmp_path):
    study(tmp_path / "s", []).run(2)
    with pytest.raises(UserError, match=r"its trials have other flags \(--task=x\)"):
        study(tmp_path / "s", [], fixed="--task=y").run(2)
    fewer = study(tmp_path / "s", [])
    fewer.space = {"rate": fewer.space["rate"]}
    with pytest.raises(UserError, match=r"s: its trials tried .*, and now rate would be tried; choose another folder"):
        fewer.run(3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not a study"):
        study(tmp_path / "mine", []).run(2)
    first = study(tmp_path / "s", [])
    with first._locked(), pytest.raises(UserError, match=rf"process {os.getpid()} is at work in it"):
        study(tmp_path / "s", []).run(2)


@pytest.mark.parametrize("model", registry.SYSTEMS)
def test_what_is_tried_of_each_system_is_something_that_it_takes(model):
    """Every value is one that the system's flags allow, and the settings as they are lie among them."""
    entry = registry.entry(model)
    settings = registry.resolve("small", {"model": model})
    space = settings.search_space(entry.fixed)
    assert bool(space) == (model != "copy")
    for name, tried in space.items():
        ends = tried.among or tried.within
        assert all(registry.resolve("small", {"model": model, name: value}) for value in ends)
        value = getattr(settings, name)
        assert value in tried.among if tried.among else tried.within[0] <= value <= tried.within[1]
        assert name not in entry.fixed
    assert ("weight_ma" in space) == (model == "hcl")
    assert "learning_rate" not in settings.search_space({"learning_rate"})
    if "encoder_learning_rate" in space:
        assert "encoder_learning_rate" in settings.search_space(entry.fixed, PUBLISHED)
        for weights in (EQUAL, RANDOM):  # it follows learning_rate
            assert space.keys() - settings.search_space(entry.fixed, weights).keys() == {"encoder_learning_rate"}


SMALL = (
    "--encoder=random:1x32", "--decoder_layers=1", "--batch_size=16", "--max_steps=4", "--log_every=2", "--maximum_length=5", "--beams=2",
    "--validate_examples=16",
)  # fmt: skip


@pytest.mark.slow
def test_the_command_tunes_and_goes_on_after_a_signal(tmp_path, qqp_folder):
    command = [
        sys.executable, "-m", "hcl_tf.tune", "--task=qqp", f"--data_dir={qqp_folder}", "--preset=tiny", "--model=bert_gen", "--trials=2",
        f"--study={tmp_path / 's'}", *SMALL,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stdout:
        if line.startswith("first step"):
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait() in INTERRUPTED
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    assert (tmp_path / "s" / BEST).is_file()
    first, second = (load_run(tmp_path / "s" / f"trial-000{number}").config["settings"] for number in range(2))
    assert first["learning_rate"] == registry.resolve("tiny", {"model": "bert_gen"}).learning_rate, "the first has settings as they are"
    assert all(settings["encoder_learning_rate"] == settings["learning_rate"] for settings in (first, second)), "the weights are random"
