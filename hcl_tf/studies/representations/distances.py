"""Measures how far apart the representations of an example's keywords and texts are, before and after training, with intervals.

Distances are taken in the space of the vectors. A t-SNE picture shows which points are neighbours; its lengths mean nothing.
"""

import numpy as np

from hcl_tf.evaluation.intervals import columns
from hcl_tf.metrics.significance import means

MEASURES = ("cosine", "euclidean")
OTHER = "other"  # another example's positive, whose distance is that of unrelated texts
PAIRS = (
    ("keyword", "source"), ("source", "positive"), ("source", "negative"), ("source", OTHER), ("keyword", "positive"),
    ("keyword", "negative"), ("keyword", "positive_keyword"), ("keyword", "impostor"),
)  # fmt: skip
# Pairs of distances whose difference is taken, example by example. Below 0 the first of the two is the smaller.
DIFFERENCES = {
    "source: positive minus negative": ("source-positive", "source-negative"),
    "keyword: positive minus negative": ("keyword-positive", "keyword-negative"),
    "keyword: positive_keyword minus impostor": ("keyword-positive_keyword", "keyword-impostor"),
}


def distance(a: np.ndarray, b: np.ndarray, measure: str) -> np.ndarray:
    """Computes the distance of two vectors [n, C] each, euclidean or cosine (1 - cos(a, b), 1 for a zero vector).

    Returns:
      [n], NaN where a vector is NaN.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    if measure == "euclidean":
        return np.sqrt(np.square(a - b).sum(-1))
    return 1.0 - (unit(a) * unit(b)).sum(-1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors [n, C] to length 1; a zero vector stays as it is."""
    lengths = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    return vectors / np.where(lengths > 0, lengths, 1.0)


def distances(vectors: dict[str, np.ndarray], measure: str) -> dict[str, np.ndarray]:
    """Computes the distances [n] of those of `PAIRS` of which there are vectors.

    Args:
      vectors: by name (`System.representations`), [n, C] of the same n examples.
    """
    positive = vectors["positive"]
    vectors = {**vectors, OTHER: np.roll(positive, max(1, len(positive) // 2), axis=0)}
    return {f"{a}-{b}": distance(vectors[a], vectors[b], measure) for a, b in PAIRS if a in vectors and b in vectors}


def summary(before: dict[str, np.ndarray], after: dict[str, np.ndarray], units: np.ndarray | None = None) -> dict:
    """Compares representations of the same examples before and after training.

    Args:
      before, after: vectors by name, [n, C] each. units: [n] which examples share a text; None: none do (`dependence.units_of`).

    Returns:
      Ready for JSON: `before` and `after` have, by measure, `distances`, `differences` (paired) and `nearer`, the share of examples in
      which the first distance of a difference is the smaller; each value with low, high and examples. `change` has the paired changes of
      cosine differences and of shares, after minus before. Euclidean ones are not compared: training changes the scale of a space.
    """
    found: dict = {"before": {}, "after": {}}
    compared: dict[str, list[dict[str, np.ndarray]]] = {}
    for measure in MEASURES:
        for when, vectors in (("before", before), ("after", after)):
            each = distances(vectors, measure)
            pairs = {name: (each[a], each[b]) for name, (a, b) in DIFFERENCES.items() if a in each and b in each}
            columns = {"differences": {name: a - b for name, (a, b) in pairs.items()}, "nearer": {n: nearer(*p) for n, p in pairs.items()}}
            found[when][measure] = {kind: means(part, units) for kind, part in {"distances": each, **columns}.items()}
            if measure == "cosine":
                for kind, part in columns.items():
                    compared.setdefault(kind, []).append(part)
    found["change"] = {kind: means({name: then[name] - first[name] for name in then}, units) for kind, (first, then) in compared.items()}
    return found


def nearer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Says which of two distances [n] is the smaller: 1 where it is a, 1/2 where they are equal, NaN where one is NaN."""
    return np.where(np.isnan(a) | np.isnan(b), np.nan, (a < b) + 0.5 * (a == b))


def lines(found: dict) -> list[str]:
    """Returns a summary as lines for people."""
    text = []
    for measure in MEASURES:
        text += ["", f"{measure + ' distance':<42}{'before':>9}  {'95% interval':<18}{'after':>9}  95% interval"]
        for kind, of in (("distances", ""), ("differences", ""), ("nearer", "share nearer, ")):
            for name, entry in found["before"][measure][kind].items():
                shown = name.replace(" minus ", " before ") if of else name
                text.append(f"{of + shown:<42}{columns(entry)}{columns(found['after'][measure][kind][name])}".rstrip())
    text += ["", f"{'change (cosine)':<42}{'value':>9}  95% interval"]
    for kind, of in (("differences", ""), ("nearer", "share nearer, ")):
        for name, entry in found["change"][kind].items():
            text.append(f"{of + (name.replace(' minus ', ' before ') if of else name):<42}{columns(entry)}".rstrip())
    return text
