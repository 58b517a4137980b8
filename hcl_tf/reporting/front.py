"""The front page over all tasks of a plan: what was found, in the paper's own tables, and how far it can be believed.

README.md and index.html, made of kept rows alone. What did not run is named in one place and holds no cell that looks like a number.
Details of single runs are on each stage's page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hcl_tf.evaluation import links
from hcl_tf.evaluation.rows import HOURS, ROWS, Result
from hcl_tf.files.whole_file import write_whole
from hcl_tf.metrics import power
from hcl_tf.models.registry import OURS
from hcl_tf.reporting import charts, front_tables, judged_claims, outcomes, page
from hcl_tf.reporting import sections as task_sections
from hcl_tf.reporting.claims import Claims
from hcl_tf.reporting.comparisons import difference
from hcl_tf.reporting.headline import headline
from hcl_tf.reporting.judged_claims import Judged
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.measures import BLEU
from hcl_tf.reporting.outcomes import NOT_RUN, Outcome
from hcl_tf.reporting.page import Grid, Link, Marked, Section
from hcl_tf.reporting.plan import ExperimentPlan, PlannedTest

PAGE, HTML = "README.md", "index.html"
SAMPLES, SEED = 10, 1
TABLE_1, TABLE_2, CONTROLS = "Table 1", "Table 2", "Control rows"  # of the claims file
SHOWN_RUNS = "Means over seeds ± their standard deviation; beside the number of runs stands why a row can't be taken at face value."


def write(
    plan: ExperimentPlan, kept: list[KeptStage], claims: Claims, departed: list[tuple[str, str]], reports: Path
) -> tuple[list[Section], int]:
    """Writes the page into the folder of reports. Returns its sections, and the bytes of both files and their pictures."""
    found = sections(plan, kept, claims, departed)
    files = {reports / name: data for section in found for name, data in section.pictures.items()}
    files |= {reports / PAGE: page.markdown(found).encode(), reports / HTML: page.html(found).encode()}
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return found, sum(map(len, files.values()))


def sections(plan: ExperimentPlan, kept: list[KeptStage], claims: Claims, departed: list[tuple[str, str]]) -> list[Section]:
    """The page."""
    of_task = {one.stage.task: one for one in reversed(kept)}  # the first stage of each task
    main = [one for one in kept if one is of_task[one.stage.task]]
    by_stage = {one.stage.name: one for one in kept}
    primary = _outcomes(plan.primary, by_stage) if plan.primary else []
    secondary = [one for test in plan.secondary for one in _outcomes(test, by_stage)]
    judged = judged_claims.judge(claims, main, plan.causes)
    results = [result for one in kept for result in one.results]
    found = [
        Section(plan.title, points=headline(primary, secondary, kept, judged)),
        *_tests(plan, primary, secondary, by_stage),
        *_scores(kept, main, claims),
        _forest(main, claims, [*primary, *secondary]),
        _meter(kept),
        _whatever_z(kept),
        _on_training(kept),
        _table2(main, claims),
        *_figure3(plan, main),
        _table4(main),
        *_claims(main, judged),
        *(section for one in main if (section := _samples(one, plan, claims))),
        _limits(plan, kept),
        _trials(kept),
        _rules(plan),
        _departures(plan, kept, departed),
        _missing(kept),
        *_origin(plan, kept, results),
    ]
    return [section for section in found if section]


def _outcomes(test: PlannedTest, by_stage: Mapping[str, KeptStage]) -> list[Outcome]:
    kept = by_stage[test.stage]
    return outcomes.outcomes(test, kept, by_stage.get(kept.stage.runs_of))


def _tests(plan: ExperimentPlan, primary: list[Outcome], secondary: list[Outcome], by_stage: Mapping[str, KeptStage]) -> list[Section]:
    found = []
    if primary:
        said = f"The plan was written on {plan.written}, before its first run; what was changed later stands below, with dates and reasons."
        said += f" The test split is opened from {plan.opened} on." if plan.opened else ""
        text = [f"{said} Differences are gains: above 0 is better, also of NLL, whose sign is turned."]
        grids = [front_tables.tests(primary), front_tables.likelihoods(primary, by_stage[plan.primary.stage])]
        found.append(Section("The test that decides", text, list(filter(None, grids))))
        if power_text := _power(plan, primary):
            found.append(Section("What its seeds can show", power_text, folded=True))
    if ran := [one for one in secondary if one.verdict != NOT_RUN]:
        families: dict[str, list[Outcome]] = {}
        for one in ran:
            families.setdefault(one.test.name, []).append(one)
        shown = {plan.primary.stage} if primary else set()
        grids = []
        for name, family in families.items():
            test = family[0].test
            grids.append(Grid(front_tables.tests(family).rows, name))
            if test.open_channel and test.stage not in shown and not by_stage[test.stage].stage.runs_of:
                shown.add(test.stage)
                grids.append(front_tables.likelihoods(family, by_stage[test.stage]))
        found.append(Section("The other planned comparisons", ["Each family is corrected by itself."], list(filter(None, grids))))
    return found


def _power(plan: ExperimentPlan, primary: Sequence[Outcome]) -> list[str]:
    """What the seeds can show, by the variances of the plan, and where there are some by those that were found, measure by measure."""
    if not plan.variances:
        return []
    test, (variances, origin) = plan.primary, plan.variances
    stage = plan.stage(test.stage)
    seeds = min(len(stage.row(name).seeds) for name in (test.row, *test.beside))
    sentences = primary[0].sentences or stage.at_least
    said = [f"{_shown(variances, seeds, sentences, primary[0], len(primary))} These are {origin}."]
    for one in primary:
        if one.correlation is not None:
            what = f"Over seeds the two rows' means in {one.measure.name} correlate by {one.correlation:+.2f}"
            said.append(f"{what}: that is what pairing them is worth.")
        if one.found:
            parts = power.Components.of(one.found)
            alarms = power.false_alarms(parts, seeds, sentences)
            found = _shown(parts, seeds, sentences, one, len(primary))
            said.append(f"As found here: {found} Of sets that do not differ, {alarms:.1%} would be called different before correction.")
    return said


def _shown(parts: power.Components, seeds: int, sentences: int, one: Outcome, tests: int) -> str:
    """What can be shown where each of so many tests has to pass as the first of Holm's correction does, which asks for most."""
    level = 1 - outcomes.ALPHA / tests
    smallest = power.smallest_found(parts, seeds, sentences, level=level)
    equal = power.equal_found(parts, seeds, sentences, one.margin, level)
    variances = f"variances {parts.of_seeds:.2f} of seeds, {parts.of_sentences:.2f} of sentences and {parts.of_rest:.2f} of the rest"
    corrected = f"at a level corrected for {tests} tests, " if tests > 1 else ""
    return (
        f"In {one.measure.name}, {seeds} paired seeds and {sentences:,} sentences show a true difference of {smallest:.2f} "
        f"{one.measure.unit} with probability 0.8, {corrected}and of two equal systems that they differ by no more than {one.margin:g} "
        f"with probability {equal:.2f}, by {variances}."
    )


