"""Decodes a finished run under swapped keywords (the paper's Table 4), and measures how far outputs follow them:

python -m hcl_tf.studies.keyword_control --run_dir=runs/qqp/hcl-paper-1
python -m hcl_tf.studies.keyword_control --run_dir=runs/qqp/hcl-paper-1 --ids=17,2251 --swaps=5
"""

from absl import flags

from hcl_tf import cli, run_flags
from hcl_tf.progress import working

RUN_DIR = run_flags.run_dir()
DATA_DIR = run_flags.data_dir()
SPLIT = run_flags.split("The split whose sources are the inputs.")
CHECKPOINT = run_flags.checkpoint()
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
    run_dir = run_flags.run_folder(RUN_DIR)
    cli.import_tensorflow()
    from hcl_tf.studies.keyword_control.swaps import KeywordControlRequest, keyword_control

    data_dir, ids = run_flags.optional_path(DATA_DIR), tuple(name.strip() for name in IDS.value)
    with working("keyword control"):
        keyword_control(KeywordControlRequest(run_dir, data_dir, INPUTS.value, SWAPS.value, SEED.value, SPLIT.value, ids, CHECKPOINT.value))


if __name__ == "__main__":
    cli.run(main)
