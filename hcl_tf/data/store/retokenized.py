"""Gives a prepared folder another tokeniser: the same examples, keywords and graph, their texts in other pieces.

The texts of all records are encoded anew and cut to the same numbers of pieces at the same ends. The results are kept beside the
records, under a hash of the tokeniser and the data.
"""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.data.tokenizers.wordpiece import Tokenizer, cut
from hcl_tf.files.array_cache import CACHE, cached


def with_tokenizer(data: PreparedData, tokenizer: Tokenizer) -> PreparedData:
    """Returns `data` in the pieces of `tokenizer`, or as it is where that is WordPiece, with which it was prepared."""
    return RetokenizedData(data, tokenizer) if isinstance(tokenizer, LibraryTokenizer) else data


class RetokenizedData(PreparedData):
    """Prepared data whose `tokenizer`, `arrays` and `records` are those of another tokeniser."""

    def __init__(self, data: PreparedData, tokenizer: LibraryTokenizer) -> None:
        self.__dict__.update(data.__dict__)
        self._data, self.tokenizer = data, tokenizer

    def arrays(self, split: str) -> SplitArrays:
        """Reads a split with other ids; shapes and nodes are the same."""
        ids = dict(zip((f"{role}_ids" for role in ROLES), map(np.array, self._ids(split)), strict=True))
        return dataclasses.replace(self._data.arrays(split), **ids)

    def records(self, split: str) -> Iterator[Record]:
        """Yields a split's records with other ids."""
        for record, *rows in zip(self._data.records(split), *self._ids(split), strict=True):
            texts = {role: dataclasses.replace(getattr(record, role), ids=self._pieces(row)) for role, row in zip(ROLES, rows, strict=True)}
            yield dataclasses.replace(record, **texts)

    def _ids(self, split: str) -> list[np.ndarray]:
        """Returns the framed ids of the roles, [n, S + 2], [n, T + 2] and [n, T + 2], from the cache if it has them."""
        key = hashlib.sha256(f"{self.manifest['sha256']} {self.tokenizer.digest()}".encode()).hexdigest()
        names = tuple(f"{role}_ids.npy" for role in ROLES)
        return cached(self.folder / CACHE / f"view-{split}-{key[:16]}", names, lambda: self._encode(split))

    def _encode(self, split: str) -> tuple[np.ndarray, ...]:
        texts: dict[str, list[str]] = {role: [] for role in ROLES}
        for record in self._data.records(split):
            for role in ROLES:
                texts[role].append(getattr(record, role).normal)
        return tuple(self._framed(role, self.tokenizer.encode(texts[role])) for role in ROLES)

    def _framed(self, role: str, encoded: list[list[int]]) -> np.ndarray:
        length, keep = (self.source_length, self.manifest["task"]["source_keep"]) if role == "source" else (self.target_length, "head")
        return self.tokenizer.framed([cut(pieces, length, keep) for pieces in encoded], length)

    def _pieces(self, row: np.ndarray) -> list[int]:
        """Returns the pieces of one framed row. Its first id may be that of padding, or that of the end."""
        last = np.flatnonzero(row != self.tokenizer.pad_id)[-1]
        return row[1:last].tolist()
