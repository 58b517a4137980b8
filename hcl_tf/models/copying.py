"""What systems with a pointer share, whichever attention points: the loss of the mixture, its scores in decoding, and output ids."""

import tensorflow as tf

from hcl_tf.layers.pointer import Pointer, output_of, pieces_of, source_columns
from hcl_tf.models.base import Batch


class Copying:
    """Lets a `System` that has `tokens` copy pieces of its source. What can be copied lies in M slots.

    Attributes:
      copies: whether the system has a pointer; one that can do without has a setting for it.
    """

    copies = True

    def build_pointer(self) -> None:
        """Makes the layer that divides probability between generating and copying."""
        self.pointer = Pointer(name="pointer")

    def slots(self, batch: Batch) -> tf.Tensor:
        """Returns the vocabulary ids that can be copied, [B, M], beginning with the source's."""
        return batch["source_ids"]

    def is_word(self, ids: tf.Tensor) -> tf.Tensor:
        """Says which source positions [B, S] can be copied: all but [CLS], [SEP] and padding. Returns [B, S] bool."""
        special = (self.inputs_.pad_id, self.inputs_.cls_id, self.inputs_.sep_id)
        return tf.reduce_all([ids != piece for piece in special], 0)

    def copying_nll(
        self, batch: Batch, features: tf.Tensor, context: tf.Tensor, attention: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the NLL of the targets under the mixture, summed over real examples, and [B] of each.

        Args:
          features: [B, T + 1, D] for the output layer. context: [B, T + 1, C] for p_gen. attention: [B, T + 1, M] over the slots.
        """
        labels = self.labels(batch)
        mixture = self.pointer.mixture(context, attention, self.slots(batch), labels)
        return self.tokens.cross_entropy(features, labels, self.label_weights(batch), training=training, mixture=mixture)

    def copying_start(self, batch: Batch) -> dict:
        """Returns what stays fixed in decoding for `copied_pieces` and `copying_scores`."""
        slots = self.slots(batch)
        columns = source_columns(slots, self.tokens, self.tokens.scored)
        return {"output": self.tokens.decoding_output(), "slots": slots, "columns": columns}

    @staticmethod
    def by_text(rows: tf.Tensor, fixed: dict) -> tf.Tensor:
        """Puts the beams of a text side by side: [B * beams, C] -> [B, beams, C]."""
        return tf.reshape(rows, [tf.shape(fixed["slots"])[0], -1, rows.shape[-1]])

    def copied_pieces(self, columns: tf.Tensor, fixed: dict) -> tf.Tensor:
        """Turns columns [B * beams] of the last step's scores into vocabulary ids."""
        by_text = tf.reshape(columns, [tf.shape(fixed["slots"])[0], -1])
        return tf.reshape(pieces_of(by_text, fixed["slots"], self.tokens, self.tokens.scored), [-1])

    def copying_scores(self, features: tf.Tensor, context: tf.Tensor, attention: tf.Tensor, fixed: dict) -> tf.Tensor:
        """Computes the log-probabilities of a decoding step, [B * beams, V'' + M]; arguments as in `copying_nll`, [B, beams, ...]."""
        features, context, attention = (tf.reshape(part, [-1, part.shape[-1]]) for part in (features, context, attention))
        return self.pointer.scores(self.tokens.scores(features, fixed["output"]), context, attention, fixed["columns"])

    def output_ids(self, columns: tf.Tensor, batch: Batch) -> tf.Tensor:
        if not self.copies:
            return super().output_ids(columns, batch)
        return output_of(columns, self.slots(batch), self.tokens, self.tokens.scored)
