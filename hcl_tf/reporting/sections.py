"""What a report says, before it is Markdown or HTML: its sections in order, and those that are not tables of scores."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hcl_tf.evaluation import links
from hcl_tf.evaluation.intervals import entry_text, score_text
from hcl_tf.evaluation.rows import RANKED_BY, ROWS, Result
from hcl_tf.reporting import charts
from hcl_tf.reporting.build_notes import NAME, BuildNotes
from hcl_tf.reporting.meter import links_of
from hcl_tf.reporting.page import Grid, Marked, Section
from hcl_tf.reporting.tables import by_score, tables
from hcl_tf.reporting.verdicts import OURS, Table

PAGE, HTML = "report.md", "report.html"
BUDGET = ("preset", "max_steps", "epochs", "batch_size", "decoder_layers", "output_vocab")
SAMPLES = 8
LATENT = (
    "nll_posterior",
    "nll_prior",
    "nll_prior_sampled",
    "nll_shuffled",
    "kl",
    "nll_shuffled_minus_posterior",
    "nll_prior_shuffled_minus_prior",
    "nll_u_shuffled_minus_graph",
    "kl_u_shuffled_minus_graph",
    "nll_prior_minus_moved",
)
CONDITIONS = ("own", "swapped", "none", "another input", "swapped minus own", "own minus swapped", "own minus none")
AGAINST = {"": "its negative", "_random": "another example's"}
SEE_LATENT, SEE_FIGURE3, SEE_TABLE4 = (37, 49, 52), (73, 74), (75, 76)


def sections(table: Table, apart: Iterable[tuple[str, str]], notes: BuildNotes) -> list[Section]:
    """The report of one task.

    Args:
      apart: (run, reason) of what was set apart.
    """
    results = [result for results in table.rows.values() for result in results]
    found = [
        _head(table, results, notes), *tables(table, notes), _pictures(table, results), _what(table, results, notes), _latent(results),
        figure3(results), table4(results), _samples(results), _extremes(table), _apart(apart), origin(results), _deviations(notes),
    ]  # fmt: skip
    return [replace(section, see=notes.known(section.see)) for section in found if section]


def _head(table: Table, results: list[Result], notes: BuildNotes) -> Section:
    first = results[0]
    seeds = sorted({result.seed for result in results})
    split = first.record.get("split", "test")
    size = (
        f"{first.record['training_examples']:,} training examples; {first.record['examples']:,} of {first.record['of']:,} {split} examples"
    )
    shared = [name for name in BUDGET if all(result.settings.get(name) == first.settings.get(name) for result in results)]
    budget = ", ".join(f"{name} {first.settings.get(name)}" for name in shared)
    lines = [f"The same for all rows: {budget}. {size}. Seeds {', '.join(map(str, seeds))}."]
    if split == "train":
        lines.insert(0, "SCORED ON TRAINING PAIRS: what is learnt by heart counts here, so no number below says how well a system writes.")
    if mark := table.mark():
        lines.insert(
            0,
            f"{mark} DOWN: not the paper's model size, corpus and length of training. The numbers compare these systems under the one "
            "budget below; they can't be compared with the paper's, and a verdict on them says so.",
        )
    lines += [f"{mark}: {text}: {_rows_with(table, mark)}." for mark, text in table.cautions(table.rows).items()]
    if negatives := _negatives(first):
        lines.append(negatives)
    if cut := [f"{_run(result)} after {result.record['finished']['step']:,} steps" for result in results if _cut(result)]:
        lines.append(f"Training was cut off by the clock, not by the budget: {', '.join(cut)}.")
    title = "systems beside the paper" if table.beside_paper else "systems beside each other; the paper has no such task"
    return Section(f"{table.task}: {title}", lines, see=notes.of_settings(shared))


def _rows_with(table: Table, mark: str) -> str:
    return ", ".join(row for row in table.rows if mark in table.cautions([row]))


def _negatives(result: Result) -> str:
    """Says where the training negatives come from, by shares."""
    shares = result.record["corpus"].get("negatives") or {}
    return f"Negatives in training: {', '.join(f'{route} {share:.1%}' for route, share in sorted(shares.items()))}." if shares else ""


def _cut(result: Result) -> bool:
    """Whether training ended because the time was up."""
    return result.record["finished"].get("ended") == "time"


def _run(result: Result) -> str:
    return f"{result.row} seed {result.seed}"


def _pictures(table: Table, results: list[Result]) -> Section:
    trained = [result for result in results if result.record["curves"]["validation"]]
    pictures = {"scores.png": charts.scores({row: table.rows[row] for row in by_score(table)})}
    if trained:
        pictures["losses.png"] = charts.losses(trained)
    if orders := charts.orders(trained):
        pictures["contrasts.png"] = orders
    text = (
        "Scores: means over seeds, whiskers the 95% bootstrap interval over sentences. Losses: validation with marks, training pale. "
        "Contrasts: share of validation pairs whose target lies nearer than the negative; dotted: than another example's; 0.5 is chance."
    )
    return Section("Pictures", [text], pictures=pictures)


def _what(table: Table, results: list[Result], notes: BuildNotes) -> Section:
    shared = {k for k, v in results[0].settings.items() if all(result.settings.get(k) == v for result in results)}
    rows = []
    for row in by_score(table):
        first = table.rows[row][0]
        record, best = first.record, first.record["validation"]
        own = {k: v for k, v in first.settings.items() if k not in shared and k not in ("model", "seed", "encoder")}
        rows.append({
            "row": row, "weights": ": ".join(filter(None, (first.weights, record["encoder"]))),
            "tokeniser": record["corpus"]["tokenizer"]["name"],
            "scored at step": f"{record['step']:,}", "trained": _length(record["finished"]), "validation NLL": score_text(best.get("nll")),
            "NLL a token": score_text(best.get("nll_token")), "KL": score_text(best.get("kl")),
            "settings of its own": ", ".join(f"{k}={v}" for k, v in sorted(own.items())),
            **notes.column((*notes.of_row(row), *notes.of_settings(own))),
        })  # fmt: skip
    commands = [{"row": row, "command": table.rows[row][0].command()} for row in by_score(table)]
    grids = [Grid(rows), Grid(commands, "commands, of each row's first run")]
    named = {name: found for name in sorted(results[0].settings) if (found := notes.of_settings([name]))}
    settings = [
        {"setting": name, "value": str(results[0].settings[name]) if name in shared else "by row", **notes.column(found)}
        for name, found in named.items()
    ]
    return Section("What the rows are", [], grids + ([Grid(settings, "settings that notes speak of")] if settings else []), folded=True)


def _length(finished: dict[str, Any]) -> str:
    """How long training was and what ended it."""
    return f"{finished['step']:,} steps, ended by {finished['ended']}" if "ended" in finished else ""


def _latent(results: list[Result]) -> Section | None:
    """Whether z matters, whether keywords do, and how the contrasts order test pairs."""
    rows = []
    for result in results:
        diagnostics = result.diagnostics
        if diagnostics.get("collapsed") is None:
            continue
        entries = diagnostics["means"] | diagnostics["differences"]
        row = {"run": f"{result.row}, seed {result.seed}", "verdict": "COLLAPSED" if diagnostics["collapsed"] else "not collapsed"}
        judged = links_of(result)
        row |= {f"from {name} to the text": judged.get(name, "-") for name in links.ROADS}
        row |= {name.replace("_", " "): entry_text(entries.get(name)) for name in LATENT}
        row |= {
            f"{title}: nearer than {than}": entry_text(entries.get(f"order_{contrast}{suffix}"))
            for contrast, title in charts.ORDERS.items() for suffix, than in AGAINST.items()
        }  # fmt: skip
        rows.append(row)
    text = (
        "Nats a test text, with z from the posterior, at the prior's mean, drawn from the prior, or another example's posterior "
        "(shuffled), u the graph's or another example's; `minus`: paired differences, above 0 where taking the information away does harm. "
        "COLLAPSED: another example's z does no certain harm. Then the share of test pairs whose target lies nearer than the negative. "
        "The roads from keywords and from negatives to the text are open if each of their links is: python -m hcl_tf.studies.channel shows "
        "them one by one."
    )
    title = "Does the latent matter, do the keywords, do the contrasts"
    return Section(title, [text], [Grid(rows)], folded=True, see=SEE_LATENT) if rows else None


def figure3(results: list[Result], folder: str = ROWS) -> Section | None:
    """What the picture of representations claims, as numbers of every run that has them, and the pictures.

    Args:
      folder: where the pictures lie, from the page on.
    """
    made = [result for result in results if "figure3" in result.record]
    rows = []
    for result in made:
        found = result.record["figure3"]
        for when in ("before", "after"):
            cosine = found[when]["cosine"]
            entries = cosine["distances"] | cosine["differences"] | {f"nearer, {k}": v for k, v in cosine["nearer"].items()}
            rows.append({"run": f"{result.row}, seed {result.seed}, {when} training", **{k: entry_text(v) for k, v in entries.items()}})
    pictures = {f"{folder}/{r.row}-{r.seed}.png": r.picture.read_bytes() for r in made if r.picture.is_file()}
    text = "By hcl_tf.studies.representations: cosine distances in the original space, means over test examples; nearer: share of them."
    return Section("Figure 3: representations before and after training", [text], [Grid(rows)], pictures, see=SEE_FIGURE3) if rows else None


def table4(results: list[Result]) -> Section | None:
    """Outputs under own, random and no keywords, beside the other systems' outputs where their kept samples have the example."""
    made = [result for result in results if "keyword_control" in result.record]
    if not made:
        return None
    measures = []
    for result in made:
        for name, measure in result.record["keyword_control"]["figures"].items():
            values = {condition: entry_text(entry) for condition, entry in measure["values"].items()}
            measures.append({"run": f"{result.row}, seed {result.seed}", "figure": name, **{c: values.get(c, "") for c in CONDITIONS}})
    first = made[0]
    others = {result.row: {s["id"]: s["prediction"] for s in result.record["samples"]} for result in results if result.row != first.row}
    rows = first.record["keyword_control"]["rows"]
    shown = sorted(rows, key=lambda row: not any(row["id"] in known for known in others.values()))[:SAMPLES]
    grids = [Grid(measures)] + [_swapped(first.row, row, others) for row in shown]
    text = "By hcl_tf.studies.keyword_control; what the figures are stands in the run's keywords.test.md. In brackets the keywords."
    return Section("Table 4: outputs under own, random and no keywords", [text], grids, folded=True, see=SEE_TABLE4)


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
    row = OURS if OURS in table.rows else by_score(table)[0]
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


