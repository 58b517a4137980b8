"""A task's report from evaluated runs: report.md with its pictures, report.html, which needs nothing beside it, and table1.csv."""

import base64
import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

import jinja2

import hcl_tf
from hcl_tf.analysis import report_parts
from hcl_tf.analysis.claims import METRICS, Claims
from hcl_tf.analysis.report_parts import Grid, Marked, Section
from hcl_tf.analysis.results import Result
from hcl_tf.analysis.verdicts import EMPTY, FAIL, NOT_RUN, Table, comparable
from hcl_tf.errors import UserError
from hcl_tf.markdown import markdown_table
from hcl_tf.training.checkpoints import write_whole

PAGE, HTML, CSV = "report.md", "report.html", "table1.csv"
NOTES = "BUILD_NOTES.md"
COLUMNS = (
    "task", "table", "system", "metric", "paper", "ours", "smallest", "largest", "seeds", "difference", "p_against_hcl", "verdict",
    "scaled", "signature", "command", "runs", "commits",
)  # fmt: skip


def table_of(task: str, results: list[Result], claims: Claims) -> tuple[Table, list[tuple[str, str]]]:
    """The task's comparable results as a table, and (run, reason) of those set apart. Raises `UserError` where none is left."""
    own = [result for result in results if result.record["task"] == task]
    if not own:
        raise UserError(f"--runs: no evaluated run of {task} among {len(results)}; evaluate one, or choose another --task")
    kept, apart = comparable(own)
    return Table(task, kept, claims), [(_named(result), reason) for result, reason in apart]


def write(table: Table, apart: Iterable[tuple[str, str]], out: Path) -> None:
    """Writes the three files and the pictures, each whole or not there, the page last. Other files of the folder stay."""
    notes = Path(hcl_tf.__file__).parents[1] / NOTES
    found = report_parts.sections(table, apart, notes if notes.is_file() else None)
    text, page, values = markdown(found), html(found), csv_of(table)
    out.mkdir(parents=True, exist_ok=True)
    for section in found:
        for name, picture in section.pictures.items():
            (out / name).parent.mkdir(exist_ok=True)
            write_whole(out / name, picture)
    write_whole(out / CSV, values.encode())
    write_whole(out / HTML, page.encode())
    write_whole(out / PAGE, text.encode())


def scores(table: Table) -> str:
    """The rows' scores for a terminal, best first."""
    return _grid(report_parts.scores(table))


def check(table: Table) -> int:
    """Exit code of `--check`: 1 where a cell or a claim fails, 2 where there was nothing to check, else 0."""
    cells = {table.cell(row, metric).verdict for rows in table.claims.tables.values() for row in rows for metric in METRICS}
    verdicts = (cells | {checked.verdict for checked in table.checked()}) - {NOT_RUN, EMPTY}
    if not verdicts:
        print("nothing checked: no claim has all its rows, and no cell of the paper's is filled for a row that ran")
        return 2
    print("a claim or a cell FAILs" if FAIL in verdicts else "no claim or cell FAILs", flush=True)
    return 1 if FAIL in verdicts else 0


def markdown(sections: list[Section]) -> str:
    """The page as Markdown."""
    parts = []
    for number, section in enumerate(sections):
        body = [*section.paragraphs, *(f"![{name.partition('.')[0]}]({name})" for name in section.pictures)]
        for grid in section.grids:
            body += [f"**{grid.title}**"] if grid.title else []
            body.append(_grid(grid))
        title = f"{'#' if number == 0 else '##'} {section.title}"
        folded = [f"<details><summary>{section.title}</summary>", *body, "</details>"]
        parts += folded if section.folded else [title, *body]
    return "\n\n".join(parts) + "\n"


def _grid(grid: Grid) -> str:
    return markdown_table([{name: str(value) for name, value in row.items()} for row in grid.rows])


def html(sections: list[Section]) -> str:
    """The page as HTML: one file, no network; everything that is text is escaped."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("hcl_tf.analysis", "templates"), autoescape=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.filters["pieces"] = pieces
    return environment.get_template("report.html").render(sections=sections)


def pieces(text: str | Marked) -> list[tuple[str, bool]]:
    """A text in pieces, and whether each is to stand out. Keywords are lemmas, so a word that begins with one stands out."""
    if isinstance(text, str) or not text.words:
        return [(str(text), False)]
    pattern = "|".join(re.escape(word) for word in sorted(text.words, key=len, reverse=True))
    boundary = r"(?<!\w)" if pattern.isascii() else ""  # Chinese has no spaces
    found, end = [], 0
    for match in re.finditer(f"{boundary}(?:{pattern})", text.text, re.IGNORECASE):
        found += [(text.text[end : match.start()], False), (match[0], True)]
        end = match.end()
    return [*found, (text.text[end:], False)]


def csv_of(table: Table) -> str:
    """One line a row and metric of Tables 1 and 2 and the control rows, with everything that it rests on."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for title, rows in table.claims.tables.items():
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
        "scaled": report_parts.SCALED if report_parts.is_scaled(results) else "",
        "signature": results[0].record["scores"][metric]["signature"],
        "command": results[0].command(), "runs": " ".join(_named(result) for result in results), "commits": " ".join(commits),
    }  # fmt: skip


def _named(result: Result) -> str:
    return f"{result.origin.parent.name}/{result.origin.name}"
