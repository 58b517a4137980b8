"""BERT encoder and Transformer decoder.

    source x --BERT--> states --.
                                Transformer decoder --> y

As it is, it is `bert_gen` (published encoder weights). HCL puts a latent variable between the two. With `--copy` the decoder
may also point at source pieces.
"""

import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.layers.decoder import TransformerDecoder
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.pointer import CopyAttention, Pointer, output_of, pieces_of, source_columns
from hcl_tf.models.base import Batch, Inputs, Sum
from hcl_tf.models.bert_body import BertBody
from hcl_tf.settings import Settings


class EncoderDecoder(BertBody):
    """The body with a Transformer decoder."""

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.bert.width
        if s.maximum_length > inputs.target_length:
            raise UserError(
                f"--maximum_length={s.maximum_length}: the decoder learns no more positions than the data's targets have pieces; "
                f"give at most {inputs.target_length}"
            )
        self.decoder = TransformerDecoder(
            s.decoder_layers, width, inputs.bert.heads, inputs.bert.intermediate, inputs.target_length + 1, s.dropout,
            s.attention_init == "identity", name="decoder",
        )  # fmt: skip
        if s.copy:
            self.copy_attention = CopyAttention(width, s.attention_init == "identity", name="copy_attention")
            self.pointer = Pointer(name="pointer")

    # -- objective --------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        noise = noise if training else None
        texts = self.encode(batch, noise)
        states = self.teach(batch, texts["states"], texts["mask"], noise)
        nll, each = self.nll(batch, texts, states, training)
        return {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0}

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

    def nll(self, batch: Batch, texts: dict, states: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Decoder states [B, T + 1, D] -> NLL of the targets summed over real examples, and [B] of each."""
        labels, mixture = self.labels(batch), None
        if self.settings.copy:
            attention, context = self.copy_attention(states, *self.copy_memory(batch, texts))
            mixture = self.pointer.mixture(context, attention, batch["source_ids"], labels)
        return self.tokens.cross_entropy(states, labels, self.label_weights(batch), training=training, mixture=mixture)

    def copy_memory(self, batch: Batch, texts: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What `copy_attention` looks into: every source piece but [CLS] and [SEP]."""
        ids = batch["source_ids"]
        words = texts["mask"] & (ids != self.inputs_.cls_id) & (ids != self.inputs_.sep_id)
        return self.copy_attention.remember(texts["states"], words)

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[list, dict]:
        texts = self.encode(batch, None)
        return self.start_from(batch, texts, texts["states"], texts["mask"], beams)

    def start_from(
        self, batch: Batch, texts: dict, memory: tf.Tensor, memory_mask: tf.Tensor, beams: int, added: tf.Tensor | None = None
    ) -> tuple[list, dict]:
        """`start` of decoding from a memory (see `teach`)."""
        rows = (memory.shape[0] or tf.shape(memory)[0]) * beams
        cache, fixed = self.decoder.start(memory, memory_mask, rows, self.settings.maximum_length + 1)
        fixed["output"] = self.tokens.decoding_output()
        if self.settings.copy:
            columns = source_columns(batch["source_ids"], self.tokens, self.tokens.scored)
            fixed["copy"] = {"ids": batch["source_ids"], "columns": columns, "memory": self.copy_memory(batch, texts)}
        return cache, fixed | ({} if added is None else {"added": added})

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: list, fixed: dict) -> tuple[tf.Tensor, list]:
        if "copy" in fixed:
            by_text = tf.reshape(ids, [tf.shape(fixed["copy"]["ids"])[0], -1])
            pieces = tf.reshape(pieces_of(by_text, fixed["copy"]["ids"], self.tokens, self.tokens.scored), [-1])
        else:
            pieces = self.tokens.ids(ids)
        embedded = self.tokens.embed(pieces)
        if "added" in fixed:  # one a text, for all of its beams
            added = tf.cast(fixed["added"], embedded.dtype)[:, None]
            embedded = tf.reshape(tf.reshape(embedded, [tf.shape(added)[0], -1, embedded.shape[-1]]) + added, tf.shape(embedded))
        states, cache = self.decoder.step(embedded, position, cache, fixed)
        scores = self.tokens.scores(states, fixed["output"])
        if "copy" not in fixed:
            return scores, cache
        beams = tf.reshape(states, [tf.shape(fixed["copy"]["ids"])[0], -1, states.shape[-1]])
        attention, context = (tf.reshape(part, [-1, part.shape[-1]]) for part in self.copy_attention(beams, *fixed["copy"]["memory"]))
        return self.pointer.scores(scores, context, attention, fixed["copy"]["columns"]), cache

    def output_ids(self, columns: tf.Tensor, batch: Batch) -> tf.Tensor:
        if not self.settings.copy:
            return super().output_ids(columns, batch)
        return output_of(columns, batch["source_ids"], self.tokens, self.tokens.scored)
