"""The one exception that a command turns into a message for its user instead of a traceback, and what a full disk raises instead of it."""

import errno
import os
from pathlib import PurePath

REFUSALS = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))


class UserError(Exception):
    """Something the user gave can't be used. The text names the thing (file and line, or flag) and the remedy."""


def where_experiments_are(path: str | PurePath) -> str:
    """Returns the end of a message about a missing file: where to get it, if it is one of experiments/; else nothing."""
    if PurePath(path).parts[:1] != ("experiments",):
        return ""
    return "; experiments/ is part of the repository and not of the installed package, so start in a clone of it"


def refusal_of_disk(error: BaseException, unnamed: str = "a file") -> str | None:
    """Says what a disk refused, if that is what an exception tells: it is full, its quota is used up, or it can only be read.

    Python raises OSError for it, and TensorFlow, safetensors and HDF5 exceptions of their own, which quote the system.

    Args:
      unnamed: what could not be written where the exception does not say.

    Returns:
      One sentence without its stop; None for any other exception.
    """
    if isinstance(error, OSError):
        return f"{error.filename or unnamed} can't be written ({error.strerror})" if error.strerror in REFUSALS else None
    quoted = [line.strip() for line in str(error).splitlines() if any(words in line for words in REFUSALS)]
    return f"{unnamed} can't be written ({quoted[0].rpartition('}} ')[2]})" if quoted else None  # behind the name of TensorFlow's operation
