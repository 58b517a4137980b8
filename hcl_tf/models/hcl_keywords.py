"""The keyword states of the paper's model: u_x of a source, u_y of a target and the impostor u_- (sections 3.2 and 3.3).

keywords --nodes of the graph, or "unknown"--> states of nodes (eqs 4 to 9) --mean over a text's keywords--> u
"""

from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers import latent
from hcl_tf.layers.contrast import Impostor, cosine, one_of
from hcl_tf.layers.keyword_graph import KeywordGraphNetwork, gather_nodes, keyword_state
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.shapes import dimension
from hcl_tf.models.base import Batch


class KeywordComparison(NamedTuple):
    """What L_key and L_ma compare, [B] each.

    Attributes:
      cosine_target, cosine_impostor: of u_x with u_y, and with the impostor.
      distance_target, distance_impostor: Mahalanobis distance of u_y, and of the impostor, from q(z | x, y).
      hardness: cosine of the impostor with u_y.
    """

    cosine_target: tf.Tensor
    cosine_impostor: tf.Tensor
    distance_target: tf.Tensor
    distance_impostor: tf.Tensor
    hardness: tf.Tensor


def new_keywords(batch: Batch) -> tf.Tensor:
    """Says which of each target's keywords are nodes that its source has not, [B, K] booleans."""
    known = batch["target_nodes"]
    return (known >= 0) & ~tf.reduce_any(known[:, :, None] == batch["source_nodes"][:, None], -1)


