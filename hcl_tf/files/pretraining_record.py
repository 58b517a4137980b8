"""The record that hcl_tf.pretrain leaves beside its weights, so that tables can say what a row's weights are."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.settings import COMPUTATION, EQUAL

RECORD, WEIGHTS = "pretraining.json", "model.safetensors"
_BITS = re.compile(r", weights ([0-9a-f]{8})\)")


def named_by(settings: Mapping[str, Any]) -> str:
    """Returns what a training's settings name as the weights that it begins with: a folder, `random`, or the name of published ones."""
    return settings.get("pretrained") or settings.get("encoder") or "random"


def read(folder: Path) -> dict[str, Any] | None:
    """Reads the record; None: the weights in the folder were published by others.

    Raises:
      UserError: it is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = from_json(path.read_bytes())
        record["texts"], record["pieces_seen"], record["settings"]["objective"], record["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read ({error}); make the weights again with python -m hcl_tf.pretrain") from error
    return record


def origin_of(folder: Path) -> str:
    """Says in words how weights were pretrained here, to be put behind their description; "" for those of others.

    It ends with the first digits of two checksums. `recipe` is that of the texts and of the settings that say what is computed.
    `weights` is that of the weights themselves: one recipe gives other bits on another kind of processor.
    """
    record = read(folder)
    if record is None:
        return ""
    said = f"{record['settings']['objective']}, {record['texts']:,} texts, {record['pieces_seen']:,} pieces seen"
    settings = {name: value for name, value in record["settings"].items() if name not in COMPUTATION}
    recipe = hashlib.sha256(to_json([settings, record["data"]])).hexdigest()
    return f", {EQUAL} ({said}, recipe {recipe[:8]}, weights {sha256(folder / WEIGHTS)[:8]})"


def without_bits(description: str) -> str:
    """Returns a description without the checksum of weights, so that it is the same for all weights that one recipe made."""
    return _BITS.sub(")", description)


def bits_of(description: str) -> str:
    """Returns the checksum's digits that `without_bits` leaves out; "" where a description has none (until version 0.4)."""
    found = _BITS.search(description)
    return found.group(1) if found else ""
