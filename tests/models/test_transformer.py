"""The Transformer from scratch: its smoothed objective against NumPy, what validation sees, keywords appended."""

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import Kit, rules
from system_toolkit.kit import view_of

from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.layers.noise import Noise
from hcl_tf.serving.generation import outputs
from hcl_tf.training.launch import launch
from hcl_tf.training.trained_run import TrainedRun

STEP = tf.constant(3)


@pytest.mark.slow
def test_training_minimises_the_smoothed_loss_and_reports_the_plain_one(qqp_folder):
    """Cross-entropy with (1 - e) on the token and e / V' on every piece, example by example."""
    kit = Kit(qqp_folder, "transformer", label_smoothing=0.2, dropout=0.0, copy=False)
    system, batch = kit.new(), kit.training
    sums = system.losses(batch, STEP, Noise(1, STEP, batch["example_rows"]), training=True)
    texts = system.encode(batch, None)
    states = system.teach(batch, texts["states"], texts["mask"], None)
    logs = np.asarray(tf.nn.log_softmax(system.tokens.logits(states)), np.float64)
    columns = system.tokens.columns(system.labels(batch)).numpy()
    plain = smoothed = 0.0
    for row, weights in enumerate(system.label_weights(batch).numpy()):
        for place in np.flatnonzero(weights):
            own = logs[row, place, columns[row, place]]
            plain -= own
            smoothed -= 0.8 * own + 0.2 * logs[row, place].mean()
    assert float(sums["nll"].value) == pytest.approx(plain, rel=1e-5)
    assert float(sums["nll_token"].value) == pytest.approx(plain, rel=1e-5)
    assert float(sums["nll_smoothed"].value) == pytest.approx(smoothed, rel=1e-5)
    assert system.weights_of(STEP) == {"nll_smoothed": 1.0}
    held_out = system.losses(batch, STEP, Noise(1, STEP, batch["example_rows"]), training=False)
    assert float(held_out["nll"].value) == pytest.approx(plain, rel=1e-5)
    assert set(system.weights_of(None)) <= set(held_out), "validation has the plain one alone"


@pytest.mark.slow
def test_without_smoothing_the_objective_is_the_plain_loss(qqp_folder):
    kit = Kit(qqp_folder, "transformer", label_smoothing=0.0)
    scalars = kit.walk(kit.first_batches[:1], eagerly=True).scalars[0]
    assert scalars["objective"] == pytest.approx(scalars["nll"], rel=1e-6)
    assert "nll_smoothed" not in scalars


@pytest.mark.slow
def test_nothing_of_it_was_trained_before(qqp_folder):
    """No weights are looked for, whatever `--encoder` says, and there is one learning rate."""
    system = Kit(qqp_folder, "transformer", encoder="bert-base-uncased").new()
    assert system.settings.encoder == "random:2x128"
    ((variables, rate),) = system.learning_rates().values()
    assert (len(variables), rate) == (len(system.trainable_variables), system.settings.learning_rate)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["douban_folder", pytest.param("rocstories_folder", marks=pytest.mark.slow)])
def test_every_weight_is_trained_on_the_other_tasks_too(folder, request):
    rules.every_weight_is_trained(Kit(request.getfixturevalue(folder), "transformer"))


@pytest.mark.slow
def test_with_its_keywords_appended_it_trains_and_follows_given_ones(qqp_folder, tmp_path):
    """From the flag to generation: one width everywhere, and a run folder that alone says that keywords are appended."""
    given = {"model": "transformer_keywords", "encoder": "random:1x32", "decoder_layers": 1, "batch_size": 16, "max_steps": 3}
    launch("qqp", qqp_folder, str(tmp_path / "run"), "tiny", given, ["hcl_tf.train"])
    evaluate(EvaluationRequest(tmp_path / "run", data_dir=qqp_folder, limit=4))
    trained = TrainedRun(tmp_path / "run")
    assert trained.inputs.source_length == view_of(qqp_folder, keywords=True).data.source_length
    batches = {}
    for keyword in (None, ["diet"]):
        reader = SourceReader(trained.manifest, trained.tokenizer, trained.graph, keyword)
        assert len(list(outputs(trained, reader, ["How do volcanoes erupt?"], 0, 1))) == 1
        batches[bool(keyword)] = trained.source_batches().make([reader.read("How do volcanoes erupt?")], 0)
    states = [trained.system.encode(batch, None)["states"].numpy() for batch in batches.values()]
    assert abs(states[0][:, 1:4] - states[1][:, 1:4]).max() > 1e-3, "the encoder sees them"
