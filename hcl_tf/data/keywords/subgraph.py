"""Draws the part of the keyword graph that a batch needs, in arrays of fixed size, and finds the impostors of eq 10.

Two iterations of eqs 4 to 9 need, for a keyword's final state, its neighbours' states after one iteration and their
neighbours' initial features. So a batch takes its own keywords and impostors (level 0), sampled neighbours (level 1) and
theirs (level 2); nodes of the last level have no edges. Where neither fan-out nor node budget binds, the states of level
0 equal the whole graph's.
"""

from dataclasses import dataclass

import numpy as np

from hcl_tf.data.keywords.graph import NEGATIVE, UNKNOWN, KeywordGraph
from hcl_tf.errors import UserError

ROUTES = ("graph", "negative_text", "none")  # where a sample's impostors come from; one of "none" does not count in L_key and L_ma
CAPS = ("neighbour lists cut", "neighbour lists", "nodes left out", "nodes wanted", "impostor lists cut", "impostor lists")


def find_impostors(
    table: np.ndarray, source: np.ndarray, target: np.ndarray, negative: np.ndarray, by: str = "graph"
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nodes whose states make up each sample's impostor u_- (eq 10 and the text before it).

    These are the negative neighbours of each target keyword, without keywords of source and target. Positive neighbours are not among
    them, because the graph has no pair in both relations. A sample that is left with none takes the keywords of its negative text, again
    without those of source and target.

    Args:
      table: [N, 2, M] neighbours by relation (`KeywordGraph.table`).
      source, target, negative: [B, K] node numbers of the three texts' keywords, `UNKNOWN` where there is none.
      by: "graph" as said; "negative_text" asks the graph for nothing (the ablation without it).

    Returns:
      nodes: [B, K, max(M, K)] node numbers, `UNKNOWN` elsewhere; a row belongs to one target keyword, or (route
        `negative_text`) row 0 holds them all.
      routes: [B] indices into `ROUTES`.
    """
    batch, keywords = target.shape
    width = max(table.shape[2], keywords)
    own = np.concatenate([source, target], axis=1)  # --> [B, 2K]
    nodes = np.full((batch, keywords, width), UNKNOWN, np.int32)
    if len(table) and by == "graph":
        neighbours = np.where((target != UNKNOWN)[..., None], table[np.maximum(target, 0), NEGATIVE], UNKNOWN)  # --> [B, K, M]
        excluded = (neighbours[..., None] == own[:, None, None, :]).any(-1)
        nodes[..., : table.shape[2]] = np.where(excluded, UNKNOWN, neighbours)
    by_graph = (nodes != UNKNOWN).any((1, 2))
    fallback = np.where((negative[..., None] == own[:, None, :]).any(-1), UNKNOWN, negative)  # --> [B, K]
    nodes[~by_graph, 0, :keywords] = fallback[~by_graph]
    by_text = ~by_graph & (fallback != UNKNOWN).any(1)
    return nodes, np.select([by_graph, by_text], [0, 1], 2).astype(np.int32)


def describe_caps(caps: np.ndarray) -> str:
    """Says how often each limit of the sampler left something out, from the sum of `graph_caps` [6] over batches."""
    parts = [f"{CAPS[i]} {caps[i]:,} of {caps[i + 1]:,} ({caps[i] / max(caps[i + 1], 1):.1%})" for i in range(0, len(CAPS), 2)]
    return "sub-graph caps: " + ", ".join(parts)


@dataclass(frozen=True)
class SubgraphSampler:
    """Draws a sub-graph for each batch.

    Attributes:
      graph: the whole graph.
      fanout: the most neighbours that a node keeps under each relation, for each hop; its length is the number of graph iterations.
      node_budget: nodes of a sub-graph; a batch's own keywords have to fit (`check`).
      impostors: where impostors come from (`by` of `find_impostors`).

    Raises:
      UserError: the fan-out is empty, or a number in it is below 1.
    """

    graph: KeywordGraph
    fanout: tuple[int, ...] = (8, 4)
    node_budget: int = 2048
    impostors: str = "graph"

    def __post_init__(self) -> None:
        if not self.fanout or min(self.fanout) < 1:
            raise UserError(
                f"--graph_fanout={','.join(map(str, self.fanout))}: one number of at least 1 for each hop is expected, such as 8,4"
            )
        degree = max((int(np.diff(indptr).max(initial=0)) for indptr in self.graph.indptr), default=0)
        object.__setattr__(self, "table", self.graph.table(max(degree, 1)))

    def check(self, batch_size: int, max_keywords: int) -> None:
        """Raises `UserError` where the budget could not hold a batch's own keywords."""
        needed = 2 * batch_size * max_keywords
        if self.node_budget < needed:
            raise UserError(
                f"--graph_node_budget={self.node_budget} is too small: a batch of {batch_size} may have {needed} keywords of its own"
            )

    def sample(self, source: np.ndarray, target: np.ndarray, negative: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws the sub-graph of one batch.

        Args:
          source, target, negative: [B, K] node numbers in the whole graph.
          random: decides which neighbours are kept where there are more than the limits allow; nothing else depends on it.

        Returns:
          With n = `node_budget` and F = max(fanout); places are positions in `graph_nodes`, `UNKNOWN` where there is none:
          graph_nodes: [n] node numbers in the whole graph.
          graph_neighbours: [n, 2, F] places of the neighbours by relation.
          source_nodes, target_nodes: [B, K] places.
          impostor_nodes: [B, K, F] places.
          impostor_routes: [B] indices into `ROUTES`.
          graph_caps: [6] counts named by `CAPS`.
        """
        caps = dict.fromkeys(CAPS, 0)
        candidates, routes = find_impostors(self.table, source, target, negative, self.impostors)
        impostors, cut = _choose(candidates, max(self.fanout), self.fanout[0], random)
        caps["impostor lists cut"] += cut
        caps["impostor lists"] += int((candidates != UNKNOWN).any(-1).sum())

        nodes = _Nodes(len(self.graph), self.node_budget, random)
        frontier = nodes.add(np.concatenate([source.ravel(), target.ravel()]))
        frontier = np.concatenate([frontier, nodes.add(impostors.ravel())])
        edges = np.full((self.node_budget, 2, max(self.fanout)), UNKNOWN, np.int32)
        for width in self.fanout:
            rows = self.table[frontier]  # --> [frontier, 2, M]
            chosen, cut = _choose(rows, max(self.fanout), width, random)
            caps["neighbour lists cut"] += cut
            caps["neighbour lists"] += int((rows != UNKNOWN).any(-1).sum())
            following = nodes.add(chosen.ravel())
            edges[nodes.places(frontier)] = nodes.places(chosen)
            frontier = following
        caps["nodes left out"], caps["nodes wanted"] = nodes.left_out, nodes.left_out + nodes.count
        return {
            "graph_nodes": nodes.numbers,
            "graph_neighbours": edges,
            "source_nodes": nodes.places(source),
            "target_nodes": nodes.places(target),
            "impostor_nodes": nodes.places(impostors),
            "impostor_routes": np.where((nodes.places(impostors) != UNKNOWN).any((1, 2)), routes, ROUTES.index("none")).astype(np.int32),
            "graph_caps": np.array([caps[name] for name in CAPS], np.int32),
        }


def _choose(rows: np.ndarray, width: int, most: int, random: np.random.Generator) -> tuple[np.ndarray, int]:
    """Draws at most `most` entries of each row, uniformly without replacement.

    Returns:
      [..., width] the entries, filled up with `UNKNOWN`; and how many rows lost some.
    """
    taken = rows != UNKNOWN
    cut = taken.sum(-1) > most
    # Entries that are there sort before empty ones; a random key only where a choice is to be made keeps the others in order.
    keys = np.where(cut[..., None], random.random(rows.shape), np.arange(rows.shape[-1]) / rows.shape[-1])
    order = np.argsort(np.where(taken, keys, 2.0), axis=-1, kind="stable")[..., :most]
    chosen = np.full((*rows.shape[:-1], width), UNKNOWN, np.int32)
    chosen[..., : order.shape[-1]] = np.take_along_axis(rows, order, -1)
    return chosen, int(cut.sum())


class _Nodes:
    """The list of a sub-graph's nodes, which grows up to the budget; each node has its place in it."""

    def __init__(self, total: int, budget: int, random: np.random.Generator) -> None:
        self.numbers = np.full(budget, UNKNOWN, np.int32)
        self.count = 0
        self._left_out = np.zeros(total, bool)
        self._random = random
        self._place = np.full(total + 1, UNKNOWN, np.int32)  # the last entry answers for UNKNOWN

    def add(self, wanted: np.ndarray) -> np.ndarray:
        """Adds nodes that are not there yet, as far as the budget goes. Returns those that were added."""
        new = np.unique(wanted[wanted != UNKNOWN])
        new = new[self._place[new] == UNKNOWN]
        free_places = len(self.numbers) - self.count
        if len(new) > free_places:
            self._left_out[new] = True
            new = np.sort(self._random.choice(new, free_places, replace=False))
            self._left_out[new] = False
        self.numbers[self.count : self.count + len(new)] = new
        self._place[new] = np.arange(self.count, self.count + len(new))
        self.count += len(new)
        return new

    @property
    def left_out(self) -> int:
        """The number of distinct nodes that the budget left out."""
        return int(self._left_out.sum())

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the places of nodes; `UNKNOWN` for `UNKNOWN` and for nodes that were left out."""
        return self._place[numbers]
