"""Wall time and peak memory of a command with all its child processes."""

import subprocess
import sys
import threading
import time
from typing import NamedTuple

import psutil

INTERVAL = 2.0  # seconds between two looks at memory: each walks through all pages, for which the process has to wait
PARTS = {  # a part of preparation -> how the line begins that hcl_tf.prepare prints at its end
    "start, reading": "normalisation ", "BM25 negatives": "examples: ", "pieces": "cut: ", "keywords": "tagger: ",
    "keyword graph": "keyword graph: ", "word vectors": "word vectors ", "impostors, records": "wrote ",
}  # fmt: skip


class Ran(NamedTuple):
    """What a command took: seconds, gigabytes at its peak, and its lines, each with the seconds after which it came."""

    seconds: float
    gigabytes: float
    lines: list[tuple[float, str]]

    @property
    def output(self) -> str:
        """All lines as one text."""
        return "".join(line for _, line in self.lines)

    def parts(self) -> dict[str, float]:
        """Returns the seconds of each part of a preparation, from when its lines came."""
        ends = {part: next(seconds for seconds, line in self.lines if line.strip().startswith(begins)) for part, begins in PARTS.items()}
        return {part: end - before for (part, end), before in zip(ends.items(), [0.0, *ends.values()], strict=False)}


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
