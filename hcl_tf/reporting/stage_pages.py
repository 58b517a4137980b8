"""All pages of a plan of evidence: the front page, the plan's own, and of each stage the report of its task."""

from pathlib import Path

from hcl_tf.evaluation import rows
from hcl_tf.reporting import arms, front, kept, report
from hcl_tf.reporting.claims import Claims
from hcl_tf.reporting.departures import departures
from hcl_tf.reporting.page import Section
from hcl_tf.reporting.plan import ExperimentPlan
from hcl_tf.reporting.series import series_of


def write_all(plan: ExperimentPlan, claims: Claims, reports: Path) -> tuple[list[Section], int]:
    """Writes them from the rows that are kept below `reports`/<plan>/<stage>; the front page into `reports`.

    Returns its sections and its size in bytes, with pictures. Raises `UserError` where a kept row can't be the plan's (`kept.results_of`).
    """
    out = reports / plan.name
    found = kept.of_plan(plan, out)
    planned = {}
    for one in found:
        if not one.results:
            continue
        series = series_of(plan, one.stage, Path("runs") / plan.name, out)
        planned[one.stage.name] = {row: series.settings(row, results[0].weights) for row, results in one.rows.items() if results}
        scored = rows.collect([out / one.stage.name])[0]
        table, apart = report.table_of(one.stage.task, scored, claims, judged=not plan.decides(one.stage))
        report.write(table, apart, out / one.stage.name)
    arms.write(plan, out)
    return front.write(plan, found, claims, departures(plan, found, planned), reports)
