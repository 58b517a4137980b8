"""T5 (Raffel et al. 2020): transformers' TFT5ForConditionalGeneration with our noise, our output layer and our beam search.

    source x --T5 encoder--> states --.
                              T5 decoder --> y

The library's layers do all the arithmetic. Teacher forcing calls its encoder and decoder; decoding calls the same blocks one by one,
because the decoder as a whole lets its cache grow from step to step, and compiled steps need fixed shapes.
"""

from typing import ClassVar

import tensorflow as tf
import tf_keras as keras
from transformers import T5Config, TFT5ForConditionalGeneration

from hcl_tf.errors import UserError
from hcl_tf.layers import library_weights
from hcl_tf.layers.decoder import MASKED
from hcl_tf.layers.library_dropout import replace_dropout
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Batch, Inputs, Sum, System
from hcl_tf.models.settings.library import LibraryModelSettings


class T5(System):
    """An output starts with `cls_id` and ends with `sep_id`; padding is masked in the encoder and behind the end of a target."""

    random_sizes: ClassVar[dict[str, str]] = {"paper": "6x512"}  # T5-small

    def __init__(self, settings: LibraryModelSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        if settings.mixed_precision:
            raise UserError(f"--mixed_precision: --model={settings.model} masks with -1e9, which float16 can't hold; drop the flag")
        self.t5 = TFT5ForConditionalGeneration(self._config(), name="t5")
        self.t5.build_in_name_scope()
        self.dropout = replace_dropout(self.t5)
        table = lambda: self.t5.shared.embeddings  # noqa: E731
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, table, biased=False, name="tokens")

    @classmethod
    def read_published(cls, source: str) -> PublishedModel:
        published = library_weights.load(source, "t5")
        if not published.config.get("tie_word_embeddings", True):
            raise UserError(f"--pretrained={source}: its output layer is not tied with its embeddings (T5 v1.1); give T5 v1.0")
        return published

    def load_published(self, published: PublishedModel) -> list[str]:
        return library_weights.assign(self.t5, published)

    def _config(self) -> T5Config:
        s, shape = self.settings, self.inputs_.shape
        if self.inputs_.library:
            return T5Config.from_dict({**self.inputs_.library, "dropout_rate": s.dropout})
        return T5Config(
            vocab_size=self.inputs_.vocabulary, d_model=shape.width, d_kv=shape.width // shape.heads, d_ff=shape.intermediate,
            num_layers=shape.layers, num_decoder_layers=s.decoder_layers, num_heads=shape.heads, dropout_rate=s.dropout,
        )  # fmt: skip

    # -- objective --------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        _, states = self.encode_and_teach(batch, noise if training else None)
        nll, each = self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), training=training)
        return {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0}

    # -- parts ------------------------------------------------------------------------------------------------------

    def encode(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """[B, S + 2, D] states of the source."""
        ids = batch["source_ids"]
        with self.dropout.on(noise):
            return self.t5.encoder(None, inputs_embeds=self.t5.shared(ids), attention_mask=self.source_mask(batch), return_dict=False)[0]

    def source_mask(self, batch: Batch) -> tf.Tensor:
        """[B, S + 2] float32."""
        return tf.cast(batch["source_ids"] != self.inputs_.pad_id, tf.float32)

    def encode_and_teach(self, batch: Batch, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        """[B, S + 2, D] states of the source and [B, T + 1, D] of the decoder under teacher forcing, as the output layer reads them."""
        memory = self.encode(batch, noise)
        with self.dropout.on(noise):
            states = self.t5.decoder(
                None, inputs_embeds=self.tokens.embed(batch["target_ids"][:, :-1]), encoder_hidden_states=memory,
                encoder_attention_mask=self.source_mask(batch), use_cache=False, return_dict=False,
            )[0]  # fmt: skip
        return memory, self.scaled(states)

    def scaled(self, states: tf.Tensor) -> tf.Tensor:
        """T5 shrinks what goes into an output layer that is tied with the embeddings."""
        return states * self.t5.config.d_model**-0.5

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[list, dict]:
        memory, length = self.encode(batch, None), self.settings.maximum_length + 1
        config, blocks = self.t5.config, self.t5.decoder.block
        rows = (memory.shape[0] or tf.shape(memory)[0]) * beams
        empty = tf.zeros([rows, config.num_heads, length, config.d_kv])
        places = blocks[0].layer[0].SelfAttention.compute_bias(length, length)[0]  # the first block's, for all: [heads, length, length]
        fixed = {
            "memory": memory,
            "keys_values": [keys_values(block.layer[1].EncDecAttention, memory) for block in blocks],
            "memory_bias": ((1.0 - self.source_mask(batch)) * MASKED)[:, None, None],
            "places": places,
            "output": self.tokens.decoding_output(),
        }
        return [(empty, empty) for _ in blocks], fixed

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: list, fixed: dict) -> tuple[tf.Tensor, list]:
        states, kept = self.tokens.embed(self.tokens.ids(ids))[:, None], []  # [rows, 1, D]
        rows, batch = tf.shape(states)[0], tf.shape(fixed["memory"])[0]
        # The library puts this position's key behind the cache's `length` places, whichever of them are filled.
        slots = tf.range(cache[0][0].shape[2])
        before = tf.where(slots < position, fixed["places"][:, position], MASKED)
        bias = tf.concat([before, fixed["places"][:, :1, 0]], 1)[None, :, None]  # [1, heads, 1, length + 1]
        for block, past, memory in zip(self.t5.decoder.block, cache, fixed["keys_values"], strict=True):
            states, present, *_ = block.layer[0](states, position_bias=bias, past_key_value=past, use_cache=True)
            kept.append(tuple(tf.where((slots == position)[:, None], new[:, :, -1:], old) for new, old in zip(present, past, strict=True)))
            beams = tf.reshape(states, [batch, rows // batch, states.shape[-1]])  # the beams of a text look into one memory
            beams = block.layer[1](beams, fixed["memory"], position_bias=fixed["memory_bias"], past_key_value=memory)[0]
            states = block.layer[2](tf.reshape(beams, [rows, 1, states.shape[-1]]))
        states = self.scaled(self.t5.decoder.final_layer_norm(states))[:, 0]
        return self.tokens.scores(states, fixed["output"]), kept


def keys_values(attention: keras.layers.Layer, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What a TFT5Attention makes of what it attends to, [B, S, D] -> two of [B, heads, S, D / heads], so that steps need not."""
    rows, length = tf.shape(memory)[0], memory.shape[1]
    shape = [rows, length, attention.n_heads, attention.key_value_proj_dim]
    return tuple(tf.transpose(tf.reshape(layer(memory), shape), [0, 2, 1, 3]) for layer in (attention.k, attention.v))
