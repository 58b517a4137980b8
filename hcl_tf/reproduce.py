"""The rows of a task's tables, or of a plan, trained and scored one after the other:

python -m hcl_tf.reproduce --task=qqp
python -m hcl_tf.reproduce --task=qqp --preset=small --systems=hcl,bert_cvae --seeds=1,2 --budget=experiments/budgets/qqp-cpu
python -m hcl_tf.reproduce --plan=experiments/choices/plan.yaml

The same command goes on where an interrupted one stopped. Each row's scores, settings and samples are kept under --out as soon as
they are there.
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError
from hcl_tf.settings import PRESETS
from hcl_tf.training.child import pass_sigterm_on

PLAN = flags.DEFINE_string("plan", None, "A plan of an experiment (YAML), whose rows are made instead of a task's tables.")
STAGES = flags.DEFINE_list("stages", [], "With --plan: its stages. Default: all.")
LIST = flags.DEFINE_boolean(
    "list", False, "With --plan: check every row's flags, print which rows are kept and which are missing, by turn, and make none."
)
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
JOBS = flags.DEFINE_integer("jobs", 1, "So many rows at once, each on its share of the cores, with what it prints in a log.", lower_bound=1)


def main() -> None:
    """Runs the command that the flags ask for."""
    if bool(TASK.value) == bool(PLAN.value):
        raise UserError(f"--task, one of {', '.join(config.TASKS)}, or --plan is needed, and not both")
    for flag in (SYSTEMS, SEEDS, PRESET, MAX_STEPS, DATA_DIR, BUDGET) if PLAN.value else (STAGES, LIST):
        if flag.present:
            raise UserError(f"--{flag.name}: {'the plan says that' if PLAN.value else 'is of a plan; give --plan'}")
    cli.import_tensorflow()  # which checks versions: better here than in each row's command
    if LIST.value:
        _list_plan(Path(PLAN.value))
        return
    pass_sigterm_on()
    if PLAN.value:
        _reproduce_plan(Path(PLAN.value))
        return
    from hcl_tf.reporting.reproduction import reproduce
    from hcl_tf.reporting.series import Series

    if not all(seed.strip().isdecimal() for seed in SEEDS.value):
        raise UserError(f"--seeds={','.join(SEEDS.value)}: whole numbers separated by commas are expected")
    budget = Path(BUDGET.value) if BUDGET.value else None
    name = budget.name if budget else PRESET.value
    label = name if name.startswith(TASK.value) else f"{TASK.value}-{name}"
    experiments, data = Path(EXPERIMENTS.value), Path(DATA_DIR.value or f"tfrecords/{TASK.value}")
    runs, out = Path(RUNS.value or f"runs/{TASK.value}/{name}"), Path(OUT.value or experiments / "reports" / label)
    known = Path(CLAIMS.value or experiments / "paper_claims.yaml")
    series = Series(TASK.value, PRESET.value, experiments / TASK.value, data, budget, MAX_STEPS.value, runs, out, known)
    if code := reproduce(series, [system.strip() for system in SYSTEMS.value], [int(seed) for seed in SEEDS.value], JOBS.value):
        sys.exit(code)


def _reproduce_plan(path: Path) -> None:
    """Makes the rows of a plan and its page."""
    from hcl_tf.reporting.plan import read
    from hcl_tf.reporting.reproduction import reproduce_plan

    plan = read(path)
    if code := reproduce_plan(plan, STAGES.value, Path(RUNS.value or f"runs/{plan.name}"), _kept(plan.name), JOBS.value):
        sys.exit(code)


def _list_plan(path: Path) -> None:
    """Prints which rows of a plan are kept."""
    from hcl_tf.reporting.plan import read
    from hcl_tf.reporting.reproduction import listed

    plan = read(path)
    print("\n".join(listed(plan, STAGES.value, _kept(plan.name))))


def _kept(name: str) -> Path:
    """Where the rows of the plan of a name are kept."""
    return Path(OUT.value or f"{EXPERIMENTS.value}/reports/{name}")


if __name__ == "__main__":
    cli.run(main)
