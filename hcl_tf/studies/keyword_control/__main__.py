"""Decodes a finished run under swapped keywords (the paper's Table 4), and measures how far outputs follow them:

python -m hcl_tf.studies.keyword_control --run_dir=runs/qqp/hcl-paper-1
python -m hcl_tf.studies.keyword_control --run_dir=runs/qqp/hcl-paper-1 --ids=17,2251 --swaps=5
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError

RUN_DIR = flags.DEFINE_string("run_dir", None, "The run, a folder that hcl_tf.train wrote.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared folder that the run was trained on. Default: tfrecords/<task>.")
SPLIT = flags.DEFINE_enum("split", "test", config.SPLITS, "The split whose sources are the inputs.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "best_loss",
    ["best_loss", "best_nll"],
    "best_loss: smallest validation loss, as in the paper; best_nll: smallest NLL alone.",
)
INPUTS = flags.DEFINE_integer(
    "inputs", None, "How many inputs, evenly spread over the split (all, if it has fewer). Default: 200.", lower_bound=1
)
IDS = flags.DEFINE_list("ids", [], "These examples instead, separated by commas; the results' names say that they were chosen.")
SWAPS = flags.DEFINE_integer(
    "swaps", 3, "Keywords of other texts swapped in for each input, one after the other.", lower_bound=1, upper_bound=100
)
SEED = flags.DEFINE_integer("seed", 1, "Decides which keywords are swapped in.", lower_bound=0)


def main() -> None:
    """Runs the command that the flags ask for."""
    if not RUN_DIR.value:
        raise UserError("--run_dir is needed: the folder that python -m hcl_tf.train wrote")
    cli.import_tensorflow()
    from hcl_tf.studies.keyword_control.swaps import KeywordControlRequest, keyword_control

    data_dir, ids = Path(DATA_DIR.value) if DATA_DIR.value else None, tuple(name.strip() for name in IDS.value)
    keyword_control(
        KeywordControlRequest(Path(RUN_DIR.value), data_dir, INPUTS.value, SWAPS.value, SEED.value, SPLIT.value, ids, CHECKPOINT.value)
    )


if __name__ == "__main__":
    cli.run(main)
