"""Prepared data in, a run folder out:

python -m hcl_tf.train --task=douban
python -m hcl_tf.train --task=qqp --data_dir=tfrecords/qqp --preset=small --encoder=minilm
python -m hcl_tf.train --task=qqp --data_dir=tfrecords/qqp --dry_run   # steps, hours and memory, before the first hour is spent
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError
from hcl_tf.files.names import is_plain
from hcl_tf.models import setting_flags

FLAGS = setting_flags.define_training()
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Take a few steps, keep nothing, and say what the training will take and whether it fits.")


def main() -> None:
    """Runs the command that the flags ask for."""
    FLAGS.check()
    row = FLAGS.row.value or _flag_file(sys.argv)
    if row is not None and not is_plain(row):
        raise UserError(f"--row={row}: it becomes a file's name, so it has no slash and no leading dot or dash; give a plain name")
    cli.import_tensorflow()
    if DRY_RUN.value:
        from hcl_tf.training.dry_run import dry_run

        print("\n".join(dry_run(FLAGS.task.value, FLAGS.data_folder, FLAGS.preset.value, FLAGS.given)))
        return
    from hcl_tf.training.launch import launch

    why = launch(FLAGS.task.value, FLAGS.data_folder, FLAGS.run_dir.value, FLAGS.preset.value, FLAGS.given, sys.argv, row)
    cli.leave_by_signal(why)


def _flag_file(command: list[str]) -> str | None:
    """The name of the first flag file on a command line, which names a row of a table."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "flagfile":
            return Path(value if equals else following).stem
    return None


if __name__ == "__main__":
    cli.run(main)
