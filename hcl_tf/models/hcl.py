"""HCL: the paper's model. A CVAE on BERT with a Transformer decoder, keywords from a graph in its prior, and three contrasts.

    source x --BERT--> states, x ---------------.--------------.
    keywords of x --graph, eqs 4-9--> u_x --> prior p(z|x,u)    |
    target y --BERT--> y ------------------> posterior q(z|x,y) |
                                             z ~ posterior (training), prior (generation)
                                             Transformer decoder over [z ; states] --> y

With every contrast's weight 0 this is `bert_cvae`, the base that the contrasts are measured against.
"""

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras

from hcl_tf.data.corpora.formats import ROLES
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.keywords.subgraph import ROUTES, SubgraphSampler
from hcl_tf.layers import latent
from hcl_tf.layers.contrast import DistanceContrast, Impostor, KeywordContrast, cosine
from hcl_tf.layers.keyword_graph import KeywordGraphNetwork, gather_nodes, keyword_state
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import A_TEXT, Batch, Inputs, Sum
from hcl_tf.models.encoder_decoder import EncoderDecoder
from hcl_tf.models.latent_variable import NOT_A_NUMBER, LatentVariable, another, latent_diagnostics
from hcl_tf.models.settings.hcl import HCLSettings


class HCL(LatentVariable, EncoderDecoder):
    """The whole model; what `--ablate` leaves out has no layers here."""

    scales: ClassVar[Mapping[str, str]] = {
        **EncoderDecoder.scales, **LatentVariable.scales, **dict.fromkeys(("ins", "key", "ma"), A_TEXT)
    }  # fmt: skip
    curves = (*EncoderDecoder.curves, *LatentVariable.curves, "ins", "key", "ma")
    orders = ("order_ins", "order_key", "order_ma")
    comparisons: ClassVar[Mapping[str, tuple[str, str]]] = {
        **LatentVariable.comparisons,
        "nll_u_unknown_minus_graph": ("nll_prior_u_unknown", "nll_prior"),
        "nll_u_shuffled_minus_graph": ("nll_prior_u_shuffled", "nll_prior"),
        "kl_u_unknown_minus_graph": ("kl_u_unknown", "kl"),
        "kl_u_shuffled_minus_graph": ("kl_u_shuffled", "kl"),
    }

    def __init__(self, settings: HCLSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        self.build_latent(width)
        if s.latent_to != "inputs":
            self.latent_memory = keras.layers.Dense(width, name="latent_memory")
        if s.latent_to != "memory":
            self.latent_inputs = keras.layers.Dense(width, name="latent_inputs")
        self.uses_graph = self.uses_keywords and s.ablate != "graph"
        if self.uses_keywords:
            self._build_keywords(width)
        scales = {name: float(s.latent_size) if s.contrast_scale in ("both", name) else 1.0 for name in ("instance", "mahalanobis")}
        self.instance_contrast = DistanceContrast(s.tau_ins, scales["instance"], s.contrast_form, name="instance_contrast")
        self.keyword_contrast = KeywordContrast(s.tau_key, name="keyword_contrast")
        self.mahalanobis_contrast = DistanceContrast(s.tau_ma, scales["mahalanobis"], name="mahalanobis_contrast")
        if s.decoder_keyword:
            self.keyword_memory = keras.layers.Dense(width, name="keyword_memory")

    def _build_keywords(self, width: int) -> None:
        s, nodes = self.settings, len(self.inputs_.neighbours)
        # Features h^0 before projection, centred and scaled over nodes; and the mean and scale of single texts, whose vectors
        # spread wider than the nodes' means over texts, so that both arrive alike (training/text_states.py).
        self.node_features = self.add_weight("node_features", (nodes, width), initializer="zeros", trainable=False, dtype="float32")
        self.text_mean = self.add_weight("text_mean", (width,), initializer="zeros", trainable=False, dtype="float32")
        self.text_scale = self.add_weight("text_scale", (width,), initializer="ones", trainable=False, dtype="float32")
        self.node_projection = keras.layers.Dense(s.latent_size, dtype="float32", name="node_projection")
        if self.uses_graph:
            self.graph = KeywordGraphNetwork(s.latent_size, len(s.fanout), s.graph_attention, name="graph")
        self.impostor = Impostor(s.latent_size, s.impostor, s.impostor_gradient, name="impostor")
        self.node_states = tf.Variable(tf.zeros([nodes, s.latent_size]), trainable=False, name="node_states")

    @property
    def uses_keywords(self) -> bool:
        return self.settings.ablate != "keyword"

    def sampler(self, graph: KeywordGraph) -> SubgraphSampler:
        s = self.settings
        return SubgraphSampler(graph, s.fanout, s.graph_node_budget, s.impostors)

    @property
    def impostors(self) -> str:
        return self.settings.impostors

    # -- objective --------------------------------------------------------------------------------------------------

    @property
    def contrasts(self) -> dict[str, float]:
        """The contrasts in the objective and their weights."""
        s = self.settings
        weights = {"ins": s.weight_ins}
        if self.uses_keywords:
            weights["key"] = s.weight_key
            if s.ablate != "mahalanobis":
                weights["ma"] = s.weight_ma
        return {name: weight for name, weight in weights.items() if weight}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {self.likelihood_term(step): 1.0, **self.latent_weights(step), **self.contrasts}

    def counts(self, batch: Batch) -> dict[str, tf.Tensor]:
        contrasted = batch["example_mask"] * tf.cast(batch["impostor_routes"] != ROUTES.index("none"), tf.float32)
        return super().counts(batch) | {"contrasted": tf.reduce_sum(contrasted)}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        roles = ROLES if self.contrasts else ROLES[:2]
        texts = self.encode(batch, noise if training else None, roles)
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, training))
        prior, posterior = self.prior_of(texts, keywords), self.posterior_of(texts["source"], texts["target"])
        z = latent.sample(posterior, noise)
        states = self.decode(batch, texts, keywords, z, noise if training else None)
        sums = self.likelihood(batch, texts, states, training)
        sums |= self.latent_sums(batch, texts["source"], z, prior, posterior)
        if self.contrasts:
            sums |= self.contrast_sums(batch, texts, keywords, prior, posterior)
        return sums

    def contrast_sums(self, batch: Batch, texts: dict, keywords: dict, prior, posterior) -> dict[str, Sum]:
        """The three contrasts, and how often each orders its pair right."""
        mask = batch["example_mask"]
        distances = self.instance_distances(texts, prior, posterior)
        in_batch, present = self.settings.in_batch_negatives, None
        negatives = distances["negative"]
        if in_batch:
            present = self.others_that_count(batch)
            negatives = tf.concat([negatives[:, None], self.distances_of_others(texts, prior)], 1)
        total = lambda values, weight, per: Sum(tf.reduce_sum(tf.where(weight > 0, values, 0.0) * weight), per)  # noqa: E731
        right = lambda condition: tf.cast(condition, tf.float32)  # noqa: E731
        sums = {
            "ins": total(self.instance_contrast(distances["positive"], negatives, present), mask, "examples"),
            "order_ins": total(right(distances["positive"] < distances["negative"]), mask, "examples"),
        }
        if not self.uses_keywords:
            return sums
        paired = mask * tf.cast(batch["impostor_routes"] != ROUTES.index("none"), tf.float32)
        measures = self.keyword_measures(keywords, keywords["impostor"], posterior)
        cosines, heights = measures["cos_impostor"], measures["h_impostor"]
        if in_batch:  # every other example's u_y
            others = keywords["target"][None]
            cosines = tf.concat([cosines[:, None], cosine(keywords["source"][:, None], others)], 1)
            wide = latent.gaussian([part[:, None] for part in (posterior.mean(), posterior.stddev())])
            heights = tf.concat([heights[:, None], latent.mahalanobis(others, wide)], 1)
        sums["key"] = total(self.keyword_contrast(measures["cos_target"], cosines, present), paired, "contrasted")
        sums["ma"] = total(self.mahalanobis_contrast(measures["h_target"], heights, present), paired, "contrasted")
        sums["order_key"] = total(right(measures["cos_target"] > measures["cos_impostor"]), paired, "contrasted")
        sums["order_ma"] = total(right(measures["h_target"] < measures["h_impostor"]), paired, "contrasted")
        sums["impostor_cosine"] = total(measures["hardness"], paired, "contrasted")
        for number, route in enumerate(ROUTES):
            sums[f"impostors_{route}"] = total(right(batch["impostor_routes"] == number), mask, "examples")
        return sums

    # -- parts ------------------------------------------------------------------------------------------------------

    def states_of_nodes(self, batch: Batch, training: bool) -> tf.Tensor | None:
        """[n, Z] states of the batch's sub-graph (training), or of the whole graph as `before_inference` left them."""
        if not self.uses_keywords:
            return None
        if not training:
            return tf.convert_to_tensor(self.node_states)
        features = self.node_projection(gather_nodes(tf.convert_to_tensor(self.node_features), batch["graph_nodes"]))
        return self.graph(features, batch["graph_neighbours"]) if self.uses_graph else features

    def project(self, vectors: tf.Tensor) -> tf.Tensor:
        """Text vectors [B, D] -> the nodes' space, [B, Z]."""
        return self.node_projection((vectors - self.text_mean) / self.text_scale)

    def keyword_states(self, batch: Batch, texts: dict, nodes: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """u_x (`source`) and, where the batch has targets, u_y (`target`) and u_- (`impostor`), each [B, Z]."""
        if nodes is None:
            return {}
        states = {}
        for role in ("source", "target"):
            if role in texts:
                own = self.project(texts[role])
                unknown = tf.cast(batch[f"{role}_unknown"], tf.float32)
                states[role] = keyword_state(nodes, batch[f"{role}_nodes"], unknown, own)
        if "target" in texts and "impostor_nodes" in batch:
            places = batch["impostor_nodes"]
            states["impostor"] = self.impostor(gather_nodes(nodes, places), places >= 0, states["target"])
        return states

    def prior_of(self, texts: dict, keywords: dict, u: tf.Tensor | None = None) -> latent.Gaussian:
        """p(z | x, u); `u` replaces the source's keyword state."""
        condition = [texts["source"]]
        if self.uses_keywords:
            condition.append(keywords["source"] if u is None else u)
        return latent.gaussian(self.prior(tf.concat(condition, -1)))

    def posterior_of(self, source: tf.Tensor, text: tf.Tensor) -> latent.Gaussian:
        """q(z | x, y), one network for y+ and y-."""
        return latent.gaussian(self.posterior(tf.concat([source, text], -1)))

    def memory(self, texts: dict, keywords: dict, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[(z) ; (u) ; states of x] and its mask: what the decoder attends to."""
        dtype = self.decoder.compute_dtype
        slots = [self.latent_memory(z)] if self.settings.latent_to != "inputs" else []
        slots += [self.keyword_memory(keywords["source"])] if self.settings.decoder_keyword else []
        memory = tf.concat([*(tf.cast(slot, dtype)[:, None] for slot in slots), tf.cast(texts["states"], dtype)], 1)
        return memory, tf.pad(texts["mask"], [[0, 0], [len(slots), 0]], constant_values=True)

    def decode(self, batch: Batch, texts: dict, keywords: dict, z: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """[B, T + 1, D] decoder states under teacher forcing."""
        added = None if self.settings.latent_to == "memory" else self.latent_inputs(z)
        return self.teach(batch, *self.memory(texts, keywords, z), noise, added)

    def instance_distances(self, texts: dict, prior, posterior) -> dict[str, tf.Tensor]:
        """h(y) = KL(q(z|x,y) || p(z|x,u)) of the target and of the negative, [B] each."""
        negative = self.posterior_of(texts["source"], texts["negative"])
        divergence = tfp.distributions.kl_divergence
        return {"positive": divergence(posterior, prior), "negative": divergence(negative, prior)}

    def distances_of_others(self, texts: dict, prior) -> tf.Tensor:
        """[B, B] KL(q(z|x_i,y_j) || p(z|x_i,u_i)) of every target of the batch."""
        size = texts["source"].shape[0]
        pairs = [tf.repeat(texts["source"], size, 0), tf.tile(texts["target"], [size, 1])]  # row i * B + j: x_i, y_j
        wide = latent.gaussian([tf.repeat(part, size, 0) for part in (prior.mean(), prior.stddev())])
        return tf.reshape(tfp.distributions.kl_divergence(self.posterior_of(*pairs), wide), [size, size])

    @staticmethod
    def others_that_count(batch: Batch) -> tf.Tensor:
        """[B, 1 + B] bool: the own negative always, and of the batch's targets those that are not of the same source, nor equal to
        the own target."""
        same = [tf.reduce_all(batch[name][:, None] == batch[name][None], -1) for name in ("source_ids", "target_ids")]
        counts = ~(same[0] | same[1]) & (batch["example_mask"][None] > 0)
        return tf.concat([tf.ones([counts.shape[0], 1], tf.bool), counts], 1)

    def keyword_measures(self, keywords: dict, impostor: tf.Tensor, posterior) -> dict[str, tf.Tensor]:
        """What L_key and L_ma compare, [B] each, and `hardness`: cos(u_-, u_y)."""
        anchor, target = keywords["source"], keywords["target"]
        return {
            "cos_target": cosine(anchor, target),
            "cos_impostor": cosine(anchor, impostor),
            "h_target": latent.mahalanobis(target, posterior),
            "h_impostor": latent.mahalanobis(impostor, posterior),
            "hardness": cosine(impostor, target),
        }

    # -- outside the training step ----------------------------------------------------------------------------------

    def stays(self, steps: int, epoch_steps: int) -> str:
        every = self.settings.refresh_graph_every
        if not self.uses_keywords or not 0 < every * epoch_steps < steps:
            return ""
        return f"--refresh_graph_every={every} computes node features again within {steps} steps; export with --refresh_graph_every=0"

    def before_epoch(self, epoch: int, texts) -> None:
        every = self.settings.refresh_graph_every
        if self.uses_keywords and (epoch == 0 or (every and epoch % every == 0)):
            features, mean, scale = texts.node_features(self.encoder)
            self.node_features.assign(features)
            self.text_mean.assign(mean)
            self.text_scale.assign(scale)

    def before_inference(self) -> None:
        if self.uses_keywords:
            states = self.node_projection(tf.convert_to_tensor(self.node_features))
            self.node_states.assign(self.graph(states, tf.constant(self.inputs_.neighbours)) if self.uses_graph else states)

    def read_sources(self, batch: Batch) -> tuple[dict, dict, latent.Gaussian]:
        """All that generation knows of a batch: encoded sources, u_x, and p(z | x, u)."""
        texts = self.encode(batch, None, ("source",))
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False))
        return texts, keywords, self.prior_of(texts, keywords)

    def source_prior(self, batch: Batch) -> latent.Gaussian:
        return self.read_sources(batch)[2]

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        texts, keywords, prior = self.read_sources(batch)
        z = self.drawn(prior, noise)
        added = None if self.settings.latent_to == "memory" else self.latent_inputs(z)
        return self.start_from(batch, texts, *self.memory(texts, keywords, z), beams, added)

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        """NLL of each example under other z and u, contrasts against the example's negative and against a random one."""
        texts = self.encode(batch, None, ROLES)
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False))
        prior, posterior = self.prior_of(texts, keywords), self.posterior_of(texts["source"], texts["target"])
        other = lambda values: another(values, batch)  # noqa: E731
        draw = noise.normal((self.settings.latent_size,))
        nll = lambda z: self.nll_given(batch, texts, keywords, z)  # noqa: E731
        diagnostics = latent_diagnostics(prior, posterior, draw, batch, nll)
        if self.uses_keywords:
            for name, u in (("unknown", self.project(texts["source"])), ("shuffled", other(keywords["source"]))):
                changed = self.prior_of(texts, keywords, u)
                states = {**keywords, "source": u}
                diagnostics[f"nll_prior_u_{name}"] = self.nll_given(batch, texts, states, changed.mean() + changed.stddev() * draw)
                diagnostics[f"kl_u_{name}"] = tf.reduce_sum(latent.kl_by_dimension(posterior, changed), -1)
        return diagnostics | self.contrast_diagnostics(batch, texts, keywords, prior, posterior, other)

    def contrast_diagnostics(self, batch: Batch, texts: dict, keywords: dict, prior, posterior, other) -> dict[str, tf.Tensor]:
        """1 where a contrast orders its pair right, 0 where not, NaN where there is no pair; `_random`: the negative is another
        example's; `_differ`: only where the two keyword sets differ."""
        diagnostics = {}
        right = lambda condition, among=True: tf.where(among, tf.cast(condition, tf.float32), NOT_A_NUMBER)  # noqa: E731
        different = differ(batch["target_nodes"], batch["negative_nodes"])
        if "negative" in texts:
            distances = self.instance_distances(texts, prior, posterior)
            random = tfp.distributions.kl_divergence(self.posterior_of(texts["source"], other(texts["target"])), prior)
            diagnostics["order_ins"] = right(distances["positive"] < distances["negative"])
            diagnostics["order_ins_random"] = right(distances["positive"] < random, ~tf.math.is_nan(random))
            diagnostics["order_ins_differ"] = right(distances["positive"] < distances["negative"], different)
        if not self.uses_keywords:
            return diagnostics
        paired = batch["impostor_routes"] != ROUTES.index("none")
        own = self.keyword_measures(keywords, keywords["impostor"], posterior)
        random = self.keyword_measures(keywords, other(keywords["target"]), posterior)
        for suffix, pair, among in (
            ("", own, paired),
            ("_random", random, ~tf.math.is_nan(random["hardness"])),
            ("_differ", own, paired & different),
        ):
            diagnostics[f"order_key{suffix}"] = right(pair["cos_target"] > pair["cos_impostor"], among)
            diagnostics[f"order_ma{suffix}"] = right(pair["h_target"] < pair["h_impostor"], among)
        diagnostics["impostor_cosine"] = tf.where(paired, own["hardness"], NOT_A_NUMBER)
        diagnostics["random_cosine"] = random["hardness"]
        return diagnostics

    def representations(self, batch: Batch) -> dict[str, dict[str, tf.Tensor]]:
        """`text`: the three texts' vectors under the projection that the keyword nodes come from, or as BERT has them where there are
        no keywords. `latent`: the prior's mean for the source, the posterior's for the other two. Keyword states are in both: they are
        made of projected text vectors, and L_ma compares them with the posterior."""
        texts = self.encode(batch, None, ROLES)
        keywords = self.keyword_states(batch, texts, self.states_of_nodes(batch, False))
        latents = {"source": self.prior_of(texts, keywords).mean()}
        latents |= {role: self.posterior_of(texts["source"], texts[role]).mean() for role in ROLES[1:]}
        found = {}
        for space, vectors in (("text", {role: self.project(texts[role]) if self.uses_keywords else texts[role] for role in ROLES}),
                               ("latent", latents)):  # fmt: skip
            found[space] = {"source": vectors["source"], "positive": vectors["target"], "negative": vectors["negative"]}
        if not self.uses_keywords:
            return found
        known = {role: tf.reduce_any(batch[f"{role}_nodes"] >= 0, -1) for role in ("source", "target")}
        known["impostor"] = batch["impostor_routes"] != ROUTES.index("none")
        names = {"keyword": "source", "positive_keyword": "target", "impostor": "impostor"}
        # A text none of whose keywords is a node has its own projection for a keyword state, at distance 0 from itself.
        states = {name: tf.where(known[role][:, None], keywords[role], NOT_A_NUMBER) for name, role in names.items()}
        return {space: vectors | states for space, vectors in found.items()}

    def nll_given(self, batch: Batch, texts: dict, keywords: dict, z: tf.Tensor) -> tf.Tensor:
        """[B] NLL of each target, decoded with this z."""
        states = self.decode(batch, texts, keywords, z, None)
        return self.nll_of_states(batch, texts, states)


def differ(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[B] bool: whether two sets of nodes [B, K] (-1: none) differ."""
    same = a[:, :, None] == b[:, None, :]
    alone = [(nodes >= 0) & ~tf.reduce_any(same, axis) for nodes, axis in ((a, 2), (b, 1))]
    return tf.reduce_any(tf.concat(alone, -1), -1)
