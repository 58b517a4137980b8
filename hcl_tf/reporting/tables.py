"""The tables of a report: our scores beside the paper's, what a gain is credited to, what people rated, and the text's claims."""

from hcl_tf.evaluation.intervals import entry_text, score_text
from hcl_tf.reporting.build_notes import BuildNotes
from hcl_tf.reporting.claims import METRICS
from hcl_tf.reporting.page import Grid, NoteLinks, Section
from hcl_tf.reporting.verdicts import GAIN_RULE, NOT_RUN, OURS, RULE, Cell, Checked, Rated, Table
from hcl_tf.studies.human_evaluation.results import FORM, agreement_row
from hcl_tf.studies.human_evaluation.study import SCALES

BEYOND = ("iBLEU", "sacreBLEU", "distinct-2", "distinct-outputs", "source-BLEU-4", "verbatim-training-targets", "keywords-included")
FLOORS = {"copy_source": "(copy the source)", "random_target": "(a random training target)"}
SPREAD = (
    f"Means over seeds, in brackets the smallest and the largest. p: two-sided, against {OURS}, over the seeds that both rows have: a "
    "t-test over seeds and sentences crossed (note 115), with one seed a paired bootstrap over sentences."
)
GAINS = ("BLEU-1", "BLEU-2", "BLEU-4")
SEE_SCORES, SEE_GAINS, SEE_RATINGS, SEE_CLAIMS = (46, 47, 48, 70, 72), (55, 72, 79), (70, 77), (70, 71, 72)


def tables(table: Table, notes: BuildNotes) -> list[Section]:
    """Table 1, Table 2, the control rows and others; what the paper does not report; what gains are credited to; Table 3; the claims."""
    found = []
    for title, rows in table.layout.items():
        grid = [
            {"system": _marked_name(table, row, name), **_line(table, row), **notes.column(notes.of_row(row))} for row, name in rows.items()
        ]
        rules = [SPREAD, RULE] if table.beside_paper else [SPREAD]
        found.append(Section(title, [] if found else rules, [Grid(grid)], see=() if found else SEE_SCORES))
    beyond = "What the paper does not report, and two" if table.beside_paper else "Two"
    title = "Beyond the paper's scores" if table.beside_paper else "More scores"
    found.append(Section(title, [f"{beyond} floors that need no model. Ordered by BLEU-2."], [scores(table)]))
    return [section for section in (*found, _gains(table, notes), _ratings(table, notes), _claims(table, notes)) if section]


def scores(table: Table) -> Grid:
    """Every row that there is, best first, and the floors."""
    metrics = ("BLEU-1", "BLEU-2", "BLEU-4", *BEYOND)
    rows = [
        {"system": _marked_name(table, row, row), **{metric: _ours(table.cell(row, metric)) for metric in metrics}}
        for row in by_score(table)
    ]
    floors = next(iter(table.rows.values()))[0].record["floors"]
    for name, title in FLOORS.items():  # those of an earlier version lack what it did not score
        rows.append({"system": title, **{m: score_text(floors[name][m]["value"]) if m in floors[name] else "" for m in metrics}})
    return Grid(rows)


def _marked_name(table: Table, row: str, name: str) -> str:
    """Returns a row's name with its cautions behind it: `hcl (FROZEN)`."""
    marks = ", ".join(table.cautions([row]))
    return f"{name} ({marks})" if marks else name


def by_score(table: Table) -> list[str]:
    """The rows, best first, by BLEU-2."""
    return sorted(table.rows, key=lambda row: -(table.cell_mean(row, "BLEU-2") or 0.0))


def _line(table: Table, row: str) -> dict[str, str]:
    seeds = str(len(table.rows.get(row, [])) or "")
    return {"seeds": seeds, **{metric: _cell_text(table.cell(row, metric), table.mark([row])) for metric in METRICS}}


def _cell_text(cell: Cell, mark: str) -> str:
    ours = _ours(cell) + (f", p {_p(cell.p)}" if cell.p is not None else "") if cell.ours else ""
    return _beside(ours, "" if cell.paper is None else score_text(cell.paper), cell.verdict, mark)


def _beside(ours: str, paper: str, verdict: str, mark: str) -> str:
    """`56.08 [55.9, 56.2], p 0.01; paper 58.10: NEAR SCALED`, as much of it as there is."""
    parts = [ours] if ours else []
    if paper:
        parts.append(f"paper {paper}: {verdict}{f' {mark}' if mark and ours else ''}")
    return "; ".join(parts) or NOT_RUN


def _ours(cell: Cell) -> str:
    if not cell.ours:
        return ""
    spread = f" [{score_text(min(cell.ours))}, {score_text(max(cell.ours))}]" if len(cell.ours) > 1 else ""
    return score_text(cell.mean) + spread


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _gains(table: Table, notes: BuildNotes) -> Section | None:
    """`OURS` minus each ablation, control row and further row."""
    if OURS not in table.rows:
        return None
    shown = {row for rows in table.layout.values() for row in rows}
    credits = {row: credit for row, credit in table.claims.credits.items() if row in shown}
    rows = [
        {
            f"{OURS} minus": _marked_name(table, row, table.names[row]), "a gain is credited to": credit,
            **{metric: _gain_text(table, row, metric) for metric in GAINS}, **notes.column(notes.of_row(row)),
        }
        for row, credit in (credits | dict.fromkeys(table.further, "the settings in which they differ")).items()
    ]  # fmt: skip
    return Section("What a gain is credited to", [GAIN_RULE], [Grid(rows)], see=SEE_GAINS) if rows else None


