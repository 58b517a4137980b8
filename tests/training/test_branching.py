"""Runs that begin with another run's weights: what they take bit for bit, what starts anew, and that they need the trunk no more."""

import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from conftest import fresh_copy

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.models.registry import resolve, used
from hcl_tf.training import assembly, branching, checkpoints, loop
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import Run, load_run
from hcl_tf.training.trained_run import TrainedRun
from hcl_tf.training.trunk import BEGINNING

SMALL = {
    "encoder": "random:2x16", "decoder_layers": 1, "latent_size": 5, "latent_hidden": 8, "batch_size": 16, "max_steps": 4, "log_every": 1,
    "validate_every": 2, "warmup_steps": 3, "learning_rate": 0.01, "refresh_graph_every": 0, "output_vocab": "train", "beams": 2,
    "maximum_length": 5, "kl_ramp": 8, "checkpoint_every": 2, "validate_examples": 16,
}  # fmt: skip


def trained(data: Path, folder: Path, model: str = "bert_gen", **given) -> Run:
    """A run of four steps, which decodes nothing at its end."""
    with mock.patch("hcl_tf.training.launch._look", lambda run, *_: run.finish({"ended": "steps"})):
        launch("qqp", data, str(folder), "tiny", {**used(model, SMALL), **given, "model": model}, ["test"])
    return load_run(folder)


@pytest.fixture(scope="module")
def source(qqp_folder, tmp_path_factory) -> Run:
    return trained(qqp_folder, tmp_path_factory.mktemp("runs") / "trunk")


@pytest.fixture(scope="module")
def arm(qqp_folder, source, tmp_path_factory) -> Run:
    """The same settings, but for the weights that it begins with."""
    return trained(qqp_folder, tmp_path_factory.mktemp("runs") / "arm", init_from=str(source.path))


@pytest.fixture(scope="module")
def hcl_source(qqp_folder, tmp_path_factory) -> Run:
    """One with features of the keyword graph's nodes."""
    return trained(qqp_folder, tmp_path_factory.mktemp("runs") / "hcl", "hcl")


def weights(run: Run, name: str = "best_loss") -> dict[str, np.ndarray]:
    return {path: array for path, array in run.checkpoints.read(name).arrays.items() if path.startswith("model/")}


def validation(run: Run, step: int) -> dict:
    return next(line for line in run.read_metrics() if line["kind"] == "validation" and line["step"] == step)


def check_beginning(source: Run, arm: Run, data: Path) -> None:
    """Every variable bit for bit, and the validation before training is the trunk's at that checkpoint."""
    wanted = weights(source)
    assert wanted.keys() == weights(arm, BEGINNING).keys()
    beginning = checkpoints.variables_of(assembly.variables(TrainedRun(arm.path, data_dir=data).beginning))
    for path, array in wanted.items():
        np.testing.assert_array_equal(weights(arm, BEGINNING)[path], array, err_msg=path)
        np.testing.assert_array_equal(beginning[path], array, err_msg=path)
    there, here = validation(source, source.checkpoints.read("best_loss").step), validation(arm, 0)
    shared = [name for name, value in there.items() if name in here and isinstance(value, float) and "grad_norm" not in name]
    assert {"loss", "nll"} <= set(shared)
    assert {name: here[name] for name in shared} == {name: there[name] for name in shared}


@pytest.mark.slow
def test_an_arm_begins_with_the_trunk_s_bits(source, arm, qqp_folder):
    check_beginning(source, arm, qqp_folder)


@pytest.mark.slow
def test_hcl_begins_with_the_trunk_s_node_features_too(hcl_source, qqp_folder, tmp_path):
    arm = trained(qqp_folder, tmp_path / "arm", "hcl", init_from=str(hcl_source.path), max_steps=1)
    check_beginning(hcl_source, arm, qqp_folder)
    first, other = (next(line for line in run.read_metrics() if line["kind"] == "train") for run in (arm, hcl_source))
    assert first["kl_weight"] == other["kl_weight"], "the ramp starts anew"


@pytest.mark.slow
def test_optimiser_and_schedules_start_anew(source, arm):
    """Warm-up and ramp of the first step are those of any run, and Adam has taken as many steps as the arm."""
    first, other = (next(line for line in run.read_metrics() if line["kind"] == "train") for run in (arm, source))
    for name in ("learning_rate_rest", "learning_rate_encoder", "step", "epoch"):
        assert first[name] == other[name]
    assert first["objective"] != other["objective"]
    state = arm.checkpoints.newest().arrays
    assert [int(value) for name, value in state.items() if name.startswith("optimizer/") and value.dtype == np.int64] == [4, 4]
    assert not any(name.startswith("optimizer/") for name in arm.checkpoints.read(BEGINNING).arrays)


