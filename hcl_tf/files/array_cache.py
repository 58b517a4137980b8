"""Keeps arrays that took long to compute in a folder that is whole or not there, and computes them again where it is damaged."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from hcl_tf.files.checksums import sha256
from hcl_tf.files.whole_folder import Finished, whole_or_nothing

CACHE = "cache"  # the folder for such arrays inside of a prepared one
SUMS = "sums.json"


def cached(folder: Path, names: tuple[str, ...], compute: Callable[[], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Reads the arrays called `names` from `folder`, or computes them and puts them there if it does not hold them undamaged.

    Where another process computes them, this one waits for it.

    Returns:
      The arrays, memory-mapped and read-only.
    """
    while not is_whole(folder, names):
        with suppress(Finished), whole_or_nothing(folder, SUMS, overwrite=True, waiting_for=f"{folder.name} in the cache") as out:
            for name, array in zip(names, compute(), strict=True):
                np.save(out / name, array)
            write_sums(out, names)
    return [np.load(folder / name, mmap_mode="r") for name in names]


def write_sums(folder: Path, names: tuple[str, ...]) -> None:
    """Writes down the checksums by which `is_whole` tells whether the arrays are undamaged."""
    (folder / SUMS).write_text(json.dumps({name: sha256(folder / name) for name in names}))


def is_whole(folder: Path, names: tuple[str, ...]) -> bool:
    """Says whether the arrays are there and undamaged."""
    try:
        sums = json.loads((folder / SUMS).read_text())
        return all(sha256(folder / name) == sums[name] for name in names)
    except (OSError, ValueError, KeyError):
        return False
