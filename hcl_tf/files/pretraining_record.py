"""The record that hcl_tf.pretrain leaves beside its weights, so that tables can say what a row's weights are."""

from pathlib import Path
from typing import Any

from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256
from hcl_tf.files.json_text import from_json
from hcl_tf.settings import EQUAL

RECORD, WEIGHTS = "pretraining.json", "model.safetensors"


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
        record["texts"], record["pieces_seen"], record["settings"]["objective"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read ({error}); make the weights again with python -m hcl_tf.pretrain") from error
    return record


def origin_of(folder: Path) -> str:
    """Says in words how weights were pretrained here, to be put behind their description; "" for those of others.

    It ends with the first digits of their checksum, as weights that are made anew may have seen as many pieces.
    """
    record = read(folder)
    if record is None:
        return ""
    said = f"{record['settings']['objective']}, {record['texts']:,} texts, {record['pieces_seen']:,} pieces seen"
    return f", {EQUAL} ({said}, weights {sha256(folder / WEIGHTS)[:8]})"
