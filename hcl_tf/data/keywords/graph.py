"""The global keyword graph over the training split (paper section 3.2, the part before equation 4).

The cluster C of a keyword k_x of a source is every training sample whose source has k_x. Each target keyword k_y of a sample in C gets a
positive edge to every target keyword, and a negative edge to every keyword of a negative, of every sample in C. Keywords too rare to be
nodes count as absent. Counting this over all clusters is a product of incidence matrices. It is taken in blocks of rows, so that memory is
bounded by the strongest `degree` neighbours that are kept, not by the full product.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from hcl_tf.progress import track

POSITIVE, NEGATIVE = 0, 1
RELATIONS = ("positive", "negative")
UNKNOWN = -1  # the node of a keyword that the graph does not have
STRENGTHS = ("association", "count")
SMOOTHING = 0.75  # Levy et al. 2015
BLOCK = 256  # rows of the product at a time


@dataclass(frozen=True)
class KeywordGraph:
    """A graph of keywords: nodes in alphabetical order and, for each relation, their neighbours as CSR arrays, strongest first.

    Attributes:
      nodes: the N keywords, sorted.
      counts: [N] int32, training samples in which the keyword occurs in any role.
      clusters: [N] int32, training samples whose source has the keyword (the size of its cluster C).
      indptr: two arrays [N + 1] int64; neighbours of node i under a relation are indices[r][indptr[r][i]:indptr[r][i+1]].
      indices: two arrays of node numbers, int32.
      weights: two arrays of how often the edge occurs, int64.
    """

    nodes: tuple[str, ...]
    counts: np.ndarray
    clusters: np.ndarray
    indptr: tuple[np.ndarray, np.ndarray]
    indices: tuple[np.ndarray, np.ndarray]
    weights: tuple[np.ndarray, np.ndarray]

    def __len__(self) -> int:
        return len(self.nodes)

    def numbers(self) -> dict[str, int]:
        """Returns the number of each keyword's node."""
        return {node: number for number, node in enumerate(self.nodes)}

    def neighbours(self, node: int, relation: int) -> np.ndarray:
        """Returns the neighbours of a node under a relation, strongest first."""
        start, end = self.indptr[relation][node : node + 2]
        return self.indices[relation][start:end]

    def edges(self, relation: int) -> int:
        """Counts the directed edges of a relation."""
        return len(self.indices[relation])

    def table(self, degree: int) -> np.ndarray:
        """Returns the neighbours of all nodes by relation, [N, 2, degree] int32, strongest first, filled up with `UNKNOWN`."""
        table = np.full((len(self), 2, degree), UNKNOWN, np.int32)
        for relation in (POSITIVE, NEGATIVE):
            lengths = np.diff(self.indptr[relation])
            rows = np.repeat(np.arange(len(self)), lengths)
            columns = np.arange(len(rows)) - np.repeat(self.indptr[relation][:-1], lengths)
            table[rows, relation, columns] = self.indices[relation]
        return table


