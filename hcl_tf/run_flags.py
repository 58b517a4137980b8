"""The flags of commands that read a trained run. Each function here defines one flag for the command that calls it.

absl counts a flag as its caller's, so it stands in that command's --help, and a command that is imported again defines its flags again.
"""

from pathlib import Path

from absl import flags

from hcl_tf import config
from hcl_tf.errors import UserError

flags.disclaim_key_flags()  # without this absl would count the flags as this module's


def run_dir() -> flags.FlagHolder:
    """Defines `--run_dir`, which has no default; `run_folder` reads it."""
    return flags.DEFINE_string("run_dir", None, "The run, a folder that hcl_tf.train wrote.")


def data_dir() -> flags.FlagHolder:
    """Defines `--data_dir`; `optional_path` reads it."""
    return flags.DEFINE_string(
        "data_dir", None, "Prepared folder that the run was trained on. Default: the one that the training was given, or tfrecords/<task>."
    )


def split(text: str, default: str = "test") -> flags.FlagHolder:
    """Defines `--split`; `text` says in --help what the command does with the split."""
    return flags.DEFINE_enum("split", default, config.SPLITS, text)


def checkpoint() -> flags.FlagHolder:
    """Defines `--checkpoint`, which says which of the run's two best checkpoints is read."""
    return flags.DEFINE_enum(
        "checkpoint",
        "best_loss",
        ["best_loss", "best_nll"],
        "best_loss: smallest validation loss, as in the paper; best_nll: smallest NLL alone.",
    )


def run_folder(flag: flags.FlagHolder) -> Path:
    """Returns the folder that `--run_dir` names.

    Raises:
      UserError: the flag was not given.
    """
    if not flag.value:
        raise UserError("--run_dir is needed: the folder that python -m hcl_tf.train wrote")
    return Path(flag.value)


def optional_path(flag: flags.FlagHolder) -> Path | None:
    """Returns the path that a flag gives, or None where the flag was not given."""
    return Path(flag.value) if flag.value else None
