"""The workers of a training on several machines: who they are, by TF_CONFIG, and what a start says while one is missing."""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hcl_tf.errors import UserError

EVERY = 30.0  # seconds between two lines
EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Workers:
    """What TF_CONFIG says.

    Attributes:
      addresses: HOST:PORT of all workers, in order. index: which of them this process is. is_chief: whether it writes the run.
    """

    addresses: tuple[str, ...]
    index: int
    is_chief: bool

    @property
    def others(self) -> list[str]:
        """The addresses of all workers but this one."""
        return [address for number, address in enumerate(self.addresses) if number != self.index]


def read() -> Workers | None:
    """Reads TF_CONFIG; None where it is not set.

    Raises:
      UserError: it is no JSON, or does not name the workers and this one.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        kind, index = config["task"].get("type", "worker"), int(config["task"].get("index", 0))
        cluster = config["cluster"]
        addresses = tuple(address for name in ("chief", "worker") for address in cluster.get(name, ()))
        place = index + (len(cluster.get("chief", ())) if kind == "worker" else 0)
        if kind not in ("chief", "worker") or not 0 <= place < len(addresses) or not all(":" in address for address in addresses):
            raise ValueError(f"{kind} {index} is none of {', '.join(addresses) or 'no workers'}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG can't be used ({type(error).__name__}: {error}); it has to be like {EXAMPLE}") from error
    return Workers(addresses, place, place == 0)


@contextmanager
def waiting(workers: Workers, timeout: float) -> Iterator[None]:
    """Says every half minute which workers can't be reached, and ends the process after `timeout` seconds if there still are some.

    The library waits without a word, and in a call that no Python signal handler interrupts: so signals end the process here at once, which
    loses nothing, because nothing has begun.
    """
    done = threading.Event()
    handlers = {name: signal.signal(name, signal.SIG_DFL) for name in (signal.SIGINT, signal.SIGTERM)}
    threading.Thread(target=_watch, args=(workers, timeout, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _watch(workers: Workers, timeout: float, done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(min(EVERY, max(0.0, began + timeout - time.monotonic()))):
        missing = [address for address in workers.others if not _answers(address)]
        waited = time.monotonic() - began
        if waited >= timeout and not done.is_set():
            sys.stdout.flush()
            who = ", ".join(missing) or "start-up"
            advice = "start all workers of TF_CONFIG, or give a longer --worker_timeout"
            print(f"error: after {waited:.0f} s worker {who} is still missing; {advice}", file=sys.stderr, flush=True)
            os._exit(1)
        print(f"waiting for workers, {waited:.0f} s so far: {', '.join(missing) or 'all can be reached'}", flush=True)


def _answers(address: str) -> bool:
    """Says whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True
