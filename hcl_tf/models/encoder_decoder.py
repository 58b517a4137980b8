"""BERT encoder and Transformer decoder: the body of every system here that is not built on a library's own model.

    source x --BERT--> states --.
                                Transformer decoder --> y

As it is, it is `bert_gen` (published encoder weights). HCL puts a latent variable between the two.
"""

import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.decoder import TransformerDecoder
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Batch, Inputs, Sum, System
from hcl_tf.settings import Settings


class EncoderDecoder(System):
    """Embeddings are tied with BERT's and with the output layer, or of their own where the encoder is frozen."""

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.bert.width
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

    # -- objective --------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        noise = noise if training else None
        texts = self.encode(batch, noise)
        states = self.teach(batch, texts["states"], texts["mask"], noise)
        nll, each = self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), training=training)
        return {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0}

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

    # -- decoding ---------------------------------------------------------------------------------------------------

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        texts = self.encode(batch, None)
        return self.start_from(texts["states"], texts["mask"], beams)

    def start_from(self, memory: tf.Tensor, memory_mask: tf.Tensor, beams: int, added: tf.Tensor | None = None) -> tuple[dict, dict]:
        """`start` of decoding from a memory (see `teach`)."""
        rows = (memory.shape[0] or tf.shape(memory)[0]) * beams
        cache, fixed = self.decoder.start(memory, memory_mask, rows, self.settings.maximum_length + 1)
        fixed["output"] = self.tokens.decoding_output()
        return cache, fixed | ({} if added is None else {"added": added})

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        embedded = self.tokens.embed(self.tokens.ids(ids))
        if "added" in fixed:  # one a text, for all of its beams
            added = tf.cast(fixed["added"], embedded.dtype)[:, None]
            embedded = tf.reshape(tf.reshape(embedded, [tf.shape(added)[0], -1, embedded.shape[-1]]) + added, tf.shape(embedded))
        states, cache = self.decoder.step(embedded, position, cache, fixed)
        return self.tokens.scores(states, fixed["output"]), cache
