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
from hcl_tf.settings import FIELDS, PRESETS

TASK = flags.DEFINE_enum("task", None, [*config.TASKS, "custom"], "What to train on.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared folder. Default: tfrecords/<task>, made from the bundled sample where it is missing."
)
RUN_DIR = flags.DEFINE_string("run_dir", None, "Where the run is kept, and taken up again. Default: runs/<task>/<what distinguishes it>.")
PRESET = flags.DEFINE_enum("preset", None, PRESETS, "Settings of all flags not given. Default: tiny on a bundled sample, else paper.")


def _define(name: str) -> flags.FlagHolder:
    """A flag for a field of `Settings`; None unless given, so that presets apply."""
    item = FIELDS[name]
    text = f"{item.metadata['help']} [paper: {item.default!r}]"
    if isinstance(item.default, bool):
        return flags.DEFINE_boolean(name, None, text)
    if item.metadata["choices"]:
        return flags.DEFINE_enum(name, None, [choice for choice in item.metadata["choices"] if choice], text)
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[type(item.default)]
    return define(name, None, text)


SETTINGS = {name: _define(name) for name in FIELDS if name != "preset"}


def main() -> None:
    """Runs the command that the flags ask for."""
    if not TASK.value:
        raise UserError("--task is needed: one of " + ", ".join([*config.TASKS, "custom"]))
    if TASK.value == "custom" and not DATA_DIR.value:
        raise UserError("--task=custom needs --data_dir, a folder made by python -m hcl_tf.prepare")
    given = {name: holder.value for name, holder in SETTINGS.items() if holder.value is not None}
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
