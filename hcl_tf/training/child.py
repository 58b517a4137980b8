"""Runs commands of the package in processes of their own, and passes on to them what the caller is told by a signal."""

import os
import signal
import subprocess
import sys
from typing import BinaryIO

from hcl_tf.cli import CALLER

INTERRUPTED = (130, 143)  # exit codes of a command that a signal ended

_running: set[subprocess.Popen] = set()
_told: list[int] = []  # signals that came


def pass_sigterm_on() -> None:
    """From now on SIGTERM goes to the commands that run, and none begins after it; without this they would outlive the caller.

    A training saves then, and `call` returns. Ctrl-C needs no such help: a terminal sends it to all of them. Only a main thread may ask.
    """

    def tell(number: int, _frame: object) -> None:
        _told.append(number)
        for child in tuple(_running):
            child.send_signal(number)

    signal.signal(signal.SIGTERM, tell)


def call(module: str, flags: list[str], output: BinaryIO | None = None, cores: set[int] | None = None) -> int:
    """Runs a command and returns its exit code, `INTERRUPTED` where a signal ended it; on Ctrl-C waits until it has saved.

    If this process is killed, the command is told to end (`cli.run`).

    Args:
      output: takes all that it prints. cores: those that it may use; None: all.
    """
    if _told:
        return 128 + _told[0]
    child = subprocess.Popen(
        [sys.executable, "-m", module, *flags], stdout=output, stderr=subprocess.STDOUT if output else None,
        env={**os.environ, CALLER: str(os.getpid())},
    )  # fmt: skip
    _running.add(child)
    if _told:  # since it was asked above
        child.send_signal(_told[0])
    if cores:
        os.sched_setaffinity(child.pid, cores)  # before it has made any other thread
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            continue
        _running.discard(child)
        return 128 - code if code in (-signal.SIGINT, -signal.SIGTERM) else code
