"""Estimates how likely a trained run's targets are, whatever z, and writes the page into its folder.

python -m hcl_tf.studies.likelihood --run_dir=runs/qqp/hcl-small-1 --data_dir=tfrecords/qqp
python -m hcl_tf.studies.likelihood --run_dir=runs/qqp/hcl-small-1 --limit=500 --draws=256
"""

from absl import flags

from hcl_tf import cli, run_flags

RUN_DIR = run_flags.run_dir()
DATA_DIR = run_flags.data_dir()
SPLIT = run_flags.split("The split whose targets are asked.", "validation")
CHECKPOINT = run_flags.checkpoint()
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many examples.", lower_bound=2)
DRAWS = flags.DEFINE_integer("draws", 64, "So many draws of z for each target, an even number; more make the bound tighter.", lower_bound=2)


def main() -> None:
    """Runs the command that the flags ask for."""
    run_dir = run_flags.run_folder(RUN_DIR)
    cli.import_tensorflow()
    from hcl_tf.studies.likelihood.importance import LikelihoodRequest
    from hcl_tf.studies.likelihood.publication import publish
    from hcl_tf.training.trained_run import TrainedRun

    trained = TrainedRun(run_dir, CHECKPOINT.value, run_flags.optional_path(DATA_DIR))
    publish(trained, LikelihoodRequest(SPLIT.value, LIMIT.value, DRAWS.value))


if __name__ == "__main__":
    cli.run(main)