def _scores(kept: Sequence[KeptStage], main: Sequence[KeptStage], claims: Claims) -> list[Section]:
    names = claims.tables.get(TABLE_1, {})
    nothing = [one.stage.name for one in main if not one.results]
    if len(nothing) == len(main):
        grid = front_tables.scores(main, names, claims)
        return [Section(TABLE_1, [f"{NOT_RUN}: {len(names)} systems on {', '.join(nothing)}."], [grid] if grid else [])]
    lines = [SHOWN_RUNS, _paper_cells(claims), _named_not_run(main, names), f"{NOT_RUN} at all: {', '.join(nothing)}." if nothing else ""]
    main = [one for one in main if one.results or any(task == one.stage.task for task, _, _ in claims.cells)]
    grid = front_tables.scores(main, names, claims)
    found = [Section("Table 1, in the paper's layout", list(filter(None, lines)), [grid] if grid else [])]
    named = {row for rows in claims.tables.values() for row in rows}
    asked = {row: _named(one, row) for one in reversed(main) for row in one.rows if row not in named}
    controls = claims.tables.get(CONTROLS, {}) | asked
    if further := front_tables.scores(main, controls, claims):
        found.append(Section("Rows that the paper has not", [], [further]))
    everything = names | controls
    beyond = [front_tables.scores(main, everything, claims, front_tables.BEYOND), front_tables.draws(kept)]
    if grids := [grid for grid in beyond if grid]:
        found.append(Section("Beyond the paper's scores", [], grids, folded=True))
    second = [one for one in kept if one not in main and one.results and not one.stage.runs_of]
    if second and (grid := front_tables.scores(second, everything, claims)):
        found.append(Section("Further stages", [one.stage.about for one in second], [grid]))
    return found


def _named(one: KeptStage, row: str) -> str:
    """The name of a row that no table of the paper has: with what it is for, as the plan says."""
    return ": ".join(filter(None, (row, one.stage.row(row).asks)))


def _paper_cells(claims: Claims) -> str:
    if claims.cells:
        return "The paper's values stand behind ours, as the user filled them in."
    return "The paper's own numbers are missing: we worked from its text, without its tables. Fill them into experiments/paper_claims.yaml."


def _named_not_run(main: Sequence[KeptStage], names: dict[str, str]) -> str:
    missing = front_tables.not_run(main, names)
    return f"{NOT_RUN} on any task: {', '.join(missing)}." if missing else ""


