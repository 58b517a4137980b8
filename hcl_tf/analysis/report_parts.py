"""What a report says, before it is Markdown or HTML: sections of paragraphs, tables and pictures."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hcl_tf.analysis import charts
from hcl_tf.analysis.claims import METRICS
from hcl_tf.analysis.results import RANKED_BY, ROWS, Result
from hcl_tf.analysis.verdicts import NOT_RUN, OURS, RULE, Cell, Table

BEYOND = ("sacreBLEU", "distinct-2", "distinct-outputs", "source-BLEU-4", "verbatim-training-targets", "keywords-included")
FLOORS = {"copy_source": "(copy the source)", "random_target": "(a random training target)"}
BUDGET = ("preset", "max_steps", "epochs", "batch_size", "decoder_layers", "output_vocab")
SCALED = "SCALED"
SAMPLES = 8
SPREAD = f"Means over seeds, in brackets the smallest and the largest. p: two-sided, paired bootstrap over sentences against {OURS}."
LATENT = (
    "nll_posterior",
    "nll_prior",
    "nll_shuffled",
    "kl",
    "nll_shuffled_minus_posterior",
    "nll_u_shuffled_minus_graph",
    "kl_u_shuffled_minus_graph",
)
CONDITIONS = ("own", "swapped", "none", "another input", "swapped minus own", "own minus swapped", "own minus none")
AGAINST = {"": "its negative", "_random": "another example's"}
NOTE = re.compile(r"^(\d+)\. (.+)")


@dataclass(frozen=True)
class Marked:
    """A text in which some words are to stand out."""

    text: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Grid:
    """A table: one dictionary a row, keys are the columns."""

    rows: list[dict[str, str | Marked]]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """Part of a page. `pictures`: file name -> PNG bytes; `folded`: closed until the reader opens it."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    folded: bool = False


def sections(table: Table, apart: Iterable[tuple[str, str]], notes: Path | None) -> list[Section]:
    """The report of one task.

    Args:
      apart: (run, reason) of what was set apart. notes: BUILD_NOTES.md, if it is at hand.
    """
    results = [result for results in table.rows.values() for result in results]
    found = [
        _head(table, results), *_tables(table), _claims(table), _pictures(table, results), _what(table, results), _latent(results),
        _figure3(results), _table4(results), _samples(results), _extremes(table), _apart(apart), _deviations(notes), _origin(results),
    ]  # fmt: skip
    return [section for section in found if section]


def is_scaled(results: list[Result]) -> bool:
    """Whether any run is not of the paper's size."""
    return any(result.scaled for result in results)


def _head(table: Table, results: list[Result]) -> Section:
    first = results[0]
    seeds = sorted({result.seed for result in results})
    size = f"{first.record['training_examples']:,} training examples; {first.record['examples']:,} of {first.record['of']:,} test examples"
    shared = {k: v for k, v in first.settings.items() if all(result.settings.get(k) == v for result in results)}
    budget = ", ".join(
        f"{k} {shared[k]}" for k in ("preset", "max_steps", "epochs", "batch_size", "decoder_layers", "output_vocab") if k in shared
    )
    lines = [f"The same for all rows: {budget}. {size}. Seeds {', '.join(map(str, seeds))}."]
    if is_scaled(results):
        lines.insert(
            0,
            f"{SCALED} DOWN: not the paper's model size, corpus and length of training. The numbers compare these systems under one "
            "small budget; they can't be compared with the paper's, and a verdict on them says so.",
        )
    return Section(f"{table.task}: systems beside the paper", lines)


def _tables(table: Table) -> list[Section]:
    """Table 1, Table 2 and the control rows; then what the paper does not report."""
    found = []
    for title, rows in table.claims.tables.items():
        grid = [{"system": name, **_line(table, row)} for row, name in rows.items()]
        found.append(Section(title, [] if found else [SPREAD, RULE], [Grid(grid)]))
    text = ["What the paper does not report, and two floors that need no model. Ordered by BLEU-2."]
    return [*found, Section("Beyond the paper's scores", text, [scores(table)])]


