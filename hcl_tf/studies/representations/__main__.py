"""Draws the paper's Figure 3 of a trained run into its folder: representations before and after training.

python -m hcl_tf.studies.representations --run_dir=runs/qqp/hcl-small-1 --data_dir=tfrecords/qqp
python -m hcl_tf.studies.representations --run_dir=runs/qqp/hcl-small-1 --space=latent --examples=500
"""

from absl import flags

from hcl_tf import cli, run_flags
from hcl_tf.progress import working

RUN_DIR = run_flags.run_dir()
DATA_DIR = run_flags.data_dir()
SPLIT = run_flags.split("The split that examples are drawn from.")
EXAMPLES = flags.DEFINE_integer("examples", 200, "How many examples are shown, or all if there are fewer.", lower_bound=2)
SEED = flags.DEFINE_integer("seed", 1, "Which examples are drawn; also t-SNE's.", lower_bound=0, upper_bound=2**32 - 1)
PERPLEXITY = flags.DEFINE_float("perplexity", 30.0, "t-SNE's: about how many neighbours of a point count.", lower_bound=1.0)
SPACE = flags.DEFINE_enum(
    "space",
    "text",
    ["text", "latent"],
    "text: texts' vectors under the projection that keyword nodes come from; latent: means of prior (source) and posterior (texts).",
)


def main() -> None:
    """Runs the command that the flags ask for."""
    run_dir = run_flags.run_folder(RUN_DIR)
    cli.import_tensorflow()
    from hcl_tf.studies.representations.figure3 import Figure3Request, make
    from hcl_tf.studies.representations.publication import publish
    from hcl_tf.training.trained_run import TrainedRun

    trained = TrainedRun(run_dir, data_dir=run_flags.optional_path(DATA_DIR))
    trained.run.check_writable()
    with working("representations"):
        found = make(trained, Figure3Request(SPLIT.value, EXAMPLES.value, SEED.value, PERPLEXITY.value, SPACE.value))
    publish(trained.run, found)


if __name__ == "__main__":
    cli.run(main)
