"""Writes pretrained weights as published ones are laid out, so that every loader reads them: ours, and transformers'.

config.json, model.safetensors      PyTorch's layout
vocab.txt, tokenizer_config.json    the pieces of the prepared data
pretraining.json                    settings, texts, losses, machine (files/pretraining_record.py)
README.md                           the same for people
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from hcl_tf.data.tokenizers.vocabulary_files import TEXT
from hcl_tf.files.json_text import to_json
from hcl_tf.files.pretraining_record import RECORD, WEIGHTS
from hcl_tf.files.whole_folder import whole_or_nothing
from hcl_tf.layers import bert_weights
from hcl_tf.pretraining.systems import CausalLanguageModel, MaskedLanguageModel, Pretraining, SpanCorruption
from hcl_tf.settings import EQUAL

OBJECTIVES = {
    "mlm": "masked language modelling (Devlin et al. 2019)",
    "span": "span corruption (Raffel et al. 2020)",
    "causal": "causal language modelling (Radford et al. 2019)",
}


def publish(system: Pretraining, vocabulary: bytes, record: dict[str, Any], out: Path) -> None:
    """Writes the folder, or nothing at all. Earlier weights of the same kind are replaced; whoever calls it has checked that they may be.

    Args:
      vocabulary: the content of vocab.txt. record: what pretraining.json is to hold.

    Raises:
      UserError: `out` holds something else, or can't be written.
    """
    tensors, config = {"mlm": _bert, "span": _t5, "causal": _gpt2}[record["settings"]["objective"]](system)
    with whole_or_nothing(out, RECORD, overwrite=True, what="a folder of hcl_tf.pretrain") as folder:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
        _write_json(folder / "config.json", config)
        (folder / TEXT).write_bytes(vocabulary)
        _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": record["lowercase"]})
        (folder / RECORD).write_bytes(to_json(record, indent=2) + b"\n")
        (folder / "README.md").write_text(card(record), encoding="utf-8")


def card(record: dict[str, Any]) -> str:
    """Returns the model card."""
    s, loss, machine = record["settings"], record["losses"], record["environment"]
    texts = f"{record['texts']:,} distinct ones, {record['pieces']:,} pieces"
    steps = f"{record['step']:,} steps of {s['batch_size']} rows of {s['row_length']}, padding {record['padding']:.1%}"
    pairs = f"{loss['bigram']:.3f} nats a piece, where the model loses {loss['token']:.3f}; ends count" if "bigram" in loss else "not asked"
    rows = [
        ("objective", OBJECTIVES[s["objective"]]),
        ("body", f"{record['parameters']:,} parameters, {record['body']}"),
        ("texts", f"{texts}; left out because held-out splits have them: {record['excluded']:,}"),
        ("seen", f"{record['pieces_seen']:,} pieces in {steps}"),
        ("held-out loss", f"{loss['piece']:.3f} nats a piece, on {record['held_out']:,} texts"),
        ("single pieces lose", f"{loss['unigram']:.3f} nats a piece"),
        ("pairs of pieces lose", pairs),
        ("data", ", ".join(value[:12] for value in record["data"]["data"])),
        ("machine", f"{machine['cpu']['name']}, {machine['cpu']['cores_usable']} cores; GPUs: {', '.join(machine['gpus']) or 'none'}"),
        ("speed", f"{record['pieces_a_second']:,.0f} pieces/s" if record["pieces_a_second"] else "not measured in the last start"),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    head = f"Pretrained by hcl_tf {record['version']}: {EQUAL}, no weights published by others."
    return f"# {record['name']}\n\n{head}\n\n| | |\n| --- | --- |\n{table}\n"


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _bert(system: MaskedLanguageModel) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors and the configuration of a BertForMaskedLM."""
    shape, head = system.encoder.shape, "cls.predictions"
    tensors = {f"bert.{name}": array for name, array in bert_weights.arrays_of(system.encoder).items()}
    bias = np.zeros(shape.vocab_size, np.float32)
    bias[system.inputs_.output_ids] = system.tokens.bias.numpy()
    tensors |= {
        f"{head}.transform.dense.weight": system.transform.kernel.numpy().T, f"{head}.transform.dense.bias": system.transform.bias.numpy(),
        f"{head}.transform.LayerNorm.weight": system.transform_norm.gamma.numpy(),
        f"{head}.transform.LayerNorm.bias": system.transform_norm.beta.numpy(), f"{head}.bias": bias,
    }  # fmt: skip
    return tensors, {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": shape.vocab_size, "hidden_size": shape.width,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.positions, "type_vocab_size": shape.types, "layer_norm_eps": shape.epsilon, "hidden_act": "gelu",
        "pad_token_id": system.inputs_.pad_id,
    }  # fmt: skip


def _t5(system: SpanCorruption) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors and the configuration of a T5ForConditionalGeneration."""
    inputs = system.inputs_
    frame = {"pad_token_id": inputs.pad_id, "eos_token_id": inputs.sep_id, "decoder_start_token_id": inputs.cls_id}
    return _library(system.t5, "T5ForConditionalGeneration", frame)


def _gpt2(system: CausalLanguageModel) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors and the configuration of a GPT2LMHeadModel."""
    end = system.inputs_.sep_id
    return _library(system.gpt2, "GPT2LMHeadModel", {"pad_token_id": system.inputs_.pad_id, "bos_token_id": end, "eos_token_id": end})


def _library(model, architecture: str, frame: dict[str, int]) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors of a library's TensorFlow model under PyTorch's names, and its configuration with these special pieces."""
    tensors = dict(_torch_tensor(path, variable.numpy()) for path, variable in model.get_weight_paths().items())
    config = model.config.to_dict() | frame | {"architectures": [architecture]}
    return tensors, {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}


def _torch_tensor(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """Brings a variable's path and value to PyTorch's: kernels as [out, in]; GPT-2's, which have its own layer, as they are."""
    parts = path.split(".")
    if parts[-1] == "kernel":
        return ".".join([*parts[:-1], "weight"]), value.T
    if parts[-1] == "embeddings":
        inner = ["relative_attention_bias"] if parts[-2] == "SelfAttention" else []
        return ".".join([*parts[:-1], *inner, "weight"]), value
    if parts[-1] in ("gamma", "beta"):
        return ".".join([*parts[:-1], {"gamma": "weight", "beta": "bias"}[parts[-1]]]), value
    return path, value.reshape(-1) if parts[-1] == "bias" else value
