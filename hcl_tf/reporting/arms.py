"""The page of a plan (reporting/plan.py): every row beside the one that it is compared with, and what follows by rule."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hcl_tf.evaluation import links
from hcl_tf.evaluation.intervals import entry_text, number
from hcl_tf.evaluation.rows import HOURS, Result
from hcl_tf.files.whole_file import write_whole
from hcl_tf.metrics.samples import sources_of
from hcl_tf.reporting import charts, kept, page
from hcl_tf.reporting.comparisons import ABOVE, BELOW, ELSEWHERE, EQUAL, UNDECIDED, ComparedRow, Difference, between_seeds, compare
from hcl_tf.reporting.measures import BLEU, MARGIN, MEASURES, NLL, SHOWN, Measure
from hcl_tf.reporting.meter import links_of, roads_of
from hcl_tf.reporting.page import Grid, Section
from hcl_tf.reporting.plan import ExperimentPlan, PlannedStage
from hcl_tf.reporting.sections import HTML, PAGE, origin, table4

FELT = 0.1  # nats that the margin has to move, with z where L_ins would have it, for L_ins to be able to do anything at all
READING = (
    "A difference says by how much a row is better than the row it stands beside, over the same examples, with a 95% interval: above 0 is "
    "better in every measure, so of NLL it is the other row's minus its own. With one seed the interval is over examples alone "
    "(bootstrap) and does not know what another seed would change, so a row counts as above or below only where the difference is also "
    "larger than the largest between two seeds of the row beside (of the stage's base, where that has one seed). With more seeds the "
    "interval is over seeds and examples crossed, and nothing else is asked. A difference is within the margin of no difference where the "
    "plan names one and the 90% interval over seeds and examples lies within it. Examples that share a text are not independent and count "
    "as one unit. In pictures green is above, red below, blue within the margin and grey undecided, and the grey band is what two seeds "
    "of the base differ by. A row that is worse by more than the plan allows does not count. Where a plan has a test that decides, what is "
    "scored on the test split is judged by its tests on the front page, and grey here."
)


def write(plan: ExperimentPlan, out: Path) -> list[Section]:
    """Writes the page of what is kept below `out`, whole or not at all, and returns its sections."""
    stages = [(stage, compare(stage, kept.results_of(stage, out / stage.name), judged=not plan.decides(stage))) for stage in plan.stages]
    found = sections(plan, stages)
    out.mkdir(parents=True, exist_ok=True)
    for section in found:
        for name, picture in section.pictures.items():
            write_whole(out / name, picture)
    write_whole(out / HTML, page.html(found).encode())
    write_whole(out / PAGE, page.markdown(found).encode())
    return found


def sections(plan: ExperimentPlan, stages: list[tuple[PlannedStage, list[ComparedRow]]]) -> list[Section]:
    """The page, from the rows of each stage."""
    results = [result for _, compared in stages for row in compared for result in row.results]
    spent = sum(result.hours for result in results)
    stages = sorted(stages, key=lambda one: one[0].split != "test")  # what is scored on the test split is the result, and opens the page
    lines = [line for stage, compared in stages if stage.split == "test" for line in findings(stage, compared)]
    budget = f" of {plan.hours:g} planned" if plan.hours else ""
    lines.append(
        f"{len(results)} runs so far, {spent:.1f}{budget} hours ({HOURS}). Plan: {plan.path.as_posix()}, written on {plan.written}."
    )
    rules = [{"rule": name, "": text} for name, text in plan.rules.items()]
    found = [Section(plan.title, lines), Section("By which rules", [READING], [Grid(rules)] if rules else [])]
    for stage, compared in stages:
        found.append(_stage(stage, compared, [] if stage.split == "test" else findings(stage, compared)))
        if missing := [{"row": row.name, "asks": row.asks, "beside": row.beside} for row in compared if not row.results]:
            found.append(Section(f"{stage.name}: rows that have not run yet ({len(missing)})", [], [Grid(missing)], folded=True))
        if channel := _channel(compared):
            found.append(Section(f"{stage.name}: the channel", [links.RULE], [channel], folded=True))
        if bounds := _what_if(compared):
            text = (
                "The most that L_ins could do: z = mu_p + alpha (mu+ - mu-), which reads the target and is no prediction. Margin: the "
                f"negative's NLL minus the target's, nats a text. Where it does not move by {FELT} at alpha 1, L_ins can do nothing there."
            )
            found.append(Section(f"{stage.name}: what if L_ins had its way", [text], [bounds], folded=True))
        if drawn := _draws(compared):
            text = "Outputs of each source from draws of z: BLEU-2, mean and best, and how they differ from each other (BUILD_NOTES 120)."
            found.append(Section(f"{stage.name}: several outputs a source", [text], [drawn], folded=True))
        if control := table4([result for row in compared for result in row.results]):
            found.append(control)
    if plan.changes:
        found.append(Section("Changes to the plan", [], [Grid([dict(change) for change in plan.changes])]))
    return [*found, origin(results)] if results else found


def findings(stage: PlannedStage, compared: list[ComparedRow]) -> list[str]:
    """What a stage says, by rule: which roads are open, what moves the margin, and what moves BLEU."""
    ran = [row for row in compared if row.results]
    if not ran:
        return [f"{stage.name}: nothing ran yet."]
    roads = roads_of(result for row in ran for result in row.results)
    said = [
        f"the road from {road} to the text is open in {found} of {having} runs that have it"
        for road, (found, having) in roads.items()
        if having
    ]
    moved = [found["1"]["moved"]["value"] for row in ran for result in row.results if (found := _moves(result))]
    if moved:
        enough = sum(value >= FELT for value in moved)
        said.append(f"with z where L_ins would have it, the margin moves by at least {FELT} nats in {enough} of {len(moved)} runs")
    seeds = len(next(row.results for row in compared if row.name == stage.base))
    count = [row for row in ran if row.counts]
    if len(count) < len(ran):
        said.append(f"rows that do not count: {_names(row.name for row in ran if not row.counts)}")
    if stage.split == "test":
        return [
            f"{stage.name}: {_sentences(said)}{_missing(compared)}",
            *(_with_figures(stage, ran, measure) for measure in (MARGIN, NLL, BLEU)),
        ]
    for measure in (MARGIN, BLEU):
        judged = [(row.name, row.differences[measure.name].verdict) for row in count if measure.name in row.differences]
        shown = [verdict for verdict in (ABOVE, BELOW, EQUAL) if verdict != EQUAL or measure in stage.margins]
        parts = [f"{verdict} {_names(name for name, found in judged if found == verdict)}" for verdict in shown]
        undecided = sum(found == UNDECIDED for _, found in judged)
        if judged:
            alone = "" if seeds > 1 else " (by examples alone, as the base has one seed yet)"
            said.append(f"in {measure.name}, beside what each stands{alone}: {'; '.join(parts)}; {undecided} of {len(judged)} undecided")
    return [f"{stage.name}: {_sentences(said)}{_missing(compared)}"]


def _with_figures(stage: PlannedStage, ran: Sequence[ComparedRow], measure: Measure) -> str:
    """What the rows of a stage say in one measure, each with its difference."""
    judged = {row.name: row.differences[measure.name] for row in ran if measure.name in row.differences}
    parts = []
    for verdict in (ABOVE, BELOW, EQUAL, UNDECIDED, ELSEWHERE):
        rows = [
            f"{name} {_gap(gap)}{f', {gap.seeds} seed' if gap.seeds == 1 else ''}" for name, gap in judged.items() if gap.verdict == verdict
        ]
        parts += [f"{verdict}: {', '.join(rows)}"] if rows else []
    return f"{stage.name}, differences in {measure.name} ({measure.unit}, above 0 is better), {'; '.join(parts) or 'nothing to compare'}."


def _sentences(said: Sequence[str]) -> str:
    return "".join(f"{sentence[0].upper()}{sentence[1:]}. " for sentence in said).rstrip()


def _missing(compared: Sequence[ComparedRow]) -> str:
    missing = sum(not row.results for row in compared)
    return f" {missing} of {len(compared)} rows have not run yet." if missing else ""


def _gap(gap: Difference) -> str:
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def _noise(stage: PlannedStage, compared: list[ComparedRow]) -> dict[str, float]:
    """Measure -> what two seeds of the stage's base differ by."""
    base = next(row.results for row in compared if row.name == stage.base)
    return {measure.name: between_seeds(base, measure) for measure in MEASURES}


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _stage(stage: PlannedStage, compared: list[ComparedRow], said: list[str]) -> Section:
    """What a stage says, its forest plot, and the table of the same differences with the values behind them."""
    table = []
    for row in (row for row in compared if row.results):
        line = {"row": row.name, "asks": row.asks, "beside": row.beside}
        line["seeds"] = ", ".join(str(result.seed) for result in row.results)
        for measure in MEASURES:
            gap = row.differences.get(measure.name)
            if not measure.at_matched_overlap:  # what it would be depends on the row beside it
                line[measure.name] = number(row.value(measure))
            line[f"{measure.name}: difference"] = _gap(gap) if gap else ""
        table.append(line | {"": " ".join(row.marks)})
    pictures = (
        {f"forest-{stage.name}.png": charts.forest(compared, SHOWN, _noise(stage, compared))}
        if any(row.differences for row in compared)
        else {}
    )
    first = next((row.results[0] for row in compared if row.results), None)
    where = ""
    if first:
        copied, drawn = (first.record["floors"][name][BLEU.name]["value"] for name in ("copy_source", "random_target"))
        where = (
            f"{first.record['examples']:,} examples of the {stage.split} split, checkpoint {stage.checkpoint}. {BLEU.name} of the sources "
            f"themselves as outputs is {copied:.1f}, of random training targets {drawn:.1f}."
        )
    about = f"{stage.about.rstrip('.')}." if stage.about else ""
    return Section(f"{stage.name}: {stage.task}", [f"{about} {where}".strip(), *said], [Grid(table)] if table else [], pictures)


