"""Makes batches of examples that are a source, a target and a negative (x, y+, y-), with their keywords and impostors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hcl_tf.data.batching.batches import Batches, Columns, Place
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.keywords.subgraph import SubgraphSampler, find_impostors
from hcl_tf.data.store.split_arrays import SplitArrays

if TYPE_CHECKING:
    from hcl_tf.data.store.prepared_data import PreparedData


class PairColumns:
    """Computes the columns of a batch (`Batches.columns`) from a split.

    Args:
      arrays: the split. neighbours: [N, 2, M] the whole graph (`KeywordGraph.table`).
      sampler: draws a sub-graph for each batch; None: node numbers are those of the whole graph.
      impostors: where impostors come from without a sampler (`by` of `find_impostors`); None: there are none.
    """

    def __init__(
        self, arrays: SplitArrays, neighbours: np.ndarray, sampler: SubgraphSampler | None = None, impostors: str | None = "graph"
    ) -> None:
        self.arrays, self.neighbours, self.sampler, self.impostors = arrays, neighbours, sampler, impostors

    def __call__(self, rows: np.ndarray, filled: np.ndarray, place: Place) -> dict[str, np.ndarray]:
        """Computes the columns of one batch.

        Args:
          rows: [B] example numbers. filled: [B] bool, the rows that only fill the batch up. place: of the batch.

        Returns:
          source_ids: [B, S + 2]; target_ids, negative_ids: [B, T + 2].
          source_nodes, target_nodes: [B, K]; source_unknown, target_unknown: [B] how many keywords are not nodes of the graph.
          With impostors impostor_nodes: [B, K, F] and impostor_routes: [B].
          With a sampler also graph_nodes, graph_neighbours and graph_caps (`SubgraphSampler.sample`), and the nodes of the other columns
          are then places in graph_nodes. Without, negative_nodes [B, K].
        """
        arrays = self.arrays
        nodes = {role: np.where(filled[:, None], UNKNOWN, getattr(arrays, f"{role}_nodes")[rows]) for role in ROLES}
        batch = {f"{role}_ids": getattr(arrays, f"{role}_ids")[rows] for role in ROLES}
        batch |= {f"{role}_unknown": np.where(filled, 0, getattr(arrays, f"{role}_unknown")[rows]) for role in ROLES[:2]}
        if self.sampler:
            return batch | self.sampler.sample(*nodes.values(), place.random())
        batch |= {f"{role}_nodes": found for role, found in nodes.items()}
        if self.impostors is None:
            return batch
        impostors, routes = find_impostors(self.neighbours, *nodes.values(), self.impostors)
        return batch | {"impostor_nodes": impostors, "impostor_routes": routes}


def pair_batches(
    data: "PreparedData", arrays: SplitArrays, batch_size: int, seed: int = 1, sampler: SubgraphSampler | None = None,
    impostors: str | None = "graph", further: Sequence[Columns] = (),
) -> Batches:  # fmt: skip
    """Makes the batches of a split of prepared data.

    Args:
      arrays: the split. sampler, impostors: as of `PairColumns`. further: more columns, such as cached encoder states or drawn pairs.

    Raises:
      UserError: the sampler's node budget can't hold a batch's own keywords.
    """
    if sampler:
        sampler.check(batch_size, data.max_keywords)
    return Batches(len(arrays), batch_size, (PairColumns(arrays, data.whole_graph, sampler, impostors), *further), seed)