def _deviations(notes: BuildNotes) -> Section:
    """Every note, and how many of them say what is reconstructed or decided by us."""
    if not notes.texts:
        return Section("Deviations", [f"{NAME}, which numbers them, is not beside this installation."])
    text = (
        f"Of the {len(notes.texts)} notes of {NAME}, {len(notes.choices)} say what we chose where the paper is silent ([D]: decided, "
        f"[R]: reconstructed); [P]: the paper states it. {HTML} has all of them in full, {PAGE} their titles."
    )
    return Section("Deviations and other notes", [text], folded=True, notes=notes.texts)


def origin(results: list[Result]) -> Section:
    """Machines, versions and commits that results come from, and the signatures of their scores."""
    machines: dict[str, list[str]] = {}
    commits = set()
    for result in results:
        environment = result.record["environment"]
        cpu, packages = environment["cpu"], environment["packages"]
        gpus = ", ".join(environment["gpus"]) or "none"
        machine = f"{cpu['name']}, {cpu['cores_usable']} of {cpu['cores']} cores, {environment['memory_gib']} GiB, GPUs: {gpus}"
        versions = f"Python {environment['python']}, TensorFlow {packages['tensorflow']}, hcl_tf {packages['hcl_tf']}"
        if environment.get("exported"):  # hcl_tf.portable
            versions += f", trained and decoded as exported XLA programs through jaxlib {packages['jaxlib']}"
        machines.setdefault(f"{machine}; {versions}", []).append(_run(result))
        commit = environment["commit"] or {"id": "not recorded", "dirty": False}
        commits.add(commit["id"][:12] + (" with changes" if commit["dirty"] else ""))
    known = {name: entry["signature"] for result in results for name, entry in result.record["scores"].items()}
    signatures = [{"score": name, "signature": signature} for name, signature in known.items()]
    lines = [f"Machine: {machine}: {', '.join(runs)}." for machine, runs in sorted(machines.items())] + [
        f"Commits: {', '.join(sorted(commits))}."
    ]
    return Section("Where from", lines, [Grid(signatures, "signatures")], folded=True)
