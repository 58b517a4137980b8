"""Runs commands of the package in processes of their own."""

import subprocess
import sys

INTERRUPTED = (130, 143)  # exit codes of a training that saved and left


def call(module: str, flags: list[str]) -> int:
    """Runs a command and returns its exit code; on Ctrl-C, which the child gets too, waits until it has saved."""
    child = subprocess.Popen([sys.executable, "-m", module, *flags])
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue
