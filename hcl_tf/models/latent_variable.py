"""What systems with a latent variable z share: prior and posterior, the KL and bag-of-words terms, and diagnostics that show a collapse."""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers import latent
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TEXT, Batch, Sum
from hcl_tf.models.examples import another


class LatentVariable:
    """Gives a `System` that has `tokens` a latent variable z.

    To the NLL, the objective adds the KL divergence (eq 3) with a weight that ramps up, and with `--bag_of_words` a loss by which z has to
    predict the target's words (Zhao et al. 2017, section 3.4).

    The system has `given_target(batch, noise)`: p(z | x), q(z | x, y), and a function that gives each target's NLL [B] of z [B, Z].
    """

    has_latent = True
    scales: ClassVar[Mapping[str, str]] = {"kl_objective": A_TEXT, "bag_of_words": A_TEXT}
    curves: ClassVar[tuple[str, ...]] = ("nll_prior", "kl")
    output_nll = "nll_prior"  # z at the prior's mean, where outputs are made; `nll` has it from the posterior, which knows the target
    comparisons: ClassVar[Mapping[str, tuple[str, str]]] = {
        "nll_shuffled_minus_posterior": ("nll_shuffled", "nll_posterior"),
        "nll_prior_minus_posterior": ("nll_prior", "nll_posterior"),
        "nll_prior_shuffled_minus_prior": ("nll_prior_shuffled", "nll_prior"),
        "nll_prior_sampled_minus_prior": ("nll_prior_sampled", "nll_prior"),
        "nll_zero_minus_prior": ("nll_zero", "nll_prior"),
        "kl_prior_shuffled_minus_prior": ("kl_prior_shuffled", "kl"),
    }

    def build_latent(self, width: int) -> None:
        """Makes the networks of prior and posterior and, if asked for, that of the bag of words; `width`: of the word embeddings."""
        s = self.settings
        sizes = s.latent_size, s.latent_hidden, s.log_variance_bound
        self.prior, self.posterior = latent.GaussianHead(*sizes, name="prior"), latent.GaussianHead(*sizes, name="posterior")
        if s.bag_of_words:
            self.bag_inner = keras.layers.Dense(s.latent_hidden, "tanh", dtype="float32", name="bag_inner")
            self.bag_outer = keras.layers.Dense(width, dtype="float32", name="bag_outer")  # into the space of the word embeddings

    def latent_weights(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        """Returns the weights (`weights_of`) of the terms of `latent_sums`."""
        s = self.settings
        weights = {"kl_objective": latent.kl_weight(step, s.kl_ramp, s.kl_cycles, s.kl_delay)}
        return weights | ({"bag_of_words": s.bag_of_words} if s.bag_of_words else {})

    def schedule(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"kl_weight": tf.convert_to_tensor(self.latent_weights(step)["kl_objective"])}

    def progress(self, means: Mapping[str, float]) -> str:
        said = f"KL {means['kl']:.3f}, active units {means.get('active_units_beyond_prior', 0)} beyond the prior"
        if "nll_prior_shuffled" in means:
            said += f", another's prior mean costs {means['nll_prior_shuffled'] - means['nll_prior']:.3f} nats"
        return said

    @property
    def ramp_steps(self) -> int:
        """The end of the KL term's ramp."""
        return self.settings.kl_delay + self.settings.kl_ramp * max(self.settings.kl_cycles, 1)

    def latent_sums(
        self, batch: Batch, source: tf.Tensor, z: tf.Tensor, prior: latent.Gaussian, posterior: latent.Gaussian
    ) -> dict[str, Sum]:
        """Computes the KL divergence, the KL divergence as the objective has it (`--free_bits`), and the bag-of-words loss.

        Args:
          source: [B, C] vectors. z: [B, Z].
        """
        kl = latent.kl_by_dimension(posterior, prior)  # --> [B, Z]
        losses = {"kl": tf.reduce_sum(kl, -1), "kl_objective": tf.reduce_sum(tf.maximum(kl, self.settings.free_bits), -1)}
        if self.settings.bag_of_words:
            losses["bag_of_words"] = self.bag_loss(batch, source, z)
        return {name: Sum(tf.reduce_sum(values * batch["example_mask"])) for name, values in losses.items()}

    def bag_loss(self, batch: Batch, source: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Computes the NLL [B] of the target's words given (z, x), whatever their order."""
        inner = self.bag_inner(tf.concat([z, source], -1))
        scores = tf.nn.log_softmax(self.tokens.logits(self.bag_outer(inner)))  # --> [B, V']
        found = tf.gather(scores, self.tokens.columns(self.labels(batch)), batch_dims=1)  # --> [B, T + 1]
        words = self.label_weights(batch) * tf.cast(self.labels(batch) != self.inputs_.sep_id, tf.float32)
        return -tf.reduce_sum(found * words, -1)

    def importance_weights(self, batch: Batch, noise: Noise, draws: int) -> tf.Tensor:
        """Computes log p(y, z | x) - log m(z) of each target at z drawn in turn from its posterior and from the prior: [draws, B].

        m is the mean of both densities (the balance heuristic of Veach and Guibas 1995), so that no weight is above twice p(y | x, z),
        however narrow the posterior is. The mean of the weights estimates p(y | x).

        Args:
          draws: of z for each target, an even number.
        """
        prior, posterior, nll = self.given_target(batch, noise)

        def weights(draw: tf.Tensor) -> tf.Tensor:
            found = []
            for drawn_from in (posterior, prior):
                z = drawn_from.mean() + drawn_from.stddev() * draw
                of_prior, of_posterior = prior.log_prob(z), posterior.log_prob(z)
                found.append(of_prior - nll(z) - tf.reduce_logsumexp([of_prior, of_posterior], 0) + math.log(2.0))
            return tf.stack(found)

        standard = noise.normal((draws // 2, self.settings.latent_size))  # --> [B, draws / 2, Z]
        return tf.reshape(tf.map_fn(weights, tf.transpose(standard, [1, 0, 2])), [draws, -1])

    def drawn(self, prior: latent.Gaussian, noise: Noise | None) -> tf.Tensor:
        """Draws z [B, Z] for generation; without noise it is the prior's mean."""
        return prior.mean() if noise is None else latent.sample(prior, noise)


def latent_diagnostics(
    prior: latent.Gaussian, posterior: latent.Gaussian, draw: tf.Tensor, batch: Batch, nll_given: Callable[[tf.Tensor], tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Computes what `System.diagnose` says of z: each example's NLL under z from different places, and its KL.

    Args:
      draw: [B, Z] standard normal, with which z is drawn from posterior and prior alike.
      nll_given: computes each example's NLL [B] from z [B, Z].
    """
    of_posterior, of_prior = (d.mean() + d.stddev() * draw for d in (posterior, prior))
    kl = latent.kl_by_dimension(posterior, prior)
    shuffled = latent.gaussian([another(part, batch) for part in (prior.mean(), prior.stddev())])
    return {
        "nll_posterior": nll_given(of_posterior),
        "nll_prior": nll_given(prior.mean()),
        "nll_prior_sampled": nll_given(of_prior),
        "nll_prior_shuffled": nll_given(another(prior.mean(), batch)),
        "nll_shuffled": nll_given(another(of_posterior, batch)),
        "nll_zero": nll_given(tf.zeros_like(of_prior)),
        "kl": tf.reduce_sum(kl, -1),
        "kl_prior_shuffled": tf.reduce_sum(latent.kl_by_dimension(posterior, shuffled), -1),
        "deviation_prior": tf.reduce_mean(prior.stddev(), -1),
        "deviation_posterior": tf.reduce_mean(posterior.stddev(), -1),
        "length_prior_mean": tf.norm(prior.mean(), axis=-1),
        "length_posterior_mean": tf.norm(posterior.mean(), axis=-1),
        "kl_by_dimension": kl,
        "posterior_mean": posterior.mean(),
        "posterior_shift": (posterior.mean() - prior.mean()) / prior.stddev(),
    }
