"""Keeps a run in a folder: what was asked for, on which machine, and what came out.

One process at a time trains in the folder. Any number may read it and write their results (predictions, scores, samples) beside.
TensorFlow is imported only to ask for the GPUs.
"""

import contextlib
import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.files import locks
from hcl_tf.files.checksums import sha256
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.files.whole_file import sync, write_whole, writing
from hcl_tf.training.checkpoints import Checkpoints
from hcl_tf.training.environment import describe_environment

CONFIG, FILES, ENVIRONMENT, COMMANDS = "config.json", "files.json", "environment.json", "command.txt"
METRICS, SPEED, DONE, LOCK, CHECKPOINTS = "metrics.jsonl", "speed.jsonl", "done.json", ".lock", "checkpoints"
OWN = (CONFIG, FILES, ENVIRONMENT, COMMANDS, METRICS, SPEED, DONE, CHECKPOINTS)  # `write_text` and its like refuse these names
DIFFERENCES_SHOWN = 5
ROOM = 2**20  # bytes that have to be free before results are computed; predictions of 1,000 questions take about 400 kB


class Run:
    """A run as evaluation and generation see it: they read what training wrote, and may write results beside it.

    Attributes:
      path: the folder.
      config: what config.json holds, such as the run's task and all settings.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.path / CHECKPOINTS)

    @property
    def environment(self) -> dict[str, Any]:
        """Returns the machine and versions of the last start (environment.py); `earlier` lists those before that differ."""
        return _read_object(self.path / ENVIRONMENT)

    @property
    def finished(self) -> dict[str, Any] | None:
        """Returns the summary that training ended with, or None if it has not ended."""
        return _read_object(self.path / DONE) if (self.path / DONE).exists() else None

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads the records of metrics.jsonl in order. Raises `UserError` with file and line number where one is damaged or unfinished."""
        lines, unfinished = _lines(self.path / METRICS)
        if unfinished:
            raise UserError(f"{self.path / METRICS}:{len(lines) + 1}: an unfinished line; start the run again, which drops it")
        return [_metric(self.path / METRICS, number, line) for number, line in enumerate(lines, 1)]

    def holds(self, name: str) -> bool:
        """Says whether an input, a file or a folder, was stored under `name`."""
        return any(other == name or other.startswith(f"{name}/") for other in _read_object(self.path / FILES))

    def stored(self, name: str) -> Path:
        """Returns the path of the input that was stored under `name`. Raises `UserError` where there is none."""
        if not self.holds(name):
            raise UserError(f"{self.path}: the run keeps no {name}; it holds {', '.join(sorted(_read_object(self.path / FILES)))}")
        return self.path / name

    def check_stored(self) -> None:
        """Compares the configuration and every stored input with its recorded SHA-256. Raises `UserError` for the first that differs."""
        for name, recorded in sorted(_read_object(self.path / FILES).items()):
            path = self.path / name
            try:
                found = sha256(path)
            except OSError as error:
                raise UserError(f"{path}: can't be read ({error.strerror}); restore it from a copy of the run") from error
            if found != recorded:
                raise UserError(
                    f"{path}: changed since the run stored it (its SHA-256 differs from {FILES}); restore it from a copy of the run"
                )

    def write_text(self, name: str, text: str) -> Path:
        """Writes a result and returns its path. At any moment the earlier file or the new one is there complete.

        Args:
          name: the file's path in the run's folder.

        Raises:
          UserError: the disk refuses to write. ValueError: the name is one of the run's own files, is hidden, or leads out of the folder.
        """
        return self.write_bytes(name, text.encode("utf-8"))

    def write_json(self, name: str, value: Any) -> Path:
        """Writes one JSON value, indented and with sorted keys, as `write_text` does."""
        return self.write_bytes(name, to_json(value, indent=2) + b"\n")

    def write_jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> Path:
        """Writes one JSON record in each line, as `write_text` does."""
        return self.write_bytes(name, b"".join(to_json(row) + b"\n" for row in rows))

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Writes any bytes, as `write_text` does."""
        write_whole(path := self._free(name), data)
        return path

    def check_writable(self) -> None:
        """Makes a file without a name in the folder, so that one that can't be written is noticed before long work and not after it.

        Raises:
          UserError: the folder takes no file, or its disk has no room for `ROOM` bytes more.
        """
        with writing(self.path), tempfile.TemporaryFile(dir=self.path) as file:
            file.write(bytes(ROOM))
            file.flush()

    def _free(self, name: str) -> Path:
        """Returns the path of a file that is not one of `OWN`. Raises `ValueError` for others, which are a caller's mistake."""
        parts = PurePosixPath(name).parts
        if not parts or parts[0] in OWN or any(part.startswith((".", "/")) for part in parts):
            raise ValueError(f"{name!r} can't be written here")
        return self.path / name