@dataclass(frozen=True, slots=True)
class SampleKeywords:
    """The distinct keywords of the three texts of a training sample."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    negative: tuple[str, ...]


def build(
    samples: Iterable[SampleKeywords], minimum_count: int, degree: int, input_edges: bool = False, strength: str = "association"
) -> KeywordGraph:  # fmt: skip
    """Builds the graph of the training samples.

    No node has an edge to itself. A pair of nodes in both relations keeps one edge, before each node keeps its strongest neighbours; so of
    the two directions of an edge one may be missing.

    Args:
      samples: keywords of each training sample.
      minimum_count: a keyword that occurs in fewer samples is not a node.
      degree: each node keeps this many strongest neighbours under each relation, ties in alphabetical order.
      input_edges: also join source keywords with the target keywords of their samples (positive).
      strength: of `STRENGTHS`. "association" ranks edges by it, and a pair in both relations keeps the edge whose association is
        stronger; "count" ranks them by how often they occur, and such a pair keeps the positive edge, however rare.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"strength {strength!r}: one of {', '.join(STRENGTHS)} is expected")
    samples = list(samples)
    counter = Counter(word for s in samples for word in {*s.source, *s.target, *s.negative})
    nodes = tuple(sorted(word for word, count in counter.items() if count >= minimum_count))
    numbers = {node: number for number, node in enumerate(nodes)}
    source, target, negative = (_incidence([getattr(s, role) for s in samples], numbers) for role in ("source", "target", "negative"))
    # [clusters, nodes]: how often a node is a target (negative) keyword of a cluster's samples.
    of_target, of_negative = (source.T @ target).tocsr(), (source.T @ negative).tocsr()
    if strength == "association":
        totals = _totals(of_target, of_negative, _source_target_rows(source, target, slice(None)) if input_edges else None)
    kept: tuple[list, list] = ([], [])
    for start in track(range(0, len(nodes), BLOCK), "keyword graph", unit=" blocks"):
        rows = slice(start, start + BLOCK)
        target_rows, negative_rows = of_target[:, rows].T.tocsr(), of_negative[:, rows].T.tocsr()
        positive_block = target_rows @ of_target
        if input_edges:
            positive_block = positive_block + _source_target_rows(source, target, rows)
        negative_block = target_rows @ of_negative + negative_rows @ of_target
        counts = [_without_own(block, start) for block in (positive_block, negative_block)]
        if strength == "association":
            ranks = [_association(block, total[rows], total) for block, total in zip(counts, totals, strict=True)]
        else:
            ranks = [block.data.copy() for block in counts]
        _leave_out_weaker(counts, ranks, strength == "count")
        for relation in (POSITIVE, NEGATIVE):
            kept[relation].extend(_strongest(counts[relation], ranks[relation], degree))
    indptr, indices, weights = zip(*(_as_csr(kept[relation]) for relation in (POSITIVE, NEGATIVE)), strict=True)
    counts = np.array([counter[node] for node in nodes], np.int32)
    clusters = np.asarray(source.sum(axis=0)).ravel().astype(np.int32)
    return KeywordGraph(nodes, counts, clusters, indptr, indices, weights)


def _totals(of_target: sparse.csr_matrix, of_negative: sparse.csr_matrix, joined: sparse.csr_matrix | None) -> list[np.ndarray]:
    """Sums the symmetric counts of each relation over one of their ends, self-edges left out, without the products themselves.

    Returns:
      Two arrays [N] float64, positive and negative.
    """
    targets, negatives = (np.asarray(part.sum(1), np.float64).ravel() for part in (of_target, of_negative))  # --> [clusters]
    positive = of_target.T @ targets - np.asarray(of_target.multiply(of_target).sum(0), np.float64).ravel()
    negative = of_negative.T @ targets + of_target.T @ negatives
    negative = negative - 2 * np.asarray(of_target.multiply(of_negative).sum(0), np.float64).ravel()
    if joined is not None:
        positive = positive + np.asarray(joined.sum(0), np.float64).ravel() - joined.diagonal()
    return [positive, negative]


def _without_own(block: sparse.csr_matrix, start: int) -> sparse.csr_matrix:
    """Sets the counts of nodes with themselves to 0, in rows that begin with node `start`; columns of each row are then in order."""
    block = block.tocsr()
    block.sort_indices()
    block.data[block.indices == start + _rows_of(block)] = 0
    return block


def _rows_of(block: sparse.csr_matrix) -> np.ndarray:
    """Returns the row of each entry."""
    return np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))


