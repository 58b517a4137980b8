"""Turns the results of an exported training into a run folder:

python -m hcl_tf.portable.take_back --bundle=BUNDLE --results=RESULTS --data_dir=tfrecords/qqp --run_dir=runs/qqp/hcl-gpu

The folder has everything that reports read. It has no weights, so nothing more can be decoded with it. Of a pretraining, weights come back:

python -m hcl_tf.portable.take_back --bundle=BUNDLE --results=RESULTS --weights=weights/qqp-bert
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError

BUNDLE = flags.DEFINE_string("bundle", None, "The folder that hcl_tf.portable.export wrote.")
SYSTEM = flags.DEFINE_string("system", None, "Which of its systems. Default: the name of the results' folder.")
RESULTS = flags.DEFINE_string("results", None, "The folder that hcl_tf.portable.train wrote.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared folder that was exported from. Default: tfrecords/<task>.")
RUN_DIR = flags.DEFINE_string("run_dir", None, "The run folder to write, new or empty.")
WEIGHTS = flags.DEFINE_string("weights", None, "The folder of weights to write, where the results are of a pretraining.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if not (BUNDLE.value and RESULTS.value and (RUN_DIR.value or WEIGHTS.value)):
        raise UserError("--bundle, --results and --run_dir (of a pretraining --weights) are needed")
    cli.import_tensorflow()
    from hcl_tf.portable import bundle, packed_rows, pretraining
    from hcl_tf.portable.results import take_back

    results = Path(RESULTS.value)
    part = bundle.read(Path(BUNDLE.value), SYSTEM.value or results.name)
    packed = packed_rows.is_packed(part.description["batches"])
    if packed != bool(WEIGHTS.value) or packed == bool(RUN_DIR.value):
        raise UserError(f"{part.system} is {'a pretraining: give --weights' if packed else 'no pretraining: give --run_dir'} alone")
    if packed:
        pretraining.take_back(part, results, Path(WEIGHTS.value))
    else:
        take_back(part, results, Path(DATA_DIR.value) if DATA_DIR.value else None, Path(RUN_DIR.value))


if __name__ == "__main__":
    cli.run(main)
