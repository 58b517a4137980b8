"""Published T5 and GPT-2: both layouts load tensor by tensor, and what can't be used is refused before it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import published_models
import pytest
from safetensors.numpy import load_file, save_file
from transformers import GPT2Config, T5Config, TFGPT2LMHeadModel, TFT5ForConditionalGeneration

from hcl_tf.errors import UserError
from hcl_tf.layers import library_weights

MODELS = {
    "t5": (published_models.t5, T5Config, TFT5ForConditionalGeneration),
    "gpt2": (published_models.gpt2, GPT2Config, TFGPT2LMHeadModel),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[tuple[str, str], Path]:
    place = tmp_path_factory.mktemp("published")
    return {(kind, layout): MODELS[kind][0](place / f"{kind}-{layout}", layout) for kind in MODELS for layout in ("h5", "safetensors")}


def built(published: library_weights.PublishedModel, kind: str):
    model = MODELS[kind][2](MODELS[kind][1].from_dict(published.config))
    model.build_in_name_scope()
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_both_layouts_give_the_published_numbers(folders, kind):
    found = {}
    for layout in ("h5", "safetensors"):
        published = library_weights.load(str(folders[kind, layout]), kind)
        model = built(published, kind)
        lines = library_weights.assign(model, published)
        assert len(lines) == len(model.variables)
        found[layout] = {path: variable.numpy() for path, variable in model.get_weight_paths().items()}
        assert layout in published.description
        assert f"folder {kind}-{layout}: {kind}, " in published.description
    for path, value in found["h5"].items():
        np.testing.assert_array_equal(value, found["safetensors"][path])
    stored = load_file(folders[kind, "safetensors"] / "model.safetensors")
    table, name = {"t5": ("shared.embeddings", "shared.weight"), "gpt2": ("transformer.wte.embeddings", "transformer.wte.weight")}[kind]
    np.testing.assert_array_equal(found["h5"][table], stored[name])


@pytest.mark.parametrize("kind", MODELS)
def test_safetensors_in_tensorflows_layout_give_the_published_numbers(folders, tmp_path, kind):
    folder, (_, _, model_class) = copied(folders[kind, "h5"], tmp_path / kind), MODELS[kind]
    theirs = model_class.from_pretrained(folder)
    theirs.save_pretrained(folder, safe_serialization=True)
    (folder / "tf_model.h5").unlink()
    published = library_weights.load(str(folder), kind)
    model = built(published, kind)
    library_weights.assign(model, published)
    for ours, other in zip(model.variables, theirs.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), other.numpy())


def copied(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def test_a_missing_tensor_is_named(folders, tmp_path):
    folder = copied(folders["t5", "safetensors"], tmp_path / "t5")
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.block.0.layer.1.EncDecAttention.v.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    published = library_weights.load(str(folder), "t5")
    with pytest.raises(UserError, match=r"^--pretrained=.*tensor .*EncDecAttention.* is missing or has another shape \(1 in all\)"):
        library_weights.assign(built(published, "t5"), published)


@pytest.mark.parametrize("layout", ["h5", "safetensors"])
def test_a_cut_file_is_refused(folders, tmp_path, layout):
    folder = copied(folders["t5", layout], tmp_path / "t5")
    published = library_weights.load(str(folder), "t5")
    model = built(published, "t5")
    file = folder / {"h5": "tf_model.h5", "safetensors": "model.safetensors"}[layout]
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"^--pretrained=.*damaged"):
        library_weights.assign(model, published)


def test_numbers_that_are_none_are_refused(folders, tmp_path):
    folder = copied(folders["gpt2", "safetensors"], tmp_path / "gpt2")
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][3] = np.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    published = library_weights.load(str(folder), "gpt2")
    with pytest.raises(UserError, match=r"transformer.ln_f.beta holds values that are not finite"):
        library_weights.assign(built(published, "gpt2"), published)


def test_what_can_not_be_used_is_refused_with_a_remedy(folders, tmp_path):
    with pytest.raises(UserError, match=r"^--pretrained=\./nowhere: no such folder"):
        library_weights.load("./nowhere", "t5")
    with pytest.raises(UserError, match=r"^--pretrained=no-such-model: neither a folder here nor to be had from a hub"):
        library_weights.load("no-such-model", "t5")
    with pytest.raises(UserError, match=r"config.json says 'gpt2', but 't5' is needed"):
        library_weights.load(str(folders["gpt2", "h5"]), "t5")
    folder = copied(folders["t5", "h5"], tmp_path / "torch")
    (folder / "tf_model.h5").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only as pytorch_model.bin, which needs PyTorch"):
        library_weights.load(str(folder), "t5")
    (folder / "pytorch_model.bin").rename(folder / "tf_model.h5")
    (folder / "spiece.model").unlink()
    with pytest.raises(UserError, match=r"has no tokeniser"):
        library_weights.load(str(folder), "t5")
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"no config.json that can be read"):
        library_weights.load(str(folder), "t5")