def scores(table: Table) -> Grid:
    """Every row that there is, best first, and the floors."""
    metrics = ("BLEU-1", "BLEU-2", "BLEU-4", *BEYOND)
    rows = [{"system": row, **{metric: _ours(table.cell(row, metric)) for metric in metrics}} for row in _by_score(table)]
    floors = next(iter(table.rows.values()))[0].record["floors"]
    return Grid(rows + [{"system": title, **{m: _number(floors[name][m]["value"]) for m in metrics}} for name, title in FLOORS.items()])


def _line(table: Table, row: str) -> dict[str, str]:
    results = table.rows.get(row, [])
    mark = SCALED if is_scaled(results) else ""
    return {"seeds": str(len(results) or ""), **{metric: cell_text(table.cell(row, metric), mark) for metric in METRICS}}


def cell_text(cell: Cell, mark: str) -> str:
    """`56.08 [55.9, 56.2], p 0.01; paper 58.10: NEAR SCALED`, as much of it as there is."""
    parts = [_ours(cell) + (f", p {_p(cell.p)}" if cell.p is not None else "")] if cell.ours else []
    if cell.paper is not None:
        parts.append(f"paper {_number(cell.paper)}: {cell.verdict}{f' {mark}' if mark and cell.ours else ''}")
    return "; ".join(parts) or NOT_RUN


def _ours(cell: Cell) -> str:
    if not cell.ours:
        return ""
    spread = f" [{_number(min(cell.ours))}, {_number(max(cell.ours))}]" if len(cell.ours) > 1 else ""
    return _number(cell.mean) + spread


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _by_score(table: Table) -> list[str]:
    return sorted(table.rows, key=lambda row: -(table.cell_mean(row, "BLEU-2") or 0.0))


def _claims(table: Table) -> Section:
    mark = f" {SCALED}" if is_scaled([result for results in table.rows.values() for result in results]) else ""
    rows = []
    for checked in table.checked():
        claim, compared = checked.claim, checked.comparison
        paper = "direction only" if claim.percent is None else f"{claim.percent:+.1f}%"
        ours = "" if checked.percent is None else f"{checked.percent:+.1f}% ({_number(checked.of)} beside {_number(checked.to)})"
        rows.append({
            "the paper says": claim.says, "compared": f"{', '.join(claim.of)} with {', '.join(claim.to)}", "metric": claim.metric,
            "paper": paper, "ours": ours, "p": _p(compared.p_value) if compared else "",
            "verdict": checked.verdict + (mark if checked.verdict != NOT_RUN else ""),
        })  # fmt: skip
    return Section("What the paper's text claims", ["Ours: (first - second) / second of the means over seeds."], [Grid(rows)])


def _pictures(table: Table, results: list[Result]) -> Section:
    trained = [result for result in results if result.record["curves"]["validation"]]
    pictures = {"scores.png": charts.scores({row: table.rows[row] for row in _by_score(table)})}
    if trained:
        pictures["losses.png"] = charts.losses(trained)
    if orders := charts.orders(trained):
        pictures["contrasts.png"] = orders
    text = (
        "Scores: means over seeds, whiskers the 95% bootstrap interval over sentences. Losses: validation with marks, training pale. "
        "Contrasts: share of validation pairs whose target lies nearer than the negative; dotted: than another example's; 0.5 is chance."
    )
    return Section("Pictures", [text], pictures=pictures)


def _what(table: Table, results: list[Result]) -> Section:
    shared = {k for k, v in results[0].settings.items() if all(result.settings.get(k) == v for result in results)}
    rows = []
    for row in _by_score(table):
        first = table.rows[row][0]
        record, best = first.record, first.record["validation"]
        own = {k: v for k, v in first.settings.items() if k not in shared and k not in ("model", "seed", "encoder")}
        rows.append({
            "row": row, "weights": record["encoder"], "tokeniser": record["corpus"]["tokenizer"]["name"],
            "scored at step": f"{record['step']:,}", "validation NLL": _number(best.get("nll")),
            "NLL a token": _number(best.get("nll_token")), "KL": _number(best.get("kl")),
            "settings of its own": ", ".join(f"{k}={v}" for k, v in sorted(own.items())),
        })  # fmt: skip
    commands = [{"row": row, "command": table.rows[row][0].command()} for row in _by_score(table)]
    return Section("What the rows are", [], [Grid(rows), Grid(commands, "commands, of each row's first run")], folded=True)


