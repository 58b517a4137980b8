"""Progress bars with rate and time left on a terminal; nothing where output is a file or a pipe."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = " texts") -> Iterable[T]:
    """Yields `items`, showing `what`, the rate in `unit` a second and the time left on standard error."""
    return bar(what, total, unit, items)


def bar(what: str, total: int | None = None, unit: str = " texts", items: Iterable | None = None) -> tqdm:
    """A bar to advance by hand with `.update(n)`; usable as a context manager."""
    return tqdm(items, desc=what, total=total, unit=unit, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)
