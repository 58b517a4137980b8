"""Encodes the training split as a whole: node features h^0 for the keyword graph, and cached states of an encoder's fixed part.

A text occurs many times (a question is a source here and a negative there): each distinct one is encoded once.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy import sparse

from hcl_tf.data.batching.batches import Columns, Place
from hcl_tf.data.corpora.formats import ROLES
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.files.array_cache import CACHE, cached, is_whole
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.progress import bar

TOKENS_AT_ONCE = 4096
SMALLEST_SCALE = 0.05  # of the median dimension's
PARTS = ("vectors.npy", "source_states.npy")
LOWER = ("lower.npy",)
MOST_KEPT = 4 * 2**30  # bytes of lower states; beyond, each step computes those of its texts anew


class TextStates:
    """The distinct texts of a split's examples, and their states and vectors under an encoder.

    Args:
      data: the prepared folder, below which results for published or frozen weights are cached.
      arrays: the split.
      keep: cache on disk, under a hash of weights and data (pointless for weights that change).

    Attributes:
      arrays: the split.
    """

    def __init__(self, data: PreparedData, arrays: SplitArrays, keep: bool) -> None:
        self._data, self._keep, self.arrays = data, keep, arrays
        width = max(arrays.source_ids.shape[1], arrays.target_ids.shape[1])
        roles, pad = (getattr(arrays, f"{role}_ids") for role in ROLES), data.tokenizer.pad_id
        padded = [np.pad(ids, ((0, 0), (0, width - ids.shape[1])), constant_values=pad) for ids in roles]
        self.ids, self._places = np.unique(np.concatenate(padded), axis=0, return_inverse=True)
        # --> [U, width]; [3 * n] the distinct text of each example's source, target and negative.
        nodes = np.concatenate([arrays.source_nodes, arrays.target_nodes, arrays.negative_nodes])
        rows, columns = np.nonzero(nodes >= 0)
        members = sparse.csr_matrix(
            (np.ones(len(rows), np.float32), (nodes[rows, columns], self._places[rows])), shape=(len(data.graph), len(self.ids))
        )
        members.data[:] = 1.0  # a text counts once for a keyword, in however many examples and roles it occurs
        self._members = members
        count = len(arrays)
        self._of_role = {role: self._places[i * count : (i + 1) * count] for i, role in enumerate(ROLES)}
        self._sources, self._source_place = np.unique(self._of_role["source"], return_inverse=True)
        self._source_width = arrays.source_ids.shape[1]

    def node_features(self, encoder: TextEncoder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Computes h^0 of every node: the mean vector of the distinct texts that have its keyword, centred and scaled over nodes.

        Returns:
          [N, D] features; [D] mean and [D] scale of the texts' vectors.
        """
        vectors = self._encoded(encoder, states=False)[0]
        counts = np.maximum(np.asarray(self._members.sum(1)), 1.0)
        features = np.asarray(self._members @ vectors) / counts
        if len(features):
            features = (features - features.mean(0)) / floored(features.std(0))
        return features.astype(np.float32), vectors.mean(0), floored(vectors.std(0))

    def columns(self, encoder: TextEncoder) -> Columns:
        """Returns batch columns that stand in for a frozen encoder: source_states [B, S + 2, D] float16, {role}_vector [B, D] float32."""
        vectors, states = self._encoded(encoder, states=True)

        def gather(rows: np.ndarray, _filled: np.ndarray, _place: Place) -> dict[str, np.ndarray]:
            found = {f"{role}_vector": vectors[self._of_role[role][rows]] for role in ROLES}
            return found | {"source_states": states[self._source_place[rows]]}

        return gather

    def lower_columns(self, encoder: TextEncoder, roles: Sequence[str]) -> Columns | None:
        """Returns batch columns {role}_lower [B, L, D] float16, the states of a divided encoder's fixed part, zeros at padding.

        They are kept piece by piece, without padding, for all texts, so that every system with the same fixed layers has one cache.

        Returns:
          None where they would take more than `MOST_KEPT`.
        """
        lengths = (self.ids != self._data.tokenizer.pad_id).sum(1)
        starts, width = np.concatenate([[0], np.cumsum(lengths)]), encoder.shape.width
        if (size := int(starts[-1]) * width * 2) > MOST_KEPT:
            print(f"fixed layers' states of {len(self.ids):,} texts would take {size / 2**30:.0f} GiB: steps compute their own", flush=True)
            return None
        (lower,) = self._lower(encoder, starts)

        def gather(rows: np.ndarray, _filled: np.ndarray, _place: Place) -> dict[str, np.ndarray]:
            found = {}
            for role in roles:
                column = np.zeros((len(rows), getattr(self.arrays, f"{role}_ids").shape[1], width), np.float16)
                for row, text in zip(column, self._of_role[role][rows], strict=True):
                    row[: lengths[text]] = lower[starts[text] : starts[text + 1]]
                found[f"{role}_lower"] = column
            return found

        return gather

    def _lower(self, encoder: TextEncoder, starts: np.ndarray) -> list[np.ndarray]:
        """Returns the lower states of all distinct texts, one after the other, [pieces, D] float16, from the cache if it has them.

        Args:
          starts: [U + 1] where each text begins, and the number of all pieces.
        """

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def run(ids: tf.Tensor) -> tf.Tensor:
            return encoder.lower_states(ids)

        def compute() -> tuple[np.ndarray]:
            kept = np.zeros((starts[-1], encoder.shape.width), np.float16)
            with bar("encoding texts", len(self.ids)) as progress:
                for rows in _blocks(np.diff(starts)):
                    lengths = np.diff(starts)[rows]
                    found = run(self.ids[rows, : int(lengths.max())]).numpy()
                    for text, length, states in zip(rows, lengths, found, strict=True):
                        kept[starts[text] : starts[text + 1]] = states[:length]
                    progress.update(len(rows))
            return (kept,)

        if not self._keep:
            return list(compute())
        return cached(self._folder("lower", encoder, encoder.fixed_variables), LOWER, compute)

    def _encoded(self, encoder: TextEncoder, states: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the vectors [U, D] of all distinct texts and, if asked, the states [sources, S + 2, D]; from the cache if it has them."""
        if not self._keep:
            return self._encode(encoder, states)
        whole, small = (self._folder(kind, encoder, encoder.variables) for kind in ("states", "vectors"))
        states_too = states or is_whole(whole, PARTS)  # which has the vectors as well
        folder, names = (whole, PARTS) if states_too else (small, PARTS[:1])
        arrays = cached(folder, names, lambda: self._encode(encoder, states_too)[: len(names)])
        return np.array(arrays[0]), arrays[1] if states else None

    def _folder(self, kind: str, encoder: TextEncoder, variables: Sequence[tf.Variable]) -> Path:
        """Returns the folder for what some weights make of these texts."""
        suffix = f" {self._data.suffix_length}" if self._data.suffix_length else ""  # sources with keywords are other texts
        key = hashlib.sha256(f"{self._data.manifest['sha256']} {encoder.compute_dtype}{suffix}".encode())
        for variable in variables:
            key.update(variable.numpy().tobytes())
        return self._data.folder / CACHE / f"{kind}-{key.hexdigest()[:16]}"

    def _encode(self, encoder: TextEncoder, states: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Computes what `_encoded` returns."""
        lengths = (self.ids != self._data.tokenizer.pad_id).sum(1)
        vectors = np.zeros((len(self.ids), encoder.shape.width), np.float32)
        kept = np.zeros((len(self._sources), self._source_width, encoder.shape.width), np.float16) if states else None
        place = np.full(len(self.ids), -1)  # of each text among the sources; -1: it is not a source
        place[self._sources] = np.arange(len(self._sources))

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def run(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = encoder(ids)
            return found, text_vector(found, encoder.mask(ids))

        with bar("encoding texts", len(self.ids)) as progress:
            for rows in _blocks(lengths):
                found, vectors[rows] = run(self.ids[rows, : int(lengths[rows].max())])
                if kept is not None:
                    _put(kept, place[rows], found)
                progress.update(len(rows))
        return vectors, kept


def _blocks(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Divides texts into blocks of about equal length, the shortest texts first, each of at most `TOKENS_AT_ONCE` tokens with padding.

    Args:
      lengths: [U] tokens of each text.

    Yields:
      The numbers of a block's texts.
    """
    order, done = np.argsort(lengths, kind="stable"), 0
    while done < len(order):
        # If all were as short as the first, so many would fit. The longest of these decides how many really do.
        end = min(done + TOKENS_AT_ONCE // max(lengths[order[done]], 1), len(order))
        rows = order[done : done + max(1, TOKENS_AT_ONCE // int(lengths[order[end - 1]]))]
        yield rows
        done += len(rows)


def _put(kept: np.ndarray, places: np.ndarray, states: tf.Tensor) -> None:
    """Copies the states [n, L, D] of those texts that are sources to their places in `kept` [sources, S + 2, D]; place -1: not a source."""
    sources = np.flatnonzero(places >= 0)
    if sources.size:
        length = min(states.shape[1], kept.shape[1])
        kept[places[sources], :length] = states.numpy()[sources, :length]


def floored(scale: np.ndarray) -> np.ndarray:
    """Returns the scales [D] by which dimensions are divided, none of them under `SMALLEST_SCALE` of the median one.

    Published encoders have dead dimensions (all-MiniLM three, whose last LayerNorm has gamma and beta of at most 1e-7). Divided by their
    own deviation they would give a trained encoder a gradient a million times too large (BUILD_NOTES 91).
    """
    return np.maximum(scale, max(SMALLEST_SCALE * float(np.median(scale)), 1e-6)).astype(np.float32)
