"""Makes several rows at once, each in processes that have their share of the cores.

A small model leaves a second core idle for half of the time: while graphs are traced, checkpoints written, outputs scored. Two rows on one
core each take less time than one after the other on two.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from hcl_tf.training import child

Row = tuple[str, int]  # name and seed
Call = Callable[[str, list[str]], int]  # runs a command of the package with flags, and returns its exit code


def run(
    rows: Sequence[Row], make: Callable[[Row, Call], int], logs: Path, name: Callable[[Row], str], jobs: int
) -> Iterator[tuple[Row, int, float]]:  # fmt: skip
    """Makes rows, so many at once, in their order.

    Args:
      make: makes one with the given `Call`. logs: folder for what each prints, `<row>-<seed>.log`. name: of a row, for messages.

    Yields:
      Each row with its exit code and its seconds, as soon as it has ended. After a signal no further row begins.
    """
    logs.mkdir(parents=True, exist_ok=True)
    free: SimpleQueue[set[int]] = SimpleQueue()
    for share in shares(sorted(os.sched_getaffinity(0)), jobs):
        free.put(share)
    stopped = threading.Event()

    def one(row: Row) -> tuple[Row, int, float] | None:
        if stopped.is_set():
            return None
        cores, log = free.get(), logs / f"{row[0]}-{row[1]}.log"
        _say(f"== {name(row)} begins; {log} has what it prints")
        began = time.monotonic()
        try:
            code = make(row, partial(_call, log, cores))
        finally:
            free.put(cores)
        if code in child.INTERRUPTED:
            stopped.set()
        return row, code, time.monotonic() - began

    since = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        waiting: set[Future] = {pool.submit(one, row) for row in rows}
        while waiting:
            try:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:  # the children get it, too, and save first
                stopped.set()
                continue
            for row, code, seconds in filter(None, (future.result() for future in done)):
                left = (time.monotonic() - since) / (len(rows) - len(waiting)) * len(waiting)
                _say(f"== {name(row)}: {seconds / 60:.0f} minutes, exit code {code}; {len(waiting)} to come, {left / 60:.0f} minutes")
                yield row, code, seconds


def _say(line: str) -> None:
    """Prints a line in one write: print's own newline is a second one, and other threads' lines would come between."""
    print(f"{line}\n", end="", flush=True)


def shares(cores: Sequence[int], jobs: int) -> list[set[int]]:
    """Divides cores among jobs as evenly as can be; where there are more jobs than cores, some have the same one."""
    if jobs >= len(cores):
        return [{cores[job % len(cores)]} for job in range(jobs)]
    return [set(cores[job::jobs]) for job in range(jobs)]


def _call(log: Path, cores: set[int], module: str, flags: list[str]) -> int:
    """Runs a command on some cores, and adds what it prints to a log."""
    with log.open("ab") as file:
        return child.call(module, flags, file, cores)
