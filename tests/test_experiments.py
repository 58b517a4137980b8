"""The flag files of the tables' rows: all there, each read by the real flags, with settings that can be.

Which rows there are follows from the registry: every system, the ablations of the paper's model, and its contrasts with in-batch negatives.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import entry_point

from hcl_tf import config
from hcl_tf.models import registry, setting_flags
from hcl_tf.models.registry import resolve
from hcl_tf.models.settings.groupwise import GroupwiseSettings
from hcl_tf.models.settings.hcl import ABLATIONS
from hcl_tf.reporting.plan import FOR_ALL, read
from hcl_tf.reporting.series import Series
from hcl_tf.settings import TrainingSettings

FOLDER = Path(__file__).parents[1] / "experiments"
VARIANTS = [
    *({"model": model} for model in registry.SYSTEMS), *({"model": registry.OURS, "ablate": part} for part in ABLATIONS),
    {"model": registry.OURS, "in_batch_negatives": True},
]  # fmt: skip
ROWS = {resolve("paper", given).row: given for given in VARIANTS}
STEPS = {"qqp": 158, "douban": 852, "rocstories": 307}  # an epoch


def test_every_variant_is_a_row_of_its_own():
    assert len(ROWS) == len(VARIANTS)


@pytest.mark.parametrize("task", config.TASKS)
def test_every_row_has_its_file(task):
    assert {path.stem for path in (FOLDER / task).glob("*.flags")} == ROWS.keys()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("task", config.TASKS)
def test_a_file_resolves_to_the_settings_of_its_row(task, row):
    found = setting_flags.read([f"--flagfile={FOLDER / task / f'{row}.flags'}"])
    assert (found.task.value, found.data_dir.value, found.preset.value) == (task, f"tfrecords/{task}", "paper")
    assert found.given.items() >= ROWS[row].items()
    settings = resolve("paper", found.given)
    assert settings.row == row
    if isinstance(settings, TrainingSettings):
        assert settings.batch_size == 256
    if isinstance(settings, GroupwiseSettings):
        phases = settings.mle_steps + settings.contrast_middle + 2 * settings.contrast_width
        assert phases < STEPS[task] * settings.epochs, "long enough for the contrast to take over"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.flags")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_opens_with_its_row_and_its_command(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    assert comments[0].startswith(("# Table ", "# control", "# Beyond the paper: "))
    assert comments[1] == f"# python -m hcl_tf.train --flagfile=experiments/{path.parent.name}/{path.name}"


@pytest.mark.slow
@pytest.mark.parametrize("budget", sorted((FOLDER / "budgets").iterdir()), ids=lambda path: path.name)
def test_a_budget_scales_every_row_of_its_task_down(budget, monkeypatch):
    """Its own files are of rows that there are, and each row resolves under it, whether or not the row uses all that it gives."""
    monkeypatch.chdir(FOLDER.parent)
    task = budget.name.partition("-")[0]
    series = Series(
        task, "small", Path("experiments") / task, Path(f"tfrecords/{task}"), budget, None, Path("runs"), Path("out"), Path("claims")
    )
    assert {path.stem for path in budget.glob("*.flags")} <= {Path(FOR_ALL).stem, *ROWS}
    series.check_budget()
    for row in ROWS:
        found = series.settings(row)
        assert found["preset"] == "small"
        if "max_steps" in found:
            assert 0 < found["max_steps"] <= 1000


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_makefile_makes_what_plans_need_by_commands_that_can_be(tmp_path):
    """Each of its commands is read by the real flags, in an empty folder, where nothing is made yet."""
    plans = [read(path) for path in FOLDER.glob("*/plan.yaml")]
    data = {str(stage.data) for plan in plans for stage in plan.stages}
    named = [path.read_text(encoding="utf-8") for plan in plans for path in plan.path.parent.glob("*/*.flags")]
    weights = {found for text in named for found in re.findall(r"^--(?:encoder|pretrained)=(weights/\S+)", text, re.MULTILINE)}
    wanted = [*sorted(data), *sorted(weights), "trials", "choices"]
    command = ["make", "--dry-run", f"--file={FOLDER / 'Makefile'}", *wanted]
    # `make test` runs this too, and a make below another writes lines of its own.
    alone = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    made = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    commands = [shlex.split(line) for line in made.stdout.replace("\\\n", " ").splitlines() if " -m hcl_tf." in line]
    assert len(commands) == len({tuple(command) for command in commands}) == len(made.stdout.replace("\\\n", " ").splitlines())
    assert weights == {f"weights/{Path(word).stem}" for words in commands for word in words if "/pretraining/weights/" in word}
    assert data < {word.removeprefix("--out=") for words in commands for word in words}
    for _, _, module, *given in commands:
        entry_point(module.removeprefix("hcl_tf."))
        with flagsaver.flagsaver():
            assert flags.FLAGS([module, *given]) == [module], given
        if module == "hcl_tf.tune":
            found = setting_flags.read(
                [flag for flag in given if not flag.startswith(("--study=", "--trials=", "--sampler=", "--try_given="))]
            )
            tried = {name for flag in given if flag.startswith("--try_given=") for name in flag.partition("=")[2].split(",")}
            settings = resolve(found.preset.value, found.given)  # no flag that its system does not have
            assert tried <= settings.search_space(set(found.given) - tried).keys(), given
            assert settings.search_space(set(found.given) - tried), given
