"""Wall time and peak memory of a command with all its child processes."""

import subprocess
import sys
import time

import psutil

INTERVAL = 0.25  # seconds between two looks at memory


def run(arguments: list[str]) -> tuple[float, float, str]:
    """Runs `python ARGUMENTS` and returns (seconds, peak gigabytes, output).

    Memory is the sum of proportional set sizes: pages that processes share count once. Raises `SystemExit` with the
    output where the command fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, sum(map(_memory, [root, *_children(root)])))
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{output}")
    return seconds, peak / 1e9, output


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
