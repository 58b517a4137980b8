"""CLAPS (Lee et al. 2021, "Contrastive learning with adversarial perturbations for conditional text generation") on T5.

The first contrast draws a source to its target. Its negatives are other targets of the batch and an impostor: the target's decoder
states, moved a little so that they say something else. In the second contrast a distant positive takes the target's place: the target's
states, moved far from the source and then to where they say the same again. Moved states pass no gradient to the decoder, as in the
authors' code (BUILD_NOTES 63).
"""

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TOKEN, Batch, Sum
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.settings.claps import CLAPSSettings
from hcl_tf.models.t5 import T5

ABSENT = -1e9  # the score of a column that is no negative


class CLAPS(T5):
    """T5 with two contrasts between projected, averaged states; with `--weight_claps=0` it is T5."""

    # The authors add their contrasts to a mean over tokens.
    scales: ClassVar[Mapping[str, str]] = {**T5.scales, "claps": A_TOKEN, "claps_distant": A_TOKEN}

    def __init__(self, settings: CLAPSSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        if settings.weight_claps:
            self.projection = keras.layers.Dense(self.t5.config.d_model, "relu", name="projection")

    # -- objective --------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        if not self.settings.weight_claps:
            return super().losses(batch, step, noise, training)
        memory, states = self.encode_and_teach(batch, noise if training else None)
        weights = self.label_weights(batch)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(states)
            # Only the form for training has gradients, which the impostor needs in validation too.
            nll, each = self.tokens.cross_entropy(states, self.labels(batch), weights, training=True)
        impostor = self.moved(states, tape.gradient(nll, states), self.settings.claps_impostor_norm)
        source = self.pool(memory, self.source_mask(batch))
        texts = states, impostor, self.distant(batch, source, states)
        target, impostor, distant = (self.pool(text, self.target_mask(batch)) for text in texts)
        similar, present = cosines(source, target), self.negatives(batch)
        sums = {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}
        for name, positive in (("claps", target), ("claps_distant", distant)):
            own = (tf.reduce_sum(source * text, -1) for text in (positive, impostor))
            sums[name] = Sum(tf.reduce_sum(self.contrast(*own, similar, present) * batch["example_mask"]))
        return sums

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        weight = self.settings.weight_claps
        if not weight or step is None:  # in validation the likelihood alone chooses the checkpoint, as in the authors' code
            return super().weights_of(step)
        return super().weights_of(step) | {"claps": weight, "claps_distant": weight}

    # -- parts ------------------------------------------------------------------------------------------------------

    def target_mask(self, batch: Batch) -> tf.Tensor:
        """Says which decoder states predict a token, [B, T + 1] float32."""
        return tf.cast(self.labels(batch) != self.inputs_.pad_id, tf.float32)

    def pool(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Projects states [B, L, D], averages them where the mask [B, L] is 1, and scales the result to length 1. Returns [B, D]."""
        projected = self.projection(states) * mask[:, :, None]
        return tf.nn.l2_normalize(tf.reduce_sum(projected, 1) / tf.reduce_sum(mask, 1, keepdims=True), -1)

    def negatives(self, batch: Batch) -> tf.Tensor:
        """Says whose targets are negatives of each example: those of the other real examples in its group. Returns [B, B] bool."""
        size = batch["example_mask"].shape[0]
        groups = tf.range(size) // (self.settings.claps_group or size)
        return (groups[:, None] == groups[None]) & ~tf.eye(size, dtype=tf.bool) & (batch["example_mask"][None] > 0)

    def contrast(self, positive: tf.Tensor, impostor: tf.Tensor | None, similar: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Computes the loss of a contrast: cross-entropy of the positive against negatives and impostor, at temperature `tau_claps`.

        Args:
          positive, impostor: [B] cosines of each source with its own positive and impostor; `impostor` may be None.
          similar: [B, B] cosines of each source with all targets. present: [B, B] bool, which of these targets are negatives.

        Returns:
          [B] the loss of each example, in nats.
        """
        columns = [positive[:, None], similar] + ([] if impostor is None else [impostor[:, None]])
        counts = tf.pad(present, [[0, 0], [1, len(columns) - 2]], constant_values=True)
        scores = tf.where(counts, tf.concat(columns, 1) / self.settings.tau_claps, ABSENT)
        return tf.reduce_logsumexp(scores, 1) - scores[:, 0]

    def distant(self, batch: Batch, source: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
        """Makes distant positives, by moving the target's states twice by `claps_distant_norm`.

        The first move goes up the gradient of the contrast without impostor, away from the source. The second goes down the gradient of
        KL(p || q), to where the moved states predict (q) what the target's states predict (p).

        Args:
          source: [B, D] pooled. states: [B, T + 1, D] of the target.

        Returns:
          [B, T + 1, D], without a gradient of its own.
        """
        norm, source, states = self.settings.claps_distant_norm, tf.stop_gradient(source), tf.stop_gradient(states)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(states)
            target = self.pool(states, self.target_mask(batch))
            losses = self.contrast(tf.reduce_sum(source * target, -1), None, cosines(source, target), self.negatives(batch))
            loss = tf.reduce_sum(losses * batch["example_mask"])
        far = self.moved(states, tape.gradient(loss, states), norm)
        return self.moved(far, self.tokens.divergence_gradient(states, far, self.label_weights(batch)), -norm)

    @staticmethod
    def moved(states: tf.Tensor, gradient: tf.Tensor, norm: float) -> tf.Tensor:
        """Moves each state by `norm` along its gradient, or not at all where that is 0. The result has no gradient of its own."""
        direction = tf.math.divide_no_nan(gradient, tf.norm(gradient, axis=-1, keepdims=True))
        return tf.stop_gradient(states + norm * direction)


def cosines(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Computes the cosine of every source with every target, [B, B]. Both are [B, D], of vectors of length 1."""
    return tf.matmul(source, target, transpose_b=True)
