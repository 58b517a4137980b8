"""Progress of long work: bars with rate and time left on a terminal; where output is a file or a pipe, a line every half minute."""

import sys
import threading
import time
import weakref
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
    return _Lines(items, disable=not lines, ncols=0, mininterval=EVERY / 30, miniters=1, **shown)


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
    """A bar whose states are lines, for files and pipes. A clock writes them, so that one slow item does not make them fall silent."""

    speaking: ClassVar[WeakSet["_Lines"]] = WeakSet()

    def __init__(self, *args, **settings) -> None:
        self._done = threading.Event()
        super().__init__(*args, **settings)
        if not self.disable:
            self.speaking.add(self)
            # Of a bar that was left behind, as of a loop that ended early, nothing may be said: the thread does not keep it.
            threading.Thread(target=_say_states, args=(weakref.ref(self), self._done), daemon=True).start()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Does nothing where tqdm would draw its state, which `update` has noted by then."""
        del msg, pos
        return True

    def close(self) -> None:
        """Ends it without a word: tqdm would wipe the line that it stands in."""
        self._done.set()
        self.disable = True
        self.speaking.discard(self)


def _say_states(shown: "weakref.ref[_Lines]", done: threading.Event) -> None:
    """Writes the state of a bar every half minute until it is done or gone."""
    while not done.wait(EVERY):
        one = shown()
        if one is None:
            return
        print(one, file=one.fp, flush=True)
        del one
