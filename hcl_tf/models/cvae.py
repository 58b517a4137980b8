"""CVAE: Zhao et al. (2017), "Learning Discourse-level Diversity for Neural Dialog Models using Conditional Variational Autoencoders".

    source x --bidirectional GRU--> x ----.-> prior p(z|x)
    target y --the same GRU--> y -------> posterior q(z|x,y)
                                          z ~ posterior (training), prior (generation)
                                          GRU that starts from [x ; z] --> y

With a bag-of-words loss on z and a linear ramp of the KL term. Theirs reads a dialogue turn by turn with a second GRU; here a
source is one text for every system.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import tensorflow as tf

from hcl_tf.layers import latent
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, Sum
from hcl_tf.models.examples import weighted_sum
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.latent_variable import LatentVariable, latent_diagnostics
from hcl_tf.models.recurrent_body import RecurrentBody
from hcl_tf.models.settings.recurrent import CVAESettings


class CVAE(LatentVariable, RecurrentBody):
    """A CVAE of recurrent networks.

    `--latent_to` says where z goes: "memory", as in Zhao et al., into the decoder's first state; "inputs", beside every input of the
    decoder, and not into the first state; "both".
    """

    cell = "gru"
    scales: ClassVar[Mapping[str, str]] = {**RecurrentBody.scales, **LatentVariable.scales}
    curves = (*RecurrentBody.curves, *LatentVariable.curves)

    def __init__(self, settings: CVAESettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        self.build_latent(inputs.shape.width)

    # -- objective --------------------------------------------------------------------------------------------------

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0, **self.latent_weights(step)}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        source, prior, posterior = self.gaussians(batch, noise if training else None)
        z = latent.sample(posterior, noise)
        states = self.decode(batch, source, z, noise if training else None)
        nll, each = self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), training=training)
        sums = {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}
        if not training:
            sums["nll_prior"] = weighted_sum(self.nll_given(batch, source, prior.mean()), batch["example_mask"], "examples")
        return sums | self.latent_sums(batch, source, z, prior, posterior)

    # -- parts ------------------------------------------------------------------------------------------------------

    def vector(self, ids: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Encodes texts [B, L] as the last states of both directions, [B, 2 D]."""
        return self.read(ids, noise)[1]

    def gaussians(self, batch: Batch, noise: Noise | None) -> tuple[tf.Tensor, latent.Gaussian, latent.Gaussian]:
        """Encodes sources and targets. Returns the sources' vectors [B, 2 D], p(z | x) and q(z | x, y)."""
        source, target = (self.vector(batch[f"{role}_ids"], noise) for role in ("source", "target"))
        return source, self.prior_of(source), latent.gaussian(self.posterior(tf.concat([source, target], -1)))

    def prior_of(self, source: tf.Tensor) -> latent.Gaussian:
        """Computes p(z | x) of sources' vectors [B, 2 D]."""
        return latent.gaussian(self.prior(source))

    def begin(self, source: tf.Tensor, z: tf.Tensor) -> tuple:
        """Computes the decoder's first states."""
        return self.decoder.begin(source if self.settings.latent_to == "inputs" else tf.concat([source, z], -1))

    def beside(self, embedded: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns the decoder's inputs: embeddings [..., D], with z [..., Z] beside them where it goes there."""
        return embedded if self.settings.latent_to == "memory" else tf.concat([embedded, tf.cast(z, embedded.dtype)], -1)

    def decode(self, batch: Batch, source: tf.Tensor, z: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Computes decoder states [B, T + 1, D] under teacher forcing."""
        embedded = self.tokens.embed(self.decoder_inputs(batch, noise))
        everywhere = tf.repeat(z[:, None], embedded.shape[1], 1)  # --> [B, T + 1, Z]
        return self.decoder(self.beside(embedded, everywhere), self.begin(source, z), noise)

    # -- outside the training step ----------------------------------------------------------------------------------

    def source_prior(self, batch: Batch) -> latent.Gaussian:
        return self.prior_of(self.vector(batch["source_ids"], None))

    def target_nll(self, batch: Batch) -> tf.Tensor:
        source = self.vector(batch["source_ids"], None)
        return self.nll_given(batch, source, self.prior_of(source).mean())

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[tuple, dict]:
        source = self.vector(batch["source_ids"], None)
        z = self.drawn(self.prior_of(source), noise)
        source, z = (tf.repeat(values, beams, 0) for values in (source, z))
        return self.begin(source, z), {"z": z, "output": self.tokens.decoding_output()}

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: tuple, fixed: dict) -> tuple[tf.Tensor, tuple]:
        embedded = self.tokens.embed(self.tokens.ids(ids))
        states, cache = self.decoder.step(self.beside(embedded, fixed["z"]), cache)
        return self.tokens.scores(states, fixed["output"]), cache

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        prior, posterior, nll = self.given_target(batch, noise)
        return latent_diagnostics(prior, posterior, noise.normal((self.settings.latent_size,)), batch, nll)

    def given_target(self, batch: Batch, noise: Noise) -> tuple[latent.Gaussian, latent.Gaussian, Callable[[tf.Tensor], tf.Tensor]]:
        source, prior, posterior = self.gaussians(batch, None)
        return prior, posterior, partial(self.nll_given, batch, source)

    def nll_given(self, batch: Batch, source: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Computes the NLL [B] of each target, decoded with a z [B, Z] that is given."""
        states = self.decode(batch, source, z, None)
        return self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch), training=False)[1]
