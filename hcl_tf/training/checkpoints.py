"""Saves and reads checkpoints, from which a run is resumed exactly.

A checkpoint is on disk completely or not at all: what a killed process left half written is never taken for one. Nothing here knows a
model: a checkpoint holds named arrays and a JSON dict. TensorFlow is not imported.
"""

import hashlib
import operator
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.files.whole_file import hidden, sync, writing

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT = 1
VARIABLES, RECORD = "variables.safetensors", "checkpoint.json"
DTYPES = {  # by safetensors' names; its own NumPy reader lacks bfloat16
    "BOOL": np.bool_, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
    "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64,
}  # fmt: skip
SUPPORTED = frozenset(map(np.dtype, DTYPES.values()))
RESERVED_NAME = "__metadata__"  # the one key of a safetensors header that names no array
DIFFERENCES_SHOWN = 5
STEP = re.compile(r"step-(\d{8,})")
BEST = re.compile(r"[a-z][a-z_]*")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
      path: its folder. step: how many steps were taken. arrays: name -> array, in the shape and dtype in which it was saved.
      state: the training loop's JSON dict. digest: the SHA-256 of the arrays' file.
    """

    path: Path
    step: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]
    digest: str = ""


class Checkpoints:
    """The checkpoints of one run. Training resumes from those called `step-00001200`; named ones (`best_loss`, `best_nll`) are evaluated.

    One process writes, which the run folder's lock makes sure of; others may read meanwhile. A checkpoint NAME is written as
    `.NAME.partial`, forced to disk and then renamed. One that it replaces is renamed to `.NAME.old` before that and deleted after it.
    As long as there is no NAME, `.NAME.old` is read in its place.

    Args:
      folder: the first save makes it.
      keep: how many `step-` checkpoints stay, at least 1 (else ValueError).
    """

    def __init__(self, folder: Path | str, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: at least the newest checkpoint has to stay")
        self.folder, self.keep = Path(folder), keep

    def save(self, step: int, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> Path:
        """Saves the newest checkpoint and returns its folder; then removes all but the `keep` newest, and those of later steps.

        Where a later one is there, it was damaged, so that the run was resumed from an earlier step. Training writes it anew.

        Args:
          step: how many steps were taken.
          arrays: name -> array of any shape, of NumPy's booleans, integers and floats, or of bfloat16.
          state: any JSON dict (tuples become lists). Floats come back bit for bit, also NaN and infinities.

        Raises:
          UserError: the disk refuses to write. What was saved before is untouched.
          ValueError, TypeError: an array's dtype or a value of `state` can't be saved.
        """
        place = self._write(f"step-{step:08d}", step, arrays, state)
        saved = self._steps()
        kept = sorted(other for other in saved if other <= step)[-self.keep :]
        for other in saved.keys() - set(kept):
            self._remove(saved[other])
        return place

    def save_best(self, name: str, step: int, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> Path:
        """Replaces the checkpoint `name`. Whenever this process may be killed, `read(name)` finds the earlier or the new one complete.

        `name` has lower-case letters and underscores only; the other arguments and the errors are those of `save`.
        """
        if not BEST.fullmatch(name):
            raise ValueError(f"{name!r}: a named checkpoint is called by lower-case letters and underscores")
        return self._write(name, step, arrays, state)

    def newest(self) -> Checkpoint | None:
        """Reads the newest `step-` checkpoint that is not damaged, and prints which ones are. Returns None where none was saved.

        Raises:
          UserError: every checkpoint is damaged.
        """
        saved = self._steps()
        for step in sorted(saved, reverse=True):
            try:
                return _read(saved[step], step)
            except _Damaged as damage:
                print(f"  checkpoint refused: {damage}", flush=True)
        if saved:
            names = ", ".join(saved[step].name for step in sorted(saved))
            raise UserError(
                f"{self.folder}: no checkpoint is whole ({names}); restore one from a copy, or start again in another --run_dir"
            )
        return None

    def read(self, name: str) -> Checkpoint:
        """Reads and verifies the checkpoint called `name` (`best_loss`, `step-00001200`).

        Raises:
          UserError: there is none of that name, or it is damaged; the text then names the file.
        """
        before = place, identity = self._look(name)
        step = STEP.fullmatch(name)
        try:
            return _read(place, int(step[1]) if step else None)
        except _Damaged as damage:
            # While it was being read, the training process replaced it or renamed the earlier one: the next look finds the new one.
            if self._look(name) != before:
                return self.read(name)
            others = ", ".join(sorted(other for other in self._names() if other != name)) or "none"
            if identity is None:
                raise UserError(f"{self.folder}: no checkpoint {name!r}; there are: {others}") from damage
            raise UserError(f"{damage}; restore it from a copy, or use another checkpoint (there are: {others})") from damage

    def has(self, name: str) -> bool:
        """Says whether there is a checkpoint of that name, whole or damaged."""
        return name in self._names()

    def _write(self, name: str, step: int, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> Path:
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"step {step}: steps count from 0")
        arrays = {key: np.asarray(array) for key, array in arrays.items()}
        for key, array in arrays.items():
            if array.dtype.newbyteorder("=") not in SUPPORTED or key == RESERVED_NAME:
                raise ValueError(f"{key}: an array of dtype {array.dtype} under this name can't be saved")
        state_bytes = to_json(state)  # a value that JSON can't hold is found before anything is written
        place = self.folder / name
        partial, old = hidden(place, "partial"), hidden(place, "old")
        with writing(place):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            partial.mkdir()
            try:
                save_file(arrays, partial / VARIABLES)
                file = {"bytes": (partial / VARIABLES).stat().st_size, "sha256": sha256(partial / VARIABLES)}
                body = {"format": FORMAT, "step": step, "files": {VARIABLES: file}, "state": from_json(state_bytes)}
                (partial / RECORD).write_bytes(_sealed(body))
                for path in (partial / VARIABLES, partial / RECORD, partial):
                    sync(path)
            except (OSError, SafetensorError) as error:
                shutil.rmtree(partial, ignore_errors=True)
                raise error if isinstance(error, OSError) else OSError(None, str(error)) from error
            if place.exists():
                place.rename(old)
            partial.rename(place)
            sync(self.folder)
            if old.exists():
                shutil.rmtree(old)
        return place

    def _remove(self, place: Path) -> None:
        """Removes a checkpoint. Its folder is renamed first, because a half-deleted one would look like a damaged checkpoint."""
        with writing(place):
            removed = place.rename(hidden(self.folder / _name(place), "removed"))
            shutil.rmtree(removed)

    def _tidy(self) -> None:
        """Removes what a killed process left, and gives a checkpoint that it had renamed its name back where there is no new one."""
        for path in sorted(self.folder.glob(".*")):
            place = self.folder / _name(path)
            if path.suffix == ".old" and not place.exists():
                path.rename(place)
            elif path.suffix in (".partial", ".removed", ".old"):
                shutil.rmtree(path)

    def _names(self) -> set[str]:
        if not self.folder.is_dir():
            return set()
        folders = (path for path in self.folder.iterdir() if path.is_dir())
        return {_name(path) for path in folders if not path.name.startswith(".") or path.suffix == ".old"}

    def _steps(self) -> dict[int, Path]:
        return {int(match[1]): self._place(match[0]) for name in self._names() if (match := STEP.fullmatch(name))}

    def _place(self, name: str) -> Path:
        place = self.folder / name
        old = hidden(place, "old")
        return old if old.exists() and not place.exists() else place

    def _look(self, name: str) -> tuple[Path, tuple[int, int] | None]:
        """Returns where a checkpoint lies now, and an identity that changes with its folder (None where there is none)."""
        place = self._place(name)
        try:
            status = place.stat()
        except OSError:
            return place, None
        return place, (status.st_ino, status.st_mtime_ns)


def variables_of(model_weights: Mapping[str, "tf.Variable"]) -> dict[str, np.ndarray]:
    """Copies the values of variables to NumPy arrays. It works under a distribution strategy and in mixed precision too."""
    return {name: np.asarray(variable.numpy()) for name, variable in model_weights.items()}


def assign(variables: Mapping[str, "tf.Variable"], arrays: Mapping[str, np.ndarray], origin: object = "the checkpoint") -> None:
    """Gives every variable its array, or none of them if a name, shape or dtype differs.

    Args:
      variables: name -> variable, as in `variables_of`.
      arrays: name -> array.
      origin: where the arrays come from, for the error's text; for example a checkpoint's path.

    Raises:
      UserError: names, shapes or dtypes differ; the text lists the first differences.
    """
    differences = [f"{name} is missing" for name in variables if name not in arrays]
    differences += [f"{name} is unknown to the model" for name in arrays if name not in variables]
    for name in variables.keys() & arrays.keys():
        wanted = _kind(variables[name].dtype.as_numpy_dtype, variables[name].shape)
        found = _kind(arrays[name].dtype, arrays[name].shape)
        if wanted != found:
            differences.append(f"{name} is {found} instead of {wanted}")
    if differences:
        shown = "; ".join(sorted(differences)[:DIFFERENCES_SHOWN])
        more = f"; and {len(differences) - DIFFERENCES_SHOWN} more" if len(differences) > DIFFERENCES_SHOWN else ""
        raise UserError(f"{origin} does not fit the model: {shown}{more}; use the flags that the run was trained with")
    for name, variable in variables.items():
        variable.assign(arrays[name])


class _Damaged(Exception):
    """A checkpoint can't be used; the text names the file and the reason."""


