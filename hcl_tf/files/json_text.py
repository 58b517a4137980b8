"""Writes and reads JSON so that exactly what was written comes back: floats bit for bit, NaN and infinities too."""

import json
import math
from typing import Any

import numpy as np

NOT_FINITE = "$float"  # JSON has no NaN and no infinity: they are written {"$float": "nan"}


def to_json(value: Any, indent: int | None = None) -> bytes:
    """Writes a value as UTF-8 JSON with sorted keys, so that equal values give equal bytes.

    Floats are written with the digits that give the same float back; NaN and infinities as {"$float": "nan"}. NumPy scalars
    become Python's.

    Raises:
      ValueError, TypeError: a key is no string or is "$float", or a value is no JSON value.
    """
    text = json.dumps(_tagged(value), allow_nan=False, sort_keys=True, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair, the one thing replaced, becomes its JSON escape


def from_json(data: bytes) -> Any:
    """Reads a value that `to_json` wrote. Raises ValueError for anything that is not JSON."""
    return json.loads(data.decode("utf-8"), object_hook=_untagged, parse_constant=_refuse_constant)


def _tagged(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {NOT_FINITE: repr(value)}
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str) or key == NOT_FINITE]:
            raise ValueError(f"{odd[0]!r} can't be a key in JSON here")
        return {key: _tagged(item) for key, item in value.items()}
    return [_tagged(item) for item in value] if isinstance(value, list | tuple) else value


def _untagged(value: dict[str, Any]) -> Any:
    return float(str(value[NOT_FINITE])) if NOT_FINITE in value else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
