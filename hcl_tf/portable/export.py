"""Exports a training as compiled programs, for a machine that has JAX and no TensorFlow:

python -m hcl_tf.portable.export --flagfile=experiments/qqp/hcl.flags --out=BUNDLE

The flags are those of hcl_tf.train, and --out. A bundle takes any number of systems, each under --system.
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError
from hcl_tf.models import setting_flags

FLAGS = setting_flags.define_training()
OUT = flags.DEFINE_string("out", None, "The bundle, a new folder or one that other systems are in.")
SYSTEM = flags.DEFINE_string("system", None, "The system's name in the bundle. Default: as its row is called in experiments/<task>/.")
HALF = flags.DEFINE_boolean("half", False, "Store weights that are not drawn as float16: half the size, and their last digits rounded.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if not OUT.value:
        raise UserError("--out is needed: the folder to write")
    FLAGS.check()
    cli.import_tensorflow()
    from hcl_tf.portable.compiling import export

    given = FLAGS.given | {"jit_compile": "true"}
    export(FLAGS.task.value, FLAGS.data_folder, FLAGS.preset.value, given, Path(OUT.value), SYSTEM.value, HALF.value)


if __name__ == "__main__":
    cli.run(main)
