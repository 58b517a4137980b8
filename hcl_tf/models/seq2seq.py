"""Seq2Seq: an LSTM encoder-decoder (Sutskever et al. 2014) with attention and a pointer, as See et al. (2017, sections 2.1 and 2.2)
put them together, without their coverage.

    source x --bidirectional LSTM--> states --additive attention--> what is attended to, and what is copied
    LSTM --> s_t --------------------'--> p_gen P_vocab + (1 - p_gen) attention
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.additive_attention import AdditiveAttention
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch
from hcl_tf.models.copying import Copying
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.plain_likelihood import PlainLikelihood
from hcl_tf.models.recurrent_body import RecurrentBody
from hcl_tf.models.settings.recurrent import Seq2SeqSettings


class Seq2Seq(PlainLikelihood, Copying, RecurrentBody):
    """An LSTM encoder-decoder with attention and a pointer.

    The decoder reads words alone, not what it attended to a step before, as the paper has it (its code feeds both). So all of its states
    can be computed before any attention is.
    """

    cell = "lstm"

    def __init__(self, settings: Seq2SeqSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        self.attention = AdditiveAttention(inputs.shape.width, name="attention")
        self.combine = keras.layers.Dense(inputs.shape.width, name="combine")
        self.build_pointer()

    # -- objective --------------------------------------------------------------------------------------------------

    def nll(self, batch: Batch, noise: Noise | None, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the NLL of the targets, summed over real examples, and [B] of each."""
        memory, last = self.remember(batch["source_ids"], noise)
        embedded = self.tokens.embed(self.decoder_inputs(batch, noise))
        states = self.decoder(embedded, self.decoder.begin(last), noise)
        features, attention, context = self.attend(states, embedded, memory)
        return self.copying_nll(batch, features, context, attention, training)

    # -- parts ------------------------------------------------------------------------------------------------------

    def remember(self, ids: tf.Tensor, noise: Noise | None) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Reads sources [B, S]. Returns the memory that attention needs, and the encoder's last states."""
        states, last, _ = self.read(ids, noise)
        return {"states": states, "items": self.attention.remember(states), "words": self.is_word(ids)}, last

    def attend(self, states: tf.Tensor, embedded: tf.Tensor, memory: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Attends from decoder states [B, L, D] and inputs [B, L, D] (See et al., eqs 1 to 4 and 8).

        Returns:
          What the output layer gets, [B, L, D]; the attention, [B, L, S]; what p_gen depends on, [B, L, 4 D].
        """
        attention = self.attention(states, memory["items"], memory["words"])
        found = tf.matmul(tf.cast(attention, memory["states"].dtype), memory["states"])  # --> [B, L, 2 D]
        seen = tf.concat([found, tf.cast(states, found.dtype)], -1)
        return self.combine(seen), attention, tf.concat([seen, tf.cast(embedded, found.dtype)], -1)

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[tuple, dict]:
        memory, last = self.remember(batch["source_ids"], None)
        return self.decoder.begin(tf.repeat(last, beams, 0)), {"memory": memory, **self.copying_start(batch)}

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: tuple, fixed: dict) -> tuple[tf.Tensor, tuple]:
        embedded = self.tokens.embed(self.copied_pieces(ids, fixed))
        states, cache = self.decoder.step(embedded, cache)
        by_text = (self.by_text(rows, fixed) for rows in (states, embedded))
        features, attention, context = self.attend(*by_text, fixed["memory"])
        return self.copying_scores(features, context, attention, fixed), cache