def _channel(compared: list[ComparedRow]) -> Grid | None:
    """Every link of every row with a latent variable, and the figures behind them."""
    table = []
    for row in compared:
        for result in row.results:
            found = result.diagnostics
            if "latent_size" not in found:
                continue
            judged, verdicts = links.links(found["differences"]), links_of(result)
            line = {"run": f"{row.name}, seed {result.seed}", **{f"from {name}": verdicts.get(name, "-") for name in links.ROADS}}
            line |= {link.name: f"{link.verdict} {entry_text(found['differences'].get(links.FIGURES[link.name][0]))}" for link in judged}
            line |= {name: entry_text(found["means"].get(name)) for name in ("kl", "order_ins", "order_key", "order_ma")}
            table.append(line)
    return Grid(table) if table else None


def _draws(compared: list[ComparedRow]) -> Grid | None:
    """What several outputs a source are worth, of every run that was evaluated with `--samples`."""
    table = []
    for row in compared:
        for result in row.results:
            if kept := result.record.get("samples_of_z"):
                means = {name: entry_text(entry) for name, entry in kept["means"].items()}
                of = {"outputs": str(kept["of_each"]), "sources": f"{sources_of(kept['means']):,}"}
                table.append({"run": f"{row.name}, seed {result.seed}", **of, **means})
    return Grid(table) if table else None


def _moves(result: Result) -> dict[str, dict]:
    """alpha -> what the meter's what-if found; empty where it was not asked."""
    return result.record.get("channel", {}).get("what_if", {})


def _what_if(compared: list[ComparedRow]) -> Grid | None:
    table = []
    for row in compared:
        for result in row.results:
            for alpha, found in _moves(result).items():
                entries = {name: entry_text(found[key]) for name, key in (("NLL", "nll"), ("margin", "margin"), ("moved", "moved"))}
                table.append({"run": f"{row.name}, seed {result.seed}", "alpha": alpha, **entries})
    return Grid(table) if table else None
