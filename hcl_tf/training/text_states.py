"""Encodes a split as a whole: node features h^0 for the keyword graph, and cached states of an encoder's fixed part.

A text occurs many times (a question is a source here and a negative there): each distinct one is encoded once.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Columns, Place
from hcl_tf.data.batching.distinct_texts import DistinctTexts
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.impostor_hardness import MOST_SAMPLES, SEED, hardness_lines
from hcl_tf.data.keywords.impostor_statistics import Impostors
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.files.array_cache import CACHE, cached, is_whole
from hcl_tf.files.growing_array import grown
from hcl_tf.layers.encoder import TextEncoder, text_vector
from hcl_tf.progress import bar, track

TOKENS_AT_ONCE = 4096
PARTS = ("vectors.npy", "source_states.npy")
LOWER = "lower.npy"


class TextStates:
    """The distinct texts of a split's examples, and their states and vectors under an encoder.

    Args:
      data: the prepared folder, below which results for published or frozen weights are cached.
      arrays: the split. split: its name.
      keep: whether results are cached on disk, under a hash of weights and data (pointless for weights that change).

    Attributes:
      arrays: the split.
    """

    def __init__(self, data: PreparedData, arrays: SplitArrays, keep: bool, split: str = "train") -> None:
        self._data, self._keep, self.arrays, self._split = data, keep, arrays, split
        self._texts = DistinctTexts(arrays, data.tokenizer.pad_id, len(data.graph))
        self.ids, self._lengths, self._of_role = self._texts.ids, self._texts.lengths, self._texts.of_role
        self._sources, self._source_place = np.unique(self._of_role["source"], return_inverse=True)
        self._source_width = arrays.source_ids.shape[1]

    def node_features(self, encoder: TextEncoder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Computes h^0 of every node from vectors of the distinct texts (`DistinctTexts.node_features`).

        Returns:
          [N, D] features; [D] mean and [D] scale of the texts' vectors.
        """
        return self._texts.node_features(self._encoded(encoder, states=False)[0])

    def impostor_lines(self, features: np.ndarray, by: str) -> list[str]:
        """Says what the impostors of the split are, and how hard they are under the features [N, D] of the nodes.

        Args:
          by: as in `data.keywords.subgraph.find_impostors`.
        """
        nodes = (self.arrays.source_nodes, self.arrays.target_nodes, self.arrays.negative_nodes)
        rows = np.sort(np.random.default_rng(SEED).permutation(len(self.arrays))[:MOST_SAMPLES])
        found = Impostors.of(self._data.whole_graph, *(part[rows] for part in nodes), by)
        return [*found.lines(self._data.graph), *hardness_lines(found, features, "node features")] if len(features) else []

    def columns(self, encoder: TextEncoder) -> Columns:
        """Returns batch columns that stand in for a frozen encoder: source_states [B, S + 2, D] float16, {role}_vector [B, D] float32."""
        vectors, states = self._encoded(encoder, states=True)

        def gather(rows: np.ndarray, _filled: np.ndarray, _place: Place) -> dict[str, np.ndarray]:
            found = {f"{role}_vector": vectors[self._of_role[role][rows]] for role in ROLES}
            return found | {"source_states": states[self._source_place[rows]]}

        return gather

    def lower_columns(self, encoder: TextEncoder, roles: Sequence[str], how: str) -> Columns | None:
        """Returns batch columns {role}_lower [B, L, D], the states of a divided encoder's fixed part, zeros at padding.

        They are kept piece by piece, without padding, for all texts, so that every system with the same fixed layers has one cache.

        Args:
          how: "float32" or "float16", the type that they are kept in; "live": not at all, and the result is None.

        Raises:
          UserError: the disk has not enough space for them.
        """
        if how == "live":
            return None
        lengths, width, dtype = self._lengths, encoder.shape.width, np.dtype(how).type
        starts = np.concatenate([[0], np.cumsum(lengths)])
        lower = self._lower(encoder, starts, dtype)

        def gather(rows: np.ndarray, _filled: np.ndarray, _place: Place) -> dict[str, np.ndarray]:
            found = {}
            for role in roles:
                column = np.zeros((len(rows), getattr(self.arrays, f"{role}_ids").shape[1], width), dtype)
                for row, text in zip(column, self._of_role[role][rows], strict=True):
                    row[: lengths[text]] = lower[starts[text] : starts[text + 1]]
                found[f"{role}_lower"] = column
            return found

        return gather

    def _lower(self, encoder: TextEncoder, starts: np.ndarray, dtype: type) -> np.ndarray:
        """Returns the lower states of all distinct texts, one after the other, [pieces, D], on disk where they are kept.

        Args:
          starts: [U + 1] where each text begins, and the number of all pieces.
        """

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def run(ids: tf.Tensor) -> tf.Tensor:
            return encoder.lower_states(ids)

        def compute(kept: np.ndarray, rows: np.ndarray) -> None:
            lengths = self._lengths[rows]
            for text, length, states in zip(rows, lengths, run(self.ids[rows, : int(lengths.max())]).numpy(), strict=True):
                kept[starts[text] : starts[text + 1]] = states[:length]

        shape, blocks = (int(starts[-1]), encoder.shape.width), list(_blocks(np.diff(starts)))
        if self._keep:
            folder = self._folder(f"lower-{np.dtype(dtype).name}", encoder, encoder.fixed_variables)
            remedy = "give --lower_states=float16, or live, with which each step computes them, or free space"
            return grown(folder, LOWER, shape, dtype, blocks, compute, f"states of {len(self.ids):,} texts in fixed layers", remedy)
        kept = np.zeros(shape, dtype)
        for rows in track(blocks, "states of texts in fixed layers", unit=" blocks"):
            compute(kept, rows)
        return kept

    def _encoded(self, encoder: TextEncoder, states: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the vectors [U, D] of all distinct texts and, if asked, the states [sources, S + 2, D]; from the cache if it has them."""
        if not self._keep:
            return self._encode(encoder, states)
        whole, small = (self._folder(kind, encoder, encoder.variables) for kind in ("states", "vectors"))
        states_too = states or is_whole(whole, PARTS)  # the folder with the states has the vectors as well
        folder, names = (whole, PARTS) if states_too else (small, PARTS[:1])
        arrays = cached(folder, names, lambda: self._encode(encoder, states_too)[: len(names)])
        return np.array(arrays[0]), arrays[1] if states else None

    def _folder(self, kind: str, encoder: TextEncoder, variables: Sequence[tf.Variable]) -> Path:
        """Returns the folder for what some weights make of these texts."""
        suffix = f" {self._data.suffix_length}" if self._data.suffix_length else ""  # sources with keywords are other texts
        split = "" if self._split == "train" else f" {self._split}"
        key = hashlib.sha256(f"{self._data.manifest['sha256']} {encoder.product_dtype}{suffix}{split}".encode())
        for variable in variables:
            key.update(variable.numpy().tobytes())
        return self._data.folder / CACHE / f"{kind}-{key.hexdigest()[:16]}"

    def _encode(self, encoder: TextEncoder, states: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Computes what `_encoded` returns."""
        lengths = self._lengths
        vectors = np.zeros((len(self.ids), encoder.shape.width), np.float32)
        kept = np.zeros((len(self._sources), self._source_width, encoder.shape.width), np.float16) if states else None
        place = np.full(len(self.ids), -1)  # of each text among the sources; -1: it is not a source
        place[self._sources] = np.arange(len(self._sources))

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None], tf.int32)])
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
