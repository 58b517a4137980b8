"""Runs a control: checks what was asked for, trains and measures in a folder of its own, and writes what was found."""

import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.files.whole_file import write_whole
from hcl_tf.studies.controls import disagreement, impostors, masked_keywords, planted_word
from hcl_tf.studies.controls.page import TITLES, page
from hcl_tf.studies.controls.rows import Bench

ON_QUESTIONS = {"planted_word": planted_word, "masked_keywords": masked_keywords}
MADE_UP = {"disagreement": disagreement, "impostors": impostors}
PAGE = "README.md"
FOLDERS = ("--out", "--runs", "--data_dir")  # flags that say where things lie on one machine


@dataclass(frozen=True)
class ControlRequest:
    """Which control to run, and how.

    Attributes:
      data_dir: the prepared questions, for a control on real ones. out: gets <control>.json and the page of all controls there.
      preset, given: of settings, as flags gave them. runs: where runs are kept and taken up again; None: nowhere.
    """

    control: str
    data_dir: Path | None
    out: Path
    preset: str
    given: Mapping[str, Any]
    runs: Path | None = None
    command: Sequence[str] = ()


def control(request: ControlRequest) -> dict:
    """Runs a control, writes its results and the page, and returns the results."""
    name, began = request.control, time.monotonic()
    module = {**ON_QUESTIONS, **MADE_UP}[name]
    with nullcontext(request.runs) if request.runs else tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / name, request.preset, module.USUAL, request.given)
        data = [PreparedData(request.data_dir)] if name in ON_QUESTIONS else []
        found = module.run(bench, *data).to_json()
    found |= {"settings": {"preset": request.preset, **module.USUAL, **request.given}, "command": portable(request.command)}
    found |= {"seconds": time.monotonic() - began}
    write_whole(request.out / f"{name}.json", to_json(found, indent=2) + b"\n")
    write_page(request.out)
    return found


def portable(command: Sequence[str]) -> str:
    """Writes a command without the places that it has on one machine: folders that were given are named by their last part."""
    words = [word.split("=", 1) for word in command]
    return shlex.join(f"{word[0]}={Path(word[1]).name}" if word[0] in FOLDERS and len(word) > 1 else "=".join(word) for word in words)


def write_page(out: Path) -> None:
    """Writes the page of all controls whose results are in a folder."""
    found = {name: from_json(path.read_bytes()) for name in TITLES if (path := out / f"{name}.json").is_file()}
    write_whole(out / PAGE, page(found).encode("utf-8"))