@pytest.mark.slow
def test_the_record_says_what_it_was(source, arm):
    recorded, saved = arm.config["init_from"], source.checkpoints.read("best_loss")
    assert recorded == {
        "run": "trunk", "model": "bert_gen", "checkpoint": "best_loss", "step": saved.step, "sha256": saved.digest,
        "taken": len(weights(source)), "left": {}, "anew": [],
    }  # fmt: skip
    assert "init_from" not in source.config
    assert arm.config["settings"]["init_from"] == str(source.path)


@pytest.mark.slow
def test_another_checkpoint(source, qqp_folder, tmp_path):
    run = trained(qqp_folder, tmp_path / "arm", init_from=str(source.path), init_checkpoint="step-00000004", max_steps=1)
    newest = source.checkpoints.newest()
    assert run.config["init_from"]["step"] == 4
    for path, array in weights(run, BEGINNING).items():
        np.testing.assert_array_equal(array, newest.arrays[path], err_msg=path)
    with pytest.raises(UserError, match="no checkpoint 'best_bleu'; there are: best_loss, best_nll, step-"):
        trained(qqp_folder, tmp_path / "other", init_from=str(source.path), init_checkpoint="best_bleu")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_what_the_trunk_lacks_starts_as_it_would_and_both_sides_are_said(hcl_source, qqp_folder, tmp_path, capsys):
    """A decoder with another block and a latent of another size."""
    other = {"decoder_layers": 2, "latent_size": 6, "max_steps": 1}
    run = trained(qqp_folder, tmp_path / "arm", "hcl", init_from=str(hcl_source.path), **other)
    said, recorded = capsys.readouterr().out, run.config["init_from"]
    assert "not taken: model/" in said
    assert "starting as they would: model/" in said
    assert any("[16, 5] there, [16, 6] here" in why for why in recorded["left"].values())
    plain = trained(qqp_folder, tmp_path / "plain", "hcl", **other)
    begun, anew = (TrainedRun(one.path, data_dir=qqp_folder).beginning for one in (run, plain))
    begun, anew = (checkpoints.variables_of(assembly.variables(system)) for system in (begun, anew))
    theirs = weights(hcl_source)
    assert set(recorded["anew"]) == {path for path in begun if path not in theirs or theirs[path].shape != begun[path].shape}
    for path, value in begun.items():
        if "node_states" not in path:  # computed of the others
            np.testing.assert_array_equal(value, anew[path] if path in recorded["anew"] else theirs[path], err_msg=path)


@pytest.mark.slow
def test_upper_layers_from_a_trunk_whose_table_is_tied(source, qqp_folder, tmp_path):
    """The decoder goes on with the rows it knows, in a table of its own."""
    run = trained(qqp_folder, tmp_path / "arm", init_from=str(source.path), trainable_layers=1, max_steps=2)
    begun = TrainedRun(run.path, data_dir=qqp_folder).beginning
    table = next(array for path, array in weights(source).items() if path.endswith("bert._embedding_layer.embeddings"))
    np.testing.assert_array_equal(begun.tokens.own, table[begun.inputs_.output_ids])
    step = source.checkpoints.read("best_loss").step
    assert validation(run, 0)["nll"] == pytest.approx(validation(source, step)["nll"], rel=1e-6), "the same model in another form"
    for path, array in weights(run, "step-00000002").items():
        if path.startswith("model/encoder") and "_transformer_layers.1." not in path:
            np.testing.assert_array_equal(array, weights(source)[path], err_msg=path)


@pytest.mark.slow
def test_one_system_from_another(source, qqp_folder, tmp_path):
    """bert_gen is hcl's body, whose latent variable starts as it would."""
    run = trained(qqp_folder, tmp_path / "arm", "hcl", init_from=str(source.path), max_steps=1)
    assert run.config["init_from"]["left"] == {}
    assert run.config["init_from"]["taken"] == len(weights(source))
    assert any(path.startswith("model/prior") for path in run.config["init_from"]["anew"])


class Killed(BaseException):
    """Nothing catches it."""


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3])
def test_it_goes_on_without_the_trunk(source, arm, qqp_folder, tmp_path, at):
    """Killed before and after the first checkpoint, and the trunk is gone."""
    place = Path(shutil.copytree(source.path, tmp_path / "trunk"))
    log = loop.Loop._log

    def die(self, scalars):
        log(self, scalars)
        if self.at.step == at:
            raise Killed

    with mock.patch.object(loop.Loop, "_log", die), pytest.raises(Killed):
        trained(qqp_folder, tmp_path / "stopped", init_from=str(place))
    shutil.rmtree(place)
    run = trained(qqp_folder, tmp_path / "stopped", init_from=str(place))
    assert run.read_metrics() == arm.read_metrics()
    for name, value in arm.checkpoints.newest().arrays.items():
        np.testing.assert_array_equal(run.checkpoints.newest().arrays[name], value, err_msg=name)
    with pytest.raises(UserError, match="init_from was"):
        trained(qqp_folder, tmp_path / "stopped", init_from=str(source.path))


