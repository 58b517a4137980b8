"""A task's report from evaluated runs: report.md with its pictures, report.html, which needs nothing beside it, and table1.csv."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import hcl_tf
from hcl_tf.config import TASKS
from hcl_tf.errors import UserError
from hcl_tf.evaluation.rows import Result
from hcl_tf.files.whole_file import write_whole
from hcl_tf.reporting import page, sections, tables
from hcl_tf.reporting.build_notes import NAME, BuildNotes
from hcl_tf.reporting.claims import METRICS, Claims
from hcl_tf.reporting.ratings import Ratings
from hcl_tf.reporting.sections import HTML, PAGE
from hcl_tf.reporting.verdicts import EMPTY, FAIL, NOT_COMPARABLE, NOT_RUN, Table, comparable

CSV = "table1.csv"
COLUMNS = (
    "task", "table", "system", "metric", "paper", "ours", "smallest", "largest", "seeds", "difference", "p_against_hcl", "verdict",
    "scaled", "cautions", "signature", "command", "runs", "commits",
)  # fmt: skip
OF_PAPER = ("paper", "difference", "verdict", "scaled")  # columns that a task of one's own has not


def table_of(
    task: str, results: list[Result], claims: Claims, ratings: Ratings | None = None, judged: bool = True
) -> tuple[Table, list[tuple[str, str]]]:
    """The task's comparable results as a table (`judged`: of `Table`), and (run, reason) of those set apart.

    Raises:
      UserError: none is left, a user's own task is mixed with the paper's, or the ratings are of other data.
    """
    own = [result for result in results if result.record["task"] == task]
    if not own:
        raise UserError(f"--runs: no evaluated run of {task} among {len(results)}; evaluate one, or choose another --task")
    if foreign := [result for result in results if (result.record["task"] in TASKS) != (task in TASKS)]:
        raise UserError(
            f"{foreign[0].origin}: a run of {foreign[0].record['task']} among those of {task}; the paper's tasks and a task of one's own "
            "have reports of their own: leave it out of --runs"
        )
    kept, apart = comparable(own)
    if ratings and ratings.origin["data"] not in {result.record["data"] for result in kept}:
        raise UserError(f"{ratings.path}: outputs of other data than the runs' were rated; give the study of these, or the runs of that")
    return Table(task, kept, claims, ratings, judged), [(_named(result), reason) for result, reason in apart]


def write(table: Table, apart: Iterable[tuple[str, str]], out: Path) -> None:
    """Writes the three files and the pictures, each whole or not there, the page last. Other files of the folder stay."""
    found = sections.sections(table, apart, BuildNotes.read(Path(hcl_tf.__file__).parents[1] / NAME))
    text, whole, values = page.markdown(found), page.html(found), csv_of(table)
    out.mkdir(parents=True, exist_ok=True)
    for section in found:
        for name, picture in section.pictures.items():
            (out / name).parent.mkdir(exist_ok=True)
            write_whole(out / name, picture)
    write_whole(out / CSV, values.encode())
    write_whole(out / HTML, whole.encode())
    write_whole(out / PAGE, text.encode())


def scores(table: Table) -> str:
    """The rows' scores for a terminal, best first."""
    return page.grid(tables.scores(table))


def check(table: Table) -> int:
    """Exit code of `--check`: 1 where a cell or a claim fails, 2 where there was nothing to check, else 0."""
    verdicts = table.verdicts() - {NOT_RUN, EMPTY, NOT_COMPARABLE}
    if not verdicts:
        why = "no claim has all its rows, and no cell of the paper's is filled for a row that ran"
        print(f"nothing checked: {why if table.beside_paper else f'the paper has no task {table.task}'}")
        return 2
    print("a claim or a cell FAILs" if FAIL in verdicts else "no claim or cell FAILs", flush=True)
    return 1 if FAIL in verdicts else 0


def csv_of(table: Table) -> str:
    """One line a row and metric of Tables 1 and 2, control rows and others, with everything that it rests on."""
    buffer = io.StringIO()
    columns = [name for name in COLUMNS if table.beside_paper or name not in OF_PAPER]
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for title, rows in table.layout.items():
        for row in rows:
            for metric in METRICS:
                writer.writerow({"task": table.task, "table": title, "system": row, "metric": metric, **_values(table, row, metric)})
    return buffer.getvalue()


def _values(table: Table, row: str, metric: str) -> dict[str, object]:
    cell, results = table.cell(row, metric), table.rows.get(row, [])
    values = {"paper": cell.paper, "verdict": cell.verdict, "seeds": len(cell.ours)}
    if not cell.ours:
        return values
    commits = sorted({(result.record["environment"]["commit"] or {"id": ""})["id"][:12] for result in results})
    return values | {
        "ours": round(cell.mean, 4), "smallest": round(min(cell.ours), 4), "largest": round(max(cell.ours), 4),
        "difference": None if cell.difference is None else round(cell.difference, 4), "p_against_hcl": cell.p and round(cell.p, 5),
        "scaled": table.mark([row]), "cautions": " ".join(table.cautions([row])),
        "signature": results[0].record["scores"][metric]["signature"],
        "command": results[0].command(), "runs": " ".join(_named(result) for result in results), "commits": " ".join(commits),
    }  # fmt: skip


def _named(result: Result) -> str:
    return f"{result.origin.parent.name}/{result.origin.name}"
