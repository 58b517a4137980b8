"""Loads published weights of transformers' TF classes, from a folder or hub name into a model built from their configuration."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError

from hcl_tf.data.tokenizers import library, vocabulary_files, wordpiece
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.errors import UserError
from hcl_tf.files import hub, pretraining_record

if TYPE_CHECKING:  # its import costs a second that runs of other systems need not wait for
    from transformers import TFPreTrainedModel

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "tf_model.h5")


@dataclass(frozen=True)
class PublishedModel:
    """Published weights that were found but not read yet.

    Attributes:
      source: the name that the user gave. folder: where the files are. config: their config.json.
      tokenizer: the one that lies beside them: the library's, or BERT's WordPiece (hcl_tf.pretrain). description: one line for the run's
        record.
    """

    source: str
    folder: Path
    config: dict
    tokenizer: Tokenizer
    description: str


def load(source: str, model_type: str) -> PublishedModel:
    """Finds the weights that --pretrained names.

    Args:
      source: a folder or a hub name with config.json, model.safetensors (PyTorch's layout; one file, or shards with their index) or
        tf_model.h5, and the tokeniser's files.
      model_type: what config.json must say, such as "t5".

    Raises:
      UserError: nothing there, another kind of model, weights that only PyTorch could read, or no tokeniser.
    """
    folder = Path(source) if os.path.isdir(source) else _from_hub(source)
    config = _config(folder, source, model_type)
    files = [name for name in WEIGHTS if (folder / name).is_file()]
    if not files:
        binary = (folder / "pytorch_model.bin").is_file()
        why = "its weights only as pytorch_model.bin, which needs PyTorch to read" if binary else f"no {', '.join(WEIGHTS)}"
        raise UserError(f"--pretrained={source}: {folder.name} has {why}; give a folder with model.safetensors or tf_model.h5")
    tokenizer = _tokenizer(folder, source, config)
    name = f"folder {folder.resolve().name}" if os.path.isdir(source) else source
    description = f"{name}: {model_type}, {config['vocab_size']:,} pieces, from {files[0]}{pretraining_record.origin_of(folder)}"
    return PublishedModel(source, folder, config, tokenizer, description)


def _tokenizer(folder: Path, source: str, config: dict) -> Tokenizer:
    """Reads the tokeniser beside the weights. Raises `UserError` where there is none, or where it frames texts otherwise than the model."""
    if not (folder / vocabulary_files.TEXT).is_file():
        return library.published(folder, source, config["vocab_size"], config.get("decoder_start_token_id"))
    pieces = vocabulary_files.of_folder(folder)
    if len(pieces) > config["vocab_size"]:
        raise UserError(
            f"--pretrained={source}: {len(pieces):,} pieces, but the model {config['vocab_size']:,}; give those that belong together"
        )
    found = wordpiece.from_pieces(pieces, folder.name)
    expected = {"eos_token_id": found.sep_id} | ({"decoder_start_token_id": found.cls_id} if config["model_type"] == "t5" else {})
    for key, number in expected.items():
        if config.get(key) != number:
            raise UserError(
                f"--pretrained={source}: its config.json says {key} {config.get(key)}, but BERT's pieces frame texts with {number}; "
                "choose weights of hcl_tf.pretrain, or some with a tokeniser of their own"
            )
    return found


def assign(model: "TFPreTrainedModel", published: PublishedModel) -> list[str]:
    """Copies published weights into every variable of the model, or into none.

    Returns:
      A line for each variable: its path and shape.

    Raises:
      UserError: a tensor is missing, has another shape, or the file is damaged.
    """
    where = f"--pretrained={published.source}"
    try:
        theirs, report = type(model).from_pretrained(published.folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{where}: damaged, or not what its config.json says ({str(error).splitlines()[0]}); fetch it again") from error
    if missing := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise UserError(f"{where}: tensor {missing[0]} is missing or has another shape ({len(missing)} in all); fetch the weights again")
    values = {path: variable.numpy() for path, variable in theirs.get_weight_paths().items()}
    ours = model.get_weight_paths()
    for path in ours:
        if not np.isfinite(values[path]).all():
            raise UserError(f"{where}: {path} holds values that are not finite; fetch the weights again")
    for path, variable in ours.items():
        variable.assign(values[path])
    return [f"{path} {list(variable.shape)}" for path, variable in ours.items()]


def _from_hub(source: str) -> Path:
    if not hub.could_be_name(source):
        raise UserError(f"--pretrained={source}: no such folder; give a folder with config.json and model.safetensors, or a hub name")
    try:
        return hub.fetch_weights(source, library.FILES)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--pretrained={source}: neither a folder here nor to be had from a hub ({type(error).__name__}); "
            "give a folder, or leave the flag out for random weights"
        ) from error


def _config(folder: Path, source: str, model_type: str) -> dict:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = config.get("model_type")
        rows = config.get("vocab_size")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"--pretrained={source}: {folder.name} has no config.json that can be read; fetch it again") from error
    if found != model_type or not isinstance(rows, int):
        raise UserError(f"--pretrained={source}: its config.json says {found!r}, but {model_type!r} is needed; choose other weights")
    return config
