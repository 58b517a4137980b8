"""Message passing on the keyword graph (paper section 3.2, eqs 4 to 9).

A graph of n nodes comes as `neighbours` [n, 2, F]: places of each node's neighbours under the positive and the negative
relation, -1 where there are fewer than F. Edge (i, j) has a state r_ij of its own, which exists once for each direction.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.packing import Rows, compiled_by_xla
from hcl_tf.layers.shapes import dimension


class KeywordGraphNetwork(keras.layers.Layer):
    """Computes node states from node features h^0 [n, Z] in `iterations` rounds of eqs 4 to 9.

    The rounds share their weights (the paper numbers none of them). Each relation has its own network for r^0; the softmax of
    eq 8 runs over the neighbours of both. A node without neighbours keeps its features.

    Args:
      size: Z. iterations: rounds.
      attention: eq 7 is lost in the text of the paper that we had. "dot": (h_i W_q)(h_j W_k + r_ij)^T / sqrt(d), relation-aware attention
        (Shaw et al. 2018) to which eq 9, as printed, belongs; "additive": LeakyReLU(w^T [h_i W_q ; h_j W_k ; r_ij])
        (Velickovic et al. 2018).
    """

    def __init__(self, size: int, iterations: int = 2, attention: str = "dot", **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size, self.iterations, self.attention = size, iterations, attention

        def dense(name: str, **options) -> keras.layers.Dense:
            return keras.layers.Dense(size, dtype=self.dtype, name=name, **options)

        # [h_i ; h_j] W is h_i W_1 + h_j W_2, computed once a node instead of once an edge; both relations at once.
        self.edge_from = keras.layers.Dense(2 * size, dtype=self.dtype, name="edge_from")
        self.edge_to = keras.layers.Dense(2 * size, use_bias=False, dtype=self.dtype, name="edge_to")
        self.edge_out = [dense(f"edge_out_{relation}") for relation in ("positive", "negative")]
        self.relation_ends, self.node_ends = dense("relation_ends", use_bias=False), dense("node_ends", use_bias=False)  # W_r, W_h
        self.update_in, self.update_out = dense("update_in", activation="relu"), dense("update_out")  # the FFN of eq 6
        self.query, self.key, self.value = (dense(name, use_bias=False) for name in ("query", "key", "value"))
        if attention == "additive":
            self.score = self.add_weight("score", (3, size), initializer="glorot_uniform")

    def build(self, shape: tf.TensorShape) -> None:
        for layer in (self.edge_from, self.edge_to, self.update_in, self.query, self.key, self.value, self.node_ends, self.relation_ends):
            layer.build((None, self.size))
        for layer in (*self.edge_out, self.update_out):
            layer.build((None, self.size))
        super().build(shape)

    def call(self, features: tf.Tensor, neighbours: tf.Tensor, wanted: tf.Tensor | None = None) -> tf.Tensor:
        """Computes states [n, Z] from features [n, Z] and the places of neighbours [n, 2, F].

        Args:
          wanted: [n] bool, the nodes whose states are asked for; what the others get means nothing. Each round then computes only the
            nodes that a later one reads. None, and always under XLA, which needs to know how many they are: all nodes.
        """
        nodes, width = dimension(neighbours), neighbours.shape[2]
        places = tf.reshape(neighbours, [nodes, 2 * width])  # --> [n, E]: E edges a node, positive ones first
        every = wanted is None or compiled_by_xla()
        rounds = [Rows(None)] * self.iterations if every else rows_of_rounds(places, wanted, self.iterations)
        states, edges, before = features, None, None
        for rows in rounds:
            at = rows.of(places)
            present, ends = at >= 0, tf.maximum(at, 0)
            edges = rows.among(before, edges) if before else self.initial_edges(features, tf.reshape(ends, [-1, 2, width]), rows)
            found, edges = self.round(states, edges, ends, present, rows)
            states, before = rows.back(found), rows
        return states

    def initial_edges(self, features: tf.Tensor, places: tf.Tensor, rows: Rows) -> tf.Tensor:
        """Computes r_ij^0 = FFN([h_i ; h_j]), with one network for each relation, of edges that leave `rows`. Returns [m, 2 * F, Z]."""
        edges = []
        origins, ends = self.edge_from(rows.of(features)), self.edge_to(features)  # --> [m, 2 * Z], [n, 2 * Z]
        for relation, out in enumerate(self.edge_out):
            part = slice(relation * self.size, (relation + 1) * self.size)
            inner = tf.nn.relu(origins[:, None, part] + tf.gather(ends[:, part], places[:, relation]))
            edges.append(out(inner))
        return tf.concat(edges, 1)

    def round(self, states: tf.Tensor, edges: tf.Tensor, places: tf.Tensor, present: tf.Tensor, rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies eqs 4 to 9 once, from states [n, Z], to m of the nodes with their edges [m, E, Z], whose ends are at `places` [m, E].

        Returns:
          New states [m, Z] of these nodes, and their new edges.
        """
        root = self.size**0.5
        own = rows.of(states)  # --> [m, Z], h_i
        ends = tf.gather(states, places)  # --> [m, E, Z], h_j
        # (4) (r W_r)(h W_h)^T = r (h W_h W_r^T)^T, so that the products are taken over nodes, of which there are fewer.
        compared = self.node_ends(states) @ tf.transpose(self.relation_ends.kernel)
        with_own = tf.einsum("nez,nz->ne", edges, rows.of(compared))
        with_end = tf.reduce_sum(edges * tf.gather(compared, places), -1)
        beta = tf.sigmoid((with_own - with_end) / root)[..., None]  # the softmax over the edge's two ends
        mixed = beta * own[:, None] + (1.0 - beta) * ends  # (5)
        edges = self.update_out(self.update_in(edges + mixed))  # (6)
        queries, keys = self.query(own), self.key(states)
        if self.attention == "dot":
            scores = tf.einsum("nz,nez->ne", queries, tf.gather(keys, places) + edges) / root  # (7)
        else:
            from_, to, through = (tf.tensordot(part, self.score[i], 1) for i, part in enumerate((queries, keys, edges)))
            scores = tf.nn.leaky_relu(from_[:, None] + tf.gather(to, places) + through, 0.2)
        alpha = masked_softmax(scores, present)  # (8)
        values = tf.gather(self.value(states), places) + edges
        return own + tf.einsum("ne,nez->nz", alpha, values), edges  # (9)

    def get_config(self) -> dict:
        return super().get_config() | {"size": self.size, "iterations": self.iterations, "attention": self.attention}


