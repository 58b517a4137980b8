"""Makes the standard streams safe: closed ones, pipes whose reader has left, full disks, and encodings that lack a character.

A command that works for hours must not die of a line that nobody reads any more, nor lose its exit code to one that it can't write.
"""

import io
import os
import sys
from typing import Any, TextIO

from hcl_tf.errors import UserError


class Outliving:
    """A stream of text that goes on when its reader has left: what is written from then on goes nowhere.

    Everything else is that of the stream. What a disk refuses is a `UserError`, which ends the command with its exit code.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        return self._guarded(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        self._guarded(self._stream.flush)

    def _guarded(self, action: Any) -> int | None:
        try:
            return action()
        except BrokenPipeError:
            _point_nowhere(self._stream)
        except OSError as error:
            why = error.strerror or error
            _point_nowhere(self._stream)
            raise UserError(f"{self._name} can't be written ({why}); free space, or send it elsewhere, and start again") from error
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_safe(product: bool) -> None:
    """Makes this process's standard streams safe.

    Args:
      product: whether standard output is what the command is for. Then a reader that has left ends it: `BrokenPipeError` is raised as ever.
    """
    for number in (0, 1, 2):  # what a shell's >&- closed, the next opened file would be taken for
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, number, what in (("stdout", 1, "standard output"), ("stderr", 2, "standard error")):
        stream = getattr(sys, name)
        if stream is None:
            stream = os.fdopen(os.dup(number), "w", encoding="utf-8")
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__", stream):
            stream.reconfigure(errors="backslashreplace")  # one character that a terminal lacks is no reason to end
            if not (product and name == "stdout"):
                setattr(sys, name, Outliving(stream, what))


def _point_nowhere(stream: TextIO) -> None:
    """Lets a stream's file descriptor, with what the stream still holds, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
