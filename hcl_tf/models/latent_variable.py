"""What systems with a latent variable z share: prior and posterior, KL and bag-of-words terms, and the diagnostics that show a collapse."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers import latent
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TEXT, Batch, Sum, partners

NOT_A_NUMBER = float("nan")


class LatentVariable:
    """Mixed into a `System` that has `tokens`. Its objective adds to NLL the KL divergence (eq 3) under the ramp, and, with
    `--bag_of_words`, a loss that z has to tell the target's words (Zhao et al. 2017, section 3.4)."""

    scales: ClassVar[Mapping[str, str]] = {"kl_objective": A_TEXT, "bag_of_words": A_TEXT}
    curves: ClassVar[tuple[str, ...]] = ("kl",)
    comparisons: ClassVar[Mapping[str, tuple[str, str]]] = {
        "nll_shuffled_minus_posterior": ("nll_shuffled", "nll_posterior"),
        "nll_prior_minus_posterior": ("nll_prior", "nll_posterior"),
    }

    def build_latent(self, width: int) -> None:
        """Makes the two networks and, if asked for, that of the bag of words; `width`: of the word embeddings."""
        s = self.settings
        head = lambda name: latent.GaussianHead(s.latent_size, s.latent_hidden, s.log_variance_bound, name=name)  # noqa: E731
        self.prior, self.posterior = head("prior"), head("posterior")
        if s.bag_of_words:
            self.bag_inner = keras.layers.Dense(s.latent_hidden, "tanh", dtype="float32", name="bag_inner")
            self.bag_outer = keras.layers.Dense(width, dtype="float32", name="bag_outer")  # into the space of the word embeddings

    def latent_weights(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        """`weights_of` for the terms of `latent_sums`."""
        s = self.settings
        weights = {"kl_objective": latent.kl_weight(step, s.kl_ramp, s.kl_cycles, s.kl_delay)}
        return weights | ({"bag_of_words": s.bag_of_words} if s.bag_of_words else {})

    def schedule(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"kl_weight": tf.convert_to_tensor(self.latent_weights(step)["kl_objective"])}

    def progress(self, means: Mapping[str, float]) -> str:
        return f"KL {means['kl']:.3f}, active units {means.get('active_units_beyond_prior', 0)} beyond the prior"

    @property
    def ramp_steps(self) -> int:
        """The end of the KL term's ramp."""
        return self.settings.kl_delay + self.settings.kl_ramp * max(self.settings.kl_cycles, 1)

    def latent_sums(
        self, batch: Batch, source: tf.Tensor, z: tf.Tensor, prior: latent.Gaussian, posterior: latent.Gaussian
    ) -> dict[str, Sum]:
        """KL, KL as the objective takes it (`--free_bits`), and the bag of words. `source`: [B, C] vectors; z: [B, Z]."""
        kl = latent.kl_by_dimension(posterior, prior)
        total = lambda values: Sum(tf.reduce_sum(values * batch["example_mask"]))  # noqa: E731
        sums = {
            "kl": total(tf.reduce_sum(kl, -1)),
            "kl_objective": total(tf.reduce_sum(tf.maximum(kl, self.settings.free_bits), -1)),
        }
        return sums | ({"bag_of_words": total(self.bag_loss(batch, source, z))} if self.settings.bag_of_words else {})

    def bag_loss(self, batch: Batch, source: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """[B]: NLL of the target's words from (z, x) regardless of their order."""
        inner = self.bag_inner(tf.concat([z, source], -1))
        scores = tf.nn.log_softmax(self.tokens.logits(self.bag_outer(inner)))
        found = tf.gather(scores, self.tokens.columns(self.labels(batch)), batch_dims=1)
        words = self.label_weights(batch) * tf.cast(self.labels(batch) != self.inputs_.sep_id, tf.float32)
        return -tf.reduce_sum(found * words, -1)

    def drawn(self, prior: latent.Gaussian, noise: Noise | None) -> tf.Tensor:
        """[B, Z]: z for generation, sampled or, without noise, the mean."""
        return prior.mean() if noise is None else latent.sample(prior, noise)


def latent_diagnostics(
    prior: latent.Gaussian, posterior: latent.Gaussian, draw: tf.Tensor, batch: Batch, nll_given: Callable[[tf.Tensor], tf.Tensor]
) -> dict[str, tf.Tensor]:
    """What `System.diagnose` says of z: each example's NLL under other z, and its KL.

    Args:
      draw: [B, Z] standard normal, the same for all samples. nll_given: z [B, Z] -> [B].
    """
    of_posterior, of_prior = (d.mean() + d.stddev() * draw for d in (posterior, prior))
    kl = latent.kl_by_dimension(posterior, prior)
    return {
        "nll_posterior": nll_given(of_posterior),
        "nll_prior": nll_given(of_prior),
        "nll_shuffled": nll_given(another(of_posterior, batch)),
        "kl": tf.reduce_sum(kl, -1),
        "kl_by_dimension": kl,
        "posterior_mean": posterior.mean(),
        "posterior_shift": posterior.mean() - prior.mean(),
    }


def another(values: tf.Tensor, batch: Batch) -> tf.Tensor:
    """[B, ...] in each row what belongs to another real example (`partners`); NaN where an example is alone in its batch."""
    partner, exists = partners(batch)
    return tf.where(exists, tf.gather(values, partner), NOT_A_NUMBER)
