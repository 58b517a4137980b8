"""What is recorded of the machine that a run was computed on."""

import json
import re
import subprocess

import hcl_tf
from hcl_tf.training import environment
from hcl_tf.training.environment import describe_environment


def test_the_environment_says_what_matters_and_no_names(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = describe_environment()
    assert found["packages"]["tensorflow"].startswith("2.")
    assert found["arithmetic"] == hcl_tf.ARITHMETIC
    assert found["packages"]["hcl_tf"] == hcl_tf.__version__
    assert found["cpu"]["cores"] >= found["cpu"]["cores_usable"] >= 1
    assert found["memory_gib"] > 0.1
    assert found["variables"]["OMP_NUM_THREADS"] == "1"
    assert isinstance(found["gpus"], list)
    assert not re.search(r"(^|[\s\"])/\w", json.dumps(found))  # no path, which could hold a user's name
    assert set(found) == {"python", "platform", "cpu", "memory_gib", "gpus", "packages", "variables", "commit", "arithmetic"}


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    assert describe_environment()["packages"]["no-such-package"] is None


def test_the_commit_of_a_checkout_and_whether_it_is_clean(tmp_path):
    def git(*words: str) -> str:
        options = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        return subprocess.run(["git", "-C", str(tmp_path), *options, *words], check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "inner").mkdir()
    (tmp_path / "hcl_tf").mkdir()
    (tmp_path / "experiments" / "reports").mkdir(parents=True)
    git("init")
    assert environment._commit(tmp_path) is None  # no commit yet
    (tmp_path / "hcl_tf" / "code.py").write_text("x")
    git("add", "hcl_tf")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert environment._commit(tmp_path) == {"id": commit, "dirty": False}
    assert environment._commit(tmp_path / "inner") is None  # installed inside somebody else's checkout
    for name in ("pairs.jsonl", "experiments/reports/row.json"):
        (tmp_path / name).write_text("{}")
    assert environment._commit(tmp_path) == {"id": commit, "dirty": False}, "data and results beside the code change no training"
    for name in ("hcl_tf/code.py", "hcl_tf/new.py", "experiments/all.flags"):
        (tmp_path / name).write_text("y")
        assert environment._commit(tmp_path) == {"id": commit, "dirty": True}, name
        git("add", ".")
        git("commit", "-m", name)
        commit = git("rev-parse", "HEAD")
