"""BERT encoder and Transformer decoder: the body of every system here that is not built on a library's own model.

    source x --BERT--> states --.
                                Transformer decoder --> y

As it is, it is `bert_gen` (published encoder weights). HCL puts a latent variable between the two. With `--copy` the decoder
may also point at source pieces.
"""

import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.decoder import TransformerDecoder
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.output import Mixture
from hcl_tf.layers.pointer import CopyAttention, Pointer, output_of, pieces_of, source_columns
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Batch, Inputs, Sum, System
from hcl_tf.settings import Settings


class EncoderDecoder(System):
    """Embeddings are tied with BERT's and with the output layer, or of their own where the encoder is frozen."""

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.bert.width
        self.uses_keywords = s.append_keywords
        if s.maximum_length > inputs.target_length:
            raise UserError(
                f"--maximum_length={s.maximum_length}: the decoder learns no more positions than the data's targets have pieces; "
                f"give at most {inputs.target_length}"
            )
        self.encoder = TextEncoder(inputs.bert, inputs.pad_id, s.dropout, s.dropout, name="encoder")
        self.encoder.check_length(max(inputs.source_length, inputs.target_length) + 2)
        self.encoder.trainable = not s.freeze_encoder
        tied = None if s.freeze_encoder else lambda: self.encoder.embedding_table
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, tied, width, name="tokens")
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
        return self.likelihood(batch, texts, states, training)

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {self.likelihood_term(step): 1.0}

    def likelihood(self, batch: Batch, texts: dict, states: tf.Tensor, training: bool) -> dict[str, Sum]:
        """NLL by example and by token, never smoothed, and with `--label_smoothing` the `nll_smoothed` that training minimises.

        Args:
          texts: of `encode`. states: [B, T + 1, D], of the decoder.
        """
        total, each = self.nll(batch, texts, states, training)
        if not (training and self.settings.label_smoothing):
            return {"nll": Sum(total), "nll_token": Sum(tf.reduce_sum(each), "tokens")}
        plain = tf.reduce_sum(each)
        return {"nll": Sum(plain), "nll_token": Sum(plain, "tokens"), "nll_smoothed": Sum(total)}

    def likelihood_term(self, step: tf.Tensor | None) -> str:
        """Which sum of `likelihood` the objective has. Validation (`step` None) compares runs, so it has the plain one."""
        return "nll_smoothed" if self.settings.label_smoothing and step is not None else "nll"

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        encoder = {id(v) for v in self.encoder.trainable_variables}
        rest = [v for v in self.trainable_variables if id(v) not in encoder]
        groups = {"rest": (rest, self.settings.learning_rate)}
        return groups | ({"encoder": (self.encoder.trainable_variables, self.settings.encoder_learning_rate)} if encoder else {})

    def load_published(self, published: PublishedBert) -> list[str]:
        lines = super().load_published(published)
        if not self.settings.freeze_encoder:  # tied
            return lines
        self.tokens.own.assign(tf.gather(self.encoder.embedding_table, self.inputs_.output_ids))
        return [*lines, f"embeddings.word_embeddings.weight -> also the decoder's own table, {len(self.inputs_.output_ids)} rows"]

    # -- parts ------------------------------------------------------------------------------------------------------

    def encode(self, batch: Batch, noise: Noise | None, roles: tuple[str, ...] = ("source",)) -> dict[str, tf.Tensor]:
        """`states` [B, S + 2, D] and `mask` of the source, and each role's text vector [B, D] (masked mean of BERT's last layer).

        Takes cached states where the batch brings them (the encoder is frozen).
        """
        pad = self.inputs_.pad_id
        texts = {"mask": batch["source_ids"] != pad}
        if "source_states" in batch:
            return texts | {"states": batch["source_states"], **{role: batch[f"{role}_vector"] for role in roles}}
        ids = {role: batch[f"{role}_ids"] for role in roles}
        targets = [role for role in roles if role != "source"]
        # Texts of one length go through BERT together.
        stacks = [list(roles)] if len({tensor.shape[1] for tensor in ids.values()}) == 1 else [["source"], targets]
        for stack in filter(None, stacks):
            joined = tf.concat([ids[role] for role in stack], 0)
            states = self.encoder(joined, noise and noise.stacked(len(stack)))
            vectors = text_vector(states, joined != pad)
            texts |= dict(zip(stack, tf.split(vectors, len(stack)), strict=True))
            if "source" in stack:
                texts["states"] = states[: joined.shape[0] // len(stack)] if joined.shape[0] else tf.split(states, len(stack))[0]
        return texts

    def teach(
        self, batch: Batch, memory: tf.Tensor, memory_mask: tf.Tensor, noise: Noise | None, added: tf.Tensor | None = None
    ) -> tf.Tensor:
        """[B, T + 1, D] decoder states under teacher forcing, words dropped from its input by `--word_dropout`.

        Args:
          memory: [B, M, D]. memory_mask: [B, M] bool. added: [B, D], to every input embedding.
        """
        inputs = batch["target_ids"][:, :-1]
        if noise is not None and self.settings.word_dropout:
            dropped = (noise.uniform((inputs.shape[1],)) < self.settings.word_dropout) & (inputs != self.inputs_.cls_id)
            inputs = tf.where(dropped, self.inputs_.unknown_id, inputs)
        embedded = self.tokens.embed(inputs)
        if added is not None:
            embedded += tf.cast(added, embedded.dtype)[:, None]
        return self.decoder(embedded, memory, memory_mask, noise)

    def nll(self, batch: Batch, texts: dict, states: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Decoder states [B, T + 1, D] -> NLL of the targets summed over real examples (smoothed in training), and [B] of each (plain)."""
        smoothing = self.settings.label_smoothing if training else 0.0
        mixture = self.mixture(batch, texts, states)
        return self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), smoothing, training, mixture)

    def text_nll(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """[B] differentiable NLL of each target, for losses that are no sum of them.

        Args:
          batch: source_ids, target_ids, example_mask.
        """
        texts = self.encode(batch, noise)
        states = self.teach(batch, texts["states"], texts["mask"], noise)
        return self.tokens.text_nll(states, self.labels(batch), self.label_weights(batch), self.mixture(batch, texts, states))

    def mixture(self, batch: Batch, texts: dict, states: tf.Tensor) -> Mixture | None:
        """What copying adds to each target piece's probability; None without `--copy`."""
        if not self.settings.copy:
            return None
        attention, context = self.copy_attention(states, *self.copy_memory(batch, texts))
        return self.pointer.mixture(context, attention, batch["source_ids"], self.labels(batch))

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