def _forest(main: Sequence[KeptStage], claims: Claims, tested: Sequence[Outcome]) -> Section | None:
    """Ours minus every row, a picture a task."""
    pictures = {}
    for one in main:
        verdicts = {found.beside: found.verdict for found in tested if found.test.stage == one.stage.name and found.measure == BLEU}
        gaps = [
            (row, gap, verdicts.get(row, "")) for row, results in one.rows.items()
            if row != OURS and (gap := difference(one.rows.get(OURS, []), results, BLEU))
        ]  # fmt: skip
        if gaps:
            pictures[f"{one.stage.name}-forest.png"] = charts.forest_of_task(f"{one.stage.name}: {BLEU.name}", BLEU.unit, gaps)
    if not pictures:
        return None
    text = (
        "Ours minus each row with its 95% interval; in brackets the seeds that both have. Green, red, blue: a planned test says above, "
        "below, no different; grey: no verdict. Hollow: one seed, whose interval is over sentences alone and does not know what another "
        "would change."
    )
    return Section("Ours minus each row", [text], pictures=pictures)


def _meter(kept: Iterable[KeptStage]) -> Section | None:
    grid = front_tables.meter(one for one in kept if not one.stage.runs_of)
    text = (
        "OPEN says that one thing moves the next, in how many runs; by which rules, stands below. It is no merit: a row whose links are "
        "open need not write better texts."
    )
    return Section("The meter: does anything reach the text through z", [text], [grid]) if grid else None


def _whatever_z(kept: Iterable[KeptStage]) -> Section | None:
    """The likelihood itself, of stages whose rows have it estimated."""
    grids = [grid for one in kept if (grid := front_tables.whatever_z(one))]
    text = (
        "What a target costs when no z is chosen, -log p(y | x) in nats a text: an upper bound by importance sampling, which falls with "
        "more draws of z (hcl_tf.studies.likelihood). The planned test asks for the cost at the prior's mean, where outputs are made; "
        "this asks which row is the better model of texts. Gains are those over the base, of all draws; no verdict is planned."
    )
    return Section("The likelihood, whatever z", [text], grids) if grids else None


def _on_training(kept: Iterable[KeptStage]) -> Section | None:
    """What was learnt by heart, of stages that score training pairs."""
    stages = [one for one in kept if one.stage.split == "train"]
    grids = [grid for one in stages if (grid := front_tables.on_training(one))]
    text = (
        "The same runs on pairs that they were trained on. A pair is in the right order where a contrast's positive is nearer than its "
        "negative. Where a row orders more pairs than the base, and its margin of y+ over y- is the same, the contrast is satisfied "
        "without the text. Gains are those over the base."
    )
    return Section("On the training pairs: what the contrasts learnt", [text], grids) if grids else None


def _table2(main: Sequence[KeptStage], claims: Claims) -> Section | None:
    names = claims.tables.get(TABLE_2, {})
    grid = front_tables.ablations([one for one in main if any(one.rows.get(row) for row in names)], names)
    about = "What each part of the method brings: ours without it. Cells are means over a row's seeds, differences are over shared ones."
    lines = [about, _named_not_run(main, names)]
    return Section(TABLE_2, list(filter(None, lines)), [grid]) if grid else None


def _figure3(plan: ExperimentPlan, main: Sequence[KeptStage]) -> list[Section]:
    """Of each task the first run that has it; the others are on the stage's page."""
    found = []
    for one in main:
        made = [result for result in one.results if "figure3" in result.record][:1]
        if section := task_sections.figure3(made, f"{plan.name}/{one.stage.name}/{ROWS}"):
            found.append(replace(section, title=f"Figure 3, {one.stage.name}: representations before and after training", see=()))
    return found


def _table4(main: Sequence[KeptStage]) -> Section | None:
    """The first task's keyword control; the others' are on their pages."""
    made = next((one for one in main if any("keyword_control" in result.record for result in one.results)), None)
    return replace(task_sections.table4(made.results), see=()) if made else None


def _claims(main: Sequence[KeptStage], judged: Sequence[Judged]) -> list[Section]:
    titles = {one.stage.task: one.stage.name for one in main}
    said = [one for one in judged if not one.reason.startswith(NOT_RUN)]
    left = [one for one in judged if one.reason.startswith(NOT_RUN)]
    found = [Section("What the paper says", [], [front_tables.claims_table(said, titles)])] if said else []
    if left:
        found.append(
            Section(
                f"{len(left)} sentences of the paper whose rows have not run", [], [front_tables.claims_table(left, titles)], folded=True
            )
        )
    return found


