"""Wall time and peak memory of a command with all its child processes."""

import subprocess
import sys
import threading
import time
from typing import NamedTuple

import psutil

INTERVAL = 0.25  # seconds between two looks at memory


class Ran(NamedTuple):
    """What a command took: seconds, gigabytes at its peak, and its lines, each with the seconds after which it came."""

    seconds: float
    gigabytes: float
    lines: list[tuple[float, str]]

    @property
    def output(self) -> str:
        """All lines as one text."""
        return "".join(line for _, line in self.lines)


def run(arguments: list[str]) -> Ran:
    """Runs `python ARGUMENTS`.

    Memory is the sum of proportional set sizes: pages that processes share count once. Raises `SystemExit` with the
    output where the command fails.
    """
    start, lines = time.perf_counter(), []
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    reader = threading.Thread(target=lambda: lines.extend((time.perf_counter() - start, line) for line in process.stdout))
    reader.start()
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, sum(map(_memory, [root, *_children(root)])))
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    reader.join()
    found = Ran(seconds, peak / 1e9, lines)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{found.output}")
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
