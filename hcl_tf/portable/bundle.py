"""Writes and reads bundles, the folders that travel to a machine without TensorFlow. NumPy is all that this needs.

    BUNDLE/arrays/<sha256>.npy.gz          arrays by content, so that systems share what they have in common
    BUNDLE/<system>/bundle.json            settings, programs, variables and how they begin
    BUNDLE/<system>/<program>.mlir.xz      StableHLO

The results of a system, which come back, are a folder with metrics.jsonl, speed.jsonl, done.json and environment.json as in a run folder,
and with

    outputs.<split>.npz                    ids of the outputs
    examined.test.npz                      diagnostics of the test examples

or, of a pretraining, in place of these two

    weights.safetensors                    the variables of the model at the smallest validation loss
"""

import gzip
import hashlib
import io
import json
import lzma
import os
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.files.json_text import to_json
from hcl_tf.files.whole_file import write_whole

FORMAT = 2
READABLE = (1, FORMAT)  # until version 0.1.0 every system had a sampler
NAME = re.compile(r"[\w.= -]*\w")
DESCRIPTION, ARRAYS, PROGRAM = "bundle.json", "arrays", "{}.mlir.xz"
OUTPUTS, DIAGNOSTICS, WEIGHTS = "outputs.{}.npz", "examined.test.npz", "weights.safetensors"


@dataclass(frozen=True)
class Program:
    """The signature of a program.

    Attributes:
      inputs: names of its first arguments. variables: names of the variables that follow them as arguments.
      outputs: names of its first results. updates: names of the variables whose new values follow them as results.
    """

    inputs: list[str]
    variables: list[str]
    outputs: list[str]
    updates: list[str]


class Bundle:
    """The part of one system in a bundle.

    Attributes:
      description: the content of bundle.json (`compiling.export`).
    """

    def __init__(self, folder: Path, system: str) -> None:
        self.folder, self.system = Path(folder), system
        self.description: dict[str, Any] = {}

    @property
    def _own(self) -> Path:
        return self.folder / self.system

    @property
    def digest(self) -> str:
        """The SHA-256 of bundle.json, by which results are known to be of this bundle."""
        return hashlib.sha256(_read(self._own / DESCRIPTION)).hexdigest()

    def check_new(self) -> None:
        """Raises `UserError` where the system's name is not allowed or there already, or where nothing can be written."""
        if not NAME.fullmatch(self.system) or self.system == ARRAYS:
            raise UserError(f"--system={self.system}: letters, digits and _ . = - are expected, and not {ARRAYS!r}")
        if (self._own / DESCRIPTION).exists():
            raise UserError(f"{self._own}: this bundle has the system already; choose another --system or --out")
        nearest = next(parent for parent in (self.folder, *self.folder.absolute().parents) if parent.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise UserError(f"--out={self.folder}: {nearest} is no folder that can be written to; choose another")

    def store(self, array: np.ndarray) -> str:
        """Puts an array into the bundle and returns its key."""
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array, order="C"))
        key = hashlib.sha256(buffer.getvalue()).hexdigest()
        if not self._array(key).exists():
            write_whole(self._array(key), gzip.compress(buffer.getvalue(), mtime=0))
        return key

    def array(self, key: str) -> np.ndarray:
        """Reads the array of a key. Raises `UserError` where it is missing or damaged."""
        path = self._array(key)
        try:
            data = gzip.decompress(_read(path))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: damaged ({error}); export the bundle again") from error
        if hashlib.sha256(data).hexdigest() != key:
            raise UserError(f"{path}: damaged (its SHA-256 is not its name); export the bundle again")
        return np.load(io.BytesIO(data))

    def _array(self, key: str) -> Path:
        return self.folder / ARRAYS / f"{key}.npy.gz"

    def write_program(self, name: str, text: str) -> None:
        """Stores a program's StableHLO."""
        write_whole(self._own / PROGRAM.format(name), lzma.compress(text.encode()))

    def program(self, name: str) -> tuple[Program, str]:
        """Reads a program. Returns its signature and its StableHLO. Raises `UserError` where it is missing or damaged."""
        path = self._own / PROGRAM.format(name)
        try:
            text = lzma.decompress(_read(path)).decode()
        except (lzma.LZMAError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: damaged ({error}); export the bundle again") from error
        return Program(**self.description["programs"][name]), text

    def write(self, description: dict[str, Any], programs: dict[str, Program]) -> None:
        """Stores the description. This comes last, because where it is the bundle is whole."""
        self.description = {"format": FORMAT, **description, "programs": {name: asdict(program) for name, program in programs.items()}}
        write_whole(self._own / DESCRIPTION, to_json(self.description, indent=1) + b"\n")


def read(folder: Path, system: str) -> Bundle:
    """Reads the part of a system. Raises `UserError` where there is none, or it is of another version."""
    bundle = Bundle(folder, system)
    path = bundle.folder / system / DESCRIPTION
    if not path.is_file():
        there = sorted(p.parent.name for p in bundle.folder.glob(f"*/{DESCRIPTION}"))
        raise UserError(f"{path}: no such file; systems in this bundle: {', '.join(there) or 'none'}")
    try:
        bundle.description = json.loads(path.read_text())
        version = bundle.description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); export the bundle again") from error
    if version not in READABLE:
        raise UserError(f"{path}: of format {version}, {FORMAT} is expected; export the bundle again with this version")
    return bundle


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); export the bundle again") from error
