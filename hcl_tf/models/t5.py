"""T5 (Raffel et al. 2020): transformers' TFT5ForConditionalGeneration with our noise, our output layer and our beam search.

    source x --T5 encoder--> states --.
                              T5 decoder --> y

The library's layers do all the arithmetic. Teacher forcing calls its encoder and decoder; decoding calls the same blocks one by one,
because the decoder as a whole lets its cache grow from step to step, and compiled steps need fixed shapes.
"""

from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.decoder import MASKED
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.shapes import dimension
from hcl_tf.models.base import Batch
from hcl_tf.models.plain_likelihood import PlainLikelihood
from hcl_tf.models.t5_body import T5Body


class T5(PlainLikelihood, T5Body):
    """A T5. An output starts with `cls_id` and ends with `sep_id`; padding is masked in the encoder and behind the end of a target."""

    random_sizes: ClassVar[dict[str, str]] = {"paper": "6x512"}  # T5-small

    # -- objective --------------------------------------------------------------------------------------------------

    def nll(self, batch: Batch, noise: Noise | None, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the NLL of the targets, summed over real examples, and [B] of each."""
        _, states = self.encode_and_teach(batch, noise)
        return self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), training=training)

    # -- parts ------------------------------------------------------------------------------------------------------

    def encode(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """Computes the states of the sources, [B, S + 2, D]."""
        ids = batch["source_ids"]
        with self.dropout.on(noise):
            return self.t5.encoder(None, inputs_embeds=self.t5.shared(ids), attention_mask=self.source_mask(batch), return_dict=False)[0]

    def source_mask(self, batch: Batch) -> tf.Tensor:
        """Says which pieces of the sources are not padding, [B, S + 2] float32."""
        return tf.cast(batch["source_ids"] != self.inputs_.pad_id, tf.float32)

    def encode_and_teach(self, batch: Batch, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the states of the sources [B, S + 2, D] and, scaled for the output layer, of the targets [B, T + 1, D]."""
        memory = self.encode(batch, noise)
        with self.dropout.on(noise):
            states = self.t5.decoder(
                None, inputs_embeds=self.tokens.embed(batch["target_ids"][:, :-1]), encoder_hidden_states=memory,
                encoder_attention_mask=self.source_mask(batch), use_cache=False, return_dict=False,
            )[0]  # fmt: skip
        return memory, self.scaled(states)

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[list, dict]:
        memory, length = self.encode(batch, None), self.settings.maximum_length + 1
        config, blocks = self.t5.config, self.t5.decoder.block
        rows = dimension(memory) * beams
        empty = tf.zeros([rows, config.num_heads, length, config.d_kv])
        position_bias = blocks[0].layer[0].SelfAttention.compute_bias(length, length)[0]  # the first block's, for all blocks
        fixed = {
            "memory": memory,
            "keys_values": [keys_values(block.layer[1].EncDecAttention, memory) for block in blocks],
            "memory_bias": ((1.0 - self.source_mask(batch)) * MASKED)[:, None, None],  # --> [B, 1, 1, S + 2]
            "position_bias": position_bias,  # [heads, length, length]
            "output": self.tokens.decoding_output(),
        }
        return [(empty, empty) for _ in blocks], fixed

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: list, fixed: dict) -> tuple[tf.Tensor, list]:
        states, kept = self.tokens.embed(self.tokens.ids(ids))[:, None], []  # --> [rows, 1, D]
        rows, batch = tf.shape(states)[0], tf.shape(fixed["memory"])[0]
        # The library puts this position's key behind the cache's `length` places, whichever of them are filled.
        slots = tf.range(cache[0][0].shape[2])
        before = tf.where(slots < position, fixed["position_bias"][:, position], MASKED)
        bias = tf.concat([before, fixed["position_bias"][:, :1, 0]], 1)[None, :, None]  # --> [1, heads, 1, length + 1]
        for block, past, memory in zip(self.t5.decoder.block, cache, fixed["keys_values"], strict=True):
            states, present, *_ = block.layer[0](states, position_bias=bias, past_key_value=past, use_cache=True)
            kept.append(tuple(tf.where((slots == position)[:, None], new[:, :, -1:], old) for new, old in zip(present, past, strict=True)))
            beams = tf.reshape(states, [batch, rows // batch, states.shape[-1]])  # the beams of a text look into one memory
            beams = block.layer[1](beams, fixed["memory"], position_bias=fixed["memory_bias"], past_key_value=memory)[0]
            states = block.layer[2](tf.reshape(beams, [rows, 1, states.shape[-1]]))
        states = self.scaled(self.t5.decoder.final_layer_norm(states))[:, 0]
        return self.tokens.scores(states, fixed["output"]), kept


def keys_values(attention: keras.layers.Layer, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes keys and values, [B, heads, S, D / heads] each, that a TFT5Attention makes of a memory [B, S, D], once for all steps."""
    rows, length = tf.shape(memory)[0], memory.shape[1]
    shape = [rows, length, attention.n_heads, attention.key_value_proj_dim]
    return tuple(tf.transpose(tf.reshape(layer(memory), shape), [0, 2, 1, 3]) for layer in (attention.k, attention.v))
