"""What --dry_run says, against the run's own numbers; and that it leaves nothing behind."""

import re

import pytest

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.training import dry_run as module
from hcl_tf.training.dry_run import dry_run

GIVEN = {"model": "bert_gen", "encoder": "random:1x32", "decoder_layers": 1, "batch_size": 8, "epochs": 3, "validate_every": 0}


def said(qqp_folder, **more) -> str:
    return "\n".join(dry_run("qqp", qqp_folder, "tiny", GIVEN | more))


@pytest.mark.slow
def test_steps_hours_and_memory(qqp_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = said(qqp_folder)
    per_epoch = -(-len(PreparedData(qqp_folder).arrays("train")) // 8)
    assert f"steps: {3 * per_epoch} (3.0 epochs of {per_epoch} batches of 8)" in text
    assert "validations: 4 of " in text
    seconds, rate = map(float, re.search(r"a step: ([\d.e-]+) s, ([\d.]+) examples/s", text).groups())
    assert rate == pytest.approx(8 / seconds, rel=0.02)
    hours, share = re.search(r"about ([\d.e-]+) hours, (\d+)% of them validation", text).groups()
    assert float(hours) * 3600 * (1 - int(share) / 100) == pytest.approx(3 * per_epoch * seconds, rel=0.3)
    assert re.search(r"memory: \d+\.\d GiB with 8 rows at once, of \d+\.\d GiB that are free on this machine", text)
    assert re.search(r"with --micro_batch: 4 \d+\.\d GiB, 2 \d+\.\d GiB, 1 \d+\.\d GiB", text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_machine_that_is_too_small_gets_the_largest_micro_batch_that_fits(qqp_folder, monkeypatch):
    measured = {1: 3 * 2**30, 8: 10 * 2**30}  # 1 GiB a row and 2 GiB besides
    monkeypatch.setattr(module, "_memory_of", lambda _loop, _batches, size: measured[size])
    monkeypatch.setattr(module, "_free", lambda: 7 * 2**30)
    assert "give --micro_batch=4 (about 6.0 GiB)" in said(qqp_folder)
    monkeypatch.setattr(module, "_free", lambda: 2**30)
    assert "no micro-batch fits" in said(qqp_folder)


@pytest.mark.slow
def test_a_limit_of_steps_counts(qqp_folder):
    assert "steps: 5 (0." in said(qqp_folder, max_steps=5)


def test_nothing_to_train_is_refused(qqp_folder):
    with pytest.raises(UserError, match="copy has nothing to train; drop --dry_run"):
        dry_run("qqp", qqp_folder, "tiny", {"model": "copy"})
