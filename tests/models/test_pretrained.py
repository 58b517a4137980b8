"""T5, CLAPS and DialoGPT from published weights: the class's own logits and loss, and a run from training to outputs."""

import json
import shutil
from pathlib import Path

import numpy as np
import published_models
import pytest
import tensorflow as tf
from system_toolkit import Kit, rules
from system_toolkit.kit import ROWS
from transformers import TFGPT2LMHeadModel, TFT5ForConditionalGeneration

from hcl_tf.data.store import retokenized
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.errors import UserError
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.models.base import System
from hcl_tf.serving.export import export
from hcl_tf.serving.generation import outputs
from hcl_tf.training.launch import launch
from hcl_tf.training.trained_run import TrainedRun


@pytest.fixture(scope="module")
def data(qqp_folder, tmp_path_factory) -> PreparedData:
    """A copy: views are cached beside the records."""
    folder = tmp_path_factory.mktemp("prepared") / "qqp"
    shutil.copytree(qqp_folder, folder)
    return PreparedData(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("published")
    return {"t5": published_models.t5(place / "t5", "safetensors"), "gpt2": published_models.gpt2(place / "gpt2", "h5")}


def kit_of(data: PreparedData, model: str, published: Path, **given) -> Kit:
    return Kit(data.folder, model, pretrained=str(published), maximum_length=6, **given)


def started(kit: Kit) -> System:
    """The system as it begins."""
    system = kit.new()
    assert len(kit.lines) == len(system.variables) - 2 * (kit.model == "claps")  # its projection is its own
    return system


@pytest.mark.slow
@pytest.mark.parametrize("model", ["t5", "claps"])
def test_t5_s_logits_and_loss_are_the_published_class_s(data, folders, model):
    kit = kit_of(data, model, folders["t5"], output_vocab="full")
    assert kit.settings.embedding_rate == 1.0, "weights of others train at one rate"
    system, batch = started(kit), kit.training
    theirs = TFT5ForConditionalGeneration.from_pretrained(folders["t5"])
    sources, labels = batch["source_ids"][:, 1:], batch["target_ids"][:, 1:]  # the library's texts have no start token
    found = theirs(input_ids=sources, attention_mask=tf.cast(sources != 0, tf.int32), labels=tf.where(labels == 0, -100, labels))
    logits = system.tokens.logits(system.encode_and_teach(batch, None)[1])
    np.testing.assert_allclose(logits, found.logits, rtol=1e-4, atol=1e-4)
    nll = kit.sums(batch, False, system)["nll"] / float(system.counts(batch)["tokens"])
    assert nll == pytest.approx(float(tf.reduce_mean(found.loss)), rel=1e-5)


@pytest.mark.slow
def test_gpt2_s_logits_and_loss_are_the_published_class_s(data, folders):
    kit = kit_of(data, "dialogpt", folders["gpt2"], output_vocab="full")
    system, batch, end, total = started(kit), kit.training, kit.data.tokenizer.sep_id, 0.0
    theirs = TFGPT2LMHeadModel.from_pretrained(folders["gpt2"])
    records = dict(enumerate(kit.data.records("train")))
    logits = system.tokens.logits(system.teach(batch, None)).numpy()
    for place, row in enumerate(ROWS):
        source, target = records[row].source.ids, records[row].target.ids
        ids = [*source, end, *target, end]
        found = theirs(input_ids=tf.constant([ids]), labels=tf.constant([[-100] * (len(source) + 1) + ids[len(source) + 1 :]]))
        np.testing.assert_allclose(logits[place, : len(target) + 1], found.logits[0, len(source) : -1], rtol=1e-4, atol=1e-4)
        total += float(tf.reduce_mean(found.loss)) * (len(target) + 1)
    assert kit.sums(batch, False, system)["nll"] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "kind"), [("t5", "t5"), ("dialogpt", "gpt2")])
@pytest.mark.parametrize("vocabulary", [pytest.param("full", marks=pytest.mark.slow), "train"])
def test_contract_in_the_own_pieces(data, folders, model, kind, vocabulary):
    kit = kit_of(data, model, folders[kind], output_vocab=vocabulary)
    kept = kit.inputs.output_ids
    assert (len(kept) == len(kit.data.tokenizer)) == (vocabulary == "full")
    assert kept.max() < len(kit.data.tokenizer)
    for rule in (rules.cached_decoding_scores_as_teacher_forcing, rules.search_finds_what_its_scores_say, rules.padding_changes_nothing):
        rule(kit)


def test_a_system_of_ours_takes_none(data, folders):
    with pytest.raises(UserError, match=r"^--pretrained: --model=bert_gen does not use it; t5, claps, dialogpt would"):
        started(kit_of(data, "bert_gen", folders["t5"]))


def test_another_library_model_is_refused(data, folders):
    with pytest.raises(UserError, match=r"config.json says 'gpt2', but 't5' is needed"):
        started(kit_of(data, "t5", folders["gpt2"]))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "kind"), [("claps", "t5"), ("dialogpt", "gpt2")])
def test_a_run_trains_is_evaluated_generates_and_exports(data, folders, tmp_path, model, kind):
    """Generation needs neither the prepared folder nor the published one."""
    published, run_dir = tmp_path / "published", tmp_path / "run"
    shutil.copytree(folders[kind], published)
    given = {
        "model": model, "pretrained": str(published), "batch_size": 16, "max_steps": 3, "beams": 2, "minimum_length": 2,
        "maximum_length": 6, "learning_rate": 0.001,
    }  # fmt: skip
    launch("qqp", data.folder, str(run_dir), "tiny", given, ["hcl_tf.train"])
    config = TrainedRun(run_dir).run.config
    assert config["encoder"].startswith(f"pretrained: folder published: {kind}, ")
    assert config["settings"]["pretrained"] == str(published)
    assert (run_dir / "published_weights.txt").read_text().count("\n") > 10
    evaluate(EvaluationRequest(run_dir, data_dir=data.folder, limit=8))
    shutil.rmtree(published)
    trained = TrainedRun(run_dir)
    records = list(retokenized.with_tokenizer(data, trained.tokenizer).records("test"))[:4]
    reader = SourceReader(trained.manifest, trained.tokenizer, trained.graph)
    found = [texts[0] for texts in outputs(trained, reader, [record.source.raw for record in records], 0, 4)]
    rows = (run_dir / "predictions.test.first8.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    assert found == [json.loads(row)["prediction"] for row in rows]
    export(run_dir, "best_loss", tmp_path / "exported", overwrite=False)
    saved = tf.saved_model.load(str(tmp_path / "exported")).signatures["generate"]
    ids = np.full((1, data.source_length + 2), trained.tokenizer.pad_id, np.int32)
    framed = [trained.tokenizer.cls_id, *records[0].source.ids, trained.tokenizer.sep_id]
    ids[0, : len(framed)] = framed
    columns = {"source_nodes": tf.fill([1, data.max_keywords], -1), "source_unknown": tf.zeros([1], tf.int32)}
    answer = saved(source_ids=tf.constant(ids), **columns)["ids"].numpy()[0, 0]
    assert trained.tokenizer.decode(answer) == found[0]
    assert (tmp_path / "exported" / "tokenizer" / "tokenizer.json").is_file()
