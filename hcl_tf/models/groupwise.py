"""Group-wise contrastive learning (Cai et al. 2020) of a Transformer: likelihood first, then contrasts against itself as it then was.

    (x, y) --target model--> log p_m(y | x) --.
                                               g = log p_m - log p_n --> loss(g, s)
    (x, y) --reference-----> log p_n(y | x) --'
    (x, y) --matching model-> s, how well they match, from -1 to 1; a true pair has 1

In the second phase the target model has to be likelier than the frozen reference on pairs that match, less likely on pairs that don't.
With `--weight_group=0` this is `transformer`, step by step.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Columns, Place
from hcl_tf.data.batching.groups import groups_of
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.layers.contrast import group_contrast
from hcl_tf.layers.matching import Matching, fit
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TEXT, Batch, Sum, partners
from hcl_tf.models.examples import where_applies
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.settings.groupwise import GroupwiseSettings
from hcl_tf.models.transformer import Transformer

DRAWS = 1  # tells the random numbers of drawn pairs from those of a sub-graph
HELD_OUT_NLL = 0.5  # weight of the NLL a token beside the contrast in choosing a checkpoint: `nll_w` of the authors' code


class Groupwise(Transformer):
    """The target model. `reference` and `matching` are frozen parts of it, so that checkpoints hold them."""

    scales: ClassVar[Mapping[str, str]] = {**Transformer.scales, "group": A_TEXT}
    orders = ("order_match",)

    def __init__(self, settings: GroupwiseSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        if settings.weight_group:
            self.contrasting = tf.Variable(0, trainable=False, name="contrasting")  # 1 in the second phase

    def make_variables(self) -> None:
        super().make_variables()
        if not self.settings.weight_group:
            return
        # After the target model, which so begins with the weights that a Transformer of this seed would have.
        i = self.inputs_
        self.reference = Transformer(self.settings, i, name="reference")
        self.reference.make_variables()
        self.matching = Matching(i.vocabulary, (i.pad_id, i.cls_id, i.sep_id), name="matching")
        self.reference.trainable = self.matching.trainable = False

    # -- objective --------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        sums = super().losses(batch, step, noise, training)
        if not self.settings.weight_group:
            return sums
        names = ("group", "gain_true", "gain_drawn", "score_drawn")
        nothing = [tf.zeros_like(batch["example_mask"])] * len(names)
        found = self.contrast(batch, noise if training else None) if self.phase else nothing
        return sums | {name: Sum(tf.reduce_sum(values * batch["example_mask"])) for name, values in zip(names, found, strict=True)}

    def contrast(self, batch: Batch, noise: Noise | None) -> list[tf.Tensor]:
        """Contrasts each example's group of pairs: the true pair (x, y), and the pairs that were drawn for it.

        Both models read the same pairs under the same noise: where they have the same weights, g is 0.

        Returns:
          The contrast, mean over the group; g of the true pair; g and s of the drawn pairs, means over these. [B] each.
        """
        texts = 1 + batch["group_source_ids"].shape[1]  # G, the pairs of a group
        pairs = {
            "source_ids": stacked_group(batch, "source"), "target_ids": stacked_group(batch, "target"),
            "example_mask": tf.tile(batch["example_mask"], [texts]),
        }  # fmt: skip
        noise = noise and noise.stacked(texts)
        again = noise and noise.again()
        gain = tf.stop_gradient(self.reference.text_nll(pairs, again)) - self.text_nll(pairs, noise)
        gain = tf.reshape(gain, [texts, -1])  # --> [G, B], the true pairs first
        if "group_scores" in batch:
            drawn = tf.transpose(batch["group_scores"])  # --> [G - 1, B]
        else:
            drawn = tf.reshape(self.matching(pairs["source_ids"], pairs["target_ids"]), [texts, -1])[1:]
        scores = tf.concat([tf.ones_like(drawn[:1]), drawn], 0)  # --> [G, B]
        losses = group_contrast(gain, tf.stop_gradient(scores))
        return [tf.reduce_mean(losses, 0), gain[0], tf.reduce_mean(gain[1:], 0), tf.reduce_mean(drawn, 0)]

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        s = self.settings
        if not s.weight_group:
            return super().weights_of(step)
        if step is None:  # of two losses that can't be compared: each phase has its own best checkpoint
            contrasting = tf.cast(self.contrasting, tf.float32)
            return {"nll": 1.0 - contrasting, "group": contrasting, "nll_token": HELD_OUT_NLL * contrasting}
        share = s.weight_group * contrast_share(step - s.mle_steps, s.contrast_middle, s.contrast_width)
        return {self.likelihood_term(step): 1.0 - share, "group": share}

    # -- phases -----------------------------------------------------------------------------------------------------

    def phases(self) -> tuple[int, ...]:
        return (self.settings.mle_steps,) if self.settings.weight_group else ()

    @property
    def phase(self) -> int:
        if not self.settings.weight_group:
            return 0
        with tf.init_scope():  # a number while tracing too: XLA can't compile the gradient of a condition around a whole model
            return int(self.contrasting.numpy())

    def begin_phase(self) -> None:
        trained = self.get_weight_paths()
        for path, variable in self.reference.get_weight_paths().items():
            variable.assign(trained[path])
        self.contrasting.assign(1)

    def stays(self, steps: int, epoch_steps: int) -> str:
        if not self.settings.weight_group:
            return ""
        return f"--model={self.settings.model} draws pairs and changes phase while it trains; export it with --weight_group=0"

    def before_epoch(self, epoch: int, texts) -> None:
        if epoch or not self.settings.weight_group:
            return
        # Beside the system's own, whose variables a strategy may have spread over devices.
        model = Matching(self.matching.vocabulary, self.matching.ignored)
        model.set_weights(self.matching.get_weights())
        fit(model, texts.arrays.source_ids, texts.arrays.target_ids, self.settings.seed, self.settings.matching_steps)
        self.matching.set_weights(model.get_weights())

    def columns(self, data: PreparedData, split: str, arrays: SplitArrays, train: SplitArrays) -> Columns | None:
        if not self.settings.weight_group:
            return None
        groups = groups_of(data, split, train)

        def drawn(rows: np.ndarray, _filled: np.ndarray, place: Place) -> dict[str, np.ndarray]:
            return groups.draw(arrays, rows, place.random(DRAWS), self.settings.group_draws)

        return drawn

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        """Says also whether the matching model prefers the example's target to another's, on pairs that it was not trained on."""
        found = super().diagnose(batch, noise)
        if not self.settings.weight_group:
            return found
        partner, exists = partners(batch)
        own = self.matching(batch["source_ids"], batch["target_ids"])
        other = self.matching(batch["source_ids"], tf.gather(batch["target_ids"], partner))
        return found | {"order_match": where_applies(exists, own > other)}


def stacked_group(batch: Batch, role: str) -> tf.Tensor:
    """Stacks a role's texts: those of all true pairs, then those of each example's first drawn pair, and so on. Returns [G * B, L]."""
    return tf.concat([batch[f"{role}_ids"], *tf.unstack(batch[f"group_{role}_ids"], axis=1)], 0)


def contrast_share(step: tf.Tensor, middle: float, width: float) -> tf.Tensor:
    """Computes a in the objective (1 - a) NLL + a contrast: it rises from 0 to 1 as a tanh over the second phase.

    Args:
      step: of the second phase, from 0; negative before it, where a is 0. middle: the step at which a is 1/2. width: of the rise, in steps.
    """
    step = tf.cast(step, tf.float32)
    ramp = tf.clip_by_value((tf.tanh((step - middle) / width) + 1.0) / 2.0, 0.0, 1.0)
    return tf.where(step < 0, 0.0, ramp)
