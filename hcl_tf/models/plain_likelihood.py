"""The objective of systems that train on nothing but the likelihood of their targets."""

import tensorflow as tf

from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, Sum
from hcl_tf.models.examples import with_negatives


class PlainLikelihood:
    """Gives a `System` that computes `nll` its losses: the NLL by example, which is the objective, and by token.

    A system that inherits from it computes `nll(batch, noise, training)`: the NLL of the targets summed over real examples, and [B] the NLL
    of each.
    """

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        total, each = self.nll(batch, noise if training else None, training)
        return {"nll": Sum(total), "nll_token": Sum(tf.reduce_sum(each), "tokens")}

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        return {name: self.target_nll(each) for name, each in (("nll", batch), ("nll_negative", with_negatives(batch)))}

    def target_nll(self, batch: Batch) -> tf.Tensor:
        return self.nll(batch, None, training=False)[1]
