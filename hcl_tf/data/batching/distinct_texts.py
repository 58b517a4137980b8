"""The distinct texts of a split, and what vectors of them make of the nodes of the keyword graph.

A text occurs many times (a question is a source here and a negative there): each distinct one counts once. NumPy and SciPy alone, because
exported trainings compute node features where TensorFlow is missing.
"""

import numpy as np
from scipy import sparse

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store.split_arrays import SplitArrays

SMALLEST_SCALE = 0.05  # of the median dimension's


class DistinctTexts:
    """The distinct texts of a split's examples, U of them.

    Args:
      arrays: the split. pad_id: of its ids. nodes: how many the keyword graph has.

    Attributes:
      ids: [U, width] their pieces. lengths: [U] without padding.
      of_role: role -> [n] the number of each example's text.
    """

    def __init__(self, arrays: SplitArrays, pad_id: int, nodes: int) -> None:
        width = max(arrays.source_ids.shape[1], arrays.target_ids.shape[1])
        roles = (getattr(arrays, f"{role}_ids") for role in ROLES)
        padded = [np.pad(ids, ((0, 0), (0, width - ids.shape[1])), constant_values=pad_id) for ids in roles]
        self.ids, places = np.unique(np.concatenate(padded), axis=0, return_inverse=True)
        self.lengths = (self.ids != pad_id).sum(1)
        count = len(arrays)
        self.of_role = {role: places[i * count : (i + 1) * count] for i, role in enumerate(ROLES)}
        of_texts = np.concatenate([arrays.source_nodes, arrays.target_nodes, arrays.negative_nodes])
        rows, columns = np.nonzero(of_texts >= 0)
        pairs = (np.ones(len(rows), np.float32), (of_texts[rows, columns], places[rows]))
        self._members = sparse.csr_matrix(pairs, shape=(nodes, len(self.ids)))
        self._members.data[:] = 1.0  # a text counts once for a keyword, in however many examples and roles it occurs

    def node_features(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Computes h^0 of every node: the mean vector of the texts that have its keyword, centred and scaled over nodes.

        Args:
          vectors: [U, D] of the texts.

        Returns:
          [N, D] features; [D] mean and [D] scale of the texts' vectors.
        """
        counts = np.maximum(np.asarray(self._members.sum(1)), 1.0)
        features = np.asarray(self._members @ vectors) / counts
        if len(features):
            features = (features - features.mean(0)) / floored(features.std(0))
        return features.astype(np.float32), vectors.mean(0), floored(vectors.std(0))


def floored(scale: np.ndarray) -> np.ndarray:
    """Returns the scales [D] by which dimensions are divided, none of them under `SMALLEST_SCALE` of the median one.

    Published encoders have dead dimensions (all-MiniLM three, whose last LayerNorm has gamma and beta of at most 1e-7). Divided by their
    own deviation they would give a trained encoder a gradient a million times too large (BUILD_NOTES 91).
    """
    return np.maximum(scale, max(SMALLEST_SCALE * float(np.median(scale)), 1e-6)).astype(np.float32)
