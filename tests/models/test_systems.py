"""Every system of the registry, the same way: whole runs on each task, an interruption."""

import signal

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_systems import SMALL, first_batch, new_system

from hcl_tf.errors import UserError
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.training import loop
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import load_run

TRAINED = [name for name in registry.SYSTEMS if registry.class_of(name).is_trained]
SHORT = {**SMALL, "max_steps": 4, "log_every": 1, "checkpoint_every": 2, "beams": 2, "mle_steps": 2, "matching_steps": 5}
NOT_MIXED = ("t5", "claps")  # their library masks with -1e9
SEEN = 3  # test examples that are decoded


@pytest.fixture(autouse=True)
def _signals():
    """Training takes the handlers over; pytest needs its own back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(request, task):
    return request.getfixturevalue(f"{task}_folder")


def check_a_step_and_a_search(folder, model: str, **given) -> None:
    small = registry.used(model, {"mle_steps": 1, "matching_steps": 2, "beams": 2, "maximum_length": 5})
    system = new_system(folder, model, **small, **given)
    batch = first_batch(folder, system)
    noise = Noise(1, 0, batch["example_rows"])
    sums = system.losses(batch, tf.constant(0), noise, training=True)
    counts = system.counts(batch)
    assert set(system.weights_of(tf.constant(0))) <= set(sums)
    assert np.isfinite(float(system.objective(sums, counts, tf.constant(0))))
    grouped = [v for variables, _ in system.learning_rates().values() for v in variables]
    assert {id(v) for v in grouped} == {id(v) for v in system.trainable_variables}
    system.before_inference()
    ids, scores = system.generate(batch)
    assert ids.shape[:2] == scores.shape == (batch["source_ids"].shape[0], system.settings.hypotheses)
    assert (np.diff(scores.numpy(), axis=1) <= 1e-6).all()


@pytest.mark.parametrize("model", TRAINED)
@pytest.mark.parametrize("task", ["qqp"])
def test_a_step_lowers_no_figure_to_nonsense_and_decoding_gives_texts(model, task, folder):
    """In process, without a run folder: what `make test` can afford for each."""
    check_a_step_and_a_search(folder, model)


@pytest.mark.parametrize("model", TRAINED)
@pytest.mark.parametrize("task", ["qqp"])
def test_the_same_in_mixed_precision(model, task, folder):
    try:
        if model in NOT_MIXED:
            with pytest.raises(UserError, match="--mixed_precision"):
                new_system(folder, model, mixed_precision=True)
        else:
            check_a_step_and_a_search(folder, model, mixed_precision=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("model", registry.SYSTEMS)
@pytest.mark.parametrize("task", ["qqp", "douban", "rocstories"])
def test_it_trains_and_is_evaluated_on_each_task(model, task, folder, tmp_path):
    given = {**registry.used(model, SHORT), "model": model}
    ended = launch(task, folder, str(tmp_path / "run"), "tiny", given, ["train"])
    assert ended == ("steps" if registry.class_of(model).is_trained else load_run(tmp_path / "run").finished["ended"])
    scores = evaluate(EvaluationRequest(tmp_path / "run", data_dir=folder, limit=SEEN))
    assert np.isfinite(scores["BLEU-1"]["value"])
    assert len((tmp_path / "run" / f"predictions.test.first{SEEN}.jsonl").read_text().splitlines()) == SEEN


@pytest.mark.slow
@pytest.mark.parametrize("model", TRAINED)
def test_a_run_that_was_stopped_ends_with_the_same_bits(model, qqp_folder, tmp_path, monkeypatch):
    """Stopped after step 3, between two checkpoints, without a chance to save; groupwise's second phase begins at step 2."""
    given = {**registry.used(model, SHORT), "model": model}
    launch("qqp", qqp_folder, str(tmp_path / "whole"), "tiny", given, ["train"])

    class Killed(BaseException):
        pass

    log = loop.Loop._log

    def die(self, scalars):
        log(self, scalars)
        if self.at.step == 3:
            raise Killed

    monkeypatch.setattr(loop.Loop, "_log", die)
    with pytest.raises(Killed):
        launch("qqp", qqp_folder, str(tmp_path / "stopped"), "tiny", given, ["train"])
    monkeypatch.setattr(loop.Loop, "_log", log)
    launch("qqp", qqp_folder, str(tmp_path / "stopped"), "tiny", given, ["train"])
    whole, stopped = (load_run(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.read_metrics() == stopped.read_metrics()
    first, second = (run.checkpoints.newest().arrays for run in (whole, stopped))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