def _latent(results: list[Result]) -> Section | None:
    """Whether z matters, whether keywords do, and how the contrasts order test pairs."""
    rows = []
    for result in results:
        figures = result.record["figures"]
        if figures.get("collapsed") is None:
            continue
        entries = figures["means"] | figures["differences"]
        row = {"run": f"{result.row}, seed {result.seed}", "verdict": "COLLAPSED" if figures["collapsed"] else "not collapsed"}
        row |= {name.replace("_", " "): _entry(entries.get(name)) for name in LATENT}
        row |= {
            f"{title}: nearer than {than}": _entry(entries.get(f"order_{contrast}{suffix}"))
            for contrast, title in charts.ORDERS.items() for suffix, than in AGAINST.items()
        }  # fmt: skip
        rows.append(row)
    text = (
        "Nats a test text, with z from the posterior, the prior or another example's posterior (shuffled), u the graph's or another "
        "example's; `minus`: paired differences, above 0 where taking the information away does harm. COLLAPSED: another example's z "
        "does no certain harm. Then the share of test pairs whose target lies nearer than the negative."
    )
    return Section("Does the latent matter, do the keywords, do the contrasts", [text], [Grid(rows)], folded=True) if rows else None


def _entry(entry: dict | None) -> str:
    if not entry or entry["value"] is None:
        return ""
    return f"{entry['value']:.3f}" + (f" [{entry['low']:.3f}, {entry['high']:.3f}]" if entry["low"] is not None else "")


def _figure3(results: list[Result]) -> Section | None:
    """What the picture of representations claims, as numbers of every run that has them, and the pictures."""
    made = [result for result in results if "figure3" in result.record]
    rows = []
    for result in made:
        found = result.record["figure3"]
        for when in ("before", "after"):
            cosine = found[when]["cosine"]
            entries = cosine["distances"] | cosine["differences"] | {f"nearer, {k}": v for k, v in cosine["nearer"].items()}
            rows.append({"run": f"{result.row}, seed {result.seed}, {when} training", **{k: _entry(v) for k, v in entries.items()}})
    pictures = {f"{ROWS}/{r.row}-{r.seed}.png": r.picture.read_bytes() for r in made if r.picture.is_file()}
    text = "By hcl_tf.analysis.representations: cosine distances in the original space, means over test examples; nearer: share of them."
    return Section("Figure 3: representations before and after training", [text], [Grid(rows)], pictures) if rows else None


def _table4(results: list[Result]) -> Section | None:
    """Outputs under own, random and no keywords, beside the other systems' outputs where their kept samples have the example."""
    made = [result for result in results if "keyword_control" in result.record]
    if not made:
        return None
    figures = []
    for result in made:
        for name, figure in result.record["keyword_control"]["figures"].items():
            values = {condition: _entry(entry) for condition, entry in figure["values"].items()}
            figures.append({"run": f"{result.row}, seed {result.seed}", "figure": name, **{c: values.get(c, "") for c in CONDITIONS}})
    first = made[0]
    others = {result.row: {s["id"]: s["prediction"] for s in result.record["samples"]} for result in results if result.row != first.row}
    rows = first.record["keyword_control"]["rows"]
    shown = sorted(rows, key=lambda row: not any(row["id"] in known for known in others.values()))[:SAMPLES]
    grids = [Grid(figures)] + [_swapped(first.row, row, others) for row in shown]
    text = "By hcl_tf.analysis.keyword_control; what the figures are stands in the run's keywords.test.md. In brackets the keywords."
    return Section("Table 4: outputs under own, random and no keywords", [text], grids, folded=True)


