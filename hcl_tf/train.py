"""Prepared data in, a run folder out:

python -m hcl_tf.train --task=douban
python -m hcl_tf.train --task=qqp --data_dir=tfrecords/qqp --preset=small --encoder=minilm
"""

import os
import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError
from hcl_tf.models import registry, setting_flags
from hcl_tf.settings import PRESETS

TASK = flags.DEFINE_enum("task", None, [*config.TASKS, "custom"], "What to train on.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared folder. Default: tfrecords/<task>, made from the bundled sample where it is missing."
)
RUN_DIR = flags.DEFINE_string("run_dir", None, "Where the run is kept, and taken up again. Default: runs/<task>/<what distinguishes it>.")
PRESET = flags.DEFINE_enum("preset", None, PRESETS, "Settings of all flags not given. Default: tiny on a bundled sample, else paper.")
ROW = flags.DEFINE_string(
    "row", None, "The table row that the run belongs to. Default: the name of the first --flagfile, else what the settings say."
)
SETTINGS = setting_flags.define()


def main() -> None:
    """Runs the command that the flags ask for."""
    if not TASK.value:
        raise UserError("--task is needed: one of " + ", ".join([*config.TASKS, "custom"]))
    if TASK.value == "custom" and not DATA_DIR.value:
        raise UserError("--task=custom needs --data_dir, a folder made by python -m hcl_tf.prepare")
    given = setting_flags.given(SETTINGS)
    registry.resolve(PRESET.value or "tiny", given)  # a flag that can't be is refused before anything is imported or made
    cli.import_tensorflow()
    from hcl_tf.training.launch import launch

    data_dir, row = Path(DATA_DIR.value) if DATA_DIR.value else None, ROW.value or _flag_file(sys.argv)
    why = launch(TASK.value, data_dir, RUN_DIR.value, PRESET.value, given, sys.argv, row)
    if why.startswith("SIG"):
        sys.stdout.flush()
        os._exit({"SIGINT": 130, "SIGTERM": 143}[why])


def _flag_file(command: list[str]) -> str | None:
    """The name of the first flag file on a command line, which names a row of a table."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "flagfile":
            return Path(value if equals else following).stem
    return None


if __name__ == "__main__":
    cli.run(main)
