"""A small frozen encoder whose word embeddings lie far apart, as published ones do and freshly drawn ones do not."""

from pathlib import Path

import tf_keras as keras
from transformers import BertConfig, TFBertModel

from hcl_tf.data.tokenizers.wordpiece import Tokenizer

SPREAD = 0.2  # of the embeddings; BERT draws them with 0.02


def separated_bert(folder: Path, tokenizer: Tokenizer) -> Path:
    """Writes a BERT of one layer as a hub has it, with the vocabulary of a tokeniser."""
    keras.utils.set_random_seed(7)
    shape = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=128,
        initializer_range=SPREAD, max_position_embeddings=64,
    )  # fmt: skip
    model = TFBertModel(shape)
    model.build_in_name_scope()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokenizer.vocabulary()) + "\n", encoding="utf-8")
    return folder
