"""The door to a trained run: its folder alone gives the system back, and what it lacks is named."""

import numpy as np
import pytest
import tensorflow as tf
from toy_system import read

from hcl_tf.errors import UserError
from hcl_tf.models.registry import resolve
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.initialization import initialize
from hcl_tf.training.run_folder import RunFolder
from hcl_tf.training.trained_run import TrainedRun, data_of
from hcl_tf.training.validation import Validation

SMALL = {"encoder": "random:1x16", "decoder_layers": 1, "latent_size": 4, "latent_hidden": 8, "batch_size": 8, "output_vocab": "train"}


@pytest.fixture(scope="module")
def trained(qqp_folder, tmp_path_factory):
    """A run folder with a checkpoint of weights unlike the starting ones, and the validation losses of the system in it."""
    path = tmp_path_factory.mktemp("runs") / "run"
    data, train, held_out = read(qqp_folder)
    settings, encoder = initialize(resolve("tiny", SMALL), data, SMALL)
    inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, train, "train"))
    system, lines = assembly.new_system(settings, inputs, encoder)
    assert lines == []
    for number, variable in enumerate(system.variables):
        variable.assign_add(0.05 * tf.random.stateless_normal(variable.shape, (number, 1)))
    system.before_inference()
    config = {"task": "qqp", "settings": settings.to_dict(), "encoder": encoder.note, "data": data.manifest["sha256"]}
    with RunFolder.open(path, config, ["train"]) as run:
        assembly.store_inputs(run, data, inputs)
        saved = checkpoints.variables_of(assembly.variables(system))
        run.checkpoints.save_best("best_loss", 12, saved, {"validation": 1.0})
        saved |= {"optimizer/rest/0000": np.zeros(3, np.float32)}  # of no use to generation
        run.checkpoints.save(12, saved, {})
    return path, system, Validation.of_pairs(system, data, held_out).loss()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best_loss", "step-00000012"])
def test_a_run_folder_alone_gives_the_system_back(trained, qqp_folder, name) -> None:
    path, system, losses = trained
    found = TrainedRun(path, name)
    assert (found.checkpoint, found.step, found.settings) == (name, 12, system.settings)
    for path_, variable in assembly.variables(system).items():
        np.testing.assert_array_equal(assembly.variables(found.system)[path_], variable, err_msg=path_)
    data, _, held_out = read(qqp_folder)
    assert Validation.of_pairs(found.system, data, held_out).loss() == losses
    assert found.inputs.output_ids.tolist() == system.inputs_.output_ids.tolist()
    np.testing.assert_array_equal(found.inputs.neighbours, data.whole_graph)
    np.testing.assert_array_equal(found.inputs.keyword_ids, system.inputs_.keyword_ids)
    assert found.tokenizer.vocabulary() == data.tokenizer.vocabulary()
    assert len(found.graph) == len(data.graph)


@pytest.mark.slow
def test_what_a_run_lacks_is_named(trained, tmp_path) -> None:
    path, _, _ = trained
    with pytest.raises(UserError, match="no checkpoint 'best_nll'"):
        _ = TrainedRun(path, "best_nll").system
    inputs = path / assembly.INPUTS
    whole = inputs.read_bytes()
    for text in (None, b"{", b"{}", whole.replace(b"cls_id", b"cls")):
        inputs.unlink()
        if text is not None:
            inputs.write_bytes(text)
        with pytest.raises(UserError, match=r"inputs\.json: can't be read"):
            _ = TrainedRun(path).system
        inputs.write_bytes(whole)


@pytest.mark.slow
def test_what_is_cheap_to_check_is_checked_when_it_is_opened(trained, tmp_path) -> None:
    path, _, _ = trained
    with pytest.raises(UserError, match="no such folder"):
        TrainedRun(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not finished"):
        TrainedRun(path, finished=True)


@pytest.mark.slow
def test_a_part_is_made_when_it_is_asked_for_and_once(trained, qqp_folder, monkeypatch) -> None:
    path, _, _ = trained
    found = TrainedRun(path, data_dir=qqp_folder)
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("the model was loaded")))
    assert found.data.folder == qqp_folder
    assert found.data is found.data
    assert found.manifest == found.data.manifest


@pytest.mark.slow
def test_a_split_is_passed_over_whole_or_its_first_examples(trained, qqp_folder) -> None:
    path, _, losses = trained
    found = TrainedRun(path, data_dir=qqp_folder)
    assert found.validation("validation").loss() == losses
    assert found.validation("test", 3).batches.count == 3
    other = found.validation("validation", system=found.beginning)
    assert other.system is found.beginning is not found.system
    assert other.loss() != losses, "the weights were moved before they were stored"


@pytest.mark.parametrize("appended", [False, True])
def test_data_are_as_the_run_saw_them(qqp_folder, rocstories_folder, appended) -> None:
    data = read(qqp_folder)[0]
    config = {"task": "qqp", "data": data.manifest["sha256"], "settings": {"append_keywords": appended}}
    found = data_of(config, qqp_folder)
    assert (found.source_length > data.source_length) == appended
    assert data_of({**config, "settings": {}}, qqp_folder).source_length == data.source_length
    with pytest.raises(UserError, match="not the data that the run was trained on"):
        data_of(config, rocstories_folder)


def test_data_are_looked_for_where_preparation_puts_them(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--data_dir=tfrecords/qqp: no prepared data there"):
        data_of({"task": "qqp", "data": "", "settings": {}}, None)


def test_data_are_looked_for_where_the_training_had_them(qqp_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"task": "qqp", "data": read(qqp_folder)[0].manifest["sha256"], "settings": {}, "data_dir": str(qqp_folder)}
    assert data_of(config, None).folder == qqp_folder
    with pytest.raises(UserError, match="--data_dir=tfrecords/qqp: no prepared data there"):
        data_of(config | {"data_dir": str(tmp_path / "gone")}, None)
