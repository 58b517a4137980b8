"""python -m hcl_tf.tune: what it refuses before anything is written."""

import sys

import pytest
from absl.testing import flagsaver
from conftest import entry_point

from hcl_tf import cli


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--study is needed"),
        (("--study=s",), "--task is needed"),
        (("--study=s", "--task=qqp", "--run_dir=r"), "--run_dir: each trial has its own"),
        (("--study=s", "--task=qqp", "--model=copy"), "every setting that would be tried was given"),
        (("--study=s", "--task=qqp", "--model=bert_gen", "--weight_ins=2"), "--weight_ins: --model=bert_gen does not use it"),
    ],
)
def test_impossible_flags_are_refused_before_anything_is_written(monkeypatch, capsys, tmp_path, flags, said):
    program = entry_point("tune")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hcl_tf.tune", *flags])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        cli.run(program.main)
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
