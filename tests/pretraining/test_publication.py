"""The folders that come out: transformers reads them and computes the same, our loaders read them, nothing of this machine is in them."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from transformers import AutoTokenizer, TFBertForMaskedLM, TFGPT2LMHeadModel, TFT5ForConditionalGeneration

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.files import pretraining_record
from hcl_tf.models import registry
from hcl_tf.pretraining import launch as pretraining
from hcl_tf.pretraining import settings as pretraining_settings
from hcl_tf.pretraining.corpus import collect
from hcl_tf.serving.export import describe
from hcl_tf.settings import EQUAL
from hcl_tf.training.initialization import initialize
from hcl_tf.training.launch import launch, settle
from hcl_tf.training.trained_run import TrainedRun

SIZES = {"layers": 1, "width": 16, "decoder_layers": 1, "row_length": 64, "batch_size": 16, "max_steps": 4, "warmup_steps": 0, "seed": 3}
CLASSES = {"mlm": TFBertForMaskedLM, "span": TFT5ForConditionalGeneration, "causal": TFGPT2LMHeadModel}
OBJECTIVES = list(CLASSES)


def pretrained(folder: Path, data: Path, objective: str, **given) -> Path:
    settings = pretraining_settings.resolve({**SIZES, "objective": objective, **given})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)  # it would stay on for other tests
        pretraining.launch([data], [], folder / objective, folder / "runs" / objective, settings, ["hcl_tf.pretrain"])
    return folder / objective


@pytest.fixture(scope="module")
def folders(once, qqp_folder) -> dict[str, Path]:
    def make(folder: Path) -> None:
        for objective in OBJECTIVES:
            pretrained(folder, qqp_folder, objective)

    place = once("pretrained", make)
    return {objective: place / objective for objective in OBJECTIVES}


@pytest.fixture(scope="module")
def systems(folders, qqp_folder):
    """Each body with its head, at the weights of the checkpoint that was written."""
    made = {}
    for objective, folder in folders.items():
        settings = pretraining_settings.resolve({**SIZES, "objective": objective})
        corpus = collect([qqp_folder], [])
        both = pretraining.columns_of(corpus, settings)
        loop = pretraining.assemble(corpus, settings, both, None, folder.parent / "runs" / objective)
        best = loop.saved.read("best_loss")
        pretraining.checkpoints.assign(pretraining.assembly.variables(loop.system), best.arrays, best.path)
        batch = next(iter(dataclasses.replace(loop.batches, batch_size=4).dataset(0)))
        made[objective] = loop.system, batch, corpus
    return made


@pytest.mark.slow
def test_transformers_loads_each_folder_without_a_missing_tensor(folders):
    for objective, folder in folders.items():
        _, report = CLASSES[objective].from_pretrained(folder, output_loading_info=True)
        assert report["missing_keys"] == report["unexpected_keys"] == report["mismatched_keys"] == [], objective


@pytest.mark.slow
def test_transformers_bert_fills_gaps_as_ours_does(folders, systems):
    system, batch, _ = systems["mlm"]
    theirs = TFBertForMaskedLM.from_pretrained(folders["mlm"])
    first = batch["segments"][:, :64] == 1
    for row in range(2):
        ids = batch["ids"][row][first[row]][None]
        found = theirs(ids).logits[0].numpy()[:, system.inputs_.output_ids]
        alone = {
            name: tf.gather(values[row : row + 1], tf.where(first[row])[:, 0], axis=1)
            for name, values in batch.items()
            if values.shape.rank == 2
        }
        ours = system.tokens.logits(system.states(alone, None))[0].numpy()
        np.testing.assert_allclose(found, ours, atol=2e-4)


@pytest.mark.slow
def test_transformers_t5_writes_as_ours_does(folders, systems):
    system, batch, _ = systems["span"]
    theirs = TFT5ForConditionalGeneration.from_pretrained(folders["span"])
    source, target = (batch[name][0] == 1 for name in ("segments", "target_segments"))
    ids, read = batch["ids"][0][source][None], batch["target_ids"][0][target][None]
    found = theirs(ids, decoder_input_ids=read).logits[0].numpy()[:, system.inputs_.output_ids]
    ours = system.tokens.logits(system.states(batch, None))[0].numpy()[target.numpy()]
    np.testing.assert_allclose(found, ours, atol=2e-4)


@pytest.mark.slow
def test_transformers_gpt2_goes_on_as_ours_does(folders, systems):
    system, batch, _ = systems["causal"]
    theirs = TFGPT2LMHeadModel.from_pretrained(folders["causal"])
    first = batch["segments"][0] == 1
    found = theirs(batch["ids"][0][first][None]).logits[0].numpy()[:, system.inputs_.output_ids]
    ours = system.tokens.logits(system.states(batch, None))[0].numpy()[first.numpy()]
    np.testing.assert_allclose(found, ours, atol=2e-4)


@pytest.mark.slow
def test_the_tokeniser_beside_the_weights_is_that_of_the_data(folders, qqp_folder):
    texts = ["How can I lose weight?", "Was heißt «Größe»?", "the [SEP] of it"]
    data = PreparedData(qqp_folder)
    for folder in folders.values():
        theirs = AutoTokenizer.from_pretrained(folder)
        assert theirs(texts[:2], add_special_tokens=False)["input_ids"] == data.tokenizer.encode(texts[:2])


@pytest.mark.slow
def test_the_folder_holds_a_record_and_nothing_of_this_machine(folders, qqp_folder):
    for objective, folder in folders.items():
        assert sorted(path.name for path in folder.iterdir()) == [
            "README.md", "config.json", "model.safetensors", "pretraining.json", "tokenizer_config.json", "vocab.txt",
        ]  # fmt: skip
        record = pretraining_record.read(folder)
        assert record["settings"]["objective"] == objective
        assert record["step"] == 4
        assert record["pieces_seen"] == pytest.approx(record["pieces"] * 4 * 16 / record_rows(record), rel=0.2)
        written = "".join(path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
        assert str(qqp_folder) not in written
        assert str(Path.home()) not in written
        card = (folder / "README.md").read_text()
        assert EQUAL in card
        assert f"{record['losses']['piece']:.3f} nats a piece" in card
        assert ("bigram" in record["losses"]) == (objective == "causal")


def record_rows(record: dict) -> float:
    """About how many rows the texts fill."""
    extra = {"mlm": 2, "span": 2, "causal": 1}[record["settings"]["objective"]]
    return (record["pieces"] + extra * record["texts"]) / record["settings"]["row_length"]


@pytest.mark.slow
def test_sentinels_are_added_behind_the_pieces_where_none_is_unused(folders, qqp_folder):
    config, pieces = json.loads((folders["span"] / "config.json").read_text()), len(PreparedData(qqp_folder).tokenizer)
    assert config["vocab_size"] > pieces
    assert load_file(folders["span"] / "model.safetensors")["shared.weight"].shape == (config["vocab_size"], 16)
    assert (config["eos_token_id"], config["decoder_start_token_id"]) == tuple(
        getattr(PreparedData(qqp_folder).tokenizer, f"{n}_id") for n in ("sep", "cls")
    )


# -- our own loaders --------------------------------------------------------------------------------------------------

SYSTEMS = {"mlm": ("bert_gen", "encoder"), "span": ("t5", "pretrained"), "causal": ("dialogpt", "pretrained")}


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_system_begins_with_the_weights_and_says_what_they_are(folders, qqp_folder, objective):
    model, flag = SYSTEMS[objective]
    given = {"model": model, flag: str(folders[objective]), "decoder_layers": 1, "maximum_length": 6}
    data, settings, begun = settle("qqp", qqp_folder, "tiny", given)
    assert EQUAL in begun.note
    assert settings.weights(begun.note) == EQUAL
    assert getattr(settings, "embedding_rate", 50) == 50, "the rate that they were made with"
    assert getattr(settings, "encoder_learning_rate", settings.learning_rate) == settings.learning_rate
    assert data.tokenizer.vocabulary() == PreparedData(qqp_folder).tokenizer.vocabulary(), "all rows have the same units"
    (mark,) = settings.cautions(begun.note, 3) if flag == "pretrained" else ("none",)
    assert mark == ("NO WEIGHTS" if flag == "pretrained" else "none")


@pytest.mark.slow
def test_a_t5_pretrained_here_trains_resumes_and_generates(folders, qqp_folder, tmp_path):
    given = {
        "model": "t5", "pretrained": str(folders["span"]), "decoder_layers": 1, "maximum_length": 6, "batch_size": 8, "max_steps": 2,
        "beams": 2, "output_vocab": "train",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
        launch("qqp", qqp_folder, str(tmp_path / "run"), "tiny", given, ["hcl_tf.train"])
    opened = TrainedRun(tmp_path / "run", data_dir=qqp_folder)
    assert opened.tokenizer.vocabulary() == PreparedData(qqp_folder).tokenizer.vocabulary()
    assert describe(opened, ())["pieces"] == "vocab.txt", "an export takes the data's pieces, too"
    shared = load_file(folders["span"] / "model.safetensors")["shared.weight"]
    assert opened.system.t5.shared.embeddings.shape == shared.shape
    assert np.abs(opened.system.t5.shared.embeddings.numpy() - shared).max() < 0.1, "two steps away from where it began"


@pytest.mark.slow
def test_weights_of_another_vocabulary_are_refused(folders, douban_folder):
    data = PreparedData(douban_folder)
    for objective, (model, flag) in SYSTEMS.items():
        settings = registry.resolve("tiny", {"model": model, flag: str(folders[objective])})
        with pytest.raises(UserError, match=rf"--{flag}=.*: its vocabulary is not the one that .* was prepared with"):
            initialize(settings, data, {})


@pytest.mark.slow
def test_a_model_whose_texts_are_framed_otherwise_is_refused(folders, qqp_folder, tmp_path):
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (tmp_path / name).write_bytes((folders["span"] / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 1}))
    settings = registry.resolve("tiny", {"model": "t5", "pretrained": str(tmp_path)})
    with pytest.raises(UserError, match="eos_token_id 1, but BERT's pieces frame texts with"):
        initialize(settings, PreparedData(qqp_folder), {})


@pytest.mark.slow
def test_a_damaged_record_is_an_error_that_names_it(folders, tmp_path):
    (tmp_path / "pretraining.json").write_text('{"texts": 3')
    with pytest.raises(UserError, match=r"pretraining\.json: can't be read"):
        pretraining_record.read(tmp_path)
    assert pretraining_record.origin_of(folders["mlm"].parent) == ""


@pytest.mark.slow
def test_weights_are_told_apart_by_their_recipe_and_their_bits(folders):
    origins = {objective: pretraining_record.origin_of(folder) for objective, folder in folders.items()}
    for objective, folder in folders.items():
        digits = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:8]
        recipe, end = re.search(r" pieces seen, recipe (.{8})(.*)", origins[objective]).groups()
        assert end == f", weights {digits})"
        assert pretraining_record.bits_of(origins[objective]) == digits
        assert pretraining_record.without_bits(origins[objective]).endswith(f" pieces seen, recipe {recipe})")
    assert len({pretraining_record.without_bits(origin).split("recipe")[1] for origin in origins.values()}) == len(origins)
