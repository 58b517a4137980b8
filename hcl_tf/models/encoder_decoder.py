"""BERT encoder and Transformer decoder.

    source x --BERT--> states --.
                                Transformer decoder --> y

As it is, it is `bert_gen` (published encoder weights). HCL puts a latent variable between the two. With `--copy` the decoder
may also point at source pieces.
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
from hcl_tf.models.base import A_TEXT, Batch, Inputs, Sum
from hcl_tf.models.bert_body import BertBody
from hcl_tf.models.copying import Copying
from hcl_tf.models.settings.encoder_decoder import EncoderDecoderSettings, TransformerSettings


class EncoderDecoder(Copying, BertBody):
    """The body with a Transformer decoder."""

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
        """NLL by example and by token, never smoothed, and with `--label_smoothing` the `nll_smoothed` that training minimises.

        Args:
          texts: of `encode`. states: [B, T + 1, D], of the decoder.
        """
        smoothing = self.settings.label_smoothing if training else 0.0
        mixture = self.mixture(batch, texts, states)
        total, each = self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), smoothing, training, mixture)
        if not smoothing:
            return {"nll": Sum(total), "nll_token": Sum(tf.reduce_sum(each), "tokens")}
        plain = tf.reduce_sum(each)
        return {"nll": Sum(plain), "nll_token": Sum(plain, "tokens"), "nll_smoothed": Sum(total)}

    def text_nll(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """[B] differentiable NLL of each target, for losses that are no sum of them.

        Args:
          batch: source_ids, target_ids, example_mask.
        """
        texts = self.encode(batch, noise)
        return self.nll_of_states(batch, texts, self.teach(batch, texts["states"], texts["mask"], noise))

    def nll_of_states(self, batch: Batch, texts: dict, states: tf.Tensor) -> tf.Tensor:
        """`text_nll` of what was encoded and decoded already; arguments as in `likelihood`."""
        return self.tokens.text_nll(states, self.labels(batch), self.label_weights(batch), self.mixture(batch, texts, states))

    def mixture(self, batch: Batch, texts: dict, states: tf.Tensor) -> Mixture | None:
        """What copying adds to the probabilities of the targets, with `--copy`."""
        if not self.copies:
            return None
        attention, context = self.copy_attention(states, *self.copy_memory(batch, texts))
        return self.pointer.mixture(context, attention, batch["source_ids"], self.labels(batch))

    def likelihood_term(self, step: tf.Tensor | None) -> str:
        """Which sum of `likelihood` the objective has. Validation (`step` None) compares runs, so it has the plain one."""
        return "nll_smoothed" if self.settings.label_smoothing and step is not None else "nll"

    # -- parts ------------------------------------------------------------------------------------------------------

    def teach(
        self, batch: Batch, memory: tf.Tensor, memory_mask: tf.Tensor, noise: Noise | None, added: tf.Tensor | None = None
    ) -> tf.Tensor:
        """[B, T + 1, D] decoder states under teacher forcing.

        Args:
          memory: [B, M, D]. memory_mask: [B, M] bool. added: [B, D], to every input embedding.
        """
        embedded = self.tokens.embed(self.decoder_inputs(batch, noise))
        if added is not None:
            embedded += tf.cast(added, embedded.dtype)[:, None]
        return self.decoder(embedded, memory, memory_mask, noise)

    def copy_memory(self, batch: Batch, texts: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What `copy_attention` looks into: every source piece but [CLS] and [SEP]."""
        return self.copy_attention.remember(texts["states"], self.is_word(batch["source_ids"]))

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        texts = self.encode(batch, None)
        return self.start_from(batch, texts, texts["states"], texts["mask"], beams)

    def start_from(
        self, batch: Batch, texts: dict, memory: tf.Tensor, memory_mask: tf.Tensor, beams: int, added: tf.Tensor | None = None
    ) -> tuple[dict, dict]:
        """`start` of decoding from a memory (see `teach`)."""
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
        """Reads the last tokens [rows] and returns the decoder's states after them [rows, D] and the new cache; `step` adds scores."""
        embedded = self.tokens.embed(self.copied_pieces(ids, fixed) if self.copies else self.tokens.ids(ids))
        if "added" in fixed:  # one a text, for all of its beams
            added = tf.cast(fixed["added"], embedded.dtype)[:, None]
            embedded = tf.reshape(tf.reshape(embedded, [tf.shape(added)[0], -1, embedded.shape[-1]]) + added, tf.shape(embedded))
        return self.decoder.step(embedded, position, cache, fixed)

    def step_scores(self, states: tf.Tensor, fixed: dict) -> tf.Tensor:
        """Scores the tokens after states [rows, D], of which every text has equally many: [rows, V' or more], as `step` gives them."""
        if not self.copies:
            return self.tokens.scores(states, fixed["output"])
        by_text = self.by_text(states, fixed)
        attention, context = self.copy_attention(by_text, *fixed["copy_memory"])
        return self.copying_scores(by_text, context, attention, fixed)
