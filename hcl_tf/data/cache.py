"""Arrays that cost minutes to compute and are a function of prepared data: kept below its folder, found damaged or whole."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hcl_tf.data.output_folder import whole_or_nothing
from hcl_tf.data.text_files import sha256

CACHE = "cache"
SUMS = "sums.json"


def is_whole(folder: Path, names: Sequence[str]) -> bool:
    """Whether the arrays are there and undamaged."""
    try:
        sums = json.loads((folder / SUMS).read_text())
        return all(sha256(folder / name) == sums[name] for name in names)
    except (OSError, ValueError, KeyError):
        return False


def save(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Puts the arrays in the place of whatever was there."""
    with whole_or_nothing(folder, SUMS, overwrite=True) as out:
        for name, array in arrays.items():
            np.save(out / name, array)
        (out / SUMS).write_text(json.dumps({name: sha256(out / name) for name in arrays}))


def load(folder: Path, names: Sequence[str]) -> list[np.ndarray]:
    """The arrays, mapped into memory rather than read."""
    return [np.load(folder / name, mmap_mode="r") for name in names]
