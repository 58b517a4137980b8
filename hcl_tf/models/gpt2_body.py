"""What systems on transformers' GPT-2 share: the library's model with our noise, tied embeddings, and published weights."""

import tensorflow as tf
from transformers import GPT2Config, TFGPT2LMHeadModel

from hcl_tf.layers import library_weights
from hcl_tf.layers.elementwise import gelu_tanh
from hcl_tf.layers.library_dropout import replace_dropout
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings


class GPT2Body(System):
    """Base of systems with a GPT-2, as deep as other systems' encoder and decoder together."""

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        self.gpt2 = TFGPT2LMHeadModel(self._config(), name="gpt2")
        self.gpt2.build_in_name_scope()
        self.dropout = replace_dropout(self.gpt2)
        for block in self.gpt2.transformer.h:
            if self.gpt2.config.activation_function == "gelu_new":
                block.mlp.act = gelu_tanh  # the library's takes a quarter of a step on a CPU
        table = self._embedding_table
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, table, biased=False, name="tokens")

    @property
    def positions(self) -> int:
        """How many positions a model with random weights has."""
        raise NotImplementedError

    def _embedding_table(self) -> tf.Variable:
        return self.gpt2.transformer.wte.embeddings

    @classmethod
    def read_published(cls, source: str) -> PublishedModel:
        return library_weights.load(source, "gpt2")

    def load_published(self, published: PublishedModel) -> list[str]:
        return library_weights.assign(self.gpt2, published)

    def _config(self) -> GPT2Config:
        s, inputs, shape = self.settings, self.inputs_, self.inputs_.shape
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), s.dropout)
        if inputs.library:
            return GPT2Config.from_dict({**inputs.library, **rates})
        return GPT2Config(
            vocab_size=inputs.vocabulary, n_embd=shape.width, n_head=shape.heads, n_inner=shape.intermediate,
            n_layer=shape.layers + s.decoder_layers, n_positions=self.positions, **rates,
        )  # fmt: skip