def _swapped(name: str, row: dict, others: dict[str, dict[str, str]]) -> Grid:
    lines = [{"": "source", "text": row["source"]}, {"": "reference", "text": row["reference"]}]
    for output in row["outputs"]:
        keywords = tuple(output["keywords"])
        title = f"{name}, {output['condition']} ({', '.join(keywords)})"
        lines.append({"": title, "text": Marked(output["output"], keywords)})
    lines += [{"": other, "text": known[row["id"]]} for other, known in others.items() if row["id"] in known]
    return Grid(lines)


def _samples(results: list[Result]) -> Section:
    """The same test examples of every row's first run."""
    firsts = {result.row: result for result in reversed(results)}
    places = range(0, len(results[0].record["samples"]), max(1, len(results[0].record["samples"]) // SAMPLES))
    return Section("Samples, evenly spread over the test split", [], [_sample(dict(reversed(firsts.items())), place) for place in places])


def _sample(firsts: dict[str, Result], place: int) -> Grid:
    known = next(iter(firsts.values())).record["samples"][place]
    words = tuple(known["keywords"])
    lines = [("source", known["source"]), ("keywords", ", ".join(words)), ("reference", known["reference"])]
    lines += [(row, result.record["samples"][place]["prediction"]) for row, result in firsts.items()]
    return Grid([{"": name, "text": Marked(text, () if name == "keywords" else words)} for name, text in lines])


def _extremes(table: Table) -> Section:
    row = OURS if OURS in table.rows else _by_score(table)[0]
    first = table.rows[row][0]
    grids = []
    for name in ("best", "worst"):
        rows = [
            {
                RANKED_BY: f"{item[RANKED_BY]:.1f}",
                **{k: Marked(item[k], tuple(item["keywords"])) for k in ("source", "reference", "prediction")},
            }
            for item in first.record[name]
        ]
        grids.append(Grid(rows, name))
    return Section(f"The best and the worst outputs of {row}, seed {first.seed}, by {RANKED_BY}", [], grids, folded=True)


def _apart(apart: Iterable[tuple[str, str]]) -> Section | None:
    rows = [{"run": run, "why": why} for run, why in apart]
    return Section("Set apart: in no table above", [], [Grid(rows)]) if rows else None


def _deviations(notes: Path | None) -> Section:
    """The numbered lines of BUILD_NOTES.md that say what is reconstructed or decided by us."""
    if not notes:
        return Section("Deviations", ["BUILD_NOTES.md, which numbers them, is not beside this installation."])
    lines = [match for line in notes.read_text(encoding="utf-8").splitlines() if (match := NOTE.match(line))]
    ours = [match for match in lines if "[D]" in match[2] or "[R]" in match[2]]
    text = (
        f"BUILD_NOTES.md numbers {len(ours)} choices where the paper is silent ([D]: decided, [R]: reconstructed); their first lines "
        "are below. Settings that this table changed are in `What the rows are`."
    )
    return Section("Deviations", [text], [Grid([{"note": match[1], "begins": match[2].replace("**", "")} for match in ours])], folded=True)


def _origin(results: list[Result]) -> Section:
    machines, commits = set(), set()
    for result in results:
        environment = result.record["environment"]
        cpu, packages = environment["cpu"], environment["packages"]
        gpus = ", ".join(environment["gpus"]) or "none"
        machine = f"{cpu['name']}, {cpu['cores_usable']} of {cpu['cores']} cores, {environment['memory_gib']} GiB, GPUs: {gpus}"
        machines.add(f"{machine}; Python {environment['python']}, TensorFlow {packages['tensorflow']}, hcl_tf {packages['hcl_tf']}")
        commit = environment["commit"] or {"id": "not recorded", "dirty": False}
        commits.add(commit["id"][:12] + (" with changes" if commit["dirty"] else ""))
    signatures = [{"score": name, "signature": entry["signature"]} for name, entry in results[0].record["scores"].items()]
    lines = [f"Machine: {machine}." for machine in sorted(machines)] + [f"Commits: {', '.join(sorted(commits))}."]
    return Section("Where from", lines, [Grid(signatures, "signatures")], folded=True)
