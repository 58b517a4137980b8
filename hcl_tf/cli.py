"""What every command line of the package shares: how errors reach the user and with which exit code."""

import ctypes
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import metadata

from absl import app, flags, logging

from hcl_tf.errors import UserError, refusal_of_disk, where_experiments_are
from hcl_tf.streams import make_safe

# What other packages replace by a version that this code can't work with, as requirements.txt has it; the first number has to be the same.
PINNED = {"transformers": "4.53.3", "numpy": "2.1.3"}

CALLER = "HCL_TF_CALLER"  # in the environment of a command that another of ours runs: the process of that one
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def quieten_libraries() -> None:
    """Keeps the libraries' start-up chatter, which would bury the lines that matter, off the terminal.

    TensorFlow's own errors still come as exceptions; a user who wants its log sets TF_CPP_MIN_LOG_LEVEL.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by default on processors without AVX512-VNNI, where it doubles the speed
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # what we and tf-models-official use; Keras 3 would be imported for nothing
    os.environ.setdefault("USE_TORCH", "0")  # likewise, by transformers
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its notice that TensorFlow classes end with version 5, on every import
    logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="google")


def check_versions() -> None:
    """Raises `UserError`, with the command that mends it, where a library is of another major version than this code works with."""
    wrong = {}
    for package, wanted in PINNED.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            found = "none"
        if found.split(".")[0] != wanted.split(".")[0]:
            wrong[package] = f"{package} {wanted.split('.')[0]} is needed, and {found} is installed"
    if wrong:
        pins = " ".join(f"{package}=={PINNED[package]}" for package in wrong)
        raise UserError(
            f"{'; '.join(wrong.values())}; another package may have brought it, which pip install --no-deps prevents; "
            f"mend it with: {sys.executable} -m pip install {pins}"
        )


def import_tensorflow() -> None:
    """Imports TensorFlow with standard error closed: its libraries log a dozen false alarms before any setting counts.

    Raises `UserError` where libraries that are imported later are of versions that can't work (`check_versions`).
    """
    check_versions()
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def leave_by_signal(why: str) -> None:
    """Ends the process with the exit code of the signal that ended a training; does nothing where none did. `why`: see `Loop.train`."""
    if why.startswith("SIG"):
        sys.stdout.flush()
        os._exit({"SIGINT": 130, "SIGTERM": 143}[why])


def run(main: Callable[[], None], product: bool = False) -> None:
    """Parses flags and runs `main`. Exit codes: 0 done, 1 refused input or flag, 130 interrupted by Ctrl-C.

    A `UserError` becomes one line on standard error; any other exception keeps its traceback, because it is our fault.

    Args:
      product: whether standard output is what the command is for, so that it ends quietly when the reader has seen enough (head, less).
        Other commands go on without the reader.
    """
    _end_with_caller()
    make_safe(product)
    quieten_libraries()

    def guarded(argv: list[str]) -> int:
        if len(argv) > 1:
            print(
                f"error: unexpected argument {argv[1]!r}; every option is a flag, see --help; a value with spaces goes in quotes",
                file=sys.stderr,
            )
            return 1
        try:
            main()
            sys.stdout.flush()  # at the end of the process Python would have no exit code for it
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # only where standard output is the product
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            if not (refusal := refusal_of_disk(error, "standard output" if product else "a file")):
                raise
            if product:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"error: {refusal}; free space, or choose another place, then start again with the same flags", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; nothing was left half written", file=sys.stderr)
            return 130
        return 0

    app.run(guarded, flags_parser=_parse)


def _end_with_caller() -> None:
    """Has SIGTERM sent to this process when the command that runs it ends in any way, even killed; a training saves then.

    Otherwise it would go on, and the caller's next start would find it at work. On Linux only: elsewhere it goes on.
    """
    caller = os.environ.pop(CALLER, "")
    if not caller or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(caller):  # it ended before it could be asked
        os.kill(os.getpid(), signal.SIGTERM)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags, as absl does, and returns what is left. A wrong flag, or a flag file that is not there, is one line."""
    try:
        return flags.FLAGS(argv)
    except flags.CantOpenFlagFileError as error:
        cause = error.__context__
        remedy = where_experiments_are(cause.filename) or "; check its name"
        print(f"error: --flagfile={cause.filename}: can't be read ({cause.strerror}){remedy}", file=sys.stderr)
    except flags.Error as error:
        print(f"error: {' '.join(str(error).split())}; --help lists the flags", file=sys.stderr)
    sys.exit(1)
