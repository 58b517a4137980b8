"""A run folder in, predictions and scores out (into the same folder):

python -m hcl_tf.evaluate --run_dir=runs/qqp/hcl-tiny-1
python -m hcl_tf.evaluate --run_dir=runs/qqp/hcl-tiny-1 --checkpoint=best_nll --limit=100
python -m hcl_tf.evaluate --run_dir=runs/qqp/hcl-tiny-1 --samples=10 --study=channel --study=keyword_control
"""

from absl import flags

from hcl_tf import cli, config, run_flags
from hcl_tf.errors import UserError

RUN_DIR = run_flags.run_dir()
SPLIT = run_flags.split("The split to decode and score.")
DATA_DIR = run_flags.data_dir()
CHECKPOINT = run_flags.checkpoint()
EMBEDDINGS = flags.DEFINE_string(
    "embeddings",
    None,
    "Word vectors for Extrema, Average and Greedy: a GloVe or word2vec text file. Default: those of the prepared folder.",
)
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many examples; the results' names say so.", lower_bound=1)
SAMPLES = flags.DEFINE_integer(
    "samples", 0, "Decode each source so many more times, each with another z drawn from the prior by the run's seed, and score these too.",
    lower_bound=0, upper_bound=100,
)  # fmt: skip
SAMPLED_SOURCES = flags.DEFINE_integer(
    "sampled_sources", None, "With --samples: only the first so many sources. Default: all.", lower_bound=2
)
STUDY = flags.DEFINE_multi_enum(
    "study",
    [],
    config.STUDIES,
    "Also makes this study (hcl_tf.studies), with its defaults; channel with --what_if. May be repeated.",
)


def main() -> None:
    """Runs the command that the flags ask for."""
    run_dir = run_flags.run_folder(RUN_DIR)
    cli.import_tensorflow()
    from hcl_tf.evaluation.scoring import EvaluationRequest
    from hcl_tf.reporting.row_measures import measure

    data_dir, embeddings = map(run_flags.optional_path, (DATA_DIR, EMBEDDINGS))
    if SAMPLED_SOURCES.value and not SAMPLES.value:
        raise UserError("--sampled_sources: nothing is sampled without --samples; give it, or drop the flag")
    samples = SAMPLES.value, SAMPLED_SOURCES.value
    request = EvaluationRequest(run_dir, SPLIT.value, CHECKPOINT.value, data_dir, embeddings, LIMIT.value, *samples)
    measure(request, STUDY.value)


if __name__ == "__main__":
    cli.run(main)
