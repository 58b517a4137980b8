"""Progress of long work: bars with rate and time left on a terminal; where output is a file or a pipe, a line every half minute."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar
from weakref import WeakSet

from tqdm import tqdm

T = TypeVar("T")
EVERY = 30.0  # seconds between lines where no bar can be drawn


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = " texts") -> Iterable[T]:
    """Yields `items`, showing `what`, the rate in `unit` a second and the time left on standard error."""
    return bar(what, total, unit, items)


def bar(what: str, total: int | None = None, unit: str = " texts", items: Iterable | None = None, lines: bool = True) -> tqdm:
    """A bar to advance by hand with `.update(n)`; usable as a context manager.

    Args:
      lines: whether lines stand in for the bar in a file; not where a caller writes lines of its own.
    """
    shown = {"desc": what, "total": total, "unit": unit, "leave": False}
    if sys.stderr.isatty():
        return tqdm(items, dynamic_ncols=True, **shown)
    # miniters: else tqdm guesses how many items a line is, and where the guess fails its monitor repeats the last line before the next.
    return _Lines(items, disable=not lines, ncols=0, mininterval=EVERY, miniters=1, delay=EVERY, **shown)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says every half minute that something is still at work whose progress nobody can count, such as one call of a library.

    Where a bar within it writes lines, those say so already.
    """
    began, done = time.monotonic(), threading.Event()

    def say() -> None:
        while not done.wait(EVERY):
            if not _Lines.speaking:
                print(f"{what}: {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Lines(tqdm):
    """A bar whose states are lines, for files and pipes."""

    speaking: ClassVar[WeakSet["_Lines"]] = WeakSet()

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        if not self.disable:
            self.speaking.add(self)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Writes the state that tqdm would draw in place."""
        del pos
        print(str(self) if msg is None else msg, file=self.fp, flush=True)
        return True

    def close(self) -> None:
        """Ends it without a word: tqdm would wipe the line that it stands in."""
        self.disable = True
        self.speaking.discard(self)
