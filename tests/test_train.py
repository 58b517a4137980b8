"""python -m hcl_tf.train: what it refuses before it writes, and what it makes."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from commands import command_in
from conftest import fresh_copy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hcl_tf
from hcl_tf.data.corpora import generated
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.base import Sum
from hcl_tf.models.hcl import HCL
from hcl_tf.training import launch
from hcl_tf.training.checkpoints import Checkpoints
from hcl_tf.training.run_folder import RunFolder, load_run

OLDER = Path(__file__).parent / "fixtures" / "637db7d" / "data"
SMALL = (
    "--encoder=random:1x32", "--decoder_layers=1", "--latent_size=8", "--latent_hidden=16", "--batch_size=16", "--max_steps=30",
    "--checkpoint_every=5", "--log_every=3", "--graph_fanout=4,2", "--graph_node_budget=512", "--maximum_length=5", "--beams=2",
)  # fmt: skip


@pytest.fixture
def run_here(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)  # it would stay on for other tests
    return command_in(tmp_path, "train", monkeypatch, capsys)


# -- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--task is needed"),
        (("--task=custom",), "--task=custom needs --data_dir"),
        (("--task=qqp", "--batch_size=0"), "--batch_size=0: at least 1"),
        (("--task=qqp", "--dropout=0.95"), "--dropout=0.95: at most 0.9"),
        (("--task=qqp", "--learning_rate=nan"), "--learning_rate=nan: a finite number"),
        (("--task=qqp", "--model=gpt5"), "--model=gpt5: there is no such system; there are: hcl"),
        (("--task=qqp", "--graph_fanout=8,0"), "--graph_fanout=8,0"),
        (("--task=qqp", "--micro_batch=5", "--batch_size=32"), "--micro_batch=5: --batch_size=32"),
        (("--task=qqp", "--in_batch_negatives", "--strategy=mirrored"), "--in_batch_negatives needs the whole batch"),
        (("--task=qqp", "--ablate=keyword", "--decoder_keyword"), "--ablate=keyword and --decoder_keyword"),
        (("--task=qqp", "--minimum_length=9", "--maximum_length=8"), "--minimum_length=9"),
        (("--task=qqp", "--model=transformer", "--latent_size=8"), "--latent_size: --model=transformer does not use it; hcl, bert_cvae, "),
        (("--task=qqp", "--model=copy", "--batch_size=8"), "--batch_size: --model=copy does not use it; hcl, "),
        (
            ("--task=qqp", "--model=bert_gen", "--claps_imposter_norm=2"),
            "--claps_impostor_norm: --model=bert_gen does not use it; claps would",
        ),
        (("--task=qqp", "--row=../../x"), "--row=../../x: it becomes a file's name"),
        (("--task=qqp", "extra"), "unexpected argument 'extra'"),
    ],
)
def test_impossible_flags_are_refused_before_anything_is_written(run_here, tmp_path, flags, said) -> None:
    result = run_here(*flags)
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--task=chess", "--task"), ("--preset=huge", "--preset"), ("--strategy=both", "--strategy"), ("--batch_sise=3", "batch_sise")],
)
def test_unknown_flags_and_values_are_refused(run_here, tmp_path, flag, said) -> None:
    result = run_here("--task=qqp", flag)
    assert result.returncode == 1
    assert said in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_flags_become_settings(monkeypatch, run_here, tmp_path) -> None:
    asked = []
    monkeypatch.setattr(launch, "launch", lambda *arguments: asked.append(arguments) or "steps")
    (tmp_path / "some.flags").write_text("--latent_size=8\n--nomixed_precision\n--weight_key=0.5\n")
    result = run_here("--task=rocstories", "--flagfile=some.flags", "--preset=small", "--data_dir=there", "--run_dir=here")
    assert result.returncode == 0
    ((task, data_dir, run_dir, preset, given, words, row),) = asked
    assert (task, data_dir, run_dir, preset, row) == ("rocstories", Path("there"), "here", "small", "some")
    assert given == {"latent_size": 8, "mixed_precision": False, "weight_key": 0.5}
    assert words[1:] == sys.argv[1:]


def test_a_flag_file_of_a_system_that_does_not_use_a_flag_is_refused(run_here, tmp_path) -> None:
    (tmp_path / "row.flags").write_text("--task=qqp\n--model=t5\n--freeze_encoder\n")
    result = run_here("--flagfile=row.flags")
    assert result.returncode == 1
    said = "error: --freeze_encoder: --model=t5 does not use it; hcl, bert_cvae, bert_cvae_ins, bert_gen, seq2seq_du would. Drop the flag\n"
    assert result.stderr == said
    assert [path.name for path in tmp_path.iterdir()] == ["row.flags"]


@pytest.mark.parametrize(
    ("words", "row"),
    [
        ((), None), (("--flagfile=a/hcl_in_batch.flags",), "hcl_in_batch"), (("--flagfile", "a/b.flags"), "b"), (("-flagfile=b",), "b"),
        (("--flagfile=a.flags", "--flagfile=b.flags"), "a"), (("--row=mine",), "mine"), (("--flagfile=a.flags", "--row=mine"), "mine"),
    ],
)  # fmt: skip
def test_a_row_is_named_by_its_flag_or_by_the_first_flag_file(monkeypatch, run_here, tmp_path, words, row) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/hcl_in_batch.flags", "a/b.flags", "a.flags", "b.flags", "b"):
        (tmp_path / name).write_text("--latent_size=8\n")
    asked = []
    monkeypatch.setattr(launch, "launch", lambda *arguments: asked.append(arguments[-1]) or "steps")
    assert run_here("--task=qqp", *words).returncode == 0
    assert asked == [row]


@pytest.mark.parametrize(
    ("given", "row", "recorded"),
    [({"ablate": "graph"}, None, "hcl_without_graph"), ({"model": "bert_gen"}, None, "bert_gen"), ({"ablate": "graph"}, "mine", "mine")],
)
def test_what_a_run_records_besides_its_settings(qqp_folder, given, row, recorded) -> None:
    data, settings, begun_with = launch.settle("qqp", qqp_folder, "tiny", given)
    config = launch.recorded_of("qqp", data, settings, begun_with, row)
    assert config == {
        "version": hcl_tf.__version__, "row": recorded, "task": "qqp", "settings": settings.to_dict(), "encoder": begun_with.note,
        "data": data.manifest["sha256"],
    }  # fmt: skip
    other = {**config, "version": "0.0.1", "row": "another", "settings": {**config["settings"], "mle_steps": 3}}
    assert launch.what_has_to_be_the_same(other) == launch.what_has_to_be_the_same(config)
    for name in ("task", "encoder", "data"):
        assert launch.what_has_to_be_the_same({**config, name: "another"}) != launch.what_has_to_be_the_same(config)
    assert launch.what_has_to_be_the_same({**config, "settings": {**config["settings"], "seed": 7}}) != launch.what_has_to_be_the_same(
        config
    )


@pytest.mark.parametrize(("why", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signals_exit_code(monkeypatch, run_here, why, code) -> None:
    def leave(number):
        raise SystemExit(number)

    monkeypatch.setattr(launch, "launch", lambda *_: why)
    monkeypatch.setattr(os, "_exit", leave)
    assert run_here("--task=qqp").returncode == code


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "runs/qqp/hcl-tiny-1"),
        ({"seed": 4, "ablate": "graph"}, "runs/qqp/hcl-without-graph-tiny-4"),
        ({"model": "bert_cvae"}, "runs/qqp/bert_cvae-tiny-1"),
    ],
)
def test_default_run_folder(given, name) -> None:
    assert launch.default_run_dir("qqp", registry.resolve("tiny", given)) == name


# -- starts that are refused ------------------------------------------------------------------------------------------


def test_data_of_another_task_is_refused(run_here, tmp_path, qqp_folder) -> None:
    result = run_here("--task=douban", f"--data_dir={qqp_folder}", "--run_dir=run")
    assert result.returncode == 1
    assert "prepared for qqp, not for --task=douban" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["missing folder", "train", "validation"])
@pytest.mark.parametrize("existed", [False, True])
def test_damaged_data_leave_no_run_folder(run_here, tmp_path, qqp_folder, harm, existed) -> None:
    folder = tmp_path / "data"
    if harm != "missing folder":
        shutil.copytree(qqp_folder, folder)
        (shard,) = folder.glob(f"{harm}-*.tfrecord")
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    if existed:
        (tmp_path / "run").mkdir()
    result = run_here("--task=qqp", f"--data_dir={folder}", "--run_dir=run", *SMALL)
    assert result.returncode == 1
    assert str(folder) in result.stderr
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "run").exists() == existed
    assert not existed or not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_training_says_where_its_negatives_come_from(run_here, tmp_path, qqp_folder) -> None:
    flags = ("--model=seq2seq", "--batch_size=16", "--max_steps=1", "--maximum_length=5", "--beams=1", "--encoder=random:1x16")
    said = run_here("--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=new", *flags).stdout
    assert "negatives in training: labelled 100.0%; 0.0% are another example's target" in said
    said = run_here("--task=qqp", f"--data_dir={fresh_copy(OLDER, tmp_path / 'data')}", "--run_dir=old", *flags).stdout
    assert "negatives in training: labelled 100.0%\n" in said


@pytest.mark.slow
def test_a_node_budget_that_is_too_small_leaves_no_run_folder(run_here, tmp_path, qqp_folder) -> None:
    """Found only when the sampler is made, after the run folder was opened."""
    result = run_here("--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL, "--graph_whole=0", "--graph_node_budget=3")
    assert result.returncode == 1
    assert "--graph_node_budget=3" in result.stderr
    assert not (tmp_path / "run").exists()


def test_batches_that_devices_cannot_share_are_refused(run_here, tmp_path, qqp_folder, monkeypatch) -> None:
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: SimpleNamespace(num_replicas_in_sync=3))
    result = run_here("--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL, "--strategy=mirrored")
    assert result.returncode == 1
    assert "--batch_size=16: no multiple of 3 devices" in result.stderr
    monkeypatch.delenv("TF_CONFIG", raising=False)
    result = run_here("--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL, "--strategy=multi_worker")
    assert "TF_CONFIG" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_of_other_settings_is_left_alone(run_here, tmp_path, qqp_folder) -> None:
    data = launch.PreparedData(qqp_folder)
    _, settings, begun_with = launch.settle("qqp", qqp_folder, "tiny", {"encoder": "random:1x32"})
    recorded = launch.recorded_of("qqp", data, settings, begun_with)
    RunFolder.open(tmp_path / "run", recorded, ["train"]).close()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*")}
    result = run_here("--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", "--preset=tiny", "--encoder=random:1x32", "--seed=2")
    assert result.returncode == 1
    assert "settings.seed was 1, now 2" in result.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*")} == before


def test_a_mistake_found_in_an_older_run_removes_nothing(tmp_path, qqp_folder, monkeypatch) -> None:
    """Only a folder that this very start has made goes away with it."""
    data = launch.PreparedData(qqp_folder)
    _, settings, begun_with = launch.settle("qqp", qqp_folder, "tiny", {"encoder": "random:1x32"})
    recorded = launch.recorded_of("qqp", data, settings, begun_with)
    RunFolder.open(tmp_path / "run", recorded, ["train"]).close()

    def refuse(*_):
        raise UserError("something is wrong")

    monkeypatch.setattr(launch, "assemble", refuse)
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    with pytest.raises(UserError, match="something is wrong"):
        launch.launch("qqp", qqp_folder, str(tmp_path / "run"), "tiny", {"encoder": "random:1x32"}, ["train"])
    assert (tmp_path / "run" / "config.json").exists()


# -- a run ------------------------------------------------------------------------------------------------------------

TAGS = {
    *(f"train/{name}" for name in ("nll", "nll_token", "kl", "kl_objective", "kl_weight", "ins", "key", "ma", "objective", "grad_norm")),
    *(f"train/{name}" for name in ("order_ins", "order_key", "order_ma", "impostor_cosine", "learning_rate_rest", "learning_rate_encoder")),
    *(f"validation/{name}" for name in ("loss", "nll", "kl", "ins", "key", "ma")),
    "examined/active_units", "speed/examples_per_second", "samples", "kl_by_dimension",
}  # fmt: skip


@pytest.mark.slow
def test_one_command_in_an_empty_folder_generates_a_sample_and_trains(tmp_path, run_here, monkeypatch) -> None:
    monkeypatch.setattr(generated, "GROUPS", {"train": 5, "validation": 1, "test": 1})
    flags = [flag for flag in SMALL if not flag.startswith(("--max_steps", "--log_every"))]
    result = run_here("--task=douban", *flags, "--max_steps=4", "--log_every=2")
    assert result.returncode == 0, result.stderr
    assert "generating a sample of some 3,000 examples (for some 430 hand-written ones: python -m hcl_tf.prepare" in result.stdout
    assert "data: tfrecords/douban, 120 GENERATED training examples (grammar douban.yaml, seed 1)" in result.stdout
    assert (tmp_path / "tfrecords" / "douban-generated" / "train.jsonl").read_text(encoding="utf-8").count("\n") == 120
    shown = re.search(r"^  (.+) / (.+) => .+$", result.stdout, re.M)  # a validation example and its output, at the last validation
    assert shown[1] in (tmp_path / "tfrecords" / "douban-generated" / "validation.jsonl").read_text(encoding="utf-8")
    assert "validation outputs:" in result.stdout
    assert "ended by steps" in result.stdout
    assert (tmp_path / "tfrecords" / "douban" / "manifest.json").is_file()
    path = tmp_path / "runs" / "douban" / "hcl-tiny-1"
    finished = load_run(path)
    assert (finished.finished["ended"], finished.finished["step"]) == ("steps", 4)
    assert (finished.config["version"], finished.config["row"]) == (hcl_tf.__version__, "hcl")
    assert finished.environment["arithmetic"] == hcl_tf.ARITHMETIC
    assert [(line["kind"], line["step"]) for line in finished.read_metrics()] == [
        ("validation", 0), ("train", 2), ("train", 4), ("validation", 4),
    ]  # fmt: skip
    assert {"vocab.txt", "graph", "manifest.json"} <= {each.name for each in (path / "data").iterdir()}
    samples = (path / "samples.md").read_text()
    assert len(re.findall(r"^\| ", samples, re.M)) == 2 + 8
    assert "| source | keywords | reference | output |" in samples

    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert set(events.Tags()["tensors"]) >= TAGS
    text = tf.make_ndarray(events.Tensors("samples")[-1].tensor_proto).item().decode()
    keywords = next(keywords_of(tmp_path / "tfrecords" / "douban"))
    assert keywords in text.replace("\\", "")
    assert "_hparams_/session_start_info" in {*events.Tags()["tensors"]} | set(events.summary_metadata)

    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    again = run_here("--task=douban", *flags, "--max_steps=4", "--log_every=2")
    assert again.returncode == 0
    assert "this run is finished" in again.stdout
    changed = {each.name for each, data in before.items() if each.read_bytes() != data}
    assert changed <= {"command.txt", "environment.json"}


def keywords_of(folder: Path):
    """The keywords of each validation example that has some."""
    for record in launch.PreparedData(folder).records("validation"):
        if record.source.keywords:
            yield ", ".join(keyword.text for keyword in record.source.keywords)


@pytest.mark.slow
def test_a_loss_that_is_none_ends_the_command_with_term_and_step(run_here, qqp_folder, tmp_path, monkeypatch) -> None:
    original = HCL.losses

    def losses(self, batch, step, noise, training):
        sums = original(self, batch, step, noise, training)
        return sums | {"ma": Sum(tf.where(tf.equal(step, 6), float("nan"), sums["ma"].value), sums["ma"].per)}

    monkeypatch.setattr(HCL, "losses", losses)
    result = run_here("--task=qqp", f"--data_dir={qqp_folder}", "--run_dir=run", *SMALL)
    assert result.returncode == 1
    assert "error: step 7: ma is nan; the checkpoint of step 5 is kept; " in result.stderr
    assert not (tmp_path / "run" / "done.json").exists()
    assert not list((tmp_path / "run").rglob("*partial*"))
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert newest.step == 5
    assert all(np.isfinite(array).all() for array in newest.arrays.values())
