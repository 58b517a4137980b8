"""Small published models as a hub has them: weights, configuration and a tokeniser of their own, learnt from the bundled samples."""

import json
from pathlib import Path

import sentencepiece
import tf_keras as keras
from safetensors.numpy import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2TokenizerFast,
    T5Config,
    TFGPT2LMHeadModel,
    TFPreTrainedModel,
    TFT5ForConditionalGeneration,
)

from hcl_tf import config

SPARE = 5  # rows of T5's table that stand for no piece, as in the published ones


def texts() -> list[str]:
    lines = config.TASKS["qqp"].sample.read_text(encoding="utf-8").splitlines()
    return [text for line in lines for text in json.loads(line).values() if isinstance(text, str)]


def t5(folder: Path, layout: str = "h5", files: str = "spiece") -> Path:
    """A T5 of two layers. layout: h5, or safetensors in PyTorch's layout. files: of the tokeniser, spiece (alone) or json."""
    folder.mkdir()
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(texts()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.Train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=400, model_type="unigram", character_coverage=1.0,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    for name in ("corpus.txt", "spiece.vocab"):
        (folder / name).unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 0, "tokenizer_class": "T5Tokenizer"}))
    if files == "json":
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        (folder / "spiece.model").unlink()
    keras.utils.set_random_seed(5)
    shape = T5Config(
        vocab_size=400 + SPARE, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return _write(TFT5ForConditionalGeneration(shape), folder, layout)


def gpt2(folder: Path, layout: str = "h5", files: str = "merges") -> Path:
    """A GPT-2 of two layers. files: merges (vocab.json and merges.txt) or json."""
    folder.mkdir()
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(texts(), vocab_size=400, special_tokens=["<|endoftext|>"], show_progress=False)
    learner.save_model(str(folder))
    if files == "json":
        GPT2TokenizerFast(vocab_file=str(folder / "vocab.json"), merges_file=str(folder / "merges.txt")).save_pretrained(folder)
        for name in ("vocab.json", "merges.txt"):
            (folder / name).unlink()
    keras.utils.set_random_seed(6)
    shape = GPT2Config(vocab_size=learner.get_vocab_size(), n_embd=16, n_head=2, n_layer=2, n_positions=160, bos_token_id=0, eos_token_id=0)
    return _write(TFGPT2LMHeadModel(shape), folder, layout)


def _write(model: TFPreTrainedModel, folder: Path, layout: str) -> Path:
    model.build_in_name_scope()
    for variable in model.variables:  # nothing stays at ones or zeros, where a tensor in the wrong place would not show
        variable.assign_add(keras.initializers.RandomNormal(stddev=0.3)(variable.shape))
    model.save_pretrained(folder)
    if layout == "safetensors":
        tensors = {}
        for path, variable in model.get_weight_paths().items():
            value, parts = variable.numpy(), path.split(".")
            if parts[-1] == "kernel":
                value, parts[-1] = value.T.copy(), "weight"
            elif parts[-1] == "embeddings":
                parts[-1:] = ["relative_attention_bias", "weight"] if parts[-2] == "SelfAttention" else ["weight"]
            elif parts[-1] in ("gamma", "beta"):
                parts[-1] = {"gamma": "weight", "beta": "bias"}[parts[-1]]
            tensors[".".join(parts)] = value.reshape(-1) if parts[-1] == "bias" else value
        if "shared.weight" in tensors:  # as the published files have it
            tensors |= {f"{stack}.embed_tokens.weight": tensors["shared.weight"].copy() for stack in ("encoder", "decoder")}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "tf_model.h5").unlink()
    return folder
