"""Seq2Seq: an LSTM encoder-decoder (Sutskever et al. 2014) with attention and a pointer, as See et al. (2017, sections 2.1 and 2.2)
put them together, without their coverage.

    source x --bidirectional LSTM--> states --additive attention--> what is attended to, and what is copied
    LSTM --> s_t --------------------'--> p_gen P_vocab + (1 - p_gen) attention
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.additive_attention import AdditiveAttention
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, Inputs, Sum
from hcl_tf.models.copying import Copying
from hcl_tf.models.recurrent_body import RecurrentBody
from hcl_tf.models.settings.recurrent import Seq2SeqSettings


class Seq2Seq(Copying, RecurrentBody):
    """The decoder reads words alone, not what it attended to a step before (so the paper; its code feeds both): all of its states are
    there before any attention is taken."""

    cell = "lstm"

    def __init__(self, settings: Seq2SeqSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        self.attention = AdditiveAttention(inputs.shape.width, name="attention")
        self.combine = keras.layers.Dense(inputs.shape.width, name="combine")
        self.build_pointer()

    # -- objective --------------------------------------------------------------------------------------------------

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        nll, each = self.nll(batch, noise if training else None, training)
        return {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}

    def nll(self, batch: Batch, noise: Noise | None, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """NLL of the targets summed over real examples, and [B] of each."""
        memory, last = self.remember(batch["source_ids"], noise)
        embedded = self.tokens.embed(self.decoder_inputs(batch, noise))
        states = self.decoder(embedded, self.decoder.begin(last), noise)
        features, attention, context = self.attend(states, embedded, memory)
        return self.copying_nll(batch, features, context, attention, training)

    # -- parts ------------------------------------------------------------------------------------------------------

    def remember(self, ids: tf.Tensor, noise: Noise | None) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """What a source [B, S] is to attention, and the encoder's last states."""
        states, last, _ = self.read(ids, noise)
        return {"states": states, "items": self.attention.remember(states), "words": self.is_word(ids)}, last

    def attend(self, states: tf.Tensor, embedded: tf.Tensor, memory: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """From decoder states and inputs [B, L, D]: what the output layer gets [B, L, D], the attention [B, L, S], and what p_gen
        depends on [B, L, 4 D] (See et al., eqs 1 to 4 and 8)."""
        attention = self.attention(states, memory["items"], memory["words"])
        found = tf.matmul(tf.cast(attention, memory["states"].dtype), memory["states"])
        seen = tf.concat([found, tf.cast(states, found.dtype)], -1)
        return self.combine(seen), attention, tf.concat([seen, tf.cast(embedded, found.dtype)], -1)

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[tuple, dict]:
        memory, last = self.remember(batch["source_ids"], None)
        return self.decoder.begin(tf.repeat(last, beams, 0)), {"memory": memory, **self.copying_start(batch)}

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: tuple, fixed: dict) -> tuple[tf.Tensor, tuple]:
        embedded = self.tokens.embed(self.copied_pieces(ids, fixed))
        states, cache = self.decoder.step(embedded, cache)
        by_text = lambda rows: tf.reshape(rows, [tf.shape(fixed["memory"]["words"])[0], -1, rows.shape[-1]])  # noqa: E731
        features, attention, context = self.attend(by_text(states), by_text(embedded), fixed["memory"])
        return self.copying_scores(features, context, attention, fixed), cache
