"""DialoGPT (Zhang et al. 2020): transformers' TFGPT2LMHeadModel on source and target joined by the end token, loss on the target.

    x_1 .. x_n [end] y_1 .. y_m  -->  y_1 .. y_m [end]

Sources are padded behind their pieces, so padding stands between source and target: it is masked, and positions count pieces only.
"""

from typing import ClassVar

import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.layers.decoder import MASKED
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.shapes import dimension
from hcl_tf.models.base import Batch
from hcl_tf.models.gpt2_body import GPT2Body
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.plain_likelihood import PlainLikelihood
from hcl_tf.models.settings.library import LibraryModelSettings


class DialoGPT(PlainLikelihood, GPT2Body):
    """A GPT-2 that goes on from the source."""

    random_sizes: ClassVar[dict[str, str]] = {"paper": "6x768"}  # with 6 decoder layers: GPT-2 small

    def __init__(self, settings: LibraryModelSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        positions, needed = self.gpt2.config.n_positions, inputs.source_length + 1 + max(inputs.target_length, settings.maximum_length)
        if needed > positions:
            raise UserError(
                f"--maximum_length={settings.maximum_length}: source and output take {needed} positions, but the model has {positions}; "
                "give a smaller one, or prepare the data with a shorter --source_length"
            )

    @property
    def positions(self) -> int:
        return self.inputs_.source_length + 1 + self.inputs_.target_length

    # -- objective --------------------------------------------------------------------------------------------------

    def nll(self, batch: Batch, noise: Noise | None, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the NLL of the targets, summed over real examples, and [B] of each."""
        states = self.teach(batch, noise)
        return self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), training=training)

    # -- parts ------------------------------------------------------------------------------------------------------

    def source(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the sources' pieces without start and end, [B, S], and their mask, [B, S] float32."""
        ids = batch["source_ids"]
        pieces = ids[:, 2:] != self.inputs_.pad_id  # a piece is what something follows
        return tf.where(pieces, ids[:, 1:-1], 0), tf.cast(pieces, tf.float32)  # padding may have a number past the embeddings

    def teach(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """Computes the states [B, T + 1, D] from which each token of the target is predicted."""
        source, mask = self.source(batch)
        target = tf.pad(batch["target_ids"][:, 1:-1], [[0, 0], [1, 0]], constant_values=self.inputs_.sep_id)
        embedded = tf.concat([self.gpt2.transformer.wte(source), self.tokens.embed(target)], 1)
        mask = tf.concat([mask, tf.ones(tf.shape(target))], 1)  # nothing that counts looks at a target's padding
        return self.transform(embedded, mask, noise)[0][:, source.shape[1] :]

    def transform(self, embedded: tf.Tensor, mask: tf.Tensor, noise: Noise | None, use_cache: bool = False) -> tuple:
        """Runs embeddings [B, L, D] with a mask [B, L] through the Transformer.

        Returns:
          The states [B, L, D] and, with `use_cache`, the keys and values of each block, [2, B, heads, L, D / heads].
        """
        positions = tf.cast(tf.maximum(tf.cumsum(mask, 1) - 1.0, 0.0), tf.int32)
        with self.dropout.on(noise):
            return self.gpt2.transformer(
                None, inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=use_cache, return_dict=False
            )

    # -- decoding ---------------------------------------------------------------------------------------------------

    @property
    def start_id(self) -> int:
        return self.inputs_.sep_id

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[list, dict]:
        ids, mask = self.source(batch)
        _, keys_values = self.transform(self.gpt2.transformer.wte(ids), mask, None, use_cache=True)
        rows, length = dimension(ids) * beams, self.settings.maximum_length + 1
        config = self.gpt2.config
        empty = tf.zeros([rows, config.n_head, length, config.n_embd // config.n_head], keys_values[0].dtype)
        fixed = {
            "keys_values": list(keys_values),
            "bias": ((1.0 - mask) * MASKED)[:, None, None],  # --> [B, 1, 1, S]
            "count": tf.cast(tf.reduce_sum(mask, 1), tf.int32),
            "output": self.tokens.decoding_output(),
        }
        return [(empty, empty) for _ in self.gpt2.transformer.h], fixed

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: list, fixed: dict) -> tuple[tf.Tensor, list]:
        body, config, batch = self.gpt2.transformer, self.gpt2.config, tf.shape(fixed["count"])[0]
        embedded = self.tokens.embed(self.tokens.ids(ids))
        # The beams of a text are queries side by side. Their keys are the source's and then those of all beams, of which each sees its own.
        beams, length = tf.shape(ids)[0] // batch, cache[0][0].shape[2]
        states = tf.reshape(embedded, [batch, beams, config.n_embd]) + body.wpe(fixed["count"] + position)[:, None]
        bias, is_now, kept = self.beam_bias(fixed["bias"], beams, length, position), tf.range(length)[:, None] == position, []
        for block, past, source in zip(body.h, cache, fixed["keys_values"], strict=True):
            own = tf.stack([self.beside(part, batch, beams) for part in past])  # --> [2, B, heads, beams * length, D / heads]
            # x, layer_past, attention_mask, head_mask, encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions
            states, present = block(states, tf.concat([source, own], 3), bias, None, None, None, True, False)
            new = tf.transpose(present[:, :, :, -beams:], [0, 1, 3, 2, 4])  # --> [2, B, beams, heads, D / heads]
            new = tf.reshape(new, [2, batch * beams, config.n_head, 1, config.n_embd // config.n_head])
            kept.append(tuple(tf.where(is_now, new[i], past[i]) for i in range(2)))
        states = tf.reshape(body.ln_f(states), [batch * beams, config.n_embd])
        return self.tokens.scores(states, fixed["output"]), kept

    @staticmethod
    def beside(keys: tf.Tensor, batch: tf.Tensor, beams: tf.Tensor) -> tf.Tensor:
        """Puts the beams of a text side by side: [B * beams, heads, L, D / heads] -> [B, heads, beams * L, D / heads]."""
        _, heads, length, size = keys.shape
        split = tf.transpose(tf.reshape(keys, [batch, beams, heads, length, size]), [0, 2, 1, 3, 4])
        return tf.reshape(split, [batch, heads, beams * length, size])

    @staticmethod
    def beam_bias(source: tf.Tensor, beams: tf.Tensor, length: int, position: tf.Tensor) -> tf.Tensor:
        """Computes what is added to attention scores so that each beam sees the source, what it wrote before, and itself.

        Args:
          source: [B, 1, 1, S], 0 or `MASKED`. length: L, positions that the cache holds of a beam. position: the one that is computed.

        Returns:
          [B, 1, beams, S + beams * L + beams].
        """
        same = tf.eye(beams, dtype=tf.bool)
        before = same[:, :, None] & (tf.range(length) < position)
        own = tf.concat([tf.reshape(before, [beams, beams * length]), same], 1)
        shape = [tf.shape(source)[0], 1, beams]
        parts = source, tf.where(own, 0.0, MASKED)[None, None]
        return tf.concat([tf.broadcast_to(part, [*shape, tf.shape(part)[3]]) for part in parts], 3)
