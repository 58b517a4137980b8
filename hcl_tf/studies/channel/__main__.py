"""Measures whether keywords and negatives reach the text of a trained run, and writes the page into its folder.

python -m hcl_tf.studies.channel --run_dir=runs/qqp/hcl-small-1 --data_dir=tfrecords/qqp
python -m hcl_tf.studies.channel --run_dir=runs/qqp/hcl-small-1 --limit=500 --what_if
"""

from absl import flags

from hcl_tf import cli, run_flags

RUN_DIR = run_flags.run_dir()
DATA_DIR = run_flags.data_dir()
SPLIT = run_flags.split("The split whose examples are asked.", "validation")
CHECKPOINT = run_flags.checkpoint()
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many examples.", lower_bound=2)
WHAT_IF = flags.DEFINE_boolean("what_if", False, "Also decode from where L_ins would have the prior's mean: the most that it could bring.")
UNTRAINED = flags.DEFINE_boolean("untrained", True, "Also measure the orders that the model had before training.")


def main() -> None:
    """Runs the command that the flags ask for."""
    run_dir = run_flags.run_folder(RUN_DIR)
    cli.import_tensorflow()
    from hcl_tf.studies.channel.meter import MeterRequest
    from hcl_tf.studies.channel.publication import publish
    from hcl_tf.training.trained_run import TrainedRun

    trained = TrainedRun(run_dir, CHECKPOINT.value, run_flags.optional_path(DATA_DIR))
    publish(trained, MeterRequest(SPLIT.value, LIMIT.value, WHAT_IF.value, UNTRAINED.value))


if __name__ == "__main__":
    cli.run(main)
