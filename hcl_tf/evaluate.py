"""A run folder in, predictions and scores out (into the same folder):

python -m hcl_tf.evaluate --run_dir=runs/qqp/hcl-tiny-1
python -m hcl_tf.evaluate --run_dir=runs/qqp/hcl-tiny-1 --checkpoint=best_nll --limit=100
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError

RUN_DIR = flags.DEFINE_string("run_dir", None, "The run, a folder that hcl_tf.train wrote.")
SPLIT = flags.DEFINE_enum("split", "test", config.SPLITS, "The split to decode and score.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared folder that the run was trained on. Default: tfrecords/<task>.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "best_loss",
    ["best_loss", "best_nll"],
    "best_loss: smallest validation loss, as in the paper; best_nll: smallest NLL alone.",
)
EMBEDDINGS = flags.DEFINE_string(
    "embeddings",
    None,
    "Word vectors for Extrema, Average and Greedy: a GloVe or word2vec text file. Default: those of the prepared folder.",
)
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many examples; the results' names say so.", lower_bound=1)


def main() -> None:
    """Runs the command that the flags ask for."""
    if not RUN_DIR.value:
        raise UserError("--run_dir is needed: the folder that python -m hcl_tf.train wrote")
    cli.import_tensorflow()
    from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate

    data_dir, embeddings = (Path(flag.value) if flag.value else None for flag in (DATA_DIR, EMBEDDINGS))
    evaluate(EvaluationRequest(Path(RUN_DIR.value), SPLIT.value, CHECKPOINT.value, data_dir, embeddings, LIMIT.value))


if __name__ == "__main__":
    cli.run(main)
