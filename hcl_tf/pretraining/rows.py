"""Packs texts into rows of one length, so that hardly any padding is computed. NumPy alone: a machine without TensorFlow does it too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hcl_tf.errors import UserError


@dataclass(frozen=True)
class Texts:
    """Texts as pieces, one after the other.

    Attributes:
      pieces: [total] int32, without special pieces. ends: [n] int64, where each text ends.
    """

    pieces: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> "Texts":
        """Joins texts, given as sequences of ids."""
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        pieces = np.concatenate([np.asarray(text, np.int32) for text in texts]) if len(texts) else np.zeros(0, np.int32)
        return cls(pieces, ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.pieces[self.ends[number - 1] if number else 0 : self.ends[number]]

    @property
    def lengths(self) -> np.ndarray:
        """The pieces of each text, [n]."""
        return np.diff(self.ends, prepend=0)


@dataclass(frozen=True)
class Packed:
    """Which texts share a row.

    Attributes:
      order: [n] numbers of texts, row after row. ends: [rows] where each row ends in it.
      filled: the share of the rows' places that texts take.
    """

    order: np.ndarray
    ends: np.ndarray
    filled: float

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.order[self.ends[row - 1] if row else 0 : self.ends[row]]


def pack(texts: Texts, places_of: Callable[[np.ndarray], np.ndarray], length: int) -> Packed:
    """Packs texts into as few rows as best-fit decreasing finds (Johnson 1973): the longest first, each into the fullest row that has room.

    Args:
      places_of: lengths of texts [n] -> [n] places that they take in a row. length: places of a row.

    Raises:
      UserError: a text is longer than a row.
    """
    needed = np.asarray(places_of(texts.lengths), np.int64)
    if len(needed) and needed.max() > length:
        raise UserError(f"--row_length={length}: a text takes {needed.max()} places; give at least so many")
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # free places -> rows that have so many
    there = 0  # bit i: a row has i free places
    for number in np.argsort(-needed, kind="stable"):
        need = int(needed[number])
        fits = there >> need
        if fits:
            free = need + (fits & -fits).bit_length() - 1
            row = open_rows[free].pop()
            if not open_rows[free]:
                there &= ~(1 << free)
        else:
            row, free = len(rows), length
            rows.append([])
        rows[row].append(int(number))
        open_rows[free - need].append(row)
        there |= 1 << (free - need)
    order = np.array([number for row in rows for number in row], np.int64)
    return Packed(order, np.cumsum([len(row) for row in rows], dtype=np.int64), float(needed.sum()) / max(1, len(rows) * length))
