"""A BERT encoder with a Transformer decoder (Vaswani et al. 2017).

    source x --BERT--> states --.
                                Transformer decoder --> y

This is the system `bert_gen`, whose encoder has published weights. HCL puts a latent variable between the two. With `--copy` the decoder
can also copy pieces of the source.
"""

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf

from hcl_tf.decoding.beam_search import Hypotheses
from hcl_tf.decoding.contrastive_search import ContrastiveSettings, contrastive_search
from hcl_tf.errors import UserError
from hcl_tf.layers.decoder import TransformerDecoder
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.output import Mixture
from hcl_tf.layers.pointer import CopyAttention
from hcl_tf.layers.shapes import dimension
from hcl_tf.models.base import A_TEXT, Batch, Sum
from hcl_tf.models.bert_body import BertBody
from hcl_tf.models.copying import Copying
from hcl_tf.models.examples import with_negatives
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.settings.encoder_decoder import EncoderDecoderSettings, TransformerSettings


class EncoderDecoder(Copying, BertBody):
    """A system of a BERT encoder and a Transformer decoder.

    Raises:
      UserError: `--maximum_length` is longer than the targets that the decoder learns from.
    """

    scales: ClassVar[Mapping[str, str]] = {**BertBody.scales, "nll_smoothed": A_TEXT}

    def __init__(self, settings: EncoderDecoderSettings | TransformerSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        if s.maximum_length > inputs.target_length:
            raise UserError(
                f"--maximum_length={s.maximum_length}: the decoder learns no more positions than the data's targets have pieces; "
                f"give at most {inputs.target_length}"
            )
        self.decoder = TransformerDecoder(
            s.decoder_layers, width, inputs.shape.heads, inputs.shape.intermediate, inputs.target_length + 1, s.dropout,
            s.attention_init == "identity", name="decoder",
        )  # fmt: skip
        if self.copies:
            self.copy_attention = CopyAttention(width, s.attention_init == "identity", name="copy_attention")
            self.build_pointer()

    @property
    def copies(self) -> bool:
        return self.settings.copy

    # -- objective --------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        noise = noise if training else None
        texts = self.encode(batch, noise)
        states = self.teach(batch, texts["states"], texts["mask"], noise)
        return self.likelihood(batch, texts, states, training)

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {self.likelihood_term(step): 1.0}

    def likelihood(self, batch: Batch, texts: dict, states: tf.Tensor, training: bool) -> dict[str, Sum]:
        """Computes the NLL of the targets, per example (`nll`) and per token (`nll_token`), both without label smoothing.

        In training with `--label_smoothing` there is also `nll_smoothed`, which training then minimises.

        Args:
          texts: what `encode` returned. states: [B, T + 1, D], the decoder's.
        """
        smoothing = self.settings.label_smoothing if training else 0.0
        mixture = self.mixture(batch, texts, states)
        total, each = self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), smoothing, training, mixture)
        if not smoothing:
            return {"nll": Sum(total), "nll_token": Sum(tf.reduce_sum(each), "tokens")}
        plain = tf.reduce_sum(each)
        return {"nll": Sum(plain), "nll_token": Sum(plain, "tokens"), "nll_smoothed": Sum(total)}

    def text_nll(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """Computes the NLL of each target, [B], with gradients. It is for losses that are no sum of NLLs, such as Group-wise's.

        Args:
          batch: needs source_ids, target_ids and example_mask only. noise: for dropout; None: no dropout.
        """
        texts = self.encode(batch, noise)
        return self.nll_of_states(batch, texts, self.teach(batch, texts["states"], texts["mask"], noise))

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        texts, found = self.encode(batch, None), {}
        for name, each in (("nll", batch), ("nll_negative", with_negatives(batch))):
            found[name] = self.nll_of_states(each, texts, self.teach(each, texts["states"], texts["mask"], None))
        return found

    def nll_of_states(self, batch: Batch, texts: dict, states: tf.Tensor) -> tf.Tensor:
        """Computes `text_nll` from states of encoder and decoder. Arguments are those of `likelihood`."""
        return self.tokens.text_nll(states, self.labels(batch), self.label_weights(batch), self.mixture(batch, texts, states))

    def mixture(self, batch: Batch, texts: dict, states: tf.Tensor) -> Mixture | None:
        """Returns what copying adds to the probabilities of the targets; None without `--copy`."""
        if not self.copies:
            return None
        attention, context = self.copy_attention(states, *self.copy_memory(batch, texts))
        return self.pointer.mixture(context, attention, self.copyable(batch, texts), self.labels(batch))

    def likelihood_term(self, step: tf.Tensor | None) -> str:
        """Says which sum of `likelihood` the objective has. Validation (`step` None) takes the plain NLL, so that runs can be compared."""
        return "nll_smoothed" if self.settings.label_smoothing and step is not None else "nll"

    # -- parts ------------------------------------------------------------------------------------------------------

    def teach(
        self, batch: Batch, memory: tf.Tensor, memory_mask: tf.Tensor, noise: Noise | None, added: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Computes the decoder's states under teacher forcing, [B, T + 1, D].

        Args:
          memory: [B, M, D], which the decoder attends to. memory_mask: [B, M] bool. noise: for dropout; None: no dropout.
          added: [B, D], a vector that is added to every input embedding of its example.
        """
        embedded = self.tokens.embed(self.decoder_inputs(batch, noise))
        if added is not None:
            embedded += tf.cast(added, embedded.dtype)[:, None]
        return self.decoder(embedded, memory, memory_mask, noise, self.labels(batch) != self.inputs_.pad_id)

    def copy_memory(self, batch: Batch, texts: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what `copy_attention` attends to: all pieces of the source but [CLS], [SEP] and padding."""
        return self.copy_attention.remember(texts["states"], self.is_word(batch["source_ids"]))

    def copyable(self, batch: Batch, texts: dict) -> tf.Tensor:
        """Returns the ids [B, M] of what `copy_memory` holds."""
        return self.slots(batch)

    # -- decoding ---------------------------------------------------------------------------------------------------

    def target_nll(self, batch: Batch) -> tf.Tensor:
        return self.text_nll(batch, None)

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        texts = self.encode(batch, None)
        return self.start_from(batch, texts, texts["states"], texts["mask"], beams)

    def start_from(
        self, batch: Batch, texts: dict, memory: tf.Tensor, memory_mask: tf.Tensor, beams: int, added: tf.Tensor | None = None
    ) -> tuple[dict, dict]:
        """Does what `start` does, from a memory. Arguments are those of `teach`, and `texts` is what `encode` returned."""
        rows = dimension(memory) * beams
        cache, fixed = self.decoder.start(memory, memory_mask, rows, self.settings.maximum_length + 1)
        if self.copies:
            fixed |= self.copying_start(batch) | {"copy_memory": self.copy_memory(batch, texts)}
        else:
            fixed["output"] = self.tokens.decoding_output()
        return cache, fixed | ({} if added is None else {"added": added})

    def search(self, batch: Batch, noise: Noise | None, size: int | tf.Tensor, start: int, end: int) -> Hypotheses:
        s = self.settings
        if s.search == "beam":
            return super().search(batch, noise, size, start, end)
        how = ContrastiveSettings(
            s.contrastive_k, s.minimum_length, s.maximum_length, s.length_penalty, s.no_repeat_ngram, s.contrastive_alpha
        )
        kept = self.start(batch, s.contrastive_k, noise)
        return contrastive_search(self.step_states, self.step_scores, self.decoder.width, *kept, size, start, end, how)

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        states, cache = self.step_states(ids, position, cache, fixed)
        return self.step_scores(states, fixed), cache

    def step_states(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        """Reads the last tokens [rows]. Returns the decoder's states after them, [rows, D], and the new cache."""
        embedded = self.tokens.embed(self.copied_pieces(ids, fixed) if self.copies else self.tokens.ids(ids))
        if "added" in fixed:  # [B, D]: all beams of a text share its vector
            added = tf.cast(fixed["added"], embedded.dtype)[:, None]
            embedded = tf.reshape(tf.reshape(embedded, [tf.shape(added)[0], -1, embedded.shape[-1]]) + added, tf.shape(embedded))
        return self.decoder.step(embedded, position, cache, fixed)

    def step_scores(self, states: tf.Tensor, fixed: dict) -> tf.Tensor:
        """Scores the next tokens after states [rows, D]; every text has the same number of rows. Returns scores as `step` does."""
        if not self.copies:
            return self.tokens.scores(states, fixed["output"])
        by_text = self.by_text(states, fixed)
        attention, context = self.copy_attention(by_text, *fixed["copy_memory"])
        return self.copying_scores(by_text, context, attention, fixed)