@pytest.mark.slow
def test_a_trunk_that_changed_before_it_was_kept_is_refused(source, qqp_folder, tmp_path):
    place = Path(shutil.copytree(source.path, tmp_path / "trunk"))
    with mock.patch("hcl_tf.training.trunk.Trunk.keep", side_effect=Killed), pytest.raises(Killed):
        trained(qqp_folder, tmp_path / "arm", init_from=str(place))
    saved = Run(place, {}).checkpoints
    found = saved.read("best_loss")
    saved.save_best("best_loss", 9, {name: array + 1 if "decoder" in name else array for name, array in found.arrays.items()}, found.state)
    with pytest.raises(UserError, match=r"begun from trunk at SHA-256 .* which is now .* restore that checkpoint"):
        trained(qqp_folder, tmp_path / "arm", init_from=str(place))
    shutil.rmtree(place)
    shutil.copytree(source.path, place)
    assert trained(qqp_folder, tmp_path / "arm", init_from=str(place)).finished


@pytest.mark.slow
def test_features_of_another_graph_are_computed_anew(hcl_source, qqp_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(branching, "_other_graph", lambda *_: True)
    run = trained(qqp_folder, tmp_path / "arm", "hcl", init_from=str(hcl_source.path), max_steps=1)
    left = run.config["init_from"]["left"]
    assert {path.rpartition("/")[2] for path in left} == {"node_features", "node_states", "text_mean", "text_scale"}
    begun = TrainedRun(run.path, data_dir=qqp_folder).beginning
    assert not np.array_equal(begun.node_features, weights(hcl_source)["model/node_features"])
    assert float(tf.reduce_max(abs(begun.node_features))) > 0


@pytest.mark.slow
def test_two_devices_and_micro_batches_take_the_same_steps(source, qqp_folder, tmp_path):
    """From the trunk's weights, with upper layers trained from cached states; in a process of its own, whose CPU is split."""
    given = {"init_from": str(source.path), "trainable_layers": 1, "max_steps": 2}
    plain = trained(qqp_folder, tmp_path / "plain", **given)
    more = {"strategy": "mirrored", "logical_cpus": 2, "micro_batch": 4, "model": "bert_gen"}
    flags = [f"--{name}={value}" for name, value in {**used("bert_gen", SMALL), **given, **more}.items()]
    where = ["--task=qqp", "--preset=tiny", f"--data_dir={qqp_folder}", f"--run_dir={tmp_path / 'two'}"]
    subprocess.run([sys.executable, "-m", "hcl_tf.train", *where, *flags], check=True, capture_output=True)
    for ours, theirs in zip(load_run(tmp_path / "two").read_metrics(), plain.read_metrics(), strict=True):
        for name, value in theirs.items():
            if isinstance(value, float) and "grad_norm_" not in name:  # those are of one micro-batch
                assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"encoder": "random:3x16"}, r'its encoder is \{.*"layers": 2.*\}, this run.s is \{.*"layers": 3.*give --encoder=random:2x16'),
        (
            {"output_vocab": "full"},
            r"its outputs are of [\d,]+ pieces \(--output_vocab=train\), this run's of 2,000.*--output_vocab",
        ),
        ({"model": "t5", "encoder": "random:2x16"}, "none of the weights of this bert_gen fits --model=t5; give another"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_both_and_the_remedy(source, qqp_folder, tmp_path, given, said):
    with pytest.raises(UserError, match=f"--init_from={source.path}: {said}"):
        trained(qqp_folder, tmp_path / "arm", init_from=str(source.path), **given)
    assert not (tmp_path / "arm").exists()


@pytest.mark.slow
def test_another_vocabulary_is_refused(source, qqp_folder, tmp_path):
    folder = fresh_copy(qqp_folder, tmp_path / "data")
    data = PreparedData(folder)
    data.tokenizer = mock.Mock(wraps=data.tokenizer, vocabulary=lambda: ["other"])
    with pytest.raises(UserError, match=r"its vocabulary \(2,000 pieces\) is not that of .*data .*--vocab=.*trunk/data/vocab.txt"):
        branching._check_fits(source.path, TrainedRun(source.path), TrainedRun(source.path).inputs, data)


@pytest.mark.slow
def test_no_run_and_the_own_folder_are_refused(source, qqp_folder, tmp_path):
    with pytest.raises(UserError, match=r"--init_from=.*nowhere: no run there"):
        trained(qqp_folder, tmp_path / "arm", init_from=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"the run's own folder; choose another --run_dir"):
        trained(qqp_folder, source.path, init_from=str(source.path))
    with pytest.raises(UserError, match=r"--init_checkpoint=best_nll is one of --init_from, which is not given"):
        resolve("tiny", {"init_checkpoint": "best_nll"})
