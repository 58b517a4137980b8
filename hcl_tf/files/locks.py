"""Locks between processes, which end with their process and name it to whoever comes second."""

import fcntl
import os
from typing import IO

from hcl_tf.errors import UserError


class Taken(Exception):
    """Another process has the lock; the text says which."""


def take(lock: IO, waiting_for: str = "") -> None:
    """Takes a lock, and writes down who has it.

    Args:
      lock: a file that was opened for appending and reading ("a+b" or "a+"). Closing it frees the lock, and so does any end of the process.
      waiting_for: what the other process is at work on, as the line says that is printed while this one waits; empty: it does not wait.

    Raises:
      Taken: another process has it, and this one is not to wait.
      OSError: there are no locks here, as on some network file systems.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = holder(lock)
        if not waiting_for:
            raise Taken(who) from error
        print(f"{waiting_for}: waiting for {who}, which is at work on it now", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    text = str(os.getpid())
    lock.write(text.encode() if "b" in lock.mode else text)
    lock.flush()


def holder(lock: IO) -> str:
    """Returns who has a lock: "process NUMBER", or "another process" where it has not written that down yet."""
    lock.seek(0)
    found = lock.read()
    text = (found.decode(errors="replace") if isinstance(found, bytes) else found).strip()
    return f"process {text}" if text.isdecimal() else "another process"


def refused(flag: str, place: object, work: str, taken: Taken) -> UserError:
    """Returns the error that says who is at work in a place."""
    return UserError(f"{flag}={place}: {taken} {work}; wait for it, or choose another")
