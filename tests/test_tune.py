"""python -m hcl_tf.tune: what it refuses before anything is written."""

import pytest
from commands import command_in


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--study is needed"),
        (("--study=s",), "--task is needed"),
        (("--study=s", "--task=qqp", "--run_dir=r"), "--run_dir: each trial has its own"),
        (("--study=s", "--task=qqp", "--model=copy"), "every setting that would be tried was given"),
        (("--study=s", "--task=qqp", "--model=bert_gen", "--try_given=bag_of_words"), "--try_given=bag_of_words: nothing is tried of it"),
        (("--study=s", "--task=qqp", "--model=bert_gen", "--weight_ins=2"), "--weight_ins: --model=bert_gen does not use it"),
    ],
)
def test_impossible_flags_are_refused_before_anything_is_written(monkeypatch, capsys, tmp_path, flags, said):
    found = command_in(tmp_path, "tune", monkeypatch, capsys)(*flags)
    assert found.returncode == 1
    assert said in found.stderr
    assert found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