def _gain_text(table: Table, row: str, metric: str) -> str:
    compared, verdict = table.gain(row, metric)
    if not compared:
        return verdict
    entry = {"value": compared.difference, "low": compared.low, "high": compared.high}
    seeds = len(table.seeds((OURS, row)))
    counted = f"{seeds} seed" + ("s" if seeds > 1 else "")
    return f"{entry_text(entry, '+.2f')}, p {_p(compared.p_value)}, {counted}: {verdict} {table.mark([OURS, row])}".rstrip()


def _ratings(table: Table, notes: BuildNotes) -> Section | None:
    """Table 3; where there is neither a study nor a claim, nothing."""
    ratings, human = table.ratings, table.claims.human if table.rated() else None
    rows = [*human.to, human.of] if human else []
    rows += [system for system in (ratings.systems if ratings else []) if system not in rows]
    if not rows:
        return None
    means = [
        {
            "system": table.names.get(row, row),
            **{scale: _rated_text(table, row, scale) for scale in SCALES},
            **notes.column(notes.of_row(row)),
        }
        for row in rows
    ]
    grids = [Grid(means)]
    if ratings:
        text = _study(table)
        agreement = {scale: agreement_row(ratings.agreement(scale)) for scale in SCALES}
    else:
        text = ["No study: give its folder with --human (python -m hcl_tf.studies.human_evaluation makes one)."]
        agreement = {scale: {"kappa": NOT_RUN} for scale in SCALES}
    paper = {scale: {"paper": f"{human.kappa[scale]:.2f}" if scale in human.kappa else ""} if human else {} for scale in SCALES}
    grids.append(Grid([{"scale": scale, **paper[scale], **agreement[scale]} for scale in SCALES], "agreement (Fleiss' kappa)"))
    return Section("Table 3: rated by people", text, grids, see=SEE_RATINGS)


def _study(table: Table) -> list[str]:
    """What was rated by whom."""
    found, ratings = table.ratings.found, table.ratings
    systems = "; ".join(f"{s['name']}: preset {s['preset']}, seed {s['seed']}, step {s['step']:,}" for s in ratings.origin["systems"])
    missing = ", ".join(map(str, found["missing_annotators"]))
    text = (
        f"Study {found['study']}: {found['items']} test examples, {len(found['annotators'])} annotators. Means, in brackets their 95% "
        f"bootstrap intervals over items; p: two-sided, paired over items, against {OURS}. Rated were {systems}."
    )
    return [*([f"INCOMPLETE: no sheet of annotator {missing}."] if missing else []), text]


def _rated_text(table: Table, row: str, scale: str) -> str:
    paper, verdict = table.rated_mean(row, scale)
    entry = table.ratings and table.ratings.mean(row, scale)
    p = table.ratings.p(OURS, row, scale) if entry else None
    ours = entry_text(entry, FORM) + (f", p {_p(p)}" if p is not None else "") if entry else ""
    return _beside(ours, "" if paper is None else format(paper, FORM), verdict, table.rated_mark((row,)))


def _claims(table: Table, notes: BuildNotes) -> Section | None:
    rows = [_claim(table, checked) | notes.column(checked.claim.notes) for checked in table.checked()]
    rows += [_rated_claim(table, rated) | notes.column(table.claims.human.notes) for rated in table.rated()]
    text = (
        "Ours: (first - second) / second of the means over the seeds that all of the compared rows have; of the human scales the mean "
        "beside the best of the others'."
    )
    return Section("What the paper's text claims", [text], [Grid(rows)], see=SEE_CLAIMS) if rows else None


def _claim(table: Table, checked: Checked) -> dict[str, str | NoteLinks]:
    claim, compared = checked.claim, checked.comparison
    rows = *claim.of, *claim.to
    paper = "direction only" if claim.percent is None else f"{claim.percent:+.1f}%"
    ours = "" if checked.percent is None else f"{checked.percent:+.1f}% ({score_text(checked.of)} beside {score_text(checked.to)})"
    return {
        "the paper says": claim.says, "compared": f"{', '.join(claim.of)} with {', '.join(claim.to)}", "metric": claim.metric,
        "paper": paper, "ours": ours, "p": _p(compared.p_value) if compared else "",
        "seeds": str(len(checked.seeds) or ""), "first weights": " and ".join(sorted(table.weights(rows))),
        "verdict": _marked(checked.verdict, table.mark(rows)),
    }  # fmt: skip


def _rated_claim(table: Table, rated: Rated) -> dict[str, str | NoteLinks]:
    human = table.claims.human
    ours = "" if rated.of is None else f"{rated.of:{FORM}} beside {rated.to:{FORM}} ({table.names[rated.rival]})"
    return {
        "the paper says": human.says, "compared": f"{human.of} with {', '.join(human.to)}", "metric": rated.scale,
        "paper": "direction only", "ours": ours, "p": "" if rated.p is None else _p(rated.p), "seeds": "",
        "first weights": "", "verdict": _marked(rated.verdict, table.rated_mark((human.of, *human.to))),
    }  # fmt: skip


def _marked(verdict: str, mark: str) -> str:
    return f"{verdict} {mark}" if mark and verdict != NOT_RUN else verdict
