"""Writes files so that at any moment a name holds the earlier file or the new one, whatever is killed or pulled out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcl_tf.errors import UserError


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file; at any moment `path` holds the earlier one or the new one, and on return the new one is on disk.

    Raises:
      UserError: the disk refuses.
    """
    partial = hidden(path, f"{os.getpid()}.partial")  # two processes that write the same file leave one of the two whole
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            sync(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Forces a file, or a folder's list of names, to disk: a power cut must not undo a rename or empty a renamed file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write (full disk, no permission) into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"{path}: can't be written ({why}); free space or check permissions, then start again with the same flags"
        ) from error


def hidden(path: Path, kind: str) -> Path:
    """Returns the path `.NAME.KIND` beside a file or folder, for what is being written there or waits to be replaced."""
    return path.with_name(f".{path.name}.{kind}")
