"""Shows the data of `swaps.measure` to people: as lines for a terminal, and as a page with the numbers and the rows of Table 4."""

from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.evaluation.intervals import columns, entry_text
from hcl_tf.markdown import markdown_table
from hcl_tf.studies.keyword_control.measures import CONDITIONS, NONE, OTHER, OWN, SWAPPED

SHOWN = 20  # inputs on the page; the JSON has all
TITLES = {OWN: "own keywords", SWAPPED: "swapped in", NONE: "no keyword"}


def lines(found: dict) -> list[str]:
    """Returns the measures as a table of plain text."""
    text = [_title(found), f"{'':<26}{'keywords':<22}{'value':>9}  95% interval"]
    for name, measure in found["figures"].items():
        for number, (condition, entry) in enumerate(measure["values"].items()):
            text.append(f"{'' if number else name:<26}{condition:<22}{columns(entry)}".rstrip())
    return text


def page(found: dict) -> str:
    """Returns a page in Markdown: what was asked, measures, signatures, and Table 4 for up to `SHOWN` inputs, evenly spread."""
    chosen = [found["rows"][i] for i in sample_rows(len(found["rows"]), SHOWN)]
    how = "chosen by id" if found["chosen_by_id"] else f"evenly spread over the split's {found['of']:,}"
    parts = [
        f"# Keyword control: {_title(found)}",
        f"- inputs: {found['examples']:,}, {how}\n"
        f"- swapped in: {found['swaps']} keyword(s) an input, one at a time, each in place of all of the input's own: a keyword of another "
        f"source of the split that the graph knows and that the input does not contain, drawn by seed {found['draw_seed']}\n"
        f"- none: the request holds no keyword\n- decoding: {', '.join(f'{name} {value}' for name, value in found['decoding'].items())}",
        f"## Figures\n\nMean over inputs [95% bootstrap interval over inputs].\n\n{_measures(found)}",
        "<details><summary>signatures</summary>\n\n"
        + "\n".join(f"- {name}: `{measure['signature']}`" for name, measure in found["figures"].items())
        + "\n\n</details>",
        f"## Outputs by keywords, as in the paper's Table 4 ({len(chosen)} of {found['examples']:,} inputs)",
        *map(_input, chosen),
    ]
    return "\n\n".join(parts) + "\n"


def _title(found: dict) -> str:
    model = f"{found['model']} {found['variant']}".rstrip()
    return f"{model} on {found['task']}, {found['split']} split, checkpoint {found['checkpoint']} (step {found['step']:,})"


def _measures(found: dict) -> str:
    rows = []
    for name, measure in found["figures"].items():
        values = measure["values"]
        row = {"": name} | {c: entry_text(values.get(c)) for c in (*CONDITIONS, OTHER)}
        row["paired difference"] = "; ".join(f"{c}: {entry_text(e)}" for c, e in values.items() if " minus " in c)
        rows.append(row)
    return markdown_table(rows)


def _input(row: dict) -> str:
    rows = [_line(name, [], row[name], None) for name in ("source", "reference")]
    rows += [_line(TITLES[o["condition"]], o["keywords"], o["output"], o["included"]) for o in row["outputs"]]
    return f"Example {row['id']}\n\n{markdown_table(rows)}"


def _line(name: str, keywords: list[str], text: str, included: float | None) -> dict[str, str]:
    return {"": name, "keywords": ", ".join(keywords), "text": text, "keywords in the text": _share(included)}


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"
