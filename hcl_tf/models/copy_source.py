"""A control row without a model: the output is the source, or as much of its end as an output may have pieces.

The end, because it stands next to the target: a dialogue's last turn, a story's last sentence. A question is shorter than an output may be.
"""

import tensorflow as tf

from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, System


class CopySource(System):
    """Has no weights and is never trained; pieces that outputs can't contain (`--output_vocab`) are left out."""

    is_trained = False
    uses_keywords = False

    def make_variables(self) -> None:
        """There are none."""

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """The same text in every beam; its score is 0, the log-probability of what is certain."""
        i, s = self.inputs_, self.settings
        ids = batch["source_ids"]
        special = tf.constant([i.pad_id, i.cls_id, i.sep_id])
        kept = tf.reduce_any(ids[..., None] == i.output_ids, -1) & ~tf.reduce_any(ids[..., None] == special, -1)
        after = tf.cumsum(tf.cast(kept, tf.int32), 1, exclusive=True, reverse=True)  # kept pieces behind each
        kept &= after < s.maximum_length
        order = tf.argsort(tf.cast(~kept, tf.int32), 1, stable=True)  # kept pieces first, in their order
        ids = tf.where(ids == i.unknown_id, i.vocabulary + tf.range(ids.shape[1]), ids)  # as a pointer copies them (`System.output_ids`)
        found = tf.gather(tf.where(kept, ids, i.pad_id), order, batch_dims=1)[:, : s.maximum_length]
        found = tf.pad(found, [[0, 0], [0, s.maximum_length - found.shape[1]]], constant_values=i.pad_id)
        beams = tf.tile(found[:, None], [1, s.beams, 1])
        return beams, tf.zeros(tf.shape(beams)[:2])
