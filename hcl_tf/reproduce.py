"""The rows of a task's tables, trained and scored one after the other under one setting:

python -m hcl_tf.reproduce --task=qqp
python -m hcl_tf.reproduce --task=qqp --preset=small --systems=hcl,bert_cvae --seeds=1,2 --budget=experiments/budgets/qqp-cpu

The same command goes on where an interrupted one stopped. Each row's scores, settings and samples are kept under --out as soon as
they are there.
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError
from hcl_tf.settings import PRESETS

TASK = flags.DEFINE_enum("task", None, list(config.TASKS), "Whose tables.")
PRESET = flags.DEFINE_enum("preset", "paper", PRESETS, "Preset of every row.")
SYSTEMS = flags.DEFINE_list("systems", [], "Rows, by the names of their files in --experiments/<task>/. Default: all.")
SEEDS = flags.DEFINE_list("seeds", ["1"], "Each row is trained once with each seed.")
MAX_STEPS = flags.DEFINE_integer("max_steps", None, "Steps of every row at most.", lower_bound=1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared folder. Default: tfrecords/<task>.")
BUDGET = flags.DEFINE_string(
    "budget", None, "Folder with all.flags, laid over every row, and <system>.flags, laid over that one: what scales a table down."
)
EXPERIMENTS = flags.DEFINE_string("experiments", "experiments", "Folder with <task>/<system>.flags.")
RUNS = flags.DEFINE_string("runs", None, "Where the run folders go. Default: runs/<task>/<budget or preset>.")
CLAIMS = flags.DEFINE_string("claims", None, "The paper's numbers and claims. Default: <experiments>/paper_claims.yaml.")
OUT = flags.DEFINE_string("out", None, "Where results are kept. Default: <experiments>/reports/<task>-<budget or preset>.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if not TASK.value:
        raise UserError(f"--task is needed: one of {', '.join(config.TASKS)}")
    cli.check_versions()  # better here than in each row's command
    from hcl_tf.reporting.reproduction import Plan, reproduce

    if not all(seed.strip().isdecimal() for seed in SEEDS.value):
        raise UserError(f"--seeds={','.join(SEEDS.value)}: whole numbers separated by commas are expected")
    budget = Path(BUDGET.value) if BUDGET.value else None
    name = budget.name if budget else PRESET.value
    label = name if name.startswith(TASK.value) else f"{TASK.value}-{name}"
    plan = Plan(
        TASK.value, PRESET.value, Path(EXPERIMENTS.value), Path(DATA_DIR.value or f"tfrecords/{TASK.value}"), budget, MAX_STEPS.value,
        Path(RUNS.value or f"runs/{TASK.value}/{name}"), Path(OUT.value) if OUT.value else Path(EXPERIMENTS.value) / "reports" / label,
        Path(CLAIMS.value or f"{EXPERIMENTS.value}/paper_claims.yaml"),
    )  # fmt: skip
    if code := reproduce(plan, [system.strip() for system in SYSTEMS.value], [int(seed) for seed in SEEDS.value]):
        sys.exit(code)


if __name__ == "__main__":
    cli.run(main)