def rows_of_rounds(places: tf.Tensor, wanted: tf.Tensor, rounds: int) -> list[Rows]:
    """Says which nodes each round has to compute, so that those that are `wanted` [n] are right after the last.

    Args:
      places: [n, E] where each node's neighbours are, -1 where there is none.
    """
    nodes, found = dimension(places), []
    for _ in range(rounds):
        found.append(Rows(wanted))
        read = tf.reshape(tf.where(wanted[:, None], places, -1), [-1])  # a round reads its nodes' neighbours
        wanted |= tf.math.unsorted_segment_max(tf.ones_like(read), read, nodes) > 0  # negative places count for none
    return found[::-1]


def masked_softmax(scores: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Takes the softmax over the entries of the last axis that are `present`; others get 0, also where nothing is present."""
    scores = tf.where(present, scores, -1e9)
    weights = tf.exp(scores - tf.stop_gradient(tf.reduce_max(scores, -1, keepdims=True))) * tf.cast(present, scores.dtype)
    return weights / tf.maximum(tf.reduce_sum(weights, -1, keepdims=True), 1e-9)


def keyword_state(states: tf.Tensor, places: tf.Tensor, unknown: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Computes u of each text: the mean over its keywords' states. A keyword that is not a node counts with the text's own state.

    Args:
      states: [n, Z] node states. places: [B, K] the keywords' nodes, -1 where there is none.
      unknown: [B] how many keywords are not nodes. own: [B, Z] the text's own vector in the nodes' space.

    Returns:
      [B, Z]; a text without any keyword has its own state.
    """
    present = tf.cast(places >= 0, states.dtype)
    known = tf.einsum("bk,bkz->bz", present, gather_nodes(states, places))
    count = tf.reduce_sum(present, -1)
    others = tf.where(count + unknown > 0, unknown, 1.0)
    return (known + others[:, None] * own) / (count + others)[:, None]


def gather_nodes(states: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Gathers states [n, Z] at places [...]. Returns [..., Z]; what stands at place -1 means nothing and is to be masked."""
    return tf.gather(states, tf.maximum(places, 0))
