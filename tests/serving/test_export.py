"""The exported folder works where only TensorFlow is, and gives what `generate` gives."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from hcl_tf.data.keywords import graph
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.generator import SOURCE_COLUMNS, Generator
from hcl_tf.decoding.sources import SourceBatches, from_record
from hcl_tf.errors import UserError
from hcl_tf.serving import export as exporting
from hcl_tf.serving.export import export
from hcl_tf.training.trained_run import TrainedRun

FRESH = """
import sys
import numpy as np
import tensorflow as tf

folder, given, answer = sys.argv[1:]
signatures = tf.saved_model.load(folder).signatures
columns = {name: tf.constant(column) for name, column in np.load(given).items()}
target_ids, found = columns.pop("target_ids"), {}
for name, more in (("generate", {}), ("prior", {}), ("score", {"target_ids": target_ids})):
    whole = signatures[name](**columns, **more)
    part = signatures[name](**{column: tensor[3:6] for column, tensor in (columns | more).items()})
    nothing = signatures[name](**{column: tensor[:0] for column, tensor in (columns | more).items()})
    assert all(tensor.shape[0] == 0 and tensor.shape[1:] == whole[output].shape[1:] for output, tensor in nothing.items()), nothing
    found |= {output: tensor.numpy() for output, tensor in whole.items()} | {f"part {output}": part[output].numpy() for output in part}
others = [name for name in sys.modules if name.split(".")[0] in ("hcl_tf", "tf_keras", "transformers")]
assert not others, others
np.savez(answer, **found)
"""


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_gets_the_same_outputs(exported_run, loaded_run, qqp_folder, tmp_path):
    records = list(PreparedData(qqp_folder).records("test"))
    requests, targets = [from_record(record.source) for record in records], [record.target.ids for record in records]
    batch = SourceBatches(loaded_run.tokenizer, loaded_run.inputs.source_length, loaded_run.inputs.max_keywords).make(requests, 0)
    generator = Generator(loaded_run.system, loaded_run.tokenizer)
    target_ids = loaded_run.tokenizer.framed(targets, loaded_run.inputs.target_length)
    rows = batch["source_ids"].shape[0]
    target_ids = np.concatenate([target_ids, target_ids[:1].repeat(rows - len(target_ids), 0)])
    ids, scores = generator.ids(batch)
    wanted = {"scores": scores, **dict(zip(("mean", "deviation"), generator.prior(batch), strict=True))}
    wanted["log_probability"] = -generator.nll(batch, target_ids)
    inputs = [name for name in SOURCE_COLUMNS if not name.startswith("example")]
    np.savez(tmp_path / "given.npz", target_ids=target_ids, **{name: batch[name].numpy() for name in inputs})
    # -I: neither this folder nor PYTHONPATH is looked into
    command = [sys.executable, "-I", "-c", FRESH, str(exported_run), str(tmp_path / "given.npz"), str(tmp_path / "answer.npz")]
    # Importing transformers elsewhere in this process sets TF_USE_LEGACY_KERAS, with which TensorFlow would load tf_keras.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert result.returncode == 0, result.stderr
    real = batch["example_mask"].numpy() > 0
    with np.load(tmp_path / "answer.npz") as answer:
        np.testing.assert_array_equal(answer["ids"], ids)
        np.testing.assert_array_equal(answer["part ids"], ids[3:6])  # any number of rows will do
        for name, values in wanted.items():
            np.testing.assert_allclose(answer[name][real], values[real], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(answer[f"part {name}"], values[3:6], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_what_lies_beside_the_model(exported_run, loaded_run):
    assert (exported_run / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == loaded_run.tokenizer.vocabulary()
    assert (exported_run / "keywords.txt").read_text(encoding="utf-8").split("\n")[:-1] == list(loaded_run.graph.nodes)
    assert graph.load(exported_run / "graph").nodes == loaded_run.graph.nodes
    found = json.loads((exported_run / "export.json").read_text(encoding="utf-8"))
    assert found["special_ids"]["[SEP]"] == loaded_run.inputs.sep_id
    assert found["data"] == loaded_run.manifest["sha256"]


@pytest.mark.slow
def test_the_export_holds_no_weight_that_only_training_needs(exported_run, loaded_run):
    stored = sum(path.stat().st_size for path in (exported_run / "variables").glob("variables.data*"))
    everything = sum(4 * int(np.prod(v.shape)) for v in loaded_run.system.variables)
    training_only = sum(4 * int(np.prod(v.shape)) for v in loaded_run.system.posterior.trainable_variables)
    assert training_only > 0
    assert stored <= everything - training_only


@pytest.mark.slow
def test_the_model_card_says_what_it_is_and_how_good(exported_run, evaluated_run, loaded_run):
    card = (exported_run / "README.md").read_text(encoding="utf-8")
    scores = json.loads((evaluated_run / "scores.test.json").read_text(encoding="utf-8"))["scores"]
    splits = loaded_run.manifest["splits"]
    for wanted in (
        "# hcl for qqp", loaded_run.manifest["sha256"], f"train {splits['train']['examples']:,}", "| latent_size | 8 |",
        f"| BLEU-2 | {scores['BLEU-2']['value']:.3f} |", "At most 20 pieces", next(iter(loaded_run.manifest["raw_files"].values())),
    ):  # fmt: skip
        assert wanted in card
    assert str(evaluated_run) not in card


def test_the_model_card_says_where_texts_are_generated(loaded_run, monkeypatch):
    assert "GENERATED" not in exporting.model_card(loaded_run)
    monkeypatch.setitem(loaded_run.manifest, "generated", {"grammar": "qqp.yaml", "sha256": "0" * 64, "seed": 1})
    assert "GENERATED: a program derived them from the grammar qqp.yaml (seed 1)" in exporting.model_card(loaded_run)


def test_scores_of_another_checkpoint_are_not_claimed(loaded_run):
    assert "Not evaluated" in exporting.model_card(loaded_run)  # the run itself was never evaluated, its copy was


@pytest.mark.slow
def test_a_finished_export_is_kept(exported_run, trained_run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--export=.*--overwrite"):
        export(trained_run, "best_loss", exported_run, overwrite=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("the model was loaded")))
    with pytest.raises(UserError, match=r"--export=.*is not an exported model"):
        export(trained_run, "best_loss", tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_failed_export_leaves_nothing(trained_run, loaded_run, tmp_path, monkeypatch):
    loaded = loaded_run.system
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: loaded))
    monkeypatch.setattr(exporting, "save_model", lambda trained, folder: (folder / "saved_model.pb").write_bytes(b"half") and [])
    monkeypatch.setattr(exporting, "model_card", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(trained_run, "best_loss", tmp_path / "out", overwrite=False)
    assert list(tmp_path.iterdir()) == []
