"""Prepared data in, a run folder out:

python -m hcl_tf.train --task=douban
python -m hcl_tf.train --task=qqp --data_dir=tfrecords/qqp --preset=small --encoder=minilm
"""

import os
import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, config, setting_flags
from hcl_tf.errors import UserError
from hcl_tf.settings import PRESETS

TASK = flags.DEFINE_enum("task", None, [*config.TASKS, "custom"], "What to train on.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared folder. Default: tfrecords/<task>, made from the bundled sample where it is missing."
)
RUN_DIR = flags.DEFINE_string("run_dir", None, "Where the run is kept, and taken up again. Default: runs/<task>/<what distinguishes it>.")
PRESET = flags.DEFINE_enum("preset", None, PRESETS, "Settings of all flags not given. Default: tiny on a bundled sample, else paper.")
SETTINGS = setting_flags.define()


def main() -> None:
    """Runs the command that the flags ask for."""
    if not TASK.value:
        raise UserError("--task is needed: one of " + ", ".join([*config.TASKS, "custom"]))
    if TASK.value == "custom" and not DATA_DIR.value:
        raise UserError("--task=custom needs --data_dir, a folder made by python -m hcl_tf.prepare")
    given = setting_flags.given(SETTINGS)
    from hcl_tf import settings

    settings.resolve(PRESET.value or "tiny", given)  # a flag that can't be is refused before anything is imported or made
    cli.import_tensorflow()
    from hcl_tf.training.launch import launch

    why = launch(TASK.value, Path(DATA_DIR.value) if DATA_DIR.value else None, RUN_DIR.value, PRESET.value, given, sys.argv)
    if why.startswith("SIG"):
        sys.stdout.flush()
        os._exit({"SIGINT": 130, "SIGTERM": 143}[why])


if __name__ == "__main__":
    cli.run(main)
