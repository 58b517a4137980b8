"""The Transformer from scratch: its smoothed objective against NumPy, what validation sees, that it learns."""

import numpy as np
import pytest
import tensorflow as tf
from small_systems import first_batch, new_system, overfit, read, steps

from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.layers.noise import Noise
from hcl_tf.serving.generation import outputs
from hcl_tf.training import assembly
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import load_run

STEP = tf.constant(3)


def test_training_minimises_the_smoothed_loss_and_reports_the_plain_one(qqp_folder):
    """Cross-entropy with (1 - e) on the token and e / V' on every piece, example by example."""
    system = new_system(qqp_folder, "transformer", label_smoothing=0.2, dropout=0.0, copy=False)
    batch = first_batch(qqp_folder, system)
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


def test_without_smoothing_the_objective_is_the_plain_loss(qqp_folder):
    system = new_system(qqp_folder, "transformer", label_smoothing=0.0)
    (scalars,) = steps(qqp_folder, system, 1)
    assert scalars["objective"] == pytest.approx(scalars["nll"], rel=1e-6)
    assert "nll_smoothed" not in scalars


def test_nothing_of_it_was_trained_before(qqp_folder):
    """No weights are looked for, whatever `--encoder` says, and there is one learning rate."""
    system = new_system(qqp_folder, "transformer", encoder="bert-base-uncased")
    assert system.settings.encoder == "random:2x128"
    ((variables, rate),) = system.learning_rates().values()
    assert (len(variables), rate) == (len(system.trainable_variables), system.settings.learning_rate)


@pytest.mark.parametrize("folder", ["qqp_folder", "douban_folder", "rocstories_folder"])
def test_a_step_moves_every_weight(folder, request):
    folder = request.getfixturevalue(folder)
    system = new_system(folder, "transformer")
    before = [v.numpy() for v in system.trainable_variables]
    (scalars,) = steps(folder, system, 1)
    assert all(np.isfinite(value) for value in scalars.values())
    assert all((old != new.numpy()).any() for old, new in zip(before, system.trainable_variables, strict=True))


@pytest.mark.slow
def test_it_overfits_eight_examples(qqp_folder):
    """Down to what smoothing leaves: a probability of 0.9 and a little a token, or 0.105 nats; and it then writes the targets."""
    system = new_system(qqp_folder, "transformer", dropout=0.0, learning_rate=0.003, encoder="random:1x64", minimum_length=1)
    scalars = overfit(qqp_folder, system, 200)
    assert scalars[0]["nll_token"] > 4
    assert 0.1 < scalars[-1]["nll_token"] < 0.13
    batch = first_batch(qqp_folder, system)
    outputs = system.generate(batch)[0].numpy()[:, 0]
    targets = [[piece for piece in row if piece not in (0, system.inputs_.sep_id)] for row in system.labels(batch).numpy()]
    right = [[piece for piece in row if piece] == target for row, target in zip(outputs, targets, strict=True)]
    assert sum(right) >= 7


@pytest.mark.slow
def test_with_its_keywords_appended_it_trains_and_follows_given_ones(qqp_folder, tmp_path):
    """From the flag to generation: one width everywhere, and a run folder that alone says that keywords are appended."""
    given = {"model": "transformer_keywords", "encoder": "random:1x32", "decoder_layers": 1, "batch_size": 16, "max_steps": 3}
    launch("qqp", qqp_folder, str(tmp_path / "run"), "tiny", given, ["hcl_tf.train"])
    evaluate(EvaluationRequest(tmp_path / "run", data_dir=qqp_folder, limit=4))
    trained = assembly.load_trained(load_run(tmp_path / "run"), "best_loss")
    assert trained.inputs.source_length == read(qqp_folder)[0].with_keywords().source_length
    batches = {}
    for keyword in (None, ["diet"]):
        reader = SourceReader(trained.manifest, trained.tokenizer, trained.graph, keyword)
        assert len(list(outputs(trained, reader, ["How do volcanoes erupt?"], 0, 1))) == 1
        batches[bool(keyword)] = trained.source_batches().make([reader.read("How do volcanoes erupt?")], 0)
    states = [trained.system.encode(batch, None)["states"].numpy() for batch in batches.values()]
    assert abs(states[0][:, 1:4] - states[1][:, 1:4]).max() > 1e-3, "the encoder sees them"
