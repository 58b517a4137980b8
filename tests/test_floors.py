"""The floors of the package (pyproject.toml, importlinter): nothing imports upward, and a planted import that does is found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess:
    """What import-linter says of the copy of the package in a folder."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and of the contracts."""
    shutil.copytree(ROOT / "hcl_tf", tmp_path / "hcl_tf", ignore=shutil.ignore_patterns("__pycache__", "samples"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_no_two_test_modules_have_one_name():
    """Pytest imports them by name, and refuses the second only where one process meets both."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_import_goes_upward_or_round():
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "line", "named"),
    [
        ("data/store/tfrecords.py", "from hcl_tf.metrics import bleu", "hcl_tf.data is not allowed to import hcl_tf.metrics"),
        ("layers/noise.py", "def late():\n    from hcl_tf.decoding import top_k", "hcl_tf.layers is not allowed to import hcl_tf.decoding"),
        (
            "data/corpora/splits.py",
            "from hcl_tf.data.store import tfrecords",
            "hcl_tf.data.corpora is not allowed to import hcl_tf.data.store",
        ),
        ("layers/noise.py", "from hcl_tf.layers import encoder", "No cycles are allowed in hcl_tf.layers"),
        ("settings.py", "from hcl_tf.layers import noise", "hcl_tf.settings is not allowed to import hcl_tf.layers"),
        ("new_room.py", "ROOM = 1", "hcl_tf.new_room"),
    ],
    ids=["upward", "upward in a function", "upward in the data", "circle", "settings", "a module on no floor"],
)
def test_a_planted_import_is_found(copy, place, line, named):
    file = copy / "hcl_tf" / place
    file.write_text((file.read_text(encoding="utf-8") if file.exists() else "") + f"\n\n{line}\n", encoding="utf-8")
    found = lint(copy)
    assert found.returncode == 1
    assert named in " ".join(found.stdout.split())