class RunFolder(Run):
    """A run that this process trains and has locked. As a context manager it frees the lock in the end; so does any end of the process."""

    def __init__(self, path: Path, config: dict[str, Any], lock: BinaryIO) -> None:
        super().__init__(path, config)
        self._lock = lock

    @classmethod
    def open(
        cls, path: Path | str, config: dict[str, Any], command: list[str], environment: dict[str, Any] | None = None,
        same: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> "RunFolder":  # fmt: skip
        """Begins a run in a new or empty folder, or resumes the one that is there.

        Args:
          path: the folder.
          config: what config.json is to hold, a JSON dict.
          command: the words of the command line, which command.txt keeps with the time.
          environment: the machine and versions of the training; None: those of this process (`describe_environment`).
          same: returns the part of a configuration that has to be the same for a run to be resumed; default: all of it.

        Raises:
          UserError: the folder can't be written, holds something else or a run with another configuration, or is damaged; or another
            process is training in it.
        """
        path, config = Path(path), from_json(to_json(config))
        try:
            path.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
            lock = (path / LOCK).open("a+b")
        except OSError as error:
            raise UserError(f"--run_dir={path}: can't be written ({error.strerror}); choose another folder") from error
        try:
            try:
                locks.take(lock)
            except locks.Taken as taken:
                raise locks.refused("--run_dir", path, "is training in it", taken) from taken
            except OSError as error:  # some network file systems have no locks
                raise UserError(f"--run_dir={path}: can't be locked ({error.strerror}); choose a folder on a local disk") from error
            for name in OWN:  # a killed process may have left parts of these; others may be writing results now
                for leftover in path.glob(f".{name}.*.partial"):
                    leftover.unlink()
            if (path / CONFIG).exists():
                _compare(path, same(_read_config(path)), same(config))
            else:  # config.json comes last: with it the folder is a run
                data = to_json(config, indent=2) + b"\n"
                write_whole(path / FILES, to_json({CONFIG: hashlib.sha256(data).hexdigest()}, indent=2) + b"\n")
                write_whole(path / CONFIG, data)
            run = cls(path, config, lock)
            run._record_start(command, environment or describe_environment())
        except BaseException:
            lock.close()
            raise
        return run

    def close(self) -> None:
        """Frees the lock, so that other processes can train here."""
        self._lock.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl. The record has an integer `step` (else ValueError), and must not depend on the clock."""
        if type(record.get("step")) is not int:
            raise ValueError("a metrics record needs an integer step")
        self._append(METRICS, record)

    def append_speed(self, record: dict[str, Any]) -> None:
        """Adds a line to speed.jsonl. It is not in metrics.jsonl because times differ between runs that are otherwise the same."""
        self._append(SPEED, record)

    def rewind(self, step: int) -> None:
        """Drops the metrics after `step`, from which training resumes (-1: all of them), and a last line that was left unfinished.

        Raises:
          UserError: a line is damaged.
        """
        path = self.path / METRICS
        lines, unfinished = _lines(path)
        kept = [line for number, line in enumerate(lines, 1) if _metric(path, number, line)["step"] <= step]
        if unfinished or len(kept) < len(lines):
            write_whole(path, b"".join(line + b"\n" for line in kept))

    def sync(self) -> None:
        """Forces the metrics to disk. Called before a checkpoint is saved, it keeps a power cut from leaving one without its metrics."""
        if (self.path / METRICS).exists():
            sync(self.path / METRICS)

    def finish(self, summary: dict[str, Any]) -> None:
        """Marks the run as finished: `finished` returns `summary` from then on."""
        write_whole(self.path / DONE, to_json(summary, indent=2) + b"\n")

    def store(self, source: Path, name: str) -> None:
        """Copies an input (a file, or a folder's files) into the run, so that generation needs nothing from outside.

        Raises:
          UserError: `source` can't be read, or the run was begun with another one.
        """
        source = Path(source)
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    self.store(path, f"{name}/{path.relative_to(source).as_posix()}")
            return
        place = self._free(name)
        try:
            data = source.read_bytes()
        except OSError as error:
            raise UserError(f"{source}: can't be read ({error.strerror}); the run needs a copy of it") from error
        files = _read_object(self.path / FILES)
        digest = hashlib.sha256(data).hexdigest()
        if files.get(name, digest) != digest:
            raise UserError(
                f"{source}: not the {name} that the run in {self.path} was begun with; give the same data, or another --run_dir"
            )
        write_whole(place, data)
        if name not in files:
            write_whole(self.path / FILES, to_json({**files, name: digest}, indent=2) + b"\n")

    def _append(self, name: str, record: dict[str, Any]) -> None:
        path, line = self.path / name, to_json(record) + b"\n"
        with writing(path), path.open("ab+") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read() != b"\n":  # a killed process left part of a line, which this one would run into
                    file.truncate(path.read_bytes().rfind(b"\n") + 1)
            file.write(line)

    def _record_start(self, command: list[str], found: dict[str, Any]) -> None:
        """Adds this start to command.txt, and its environment to environment.json if that differs from the one before."""
        path = self.path / COMMANDS
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {shlex.join(command)}\n")
        earlier: list[dict[str, Any]] = []
        if (self.path / ENVIRONMENT).exists():
            recorded = self.environment
            earlier = recorded.pop("earlier", [])
            before, now = recorded.get("arithmetic", 1), found.get("arithmetic", 1)
            if before != now:
                print(
                    f"{self.path}: begun under version {before} of the arithmetic, this program's is {now}: it goes on, "
                    "but not bit for bit as it would have (environment.json keeps both)",
                    flush=True,
                )
            if recorded != found:
                earlier = [*(other for other in earlier if other != found), recorded]
        write_whole(self.path / ENVIRONMENT, to_json({**found, "earlier": earlier}, indent=2) + b"\n")


def load_run(path: Path | str) -> Run:
    """Opens a run for reading, and verifies its configuration and stored inputs. It needs no lock: the run may be in training.

    Raises:
      UserError: there is no run, or a file is missing or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"--run_dir={path}: no such folder; give the folder that hcl_tf.train wrote")
    run = Run(path, _read_config(path))
    run.check_stored()
    return run


def has_finished(path: Path) -> bool:
    """Says whether a folder has a run that has ended; waits for a process that is training there, such as one whose caller was killed."""
    with contextlib.suppress(OSError), (path / LOCK).open("a+b") as lock:  # OSError: no such folder, or no locks there
        locks.take(lock, f"--run_dir={path}")
    return (path / CONFIG).is_file() and load_run(path).finished is not None


def _refuse_foreign(path: Path) -> None:
    """Raises `UserError` unless the folder is empty, a run, or what a process left that was killed while it began a run."""
    names = set(os.listdir(path))
    missing = [name for name in (CONFIG, FILES) if name not in names]
    begun = LOCK in names and all(name in (LOCK, FILES) or name.endswith(".partial") for name in names)
    if names and missing and not begun:
        raise UserError(f"--run_dir={path}: not empty and not a run (no {missing[0]}), so it is left alone; choose another folder")


def _read_config(path: Path) -> dict[str, Any]:
    """Reads the configuration, and compares it with its SHA-256: after a change of one digit it would pass for another experiment."""
    for name in (CONFIG, FILES):
        if not (path / name).is_file():
            exported = "; it is an exported model, which hcl_tf.load opens" if (path / "saved_model.pb").is_file() else ""
            raise UserError(f"--run_dir={path}: not a run ({name} is missing); give the folder that hcl_tf.train wrote{exported}")
    config = _read_object(path / CONFIG)
    if _numbers(str(config.get("version", "0"))) > _numbers(hcl_tf.__version__):
        raise UserError(
            f"--run_dir={path}: written by version {config['version']} of hcl_tf, and this program is version {hcl_tf.__version__}; "
            "use that version or a later one"
        )
    if sha256(path / CONFIG) != _read_object(path / FILES).get(CONFIG):
        raise UserError(f"{path / CONFIG}: changed since the run began; restore it from a copy, or begin another run in another --run_dir")
    return config


def _numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version, by which versions are compared: 0.10.1 comes after 0.9."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _compare(path: Path, recorded: dict[str, Any], given: dict[str, Any]) -> None:
    """Raises `UserError` where configurations differ. Values are compared as JSON writes them, so 1, 1.0 and true differ."""
    before, now = _flat(recorded), _flat(given)
    keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if keys:
        shown = "; ".join(f"{key} was {before.get(key, 'not set')}, now {now.get(key, 'not set')}" for key in keys[:DIFFERENCES_SHOWN])
        more = f"; and {len(keys) - DIFFERENCES_SHOWN} more" if len(keys) > DIFFERENCES_SHOWN else ""
        raise UserError(
            f"--run_dir={path}: begun with other settings: {shown}{more}; give the same flags to go on, or another --run_dir for a new run"
        )


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns key -> value as JSON, where nested keys are joined by dots."""
    flat = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) and item else {prefix + key: to_json(item).decode()}
    return flat


def _read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object. Raises `UserError` with the file's name where it does not."""
    try:
        value = from_json(path.read_bytes())
        if isinstance(value, dict):
            return value
        why = "it holds no JSON object"
    except OSError as error:
        why = error.strerror
    except ValueError as error:
        why = f"damaged: {error}"
    raise UserError(f"{path}: can't be read ({why}); restore it from a copy of the run")


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """Reads the complete lines of a file, and what follows the last line break."""
    *lines, unfinished = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return lines, unfinished


def _metric(path: Path, number: int, line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        record = from_json(line)
        if isinstance(record, dict) and type(record.get("step")) is int:
            return record
    raise UserError(f"{path}:{number}: damaged, not a JSON record with a step; restore the file from a copy, or delete the line")
