"""Exit codes and messages that all command lines share."""

import os
import sys
import warnings

import pytest
from absl import flags, logging
from absl.testing import flagsaver

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
    assert "no_such_flag" in capsys.readouterr().err


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
