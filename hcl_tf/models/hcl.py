"""HCL: the paper's model. A CVAE on BERT with a Transformer decoder, keywords from a graph in its prior, and three contrasts.

    source x --BERT--> states, x ---------------.--------------.
    keywords of x --graph, eqs 4-9--> u_x --> prior p(z|x,u)    |
    target y --BERT--> y ------------------> posterior q(z|x,y) |
                                             z ~ posterior (training), prior (generation)
                                             Transformer decoder over [z ; states] --> y

With every contrast's weight 0 this is `bert_cvae`, the base that the contrasts are measured against.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.keywords.subgraph import ROUTES, SubgraphSampler
from hcl_tf.layers import latent
from hcl_tf.layers.contrast import DistanceContrast, KeywordContrast, cosine
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TEXT, Batch, Sum
from hcl_tf.models.encoder_decoder import EncoderDecoder
from hcl_tf.models.examples import NOT_A_NUMBER, as_float, has_impostor, weighted_sum
from hcl_tf.models.hcl_diagnostics import HCLDiagnostics
from hcl_tf.models.hcl_keywords import HCLKeywords
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.latent_variable import LatentVariable
from hcl_tf.models.settings.hcl import HCLSettings


class HCL(HCLDiagnostics, HCLKeywords, LatentVariable, EncoderDecoder):
    """The paper's model. What `--ablate` leaves out has no layers."""

    scales: ClassVar[Mapping[str, str]] = {
        **EncoderDecoder.scales, **LatentVariable.scales, **dict.fromkeys(("ins", "key", "ma"), A_TEXT)
    }  # fmt: skip
    curves = (*EncoderDecoder.curves, *LatentVariable.curves, "ins", "key", "ma")
    orders = ("order_ins", "order_key", "order_ma")
    places: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "embeddings": tuple(f"encoder.bert._{kind}" for kind in ("embedding", "position_embedding", "type_embedding")),
        "encoder": ("encoder",),
        "prior": ("prior",),
        "posterior": ("posterior",),
        "graph": ("node_projection", "graph", "impostor"),
        "z's projection": ("latent_memory", "latent_inputs"),
        "decoder": ("decoder", "copy_attention", "pointer", "keyword_memory", "keyword_inputs", "keyword_words", "tokens"),
    }
    comparisons: ClassVar[Mapping[str, tuple[str, str]]] = {
        **LatentVariable.comparisons,
        "nll_u_unknown_minus_graph": ("nll_prior_u_unknown", "nll_prior"),
        "nll_u_shuffled_minus_graph": ("nll_prior_u_shuffled", "nll_prior"),
        "kl_u_unknown_minus_graph": ("kl_u_unknown", "kl"),
        "kl_u_shuffled_minus_graph": ("kl_u_shuffled", "kl"),
        "nll_u_graph_minus_oracle": ("nll_prior", "nll_prior_u_oracle"),
        "nll_prior_minus_moved": ("nll_prior", "nll_moved"),
        "nll_negative_minus_target": ("nll_negative", "nll_prior"),
        "h_negative_minus_target": ("h_negative", "h_target"),
        "h_of_means_negative_minus_target": ("h_negative_of_means", "h_target_of_means"),
    }

    def __init__(self, settings: HCLSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        self._has_features = False  # of another run, which this one begins from
        self.build_latent(width)
        if s.latent_to != "inputs":
            self.latent_memory = keras.layers.Dense(width, name="latent_memory")
        if s.latent_to != "memory":
            self.latent_inputs = keras.layers.Dense(width, name="latent_inputs")
        self.uses_graph = self.uses_keywords and s.ablate != "graph"
        if self.uses_keywords:
            self.build_keywords(width)
        scales = {name: float(s.latent_size) if s.contrast_scale in ("both", name) else 1.0 for name in ("instance", "mahalanobis")}
        self.instance_contrast = DistanceContrast(s.tau_ins, scales["instance"], s.contrast_form, name="instance_contrast")
        self.keyword_contrast = KeywordContrast(s.tau_key, name="keyword_contrast")
        self.mahalanobis_contrast = DistanceContrast(s.tau_ma, scales["mahalanobis"], name="mahalanobis_contrast")
        shown_to = s.decoder_keyword_to if s.decoder_keyword else ""
        if shown_to in ("memory", "both"):
            self.keyword_memory = keras.layers.Dense(width, name="keyword_memory")
        if shown_to in ("inputs", "both"):
            self.keyword_inputs = keras.layers.Dense(width, name="keyword_inputs")
        if shown_to == "words":  # what resembles a piece's embedding makes that piece likely, so it begins as the embedding itself
            self.keyword_words = keras.layers.Dense(width, kernel_initializer="identity", name="keyword_words")

    @property
    def uses_keywords(self) -> bool:
        return self.settings.ablate != "keyword"

    def sampler(self, graph: KeywordGraph) -> SubgraphSampler | None:
        s = self.settings
        if len(graph) <= s.graph_whole:
            return None
        return SubgraphSampler(graph, s.fanout, s.graph_node_budget, s.impostors)

    @property
    def impostors(self) -> str:
        return self.settings.impostors

    @property
    def encoded(self) -> tuple[str, ...]:
        return ROLES if self.contrasts else ROLES[:2]

    # -- objective --------------------------------------------------------------------------------------------------

    @property
    def contrasts(self) -> dict[str, float]:
        """The contrasts that the objective has, and their weights."""
        s = self.settings
        weights = {"ins": s.weight_ins}
        if self.uses_keywords:
            weights["key"] = s.weight_key
            if s.ablate != "mahalanobis":
                weights["ma"] = s.weight_ma
        return {name: weight for name, weight in weights.items() if weight}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        found = {self.likelihood_term(step): 1.0, **self.latent_weights(step)}
        ramp = found["kl_objective"] if self.settings.contrast_ramp else 1.0
        return found | {name: weight * ramp for name, weight in self.contrasts.items()}

    def counts(self, batch: Batch) -> dict[str, tf.Tensor]:
        return super().counts(batch) | {"contrasted": tf.reduce_sum(batch["example_mask"] * as_float(has_impostor(batch)))}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        batch = self.with_impostors(batch, noise)
        texts = self.encode(batch, noise if training else None, self.encoded)
        nodes = self.states_of_nodes(batch, training)
        keywords = self.keyword_states(batch, texts, nodes, noise)
        if training and self.settings.decoder_keyword_of != "source":
            keywords |= self.asked(batch, nodes, "target", noise)
        texts = self.with_words(texts, keywords)
        prior, posterior = self.prior_of(texts, keywords), self.posterior_of(texts["source"], texts["target"])
        z = latent.sample(posterior, noise)
        states = self.decode(batch, texts, keywords, z, noise if training else None)
        sums = self.likelihood(batch, texts, states, training)
        sums |= self.latent_sums(batch, texts["source"], z, prior, posterior)
        if not training:
            sums["nll_prior"] = weighted_sum(self.nll_given(batch, texts, keywords, prior.mean()), batch["example_mask"], "examples")
        if self.contrasts:
            sums |= self.contrast_sums(batch, texts, keywords, prior, posterior)
        return sums

    def contrast_sums(self, batch: Batch, texts: dict, keywords: dict, prior, posterior) -> dict[str, Sum]:
        """Computes the contrasts, and how often each orders its pair right, summed over examples."""
        present = self.others_that_count(batch) if self.settings.in_batch_negatives else None
        sums = self.instance_contrast_sums(batch, texts, prior, posterior, present)
        if not self.uses_keywords:
            return sums
        sums |= self.keyword_contrast_sums(batch, keywords, posterior, present)
        for number, route in enumerate(ROUTES):
            sums[f"impostors_{route}"] = weighted_sum(as_float(batch["impostor_routes"] == number), batch["example_mask"], "examples")
        return sums

    def instance_contrast_sums(self, batch: Batch, texts: dict, prior, posterior, present: tf.Tensor | None) -> dict[str, Sum]:
        """Computes L_ins, which has no number in the paper.

        With in-batch negatives, of which `present` [B, 1 + B] count, it is against these too.
        """
        mask = batch["example_mask"]
        target, negative = self.instance_distances(texts, prior, posterior)
        negatives = negative
        if present is not None:
            negatives = tf.concat([negative[:, None], self.distances_of_others(texts, prior)], 1)  # --> [B, 1 + B]
        return {
            "ins": weighted_sum(self.instance_contrast(target, negatives, present), mask, "examples"),
            "order_ins": weighted_sum(as_float(target < negative), mask, "examples"),
        }

    def keyword_contrast_sums(self, batch: Batch, keywords: dict, posterior, present: tf.Tensor | None) -> dict[str, Sum]:
        """Computes L_key (eq 10) and L_ma, over examples that have an impostor; `present` as in `instance_contrast_sums`."""
        found = self.compare_keywords(keywords, keywords["impostor"], posterior)
        cosines, distances = found.cosine_impostor, found.distance_impostor
        if present is not None:  # every other example's u_y
            others = keywords["target"][None]  # --> [1, B, Z]
            cosines = tf.concat([cosines[:, None], cosine(keywords["source"][:, None], others)], 1)  # --> [B, 1 + B]
            wide = latent.gaussian([part[:, None] for part in (posterior.mean(), posterior.stddev())])  # --> [B, 1, Z]
            distances = tf.concat([distances[:, None], latent.mahalanobis(others, wide)], 1)
        values = {
            "key": self.keyword_contrast(found.cosine_target, cosines, present),
            "ma": self.mahalanobis_contrast(found.distance_target, distances, present),
            "order_key": as_float(found.cosine_target > found.cosine_impostor),
            "order_ma": as_float(found.distance_target < found.distance_impostor),
            "impostor_cosine": found.hardness,
        }
        paired = batch["example_mask"] * as_float(has_impostor(batch))
        return {name: weighted_sum(each, paired, "contrasted") for name, each in values.items()}

    # -- parts ------------------------------------------------------------------------------------------------------

    def prior_of(self, texts: dict, keywords: dict, u: tf.Tensor | None = None) -> latent.Gaussian:
        """Computes p(z | x, u); `u` [B, Z] replaces the source's keyword state."""
        condition = [texts["source"]]
        if self.uses_keywords:
            condition.append(keywords["source"] if u is None else u)
        return latent.gaussian(self.prior(tf.concat(condition, -1)))

    def posterior_of(self, source: tf.Tensor, text: tf.Tensor) -> latent.Gaussian:
        """Computes q(z | x, y) of vectors [B, D]; one network does it for y+ and y-."""
        return latent.gaussian(self.posterior(tf.concat([source, text], -1)))

    def memory(self, texts: dict, keywords: dict, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the decoder attends to, [B, M, D], and its mask [B, M]: z and keywords, if they go there, and the states of x.

        Where keywords go there as words, `texts` has them already (`with_words`).
        """
        dtype = self.decoder.compute_dtype
        slots = [self.latent_memory(z)] if self.settings.latent_to != "inputs" else []
        slots += [self.keyword_memory(self.shown(keywords))] if hasattr(self, "keyword_memory") else []
        parts, mask = [tf.cast(slot, dtype)[:, None] for slot in slots], texts["mask"]
        if hasattr(self, "keyword_words"):
            parts.append(tf.cast(texts["word_states"], dtype))
            mask = tf.concat([texts["words"] != self.inputs_.pad_id, mask], 1)
        memory = tf.concat([*parts, tf.cast(texts["states"], dtype)], 1)
        return memory, tf.pad(mask, [[0, 0], [len(slots), 0]], constant_values=True)

    def with_words(self, texts: dict, keywords: dict) -> dict:
        """Adds to `texts` the pieces of keywords that the decoder is shown (`words` [B, W]) and their states (`word_states` [B, W, D])."""
        if not hasattr(self, "keyword_words"):
            return texts
        return texts | {"words": keywords["words"], "word_states": self.keyword_words(self.tokens.embed(keywords["words"]))}

    def copy_memory(self, batch: Batch, texts: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what `copy_attention` attends to: pieces of the source, and those of keywords that the decoder is shown."""
        if "words" not in texts:
            return super().copy_memory(batch, texts)
        states = tf.concat([texts["states"], tf.cast(texts["word_states"], texts["states"].dtype)], 1)
        named = self.is_word(texts["words"]) & (texts["words"] != self.inputs_.unknown_id)  # an unknown piece of a keyword can't be said
        return self.copy_attention.remember(states, tf.concat([self.is_word(batch["source_ids"]), named], 1))

    def copyable(self, batch: Batch, texts: dict) -> tf.Tensor:
        return tf.concat([batch["source_ids"], texts["words"]], 1) if "words" in texts else super().copyable(batch, texts)

    def slots(self, batch: Batch) -> tf.Tensor:
        if not hasattr(self, "keyword_words"):
            return super().slots(batch)
        return tf.concat([batch["source_ids"], self.asked(batch, None, "source")["words"]], 1)

    def added(self, keywords: dict, z: tf.Tensor) -> tf.Tensor | None:
        """Returns what every input of the decoder gets added, [B, D]: z and u, if they go there; None: nothing."""
        parts = [self.latent_inputs(z)] if self.settings.latent_to != "memory" else []
        parts += [self.keyword_inputs(self.shown(keywords))] if hasattr(self, "keyword_inputs") else []
        return tf.add_n(parts) if parts else None

    @staticmethod
    def shown(keywords: dict) -> tf.Tensor:
        """Returns the keyword state [B, Z] that `--decoder_keyword` shows the decoder."""
        return keywords.get("asked", keywords["source"])

    def decode(self, batch: Batch, texts: dict, keywords: dict, z: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Computes decoder states [B, T + 1, D] under teacher forcing; `texts` as of `memory`."""
        return self.teach(batch, *self.memory(texts, keywords, z), noise, self.added(keywords, z))

    def instance_distances(self, texts: dict, prior, posterior) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes h(y) = KL(q(z|x,y) || p(z|x,u)) of the target and of the negative, [B] each."""
        negative = self.negative_posterior(texts)
        return tfp.distributions.kl_divergence(posterior, prior), tfp.distributions.kl_divergence(negative, prior)

    def negative_posterior(self, texts: dict) -> latent.Gaussian:
        """Computes q(z | x, y-), without a gradient where `--nonegative_gradient` asks for none."""
        return self._as_negative(self.posterior_of(texts["source"], texts["negative"]))

    def _as_negative(self, posterior: latent.Gaussian) -> latent.Gaussian:
        if self.settings.negative_gradient:
            return posterior
        return latent.gaussian((tf.stop_gradient(posterior.mean()), tf.stop_gradient(posterior.stddev())))

    def distances_of_others(self, texts: dict, prior) -> tf.Tensor:
        """Computes KL(q(z|x_i,y_j) || p(z|x_i,u_i)) of each example i with every target j of the batch, [B, B].

        All are taken as negatives; `others_that_count` leaves each example's own target out.
        """
        size = texts["source"].shape[0]
        pairs = [tf.repeat(texts["source"], size, 0), tf.tile(texts["target"], [size, 1])]  # row i * B + j: x_i, y_j
        wide = latent.gaussian([tf.repeat(part, size, 0) for part in (prior.mean(), prior.stddev())])
        return tf.reshape(tfp.distributions.kl_divergence(self._as_negative(self.posterior_of(*pairs)), wide), [size, size])

    @staticmethod
    def others_that_count(batch: Batch) -> tf.Tensor:
        """Says which negatives count for each example, [B, 1 + B] bool.

        Its own negative, the first, always does. Of the batch's targets those do that are real, do not have the same source, and are not
        equal to its own target.
        """
        same = [tf.reduce_all(batch[name][:, None] == batch[name][None], -1) for name in ("source_ids", "target_ids")]
        counts = ~(same[0] | same[1]) & (batch["example_mask"][None] > 0)
        return tf.concat([tf.ones([counts.shape[0], 1], tf.bool), counts], 1)

    # -- outside the training step ----------------------------------------------------------------------------------

    def refreshed(self) -> tuple[int, dict[str, tf.Variable]]:
        if not self.uses_keywords:
            return 0, {}
        return self.settings.refresh_graph_every, {"features": self.node_features, "mean": self.text_mean, "scale": self.text_scale}

    def of_graph(self) -> list[tf.Variable]:
        return [self.node_features, self.text_mean, self.text_scale, self.node_states] if self.uses_keywords else []

    def begin_from(self, taken: Callable[[tf.Variable], bool]) -> list[str]:
        self._has_features = self.uses_keywords and taken(self.node_features)
        return super().begin_from(taken)

    def before_epoch(self, epoch: int, texts) -> None:
        every = self.settings.refresh_graph_every
        begins = epoch == 0 and not self._has_features  # features that are never refreshed stay those of the weights before training
        if self.uses_keywords and (begins or (every and epoch % every == 0)):
            for variable, value in zip(self.refreshed()[1].values(), texts.node_features(self.encoder), strict=True):
                variable.assign(value)

    def told_at_start(self, texts) -> list[str]:
        return texts.impostor_lines(self.node_features.numpy(), self.impostors) if self.uses_keywords else []

    def before_inference(self) -> None:
        if self.uses_keywords:
            states = self.node_projection(tf.convert_to_tensor(self.node_features))
            self.node_states.assign(self.graph(states, tf.constant(self.inputs_.neighbours)) if self.uses_graph else states)

    def read_sources(self, batch: Batch) -> tuple[dict, dict, latent.Gaussian]:
        """Reads all that generation knows of a batch. Returns encoded sources, keyword states, and p(z | x, u)."""
        texts = self.encode(batch, None, ("source",))
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False))
        return texts, keywords, self.prior_of(texts, keywords)

    def source_prior(self, batch: Batch) -> latent.Gaussian:
        return self.read_sources(batch)[2]

    def target_nll(self, batch: Batch) -> tf.Tensor:
        texts, keywords, prior = self.read_sources(batch)
        return self.nll_given(batch, texts, keywords, prior.mean())

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        texts, keywords, prior = self.read_sources(batch)
        z, texts = self.drawn(prior, noise), self.with_words(texts, keywords)
        return self.start_from(batch, texts, *self.memory(texts, keywords, z), beams, self.added(keywords, z))

    def representations(self, batch: Batch) -> dict[str, dict[str, tf.Tensor]]:
        """Returns vectors of texts and keywords in two spaces.

        `text`: the three texts' vectors under the projection that the keyword nodes come from, or as BERT has them where there are no
        keywords. `latent`: the prior's mean for the source, the posterior's for the other two. Keyword states are in both spaces: they come
        from projected text vectors, and L_ma compares them with the posterior.
        """
        texts = self.encode(batch, None, ROLES)
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False))
        latents = {"source": self.prior_of(texts, keywords).mean()}
        latents |= {role: self.posterior_of(texts["source"], texts[role]).mean() for role in ROLES[1:]}
        spaces = {"text": {role: self.project(texts[role]) if self.uses_keywords else texts[role] for role in ROLES}, "latent": latents}
        found = {
            space: {"source": vectors["source"], "positive": vectors["target"], "negative": vectors["negative"]}
            for space, vectors in spaces.items()
        }
        if not self.uses_keywords:
            return found
        known = {role: tf.reduce_any(batch[f"{role}_nodes"] >= 0, -1) for role in ("source", "target")}
        known["impostor"] = has_impostor(batch)
        names = {"keyword": "source", "positive_keyword": "target", "impostor": "impostor"}
        # A text none of whose keywords is a node has its own projection for a keyword state, at distance 0 from itself.
        states = {name: tf.where(known[role][:, None], keywords[role], NOT_A_NUMBER) for name, role in names.items()}
        return {space: vectors | states for space, vectors in found.items()}

    def nll_given(self, batch: Batch, texts: dict, keywords: dict, z: tf.Tensor) -> tf.Tensor:
        """Computes the NLL [B] of each target, decoded with a z [B, Z] that is given."""
        texts = self.with_words(texts, keywords)
        return self.nll_of_states(batch, texts, self.decode(batch, texts, keywords, z, None))
