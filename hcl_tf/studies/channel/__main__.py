"""Measures whether keywords and negatives reach the text of a trained run, and writes the page into its folder.

python -m hcl_tf.studies.channel --run_dir=runs/qqp/hcl-small-1 --data_dir=tfrecords/qqp
python -m hcl_tf.studies.channel --run_dir=runs/qqp/hcl-small-1 --limit=500 --what_if
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError

RUN_DIR = flags.DEFINE_string("run_dir", None, "The run, a folder that hcl_tf.train wrote.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared folder that the run was trained on. Default: tfrecords/<task>.")
SPLIT = flags.DEFINE_enum("split", "validation", config.SPLITS, "The split whose examples are asked.")
CHECKPOINT = flags.DEFINE_enum("checkpoint", "best_loss", ["best_loss", "best_nll"], "Which weights.")
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many examples.", lower_bound=2)
WHAT_IF = flags.DEFINE_boolean("what_if", False, "Also decode from where L_ins would have the prior's mean: the most that it could bring.")
UNTRAINED = flags.DEFINE_boolean("untrained", True, "Also measure the orders that the model had before training.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if not RUN_DIR.value:
        raise UserError("--run_dir is needed: the folder that python -m hcl_tf.train wrote")
    cli.import_tensorflow()
    from hcl_tf.studies.channel import page
    from hcl_tf.studies.channel.meter import MeterRequest, measure
    from hcl_tf.training.trained_run import TrainedRun

    trained = TrainedRun(Path(RUN_DIR.value), CHECKPOINT.value, Path(DATA_DIR.value) if DATA_DIR.value else None)
    found = measure(trained, MeterRequest(SPLIT.value, LIMIT.value, WHAT_IF.value, UNTRAINED.value))
    label = f"channel.{SPLIT.value}" + (f".{CHECKPOINT.value}" if CHECKPOINT.value != "best_loss" else "")
    label += f".first{LIMIT.value}" if LIMIT.value else ""
    trained.run.write_json(f"{label}.json", found)
    path = trained.run.write_text(f"{label}.md", page.page(found))
    print("\n".join(page.lines(found)))
    print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
