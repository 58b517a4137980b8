"""Evaluated runs in, a report beside the paper's Table 1 out:

python -m hcl_tf.report --task=qqp
python -m hcl_tf.report --task=qqp --runs=runs/qqp/paper,runs/qqp/hcl-paper-2 --human=human/qqp --out=experiments/reports/qqp --check
python -m hcl_tf.report --plan=experiments/choices/plan.yaml
python -m hcl_tf.report --all

--all writes the front page over all tasks, experiments/reports/README.md and index.html, from the kept rows of a plan of evidence, and
a page of each of its stages. A task of one's own (--task=custom) gets the pages of a task without the paper.
"""

import itertools
import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.errors import UserError
from hcl_tf.progress import working

TASK = flags.DEFINE_enum("task", None, [*config.TASKS, config.CUSTOM], "Whose report.")
PLAN = flags.DEFINE_string("plan", None, "A plan (YAML) whose page is written, from the rows that hcl_tf.reproduce --plan kept in --out.")
ALL = flags.DEFINE_boolean("all", False, "The front page over all tasks of --plan, and a page of each of its stages.")
EVIDENCE = "experiments/evidence/plan.yaml"
RUNS = flags.DEFINE_list(
    "runs", [], "Run folders, folders of run folders, or folders with rows that hcl_tf.reproduce kept. Default: runs/<task>."
)
OUT = flags.DEFINE_string("out", None, "Folder to write to. Default: experiments/reports/<task>; of --task=custom reports/custom.")
CLAIMS = flags.DEFINE_string(
    "claims",
    None,
    "The paper's numbers and claims; fill in the cells that you have. Default: experiments/paper_claims.yaml, or as shipped.",
)
HUMAN = flags.DEFINE_string(
    "human", None, "Table 3: a study's folder, into which hcl_tf.studies.human_evaluation --sheets wrote, or its results.json."
)
KEEP = flags.DEFINE_boolean("keep", False, "Also keep the rows in --out, so that the report can be made again without the run folders.")
CHECK = flags.DEFINE_boolean("check", False, "Exit with 1 where a cell or a claim FAILs, with 2 where nothing could be checked.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if bool(TASK.value) == bool(PLAN.value or ALL.value):
        raise UserError(f"--task, one of {', '.join([*config.TASKS, config.CUSTOM])}, or --plan or --all is needed, and not two of them")
    for flag in () if TASK.value else (RUNS, HUMAN, KEEP, CHECK):
        if flag.value:
            raise UserError(f"--{flag.name} is of a task's report, and a plan has none of it; drop one of them")
    cli.import_tensorflow()
    if ALL.value:
        _report_all(Path(PLAN.value or EVIDENCE))
        return
    if PLAN.value:
        _report_plan(Path(PLAN.value))
        return
    from hcl_tf.evaluation import rows
    from hcl_tf.reporting import claims, ratings, report

    places = [Path(place) for place in RUNS.value or [f"runs/{TASK.value}"]]
    out = Path(OUT.value or f"{'reports' if TASK.value == config.CUSTOM else 'experiments/reports'}/{TASK.value}")
    known = claims.known(CLAIMS.value, TASK.value)
    rated = ratings.read(Path(HUMAN.value), TASK.value) if HUMAN.value else None
    with working("reporting"):
        found, unusable = rows.collect(places)
        table, apart = report.table_of(TASK.value, found, known, rated)
        if KEEP.value:
            rows.keep_all(out, list(itertools.chain(*table.rows.values())))
        report.write(table, [*((path.name, reason) for path, reason in unusable), *apart], out)
    print(f"wrote {out / report.PAGE}, {report.HTML} and {report.CSV}: {len(table.rows)} rows, {len(apart) + len(unusable)} runs set apart")
    if CHECK.value and (code := report.check(table)):
        sys.exit(code)


def _report_plan(path: Path) -> None:
    """Writes the page of a plan."""
    from hcl_tf.evaluation.rows import ROWS
    from hcl_tf.reporting import arms, plan
    from hcl_tf.reporting.sections import HTML, PAGE

    found = plan.read(path)
    out = Path(OUT.value or f"experiments/reports/{found.name}")
    if not any(any((out / stage.name / ROWS).glob("*.json")) for stage in found.stages):
        raise UserError(f"--out={out}: no row of {path} is kept there; make them with python -m hcl_tf.reproduce --plan={path}")
    print(arms.write(found, out)[0].paragraphs[-1])
    print(f"wrote {out / PAGE} and {HTML}")


def _report_all(path: Path) -> None:
    """Writes the front page of a plan, the plan's own page and one of each of its stages."""
    from hcl_tf.reporting import claims, front, plan, stage_pages

    reports = Path(OUT.value or "experiments/reports")
    known = claims.read(Path(CLAIMS.value) if CLAIMS.value else claims.shipped())
    with working("reporting"):
        found, size = stage_pages.write_all(plan.read(path), known, reports)
    print("\n".join(found[0].points))
    print(f"wrote {reports / front.PAGE} and {front.HTML}: {size / 1e6:.1f} MB with their pictures")


if __name__ == "__main__":
    cli.run(main)
