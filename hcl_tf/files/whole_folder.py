"""Writes an output folder that is either whole or not there: beside its place, and renamed at the end."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hcl_tf.errors import UserError, refusal_of_disk
from hcl_tf.files import locks
from hcl_tf.files.whole_file import hidden, sync


class Finished(UserError):
    """The other process, for which this one waited, has ended."""


@contextmanager
def whole_or_nothing(
    out: Path, marker: str, overwrite: bool, flag: str = "--out", what: str = "a prepared folder", waiting_for: str = ""
) -> Iterator[Path]:  # fmt: skip
    """Yields an empty folder to write to; when the block ends without an exception, it becomes `out`.

    Args:
      out: the final place.
      marker: the file that tells a finished folder of this kind from anything else.
      overwrite: replace a finished folder. Anything that is not one is never replaced.
      flag, what: what errors call the place and a finished folder.
      waiting_for: what another process may be making here, for which this one then waits; empty: it is refused.

    A process killed at any moment leaves `out` as it was, or whole, or (killed between two renames) missing with the earlier
    folder beside it, which the next run puts back. What else it leaves (hidden, `.NAME.partial`) is removed by the next
    run; a run in progress holds a lock on it.

    Raises:
      UserError: `out` can't be written, is finished already, is something else, or another run is writing it.
      Finished: another run has been writing it, and this one waited for its end.
    """
    out = Path(os.path.realpath(out))  # a link's target is written; the link stays
    if not out.name:
        raise UserError(f"{flag}={out}: not a folder that can be made; choose another")
    partial, old = hidden(out, "partial"), hidden(out, "old")
    missing_parents = [parent for parent in out.parents if not parent.exists()]
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = (partial / ".lock").open("a+b", buffering=0)  # what a full disk refuses must not come back when it is closed
    except OSError as error:
        raise UserError(f"{flag}={out}: can't be written ({error.strerror}); choose another folder") from error
    try:
        try:
            locks.take(lock, waiting_for)
            if not _is_of(partial, lock):
                if waiting_for:
                    raise Finished(f"{flag}={out}: written by another process meanwhile")
                raise locks.Taken("another process")
        except locks.Taken as error:
            raise UserError(f"{flag}={out}: {error} is writing it now; wait for it, or choose another folder") from error
        except OSError as error:
            raise UserError(f"{flag}={out}: can't be locked ({error.strerror}); free space, or choose another folder") from error
        try:
            yield from _replace(out, partial, old, lambda: _check_replaceable(out, marker, overwrite, flag, what))
        except UserError:  # says what it is about
            raise
        except Exception as error:  # libraries that write into it have exceptions of their own
            if not (refusal := refusal_of_disk(error, str(out))):
                raise
            raise UserError(f"{refusal}; free space, or choose another folder, then start again with the same flags") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            for parent in missing_parents:
                with contextlib.suppress(OSError):  # not empty: it holds `out`, or somebody else's files
                    parent.rmdir()
    finally:
        lock.close()


def _is_of(partial: Path, lock: IO) -> bool:
    """Says whether a lock is that of the folder: a run that ended in between took its lock file away, and then the lock guards nothing."""
    try:
        return os.stat(partial / ".lock").st_ino == os.fstat(lock.fileno()).st_ino
    except FileNotFoundError:
        return False


def _replace(out: Path, partial: Path, old: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Does the part of `whole_or_nothing` that runs under the lock. A folder is only ever deleted inside `partial`."""
    for leftover in partial.iterdir():
        if leftover.name != ".lock":
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
    if old.exists():  # an earlier run was killed while replacing `out`
        old.rename(partial / "old" if out.exists() else out)
    check()
    content = partial / "content"
    content.mkdir()
    yield content
    _sync(content)
    if out.exists():
        out.rename(old)
    content.rename(out)
    if old.exists():
        shutil.rmtree(partial / "old", ignore_errors=True)
        old.rename(partial / "old")


def _check_replaceable(out: Path, marker: str, overwrite: bool, flag: str, what: str) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / marker).is_file():
        raise UserError(f"{flag}={out}: exists and is not {what} (no {marker}), so it is left alone; choose another folder")
    if not overwrite:
        raise UserError(f"{flag}={out}: exists already and is kept; pass --overwrite to replace it, or choose another folder")


def _sync(folder: Path) -> None:
    """Forces the files to disk before the rename: a power cut must not leave a renamed folder of empty files."""
    for path in sorted(folder.rglob("*")):
        sync(path)
