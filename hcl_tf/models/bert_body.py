"""What the systems on BERT share: the encoder, word embeddings tied with it, published weights, two learning rates."""

import tensorflow as tf

from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Batch, Inputs, System
from hcl_tf.settings import Settings


class BertBody(System):
    """Embeddings are tied with BERT's and with the output layer, or of their own where the encoder is frozen."""

    reads_published = True

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        self.encoder = TextEncoder(inputs.shape, inputs.pad_id, s.dropout, s.dropout, name="encoder")
        self.encoder.check_length(max(inputs.source_length, inputs.target_length) + 2)
        self.encoder.trainable = not self.frozen
        tied = None if self.frozen else lambda: self.encoder.embedding_table
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, tied, width, name="tokens")

    @property
    def frozen(self) -> bool:
        """Whether the encoder keeps its weights."""
        return self.settings.freeze_encoder

    @property
    def frozen_encoder(self) -> TextEncoder | None:
        return self.encoder if self.frozen else None

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        encoder = {id(v) for v in self.encoder.trainable_variables}
        rest = [v for v in self.trainable_variables if id(v) not in encoder]
        groups = {"rest": (rest, self.settings.learning_rate)}
        return groups | ({"encoder": (self.encoder.trainable_variables, self.settings.encoder_learning_rate)} if encoder else {})

    def load_published(self, published: PublishedBert) -> list[str]:
        lines = bert_weights.assign(self.encoder, published)
        if not self.frozen:  # tied
            return lines
        self.tokens.own.assign(tf.gather(self.encoder.embedding_table, self.inputs_.output_ids))
        return [*lines, f"embeddings.word_embeddings.weight -> also the decoder's own table, {len(self.inputs_.output_ids)} rows"]

    def encode(self, batch: Batch, noise: Noise | None, roles: tuple[str, ...] = ("source",)) -> dict[str, tf.Tensor]:
        """`states` [B, S + 2, D] and `mask` of the source, and each role's text vector [B, D] (masked mean of BERT's last layer).

        Takes cached states where the batch brings them (the encoder is frozen).
        """
        pad = self.inputs_.pad_id
        texts = {"mask": batch["source_ids"] != pad}
        if "source_states" in batch:
            return texts | {"states": batch["source_states"], **{role: batch[f"{role}_vector"] for role in roles}}
        noise = None if self.frozen else noise  # cached states know no dropout either
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
