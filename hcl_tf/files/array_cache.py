"""Arrays that took long to compute, kept in a folder that is whole or not there, and computed again where it is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hcl_tf.files.checksums import sha256
from hcl_tf.files.whole_folder import whole_or_nothing

CACHE = "cache"  # the folder for them below a prepared one
SUMS = "sums.json"


def cached(folder: Path, names: tuple[str, ...], compute: Callable[[], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The arrays called `names`, from `folder` if it holds them undamaged, else computed and put there. Read-only, mapped."""
    if not is_whole(folder, names):
        with whole_or_nothing(folder, SUMS, overwrite=True) as out:
            for name, array in zip(names, compute(), strict=True):
                np.save(out / name, array)
            (out / SUMS).write_text(json.dumps({name: sha256(out / name) for name in names}))
    return [np.load(folder / name, mmap_mode="r") for name in names]


def is_whole(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether the arrays are there and undamaged."""
    try:
        sums = json.loads((folder / SUMS).read_text())
        return all(sha256(folder / name) == sums[name] for name in names)
    except (OSError, ValueError, KeyError):
        return False
