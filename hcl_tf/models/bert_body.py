"""What systems with a BERT encoder share: the encoder, word embeddings tied with it, published weights, two learning rates."""

from collections.abc import Callable

import tensorflow as tf

from hcl_tf.data.batching.batches import Columns
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import Batch, System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings


class BertBody(System):
    """Base of systems with a BERT encoder. Word embeddings are tied with BERT's, or a table of their own where BERT's are fixed; the output
    layer is tied with them.

    Attributes:
      encoded: the roles whose texts training encodes.
    """

    encoded: tuple[str, ...] = ("source",)

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        self.encoder = TextEncoder(inputs.shape, inputs.pad_id, s.dropout, s.dropout, self.trained_layers, name="encoder")
        self.encoder.check_length(max(inputs.source_length, inputs.target_length) + 2)
        tied = self._embedding_table if self.trained_layers is None else None
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, tied, width, name="tokens")

    @property
    def trained_layers(self) -> int | None:
        """How many of the encoder's upper layers train; None: all, and its embeddings."""
        return self.settings.trained_layers

    def _embedding_table(self) -> tf.Variable:
        return self.encoder.embedding_table

    @property
    def frozen_encoder(self) -> TextEncoder | None:
        return self.encoder if self.trained_layers == 0 else None

    def columns_of_texts(self, texts, held_out: bool = False) -> Columns | None:
        if self.trained_layers == 0:
            return None if held_out else texts.columns(self.encoder)  # these are in 16 bits
        if not self.encoder.is_divided:
            return None
        if held_out and self.settings.lower_states != "live":
            return texts.lower_columns(self.encoder, ROLES, "float32")  # diagnostics read every role's text
        return texts.lower_columns(self.encoder, self.encoded, self.settings.lower_states)

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        encoder = {id(v) for v in self.encoder.trainable_variables}
        rest = [v for v in self.trainable_variables if id(v) not in encoder]
        groups = {"rest": (rest, self.settings.learning_rate)}
        return groups | ({"encoder": (self.encoder.trainable_variables, self.settings.encoder_learning_rate)} if encoder else {})

    def load_published(self, published: PublishedBert) -> list[str]:
        return [*bert_weights.assign(self.encoder, published), *self._copy_table()]

    def begin_from(self, taken: Callable[[tf.Variable], bool]) -> list[str]:
        lines = super().begin_from(taken)
        if self.trained_layers is None or taken(self.tokens.own) or not taken(self.encoder.embedding_table):
            return lines
        return [*lines, *self._copy_table()]  # that run's table is tied: the decoder goes on with the rows it knows

    def _copy_table(self) -> list[str]:
        """Begins a table of the decoder's own with the encoder's rows. Returns a line that says so, or none where the two are tied."""
        if self.trained_layers is None:
            return []
        self.tokens.own.assign(tf.gather(self.encoder.embedding_table, self.inputs_.output_ids))
        return [f"embeddings.word_embeddings.weight -> also the decoder's own table, {len(self.inputs_.output_ids)} rows"]

    def encode(self, batch: Batch, noise: Noise | None, roles: tuple[str, ...] = ("source",)) -> dict[str, tf.Tensor]:
        """Encodes the texts of some roles, or takes their states from the batch where it brings them (the encoder is frozen).

        Where the batch brings the states of fixed lower layers, encoding goes on from these.

        Args:
          noise: for dropout; None: no dropout. roles: "source", and any of "target" and "negative" behind it.

        Returns:
          `states` [B, S + 2, D] and `mask` [B, S + 2] of the source, and under the name of each role the texts' vectors [B, D], which are
          masked means of BERT's last layer.
        """
        found = {"mask": batch["source_ids"] != self.inputs_.pad_id}
        if "source_states" in batch:
            return found | {"states": batch["source_states"], **{role: batch[f"{role}_vector"] for role in roles}}
        for together in self._roles_of_one_length(batch, roles):
            ids, lower = ([batch[name] for role in together if (name := f"{role}_{kind}") in batch] for kind in ("ids", "lower"))
            states, vectors = self._encode_together(ids, lower, noise)
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

    def _encode_together(self, ids: list[tf.Tensor], lower: list[tf.Tensor], noise: Noise | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Encodes several texts of each example in one batch.

        Args:
          ids: [B, L] each. lower: [B, L, D] each, what fixed lower layers made of them; empty: not known.

        Returns:
          The states of the first, [B, L, D], and the vectors of all, [B, D] each.
        """
        joined = tf.concat(ids, 0)  # --> [texts * B, L]
        states = self.encoder(joined, noise and noise.stacked(len(ids)), tf.concat(lower, 0) if lower else None)  # --> [texts * B, L, D]
        vectors = tf.split(text_vector(states, joined != self.inputs_.pad_id), len(ids))
        first = states[: joined.shape[0] // len(ids)] if joined.shape[0] else tf.split(states, len(ids))[0]
        return first, vectors