def _association(counts: sparse.csr_matrix, of_rows: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Computes positive pointwise mutual information, the neighbour's frequency smoothed (Levy et al. 2015, section 3.3).

    Frequent words then are not every word's neighbours, as they are by counts.

    Args:
      counts: [rows, N] of one relation. of_rows: [rows], totals: [N] sums of all counts of a node.

    Returns:
      Of each entry max(0, log P(i, j) / (P(i) P(j))), where P(j) goes with the power `SMOOTHING` of how often j occurs.
    """
    smoothed = totals**SMOOTHING
    expected = of_rows[_rows_of(counts)] * (smoothed / max(smoothed.sum(), 1e-12))[counts.indices]  # counts without any association
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(counts.data / expected)
    return np.where(counts.data > 0, np.maximum(found, 0.0), 0.0)


def _leave_out_weaker(counts: list[sparse.csr_matrix], ranks: list[np.ndarray], positive_first: bool) -> None:
    """Sets the rank of one edge of each pair that both relations join to 0: the weaker one, or the negative one (`positive_first`)."""
    keys = [_rows_of(block) * block.shape[1] + block.indices for block in counts]
    _, positive, negative = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    stronger = (ranks[POSITIVE][positive] >= ranks[NEGATIVE][negative]) | positive_first
    ranks[POSITIVE][positive[~stronger]] = 0
    ranks[NEGATIVE][negative[stronger]] = 0


def _source_target_rows(source: sparse.csr_matrix, target: sparse.csr_matrix, rows: slice) -> sparse.csr_matrix:
    """Returns rows of the symmetric source-target co-occurrence, for `input_edges`."""
    return (source[:, rows].T @ target + target[:, rows].T @ source).tocsr()


def _incidence(texts: list[tuple[str, ...]], numbers: dict[str, int]) -> sparse.csr_matrix:
    """Returns [samples, nodes]: 1 where the sample's text has the keyword. It is 64-bit, because counts of counts grow fast."""
    pairs = [(row, numbers[word]) for row, words in enumerate(texts) for word in dict.fromkeys(words) if word in numbers]
    rows, columns = (np.array(part, np.int64) for part in (zip(*pairs, strict=True) if pairs else ((), ())))
    return sparse.csr_matrix((np.ones(len(pairs), np.int64), (rows, columns)), shape=(len(texts), len(numbers)))


def _strongest(counts: sparse.csr_matrix, ranks: np.ndarray, degree: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields of each row the columns of its `degree` largest positive ranks, largest first and ties by column, and the counts there.

    Args:
      counts: [rows, N]. ranks: of each entry.
    """
    for begin, end in zip(counts.indptr, counts.indptr[1:], strict=False):
        rank = ranks[begin:end]
        places = np.flatnonzero(rank > 0)
        places = places[np.argsort(-rank[places], kind="stable")[:degree]] + begin
        yield counts.indices[places], counts.data[places]


def _as_csr(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    indptr = np.concatenate([[0], np.cumsum([len(places) for places, _ in rows])]).astype(np.int64)
    joined = [np.concatenate(parts) if parts else np.zeros(0) for parts in zip(*rows, strict=True)] if rows else [np.zeros(0)] * 2
    return indptr, joined[0].astype(np.int32), joined[1].astype(np.int64)


def save(graph: KeywordGraph, folder: Path) -> None:
    """Writes nodes.tsv (keyword, samples, cluster size: for people) and edges.npz (CSR arrays)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["keyword\tsamples\tcluster"]
    lines += [f"{node}\t{count}\t{cluster}" for node, count, cluster in zip(graph.nodes, graph.counts, graph.clusters, strict=True)]
    (folder / "nodes.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arrays = {
        f"{relation}_{name}": getattr(graph, name)[number]
        for number, relation in enumerate(RELATIONS)
        for name in ("indptr", "indices", "weights")
    }
    np.savez_compressed(folder / "edges.npz", **arrays)


def load(folder: Path) -> KeywordGraph:
    """Reads what `save` wrote."""
    rows = [line.split("\t") for line in (folder / "nodes.tsv").read_text(encoding="utf-8").split("\n")[1:] if line]
    counts, clusters = (np.array([int(row[i]) for row in rows], np.int32) for i in (1, 2))
    with np.load(folder / "edges.npz") as arrays:
        indptr, indices, weights = (
            tuple(arrays[f"{relation}_{name}"] for relation in RELATIONS) for name in ("indptr", "indices", "weights")
        )
    return KeywordGraph(tuple(row[0] for row in rows), counts, clusters, indptr, indices, weights)