class HCLKeywords:
    """Gives `HCL` its keyword states; nothing of it is there with `--ablate=keyword`."""

    def build_keywords(self, width: int) -> None:
        """Makes node features, their projection, the graph network and the impostor; `width`: of the text vectors."""
        s, nodes = self.settings, len(self.inputs_.neighbours)
        # Features h^0 before projection, centred and scaled over nodes; and the mean and scale of single texts, whose vectors
        # spread wider than the nodes' means over texts, so that both arrive alike (training/text_states.py).
        self.node_features = self.add_weight(
            "node_features", (nodes, width), initializer="zeros", trainable=s.trainable_features, dtype="float32"
        )
        self.text_mean = self.add_weight("text_mean", (width,), initializer="zeros", trainable=False, dtype="float32")
        self.text_scale = self.add_weight("text_scale", (width,), initializer="ones", trainable=False, dtype="float32")
        self.node_projection = keras.layers.Dense(s.latent_size, dtype="float32", name="node_projection")
        if self.uses_graph:
            self.graph = KeywordGraphNetwork(s.latent_size, len(s.fanout), s.graph_attention, name="graph")
        self.impostor = Impostor(s.latent_size, s.impostor, s.impostor_gradient, name="impostor")
        self.node_states = tf.Variable(tf.zeros([nodes, s.latent_size]), trainable=False, name="node_states")

    def with_impostors(self, batch: Batch, noise: Noise | None) -> Batch:
        """Leaves of a batch's impostor_nodes those that make its impostors, where there are any (-1 for the others).

        Args:
          noise: chooses an impostor where one is drawn; None: the strongest.
        """
        if not self.uses_keywords or "impostor_nodes" not in batch:
            return batch
        places = batch["impostor_nodes"]
        draw = noise.apart().uniform(tuple(places.shape[1:])) if noise else None
        return batch | {"impostor_nodes": tf.where(self.impostor.chosen(places >= 0, draw), places, -1)}

    def states_of_nodes(self, batch: Batch, training: bool) -> tf.Tensor | None:
        """Computes the states [n, Z] of the batch's sub-graph, or of the whole graph where the batch has none.

        In training those of other nodes than the batch's own mean nothing. Outside of training returns the whole graph's, as
        `before_inference` left them.
        """
        if not self.uses_keywords:
            return None
        if not training:
            return tf.convert_to_tensor(self.node_states)
        features, neighbours = tf.convert_to_tensor(self.node_features), tf.constant(self.inputs_.neighbours)
        if "graph_nodes" in batch:
            features, neighbours = gather_nodes(features, batch["graph_nodes"]), batch["graph_neighbours"]
        states = self.node_projection(features)
        if not self.uses_graph:
            return states
        read = tf.concat([tf.reshape(batch[f"{name}_nodes"], [-1]) for name in ("source", "target", "impostor")], 0)
        wanted = tf.math.unsorted_segment_max(tf.ones_like(read), read, dimension(features)) > 0  # negative places count for none
        return self.graph(states, neighbours, wanted)

    def project(self, vectors: tf.Tensor) -> tf.Tensor:
        """Projects text vectors [B, D] into the space of the nodes, [B, Z]."""
        return self.node_projection((vectors - self.text_mean) / self.text_scale)

    def keyword_states(self, batch: Batch, texts: dict, nodes: tf.Tensor | None, noise: Noise | None = None) -> dict[str, tf.Tensor]:
        """Computes u_x (`source`) and, where the batch has targets, u_y (`target`) and u_- (`impostor`), [B, Z] each.

        With `--decoder_keyword` also what the decoder is shown, if it is not u_x (`asked`); with `--key_words=one` what L_key compares
        (`target_word`).

        Args:
          nodes: [n, Z] states (`states_of_nodes`); None: the model has no keywords, and so no states.
          noise: as of `with_impostors`.
        """
        if nodes is None:
            return {}
        states = {}
        for role in ("source", "target"):
            if role in texts:
                own = self.project(texts[role])
                unknown = tf.cast(batch[f"{role}_unknown"], tf.float32)
                states[role] = keyword_state(nodes, batch[f"{role}_nodes"], unknown, own)
        if self.settings.decoder_keyword:
            states |= self.asked(batch, nodes, "source")
        if "target" in texts and self.settings.key_words == "one":
            states["target_word"] = self.target_word(batch, nodes, states["target"], noise)
        if "target" in texts and "impostor_nodes" in batch:
            places = self.with_impostors(batch, noise)["impostor_nodes"]
            states["impostor"] = self.impostor(gather_nodes(nodes, places), places >= 0, states["target"])
        return states

    def target_word(self, batch: Batch, nodes: tf.Tensor, target: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Returns the state [B, Z] of one keyword of each target that its source has not, or u_y [B, Z] where there is none.

        Args:
          target: [B, Z] u_y. noise: chooses the keyword; None: the first.
        """
        known, only = batch["target_nodes"], new_keywords(batch)
        draw = noise.apart().apart().uniform((known.shape[1],)) if noise else None  # not the impostor's draw
        chosen = one_of(only, draw)
        state = tf.reduce_sum(tf.where(chosen[..., None], gather_nodes(nodes, known), 0.0), 1)
        return tf.where(tf.reduce_any(only, -1)[:, None], state, target)

    def asked(self, batch: Batch, nodes: tf.Tensor | None, role: str, noise: Noise | None = None) -> dict[str, tf.Tensor]:
        """Computes what `--decoder_keyword` shows the decoder of a text's keywords that are nodes.

        With `--decoder_keyword_to=words` `words` [B, K * P], the ids of their pieces, and padding where there is none. Else, unless
        `--decoder_keyword_of=source`, `asked` [B, Z], their mean state, zero where there is none: unlike u it has nothing of the text's own
        vector, by which a target's would tell the whole target.

        Args:
          nodes: [n, Z] states (`states_of_nodes`), which `words` do not need. role: "source" or "target".
          noise: leaves some out, so that any number of them means something; None: all count.
        """
        s, places = self.settings, batch[f"{role}_nodes"]
        known = new_keywords(batch) if (role, s.decoder_keyword_of) == ("target", "new") else places >= 0
        if noise:
            draw = noise.apart().apart().apart().uniform((places.shape[1],))
            known &= one_of(known, draw) | (draw < 0.5)
        if s.decoder_keyword_to == "words":
            numbers = gather_nodes(batch["graph_nodes"], places) if "graph_nodes" in batch else places
            ids = gather_nodes(tf.constant(self.inputs_.keyword_ids[:, 1:]), numbers)  # --> [B, K, P], without [CLS]
            shown = known[..., None] & (ids != self.inputs_.sep_id)
            return {"words": tf.reshape(tf.where(shown, ids, self.inputs_.pad_id), [-1, ids.shape[1] * ids.shape[2]])}
        if s.decoder_keyword_of == "source":
            return {}
        weights = tf.cast(known, tf.float32)[..., None]
        total = tf.reduce_sum(weights * gather_nodes(nodes, places), 1)
        return {"asked": tf.math.divide_no_nan(total, tf.reduce_sum(weights, 1))}

    def compare_keywords(self, keywords: dict, impostor: tf.Tensor, posterior) -> KeywordComparison:
        """Compares the keyword states with an impostor [B, Z]."""
        anchor, target = keywords["source"], keywords["target"]
        return KeywordComparison(
            cosine(anchor, keywords.get("target_word", target)), cosine(anchor, impostor),
            latent.mahalanobis(target, posterior), latent.mahalanobis(impostor, posterior), cosine(impostor, target),
        )  # fmt: skip