def _samples(one: KeptStage, plan: ExperimentPlan, claims: Claims) -> Section | None:
    """Outputs of the first seed of each row of Table 1 and of the base, for test examples that a fixed seed draws."""
    rows = [one.stage.base, *claims.tables.get(TABLE_1, {})]
    firsts = {row: results[0] for row, results in one.rows.items() if row in rows and results}
    if not firsts:
        return None
    known = next(iter(firsts.values())).record["samples"]
    drawn = sorted(np.random.default_rng(SEED).permutation(len(known))[:SAMPLES])
    grids = []
    for place in drawn:
        sample, words = known[place], tuple(known[place]["keywords"])
        lines = [("source", sample["source"]), ("reference", sample["reference"])]
        lines += [(row, result.record["samples"][place]["prediction"]) for row, result in firsts.items()]
        grids.append(Grid([{"": name, "text": Marked(text, words)} for name, text in lines]))
    text = f"Drawn with seed {SEED} from the {len(known)} test examples that are kept with each row; keywords of the source are marked."
    return Section(f"{len(drawn)} samples of {one.stage.name}", [text], grids, folded=True)


def _limits(plan: ExperimentPlan, kept: Sequence[KeptStage]) -> Section | None:
    points = list(plan.limits)
    marks = {mark: text for one in kept for result in one.results for mark, text in result.cautions.items()}
    points += [f"{mark}: {text}." for mark, text in sorted(marks.items())]
    if any(result.scaled for one in kept for result in one.results):
        points.append(
            "Rows are not of the paper's size and length of training: they are compared with each other, and not with the paper's."
        )
    return Section("What these numbers can and cannot say", points=points) if points else None


def _trials(kept: Sequence[KeptStage]) -> Section | None:
    """Every trial of the settings of any row."""
    grids = [Grid(table, f"{one.stage.name}: {row}") for one in kept for row, table in one.trials.items() if table]
    text = "Trainings that chose settings, by validation NLL, the smallest first."
    return Section("Trials of settings", [text], grids, folded=True) if grids else None


def _rules(plan: ExperimentPlan) -> Section:
    """Every rule by which this page says anything."""
    rules = {"tests": outcomes.RULE, "the paper's sentences": judged_claims.RULE, "the meter": links.RULE} | plan.rules
    return Section("By which rules", [], [Grid([{"of": name, "rule": text} for name, text in rules.items()])], folded=True)


def _departures(plan: ExperimentPlan, kept: Sequence[KeptStage], departed: list[tuple[str, str]]) -> Section:
    ran = any(one.results for one in kept)
    lines = [] if departed else ["No run departed from the plan." if ran else "Nothing ran yet."]
    grids = [Grid([{"where": where, "what": what} for where, what in departed])] if departed else []
    if plan.changes:
        grids.append(Grid([dict(change) for change in plan.changes], "entries after it was written"))
    return Section("Where runs departed from the plan", lines, grids, folded=True)


def _missing(kept: Sequence[KeptStage]) -> Section | None:
    """Rows that have not run, and those that did and are set apart."""
    rows: list[dict[str, str | Link]] = []
    for one in kept:
        left = {row.name: len(set(row.seeds) - {result.seed for result in one.rows[row.name]}) for row in one.stage.rows}
        if missing := ", ".join(f"{name} ({count})" for name, count in left.items() if count):
            rows.append({"stage": one.stage.name, "missing": str(sum(left.values())), "rows (seeds)": missing})
    apart = [{"run": str(result.origin.name), "why": why} for one in kept for result, why in one.apart]
    grids = [Grid(rows)] * bool(rows) + [Grid(apart, "set apart: in no table above")] * bool(apart)
    return Section(f"{NOT_RUN}, and set apart", [], grids, folded=True) if grids else None


def _origin(plan: ExperimentPlan, kept: Sequence[KeptStage], results: list[Result]) -> list[Section]:
    """Hours, pages, machine, and the commands that make all of this again."""
    rows = []
    for one in kept:
        ran, planned = len(one.results), len(one.stage.runs())
        hours = sum(result.hours for result in one.results)
        of = f" of {one.stage.hours:g}" if one.stage.hours else ""
        link = Link("scores, runs and settings", f"{plan.name}/{one.stage.name}/{task_sections.PAGE}") if ran else NOT_RUN
        line = {"stage": one.stage.name, "rows": f"{ran} of {planned}", "hours": f"{hours:.1f}{of}"}
        rows.append(line | {"training ends by": one.stage.stop or "-", "details": link})
    total = sum(result.hours for result in results)
    budget = f" of {plan.hours:g} planned" if plan.hours else ""
    commands = [
        f"The plan: {plan.path.as_posix()}. Its rows: python -m hcl_tf.reproduce --plan={plan.path.as_posix()}",
        f"This page: python -m hcl_tf.report --all --plan={plan.path.as_posix()}",
    ]
    text = f"{len(results)} runs, {total:.1f}{budget} hours ({HOURS})."
    found = [Section("Hours, pages and commands", [text], [Grid(rows)], points=commands)]
    return [*found, task_sections.origin(results)] if results else found
