"""What the paper's model says of single examples: what each road from keywords and negatives to the text carries, and who orders what.

`System.diagnose` in parts. Training takes it of a few held-out examples at each validation, evaluation of all, and the meter
(hcl_tf.studies.channel) makes its figures of it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf
import tensorflow_probability as tfp

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.layers import latent
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch
from hcl_tf.models.examples import NOT_A_NUMBER, another, as_float, has_impostor, have_different_keywords, where_applies
from hcl_tf.models.latent_variable import latent_diagnostics

NLL = Callable[[dict, tf.Tensor, tf.Tensor], tf.Tensor]


class HCLDiagnostics:
    """Gives `HCL` its diagnostics; nothing of it takes part in training."""

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        texts = self.encode(batch, None, ROLES)
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False), noise)
        prior, posterior = self.prior_of(texts, keywords), self.posterior_of(texts["source"], texts["target"])
        draw = noise.normal((self.settings.latent_size,))
        nll = self.traced_once(batch, texts)
        found = latent_diagnostics(prior, posterior, draw, batch, partial(nll, keywords, ids=batch["target_ids"]))
        negative = self.negative_posterior(texts)
        instance = self.instance_diagnostics(batch, texts, prior, posterior, negative)
        slope = self.slope(instance["h_target"], instance["h_negative"])
        moved = slope[:, None] * (posterior.mean() - negative.mean())
        found |= instance | self.reach_of_negatives(batch, keywords, prior, moved, nll)
        found["infonce"] = self.information(batch, texts["source"], texts["target"], posterior, draw)
        if self.uses_keywords:
            found |= self.condition_diagnostics(batch, texts, keywords, posterior, nll)
            found |= self.keyword_diagnostics(batch, keywords, posterior)
        return found

    def given_target(self, batch: Batch, noise: Noise) -> tuple[latent.Gaussian, latent.Gaussian, Callable[[tf.Tensor], tf.Tensor]]:
        texts = self.encode(batch, None, ROLES[:2])
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False), noise)
        prior, posterior = self.prior_of(texts, keywords), self.posterior_of(texts["source"], texts["target"])
        return prior, posterior, partial(self.traced_once(batch, texts), keywords, ids=batch["target_ids"])

    def traced_once(self, batch: Batch, texts: dict) -> NLL:
        """Returns `nll_given` of a batch as a function of keyword states, z and a text's ids, [B, T + 2].

        Diagnostics ask eleven times, and tracing the decoder takes a second or more: in a graph the function stands once.
        """

        def nll(keywords: dict, z: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
            return self.nll_given({**batch, "target_ids": ids}, texts, keywords, z)

        if tf.executing_eagerly():
            return nll
        once = tf.function(nll, autograph=False)
        shown = ("source", "asked", "words")  # what the decoder may see of keyword states: the same names at each call, so one trace
        return lambda keywords, z, ids: once({name: keywords[name] for name in shown if name in keywords}, z, ids)

    def condition_diagnostics(self, batch: Batch, texts: dict, keywords: dict, posterior, nll: NLL) -> dict[str, tf.Tensor]:
        """Computes the NLL at the prior's mean, and KL, [B] each, where u_x is replaced; and the length of u_x.

        `unknown`: by the state of a text whose keywords are not nodes. `shuffled`: by another example's. `oracle`: by the state of the
        target's own keywords, which generation does not have: what keywords could be worth if they were guessed.
        """
        known, length = tf.reduce_any(batch["source_nodes"] >= 0, -1), tf.norm(keywords["source"], axis=-1)
        found = {"length_u_known": tf.where(known, length, NOT_A_NUMBER), "length_u_unknown": tf.where(known, NOT_A_NUMBER, length)}
        replaced = {
            "unknown": self.project(texts["source"]), "shuffled": another(keywords["source"], batch), "oracle": keywords["target"]
        }  # fmt: skip
        nothing = {"asked": 0.0, "words": self.inputs_.pad_id}
        asked = {name: keywords[name] for name in nothing if name in keywords}
        shown = {
            "unknown": {name: tf.fill(tf.shape(each), nothing[name]) for name, each in asked.items()},
            "shuffled": {name: another(each, batch) for name, each in asked.items()},
            "oracle": self.asked(batch, self.states_of_nodes(batch, False), "target") if asked else {},
        }
        for name, u in replaced.items():
            prior, states = self.prior_of(texts, keywords, u), {**keywords, "source": u, **shown[name]}
            found[f"nll_prior_u_{name}"] = nll(states, prior.mean(), batch["target_ids"])
            found[f"kl_u_{name}"] = tf.reduce_sum(latent.kl_by_dimension(posterior, prior), -1)
        return found

    def instance_diagnostics(self, batch: Batch, texts: dict, prior, posterior, negative) -> dict[str, tf.Tensor]:
        """Computes h(y) of target and negative, what means and what variances contribute to each, and whether the target's is smaller.

        Orders are 1 or 0, NaN where there is no pair; [B] each.

        `_random`: than that of another example's target. `_differ`: only where target and negative have different keywords.
        """
        near, far = (tfp.distributions.kl_divergence(q, prior) for q in (posterior, negative))
        other = self.posterior_of(texts["source"], another(texts["target"], batch))
        random = tfp.distributions.kl_divergence(other, prior)
        means, variances = zip(*(latent.kl_parts(q, prior) for q in (posterior, negative)), strict=True)
        return {
            "h_target": near,
            "h_negative": far,
            "h_target_of_means": means[0],
            "h_negative_of_means": means[1],
            "h_target_of_variances": variances[0],
            "h_negative_of_variances": variances[1],
            "margin_ins": far - near,
            "negative_mean": negative.mean(),
            "order_ins": as_float(near < far),
            "order_ins_random": where_applies(~tf.math.is_nan(random), near < random),
            "order_ins_differ": where_applies(have_different_keywords(batch), near < far),
        }

    def slope(self, near: tf.Tensor, far: tf.Tensor) -> tf.Tensor:
        """Computes the weighted slope s [B] of L_ins at the distances h(y+) and h(y-) [B]."""
        scale = self.instance_contrast.tau * self.instance_contrast.scale
        return self.settings.weight_ins / scale * tf.sigmoid((near - far) / scale)

    def reach_of_negatives(self, batch: Batch, keywords: dict, prior, moved: tf.Tensor, nll: NLL) -> dict[str, tf.Tensor]:
        """Computes how far L_ins moves what is said of each source, and how well the target is told from the negative, [B] each.

        Where L_cvae and L_ins are at rest, the prior's mean lies at mu+ + s (mu+ - mu-), with mu+ and mu- the posterior's means of target
        and negative, and s the slope of L_ins: beside the KL term alone, which has it at mu+, the contrast moves it by s (mu+ - mu-).

        Args:
          moved: [B, Z] this move. nll: `traced_once`.

        Returns:
          pull_ins: the length of the move in deviations of the prior. nll_moved: the target's NLL at the prior's mean after the move.
          nll_negative: the negative's NLL at the prior's mean.
        """
        return {
            "pull_ins": tf.norm(moved / prior.stddev(), axis=-1),
            "nll_moved": nll(keywords, prior.mean() + moved, batch["target_ids"]),
            "nll_negative": nll(keywords, prior.mean(), batch["negative_ids"]),
        }

    def information(self, batch: Batch, source: tf.Tensor, target: tf.Tensor, posterior, draw: tf.Tensor) -> tf.Tensor:
        """Estimates what z says of its target beside the source, [B] nats, from the other targets of the batch.

        It is InfoNCE (van den Oord et al. 2018) with the posterior's own density for a score: log q(z|x,y) minus the logarithm of its mean
        over the batch's targets y. So it is at most the logarithm of the number of real examples.
        """
        size = source.shape[0]
        pairs = self.posterior_of(tf.repeat(source, size, 0), tf.tile(target, [size, 1]))  # row i * B + j: x_i, y_j
        z = posterior.mean() + posterior.stddev() * draw
        scores = tf.reshape(pairs.log_prob(tf.repeat(z, size, 0)), [size, size])
        real = batch["example_mask"] > 0
        others = tf.reduce_logsumexp(tf.where(real[None], scores, -float("inf")), -1) - tf.math.log(tf.reduce_sum(batch["example_mask"]))
        return tf.linalg.diag_part(scores) - others

    def what_if(self, batch: Batch, noise: Noise, alphas: Sequence[float]) -> tf.Tensor:
        """Computes the NLL of each target, and of each negative, at z = mu_p + alpha (mu+ - mu-) for each alpha: [alphas, 2, B].

        mu_p is the prior's mean, mu+ and mu- are the posterior's of target and negative. It reads the target, so it is no prediction: it
        is the most that L_ins could bring.
        """
        texts = self.encode(batch, None, ROLES)
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False), noise)
        prior = self.prior_of(texts, keywords).mean()
        target, negative = (self.posterior_of(texts["source"], texts[role]).mean() for role in ROLES[1:])
        nll = self.traced_once(batch, texts)
        found = [[nll(keywords, prior + alpha * (target - negative), batch[f"{role}_ids"]) for role in ROLES[1:]] for alpha in alphas]
        return tf.stack([tf.stack(pair) for pair in found])

    def keyword_diagnostics(self, batch: Batch, keywords: dict, posterior) -> dict[str, tf.Tensor]:
        """Says whether L_key and L_ma order their pair right, and how near impostors are to u_y; as in `instance_diagnostics`."""
        paired = has_impostor(batch)
        own = self.compare_keywords(keywords, keywords["impostor"], posterior)
        random = self.compare_keywords(keywords, another(keywords["target"], batch), posterior)
        found = {}
        for suffix, pair, applies in (
            ("", own, paired),
            ("_random", random, ~tf.math.is_nan(random.hardness)),
            ("_differ", own, paired & have_different_keywords(batch)),
        ):
            found[f"order_key{suffix}"] = where_applies(applies, pair.cosine_target > pair.cosine_impostor)
            found[f"order_ma{suffix}"] = where_applies(applies, pair.distance_target < pair.distance_impostor)
        found["margin_key"] = tf.where(paired, own.cosine_target - own.cosine_impostor, NOT_A_NUMBER)
        found["margin_ma"] = tf.where(paired, own.distance_impostor - own.distance_target, NOT_A_NUMBER)
        found["impostor_cosine"] = tf.where(paired, own.hardness, NOT_A_NUMBER)
        found["random_cosine"] = random.hardness
        found["target_state"] = tf.where(paired[:, None], keywords["target"], NOT_A_NUMBER)
        found["impostor_state"] = tf.where(paired[:, None], keywords["impostor"], NOT_A_NUMBER)
        return found
