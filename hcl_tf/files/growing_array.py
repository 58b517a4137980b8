"""Fills a large array on disk block by block, so that a killed process goes on where it was, and memory never holds the whole."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.files import locks
from hcl_tf.files.array_cache import is_whole, write_sums
from hcl_tf.files.whole_file import hidden, sync
from hcl_tf.progress import bar, working

DONE = "done"  # how many blocks of an unfinished array are on disk, and how long its file is
LOCK = ".lock"
SYNC_EVERY = 64  # blocks


def grown(
    folder: Path, name: str, shape: tuple[int, ...], dtype: type, blocks: Sequence[np.ndarray],
    compute: Callable[[np.ndarray, np.ndarray], None], what: str, remedy: str,
) -> np.ndarray:  # fmt: skip
    """Reads the array `name` from `folder`, or fills it where it is not there undamaged.

    An unfinished one stays beside `folder` and is gone on with. Space is reserved before work begins, so the disk can't fill up within.

    Args:
      blocks: the numbers of what each step computes; they decide nothing but the order. compute: puts one block's values into the array.
      what: for messages. remedy: what a user can do where the disk is too small.

    Returns:
      The array, memory-mapped and read-only.

    Raises:
      UserError: the disk has less space than the array takes, or can't be written.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if folder.exists():
        with working(f"checking {what}"):
            whole = is_whole(folder, (name,))
        if whole:
            return np.load(folder / name, mmap_mode="r")
    partial = hidden(folder, "growing")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _alone(partial, what):
            if is_whole(folder, (name,)):  # another process finished it meanwhile
                return np.load(folder / name, mmap_mode="r")
            array, done = _opened(partial, name, shape, dtype, size, what, remedy)
            _fill(partial, name, array, done, blocks, compute, what)
            write_sums(partial, (name,))
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(partial, folder)
    except OSError as error:
        raise UserError(f"{what}: {folder.parent} can't be written ({error.strerror}); {remedy}") from error
    (folder / DONE).unlink()
    (folder / LOCK).unlink()
    return np.load(folder / name, mmap_mode="r")


@contextmanager
def _alone(partial: Path, what: str) -> Iterator[None]:
    """Waits until no other process fills the array."""
    with (partial / LOCK).open("a+") as lock:
        locks.take(lock, what)
        yield


def _opened(partial: Path, name: str, shape: tuple, dtype: type, size: int, what: str, remedy: str) -> tuple[np.ndarray, int]:
    """Opens what an earlier process left, or reserves the space anew. Returns the array and how many blocks it has."""
    path = partial / name
    try:
        done, length = map(int, (partial / DONE).read_text().split())
        if path.stat().st_size == length:  # opening a file that was cut would fill it up
            array = np.lib.format.open_memmap(path, "r+")
            if (array.shape, array.dtype) == (shape, np.dtype(dtype)) and done >= 0:
                return array, done
    except (OSError, ValueError):
        pass
    path.unlink(missing_ok=True)
    free = shutil.disk_usage(partial).free
    if size > free:
        raise UserError(f"{what} take {_gigabytes(size)}, and {partial.parent} has {_gigabytes(free)} free; {remedy}")
    print(f"{what} take {_gigabytes(size)} in {partial.parent}", flush=True)
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    array.flush()
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)  # else a full disk would kill the process at a write to memory
    _mark(partial, 0, path)
    return array, 0


def _fill(
    partial: Path, name: str, array: np.ndarray, done: int, blocks: Sequence[np.ndarray], compute: Callable, what: str
) -> None:  # fmt: skip
    with bar(what, sum(map(len, blocks))) as progress:
        progress.update(sum(map(len, blocks[:done])))
        for number in range(done, len(blocks)):
            compute(array, blocks[number])
            progress.update(len(blocks[number]))
            if (number + 1) % SYNC_EVERY == 0 or number + 1 == len(blocks):
                array.flush()
                _mark(partial, number + 1, partial / name)


def _mark(partial: Path, done: int, path: Path) -> None:
    """Writes down how many blocks are on disk."""
    new = partial / f"{DONE}.new"
    new.write_text(f"{done} {path.stat().st_size}")
    sync(new)
    os.replace(new, partial / DONE)


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
