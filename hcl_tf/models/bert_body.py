"""What systems with a BERT encoder share: the encoder, word embeddings tied with it, published weights, two learning rates."""

import tensorflow as tf

from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Batch, Inputs, System
from hcl_tf.settings import Settings


class BertBody(System):
    """Base of systems with a BERT encoder. Word embeddings are tied with BERT's, or a table of their own where the encoder is frozen; the
    output layer is tied with them."""

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        self.encoder = TextEncoder(inputs.shape, inputs.pad_id, s.dropout, s.dropout, name="encoder")
        self.encoder.check_length(max(inputs.source_length, inputs.target_length) + 2)
        self.encoder.trainable = not self.frozen
        tied = None if self.frozen else self._embedding_table
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, tied, width, name="tokens")

    @property
    def frozen(self) -> bool:
        """Whether the encoder keeps its weights."""
        return self.settings.freeze_encoder

    def _embedding_table(self) -> tf.Variable:
        return self.encoder.embedding_table

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
        """Encodes the texts of some roles, or takes their states from the batch where it brings them (the encoder is frozen).

        Args:
          noise: for dropout; None: no dropout. roles: "source", and any of "target" and "negative" behind it.

        Returns:
          `states` [B, S + 2, D] and `mask` [B, S + 2] of the source, and under the name of each role the texts' vectors [B, D], which are
          masked means of BERT's last layer.
        """
        found = {"mask": batch["source_ids"] != self.inputs_.pad_id}
        if "source_states" in batch:
            return found | {"states": batch["source_states"], **{role: batch[f"{role}_vector"] for role in roles}}
        noise = None if self.frozen else noise  # states that were computed once know no dropout either
        for together in self._roles_of_one_length(batch, roles):
            states, vectors = self._encode_together([batch[f"{role}_ids"] for role in together], noise)
            found |= dict(zip(together, vectors, strict=True))
            if "source" in together:
                found["states"] = states
        return found

    @staticmethod
    def _roles_of_one_length(batch: Batch, roles: tuple[str, ...]) -> list[list[str]]:
        """Groups roles whose texts are equally long: all of them, or the source, and the targets, whose lengths are always equal."""
        if len({batch[f"{role}_ids"].shape[1] for role in roles}) == 1:
            return [list(roles)]
        return [["source"], [role for role in roles if role != "source"]]

    def _encode_together(self, ids: list[tf.Tensor], noise: Noise | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Encodes several texts of each example, [B, L] ids each, in one batch. Returns the states of the first and the vectors of all."""
        joined = tf.concat(ids, 0)  # --> [texts * B, L]
        states = self.encoder(joined, noise and noise.stacked(len(ids)))  # --> [texts * B, L, D]
        vectors = tf.split(text_vector(states, joined != self.inputs_.pad_id), len(ids))
        first = states[: joined.shape[0] // len(ids)] if joined.shape[0] else tf.split(states, len(ids))[0]
        return first, vectors
