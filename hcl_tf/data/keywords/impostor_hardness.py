"""How hard impostors are: how near to what they are contrasted with, and whether they can be told without reading anything.

A contrast learns nothing from impostors that one fixed direction separates from the targets' keywords, whatever source and target are
(BUILD_NOTES 92). NumPy alone.
"""

from dataclasses import dataclass

import numpy as np

from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.keywords.impostor_statistics import Impostors

SEED = 1
RIDGE = 0.1  # of the mean variance: the directions are as many as the vectors' dimensions, the samples few
MOST_SAMPLES = 2048  # so that the vectors of all their impostors fit in memory; a share is off by 2% at most, 95 times in 100
LEAST_SAMPLES = 20  # for a direction to be fitted
NEIGHBOURS = 16  # in the order of lengths, on either side, of which a random twin is drawn


@dataclass(frozen=True)
class Hardness:
    """How hard impostors are, under some vectors of the nodes.

    Attributes:
      samples: how many have an impostor and a target keyword with vectors, of which `MOST_SAMPLES` are looked at.
      blind_order: of impostors as long as u_y, the mean of the target's keywords (`blind_order`). Under 50% means that what was fitted
        to one half of the samples does not hold in the other.
      to_target, to_negative: mean cosine of u_- with u_y, and with the mean of the negative's keywords. Vectors are centred.
      twin_to_target, twin_to_negative: the same of random nodes as long as the impostors.
    """

    samples: int
    blind_order: float
    to_target: float
    twin_to_target: float
    to_negative: float
    twin_to_negative: float

    def __str__(self) -> str:
        return (
            f"blind order {self.blind_order:.1%}; cosine with u_y {self.to_target:.2f} (random nodes {self.twin_to_target:.2f}), "
            f"with the negative's keywords {self.to_negative:.2f} (random nodes {self.twin_to_negative:.2f})"
        )


def hardness_lines(impostors: Impostors, vectors: np.ndarray, kind: str) -> list[str]:
    """Says how hard impostors are, drawn one a sample or as the mean of all, of at most `MOST_SAMPLES` samples.

    Args:
      vectors: [N, D] of the graph's nodes. kind: what these are, for the reader.

    Returns:
      No line where fewer than `LEAST_SAMPLES` samples have an impostor.
    """
    found = {form: hardness(impostors, vectors, drawn) for form, drawn in (("one drawn", True), ("mean of all", False))}
    return [f"impostors by {kind}, {form}, of {one.samples:,} samples: {one}" for form, one in found.items() if one]


def hardness(impostors: Impostors, vectors: np.ndarray, drawn: bool) -> Hardness | None:
    """Measures impostors; see `hardness_lines`. drawn: one a sample, instead of the mean of all. None: too few samples.

    Nodes whose vector is zero, as of a word that has none, do not count.
    """
    random = np.random.default_rng(SEED)
    has_vector = vectors.any(1)
    place = np.where(has_vector, np.cumsum(has_vector) - 1, UNKNOWN)  # among the nodes that have one
    parts = (impostors.nodes, impostors.target, impostors.negative)
    nodes, target, negative = (np.where(part == UNKNOWN, UNKNOWN, place[part]) for part in parts)
    rows = np.flatnonzero((nodes != UNKNOWN).any((1, 2)) & (target != UNKNOWN).any(1))
    if len(rows) < LEAST_SAMPLES:
        return None
    chosen = np.sort(random.choice(rows, min(MOST_SAMPLES, len(rows)), replace=False))
    nodes, target, negative = nodes[chosen], target[chosen], negative[chosen]
    known = (negative != UNKNOWN).any(1)
    centred = vectors[has_vector] - vectors[has_vector].mean(0)
    nodes = one_each(nodes, random)[:, None] if drawn else nodes
    twins = np.where(nodes == UNKNOWN, UNKNOWN, random_twins(centred, random)[nodes])
    target, negative, impostor, twin = (mean_vectors(centred, part) for part in (target, negative, nodes, twins))
    length = np.linalg.norm(target, axis=1) / np.maximum(np.linalg.norm(impostor, axis=1), 1e-12)
    return Hardness(
        len(rows), blind_order(target, impostor * length[:, None]), mean_cosine(impostor, target), mean_cosine(twin, target),
        mean_cosine(impostor[known], negative[known]), mean_cosine(twin[known], negative[known]),
    )  # fmt: skip


def blind_order(positive: np.ndarray, negative: np.ndarray) -> float:
    """Measures how well one fixed direction, which sees neither source nor target, tells the better of two vectors.

    The direction is Fisher's, fitted to the differences of one half of the pairs and tried on the other, both ways round.

    Args:
      positive, negative: [n, D] pairs.

    Returns:
      The share of pairs that it orders right; 0.5 is chance, and what a contrast can hope to teach begins above this.
    """
    differences = np.asarray(positive, np.float64) - np.asarray(negative, np.float64)
    order = np.random.default_rng(SEED).permutation(len(differences))
    halves = order[::2], order[1::2]
    right = []
    for fitted, tried in (halves, halves[::-1]):
        part = differences[fitted]
        covariance = part.T @ part / len(part)
        covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        right.append(differences[tried] @ np.linalg.solve(covariance, part.mean(0)) > 0)
    return float(np.concatenate(right).mean())


def one_each(nodes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws one of each sample's impostors [n, K, F], uniformly. Returns [n] node numbers, `UNKNOWN` where there is none."""
    flat = nodes.reshape(len(nodes), -1)
    keys = np.where(flat == UNKNOWN, -1.0, random.random(flat.shape))
    chosen = keys.argmax(1)
    return np.where(keys.max(1) < 0, UNKNOWN, flat[np.arange(len(flat)), chosen])


def mean_vectors(vectors: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """[N, D] vectors and [n, ...] node numbers -> [n, D] the mean over each sample's nodes; zeros where it has none."""
    flat = nodes.reshape(len(nodes), -1)
    known = (flat != UNKNOWN)[..., None]
    return (vectors[np.maximum(flat, 0)] * known).sum(1) / np.maximum(known.sum(1), 1)


def random_twins(vectors: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws another node of about the same length for each: one of `NEIGHBOURS` before or behind it in the order of lengths.

    A longer vector is a rarer word, and rare words differ from frequent ones in more than what they mean.

    Args:
      vectors: [N, D], N at least 2.

    Returns:
      [N] node numbers.
    """
    order = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")
    count = len(order)
    reach = min(NEIGHBOURS, (count - 1) // 2) or 1
    first = np.clip(np.arange(count) - reach, 0, max(count - 1 - 2 * reach, 0))  # of the window of 2 * reach + 1 places around each
    place = first + random.integers(0, min(2 * reach, count - 1), count)
    place += place >= np.arange(count)  # not itself
    twins = np.empty(count, np.int64)
    twins[order] = order[place]
    return twins


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the mean cosine of the rows of [n, D] and [n, D]; NaN without rows."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1) / np.maximum(lengths, 1e-12))) if len(a) else float("nan")