def _read(place: Path, step: int | None) -> Checkpoint:
    """Reads and verifies one checkpoint; `step` is the number in its folder's name, or None where the name has none."""
    body = _unsealed(place / RECORD, _bytes(place / RECORD))
    if body["format"] != FORMAT:
        raise _Damaged(f"{place / RECORD}: format {body['format']}, but this version of hcl_tf reads format {FORMAT}")
    if step is not None and body["step"] != step:
        raise _Damaged(f"{place / RECORD}: holds step {body['step']}, not the step in its folder's name")
    path, wanted = place / VARIABLES, body["files"][VARIABLES]
    data = _bytes(path)
    if len(data) != wanted["bytes"]:
        raise _Damaged(f"{path}: holds {len(data):,} bytes instead of {wanted['bytes']:,}")
    if hashlib.sha256(data).hexdigest() != wanted["sha256"]:
        raise _Damaged(f"{path}: damaged (its SHA-256 is not the recorded one)")
    arrays = {name: np.frombuffer(a["data"], DTYPES[a["dtype"]]).reshape(a["shape"]) for name, a in deserialize(data)}
    return Checkpoint(place, body["step"], arrays, body["state"], wanted["sha256"])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _Damaged(f"{path}: can't be read ({error.strerror})") from error


def _sealed(body: dict[str, Any]) -> bytes:
    """Returns the bytes of the record's file: its content and, under `checksum`, the content's SHA-256."""
    return to_json({**body, "checksum": hashlib.sha256(to_json(body)).hexdigest()}, indent=1) + b"\n"


def _unsealed(path: Path, data: bytes) -> dict[str, Any]:
    """Returns the content of the record's file, which must be what `_sealed` writes: a change of any byte, even of a space, is found."""
    try:
        body = from_json(data)
        whole = isinstance(body, dict) and _sealed({key: value for key, value in body.items() if key != "checksum"}) == data
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise _Damaged(f"{path}: damaged (its content is not what its checksum says)")
    return body


def _kind(dtype: Any, shape: Any) -> str:
    return f"{np.dtype(dtype).name}{list(shape)}"


def _name(path: Path) -> str:
    """Returns the name of the checkpoint that a folder holds, whether the folder has that name or a hidden one (`hidden`)."""
    return path.stem[1:] if path.name.startswith(".") else path.name
