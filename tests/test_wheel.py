"""What pip installs: every file that the package needs, commands that start it, and one line where the repository is needed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import command_in

from hcl_tf import console
from hcl_tf.reporting import claims

ROOT = Path(__file__).parents[1]
SCRIPTS = dict(re.findall(r'^hcl-(\w+) = "hcl_tf\.console:(\w+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))
CLONE = "; experiments/ is part of the repository and not of the installed package, so start in a clone of it"


def build(kind: str, source: Path, out: Path) -> Path:
    """Builds a wheel or an sdist as `python -m build` does, but with the setuptools that is installed here. Nothing is downloaded."""
    program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    made = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return out / made.stdout.splitlines()[-1]


def in_package(folder: Path) -> set[str]:
    """The files of the package in a folder, but for what Python and editors leave."""
    files = [path for path in (folder / "hcl_tf").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix() for path in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is built from, in which building may leave its files."""
    folder = tmp_path_factory.mktemp("source") / "copy"
    shutil.copytree(ROOT / "hcl_tf", folder / "hcl_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_a_wheel_by_way_of_the_sdist_has_every_file_and_all_metadata(source, tmp_path):
    with tarfile.open(build("sdist", source, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path.parent for path in tmp_path.glob("*/pyproject.toml"))
    with zipfile.ZipFile(build("wheel", unpacked, tmp_path)) as wheel:
        names = set(wheel.namelist())
        (about,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        metadata, entries = (wheel.read(f"{about}/{name}").decode() for name in ("METADATA", "entry_points.txt"))
    assert {name for name in names if not name.startswith(about)} == in_package(source)
    assert {"hcl_tf/data/samples/qqp.jsonl", "hcl_tf/data/samples/grammars/qqp.yaml", "hcl_tf/reporting/templates/report.html"} <= names
    assert f"{about}/licenses/LICENSE" in names
    assert dict(re.findall(r"^hcl-(\w+) = hcl_tf\.console:(\w+)$", entries, re.MULTILINE)) == SCRIPTS
    wanted = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    required = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert required == [re.match(r"[\w.-]+", line)[0] for line in wanted]
    assert "License-Expression: MIT\n" in metadata
    assert metadata.endswith((ROOT / "README.md").read_text(encoding="utf-8"))


def test_every_command_has_a_program_that_runs_its_module():
    commands = {path.stem for path in (ROOT / "hcl_tf").glob("*.py") if "\n    cli.run(main" in path.read_text(encoding="utf-8")}
    assert {name: name for name in commands} == SCRIPTS
    for name in SCRIPTS:
        program = getattr(console, name)
        assert callable(program)
        assert program.args == (f"hcl_tf.{name}",)
        assert importlib.util.find_spec(program.args[0])


@pytest.mark.parametrize("arguments", [["--help"], ["--task=nothing"], ["stray"]], ids=lambda arguments: arguments[0])
def test_a_program_does_what_python_m_does(tmp_path, arguments):
    def said(*program: str) -> tuple[int, str, str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    (script := tmp_path / "hcl-prepare").write_text("import sys\nfrom hcl_tf.console import prepare\nsys.exit(prepare())\n")  # pip's own
    found = said(str(script))
    assert found == said("-m", "hcl_tf.prepare")
    assert "--[no]overwrite" in found[1] or found[2].count("\n") == 1


@pytest.mark.parametrize(
    ("command", "flags", "says"),
    [
        (
            "train",
            ["--flagfile=experiments/qqp/hcl.flags"],
            "--flagfile=experiments/qqp/hcl.flags: can't be read (No such file or directory)",
        ),
        ("reproduce", ["--task=qqp"], "experiments/qqp: no <row>.flags there"),
        ("reproduce", ["--plan=experiments/choices/plan.yaml"], "--plan=experiments/choices/plan.yaml: can't be read (No such file or"),
        ("reproduce", ["--plan=experiments/evidence/plan.yaml", "--list"], "--plan=experiments/evidence/plan.yaml: can't be read"),
        ("report", ["--task=qqp"], "--claims=experiments/paper_claims.yaml: can't be read (No such file or directory)"),
        ("report", ["--all"], "--claims=experiments/paper_claims.yaml: can't be read (No such file or directory)"),
        ("report", ["--plan=experiments/choices/plan.yaml"], "--plan=experiments/choices/plan.yaml: can't be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_what_needs_the_repository_says_so_where_there_is_none(tmp_path, monkeypatch, capsys, command, flags, says):
    monkeypatch.setattr(claims, "__file__", str(tmp_path / "lib" / "hcl_tf" / "reporting" / "claims.py"))  # as in an installed package
    done = command_in(tmp_path, command, monkeypatch, capsys)(*flags)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {says}")
    assert done.stderr.endswith(f"{CLONE}\n")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_missing_flag_file_is_no_matter_of_the_repository(tmp_path, monkeypatch, capsys):
    done = command_in(tmp_path, "train", monkeypatch, capsys)("--flagfile=mine.flags")
    assert (done.returncode, done.stderr) == (
        1,
        "error: --flagfile=mine.flags: can't be read (No such file or directory); check its name\n",
    )
