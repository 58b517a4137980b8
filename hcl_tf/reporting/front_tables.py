"""The front page's tables over all tasks: Table 1 and 2, the tests, the meter, and the claims."""

import statistics
from collections.abc import Iterable, Sequence

from hcl_tf.evaluation import links
from hcl_tf.evaluation.intervals import score_text
from hcl_tf.evaluation.rows import Result
from hcl_tf.metrics.decision import LOSS, NO, YES
from hcl_tf.metrics.samples import sources_of
from hcl_tf.models.registry import OURS
from hcl_tf.reporting.claims import METRICS, Claims
from hcl_tf.reporting.comparisons import difference
from hcl_tf.reporting.judged_claims import Judged
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.measures import LIKELIHOOD, MARGIN, NAMED, NLL, Measure
from hcl_tf.reporting.meter import links_of
from hcl_tf.reporting.outcomes import NOT_RUN, Outcome
from hcl_tf.reporting.page import Grid

SHORT = {"MiniLM-similarity": "MiniLM"}
BEYOND = ("iBLEU", "sacreBLEU", "MiniLM-similarity", "source-BLEU-4", "distinct-1", "distinct-2", "distinct-outputs")
ABLATED = ("BLEU-1", "BLEU-2")
SAID = {YES: f"{YES}: above", LOSS: f"{LOSS}: below", NO: f"{NO}: no difference"}


def scores(kept: Sequence[KeptStage], names: dict[str, str], claims: Claims, metrics: Sequence[str] = METRICS) -> Grid | None:
    """Systems down, tasks across: means over seeds with their standard deviation. None where none of the rows ran and no cell is filled."""
    table = []
    for row, name in names.items():
        if not any(one.rows.get(row) for one in kept) and not any(
            (one.stage.task, row, m) in claims.cells for one in kept for m in metrics
        ):
            continue
        line = {"system": name}
        for one in kept:
            results = one.rows.get(row, [])
            line[f"{one.stage.name}: runs"] = _runs(results)
            for metric in metrics:
                paper = claims.cells.get((one.stage.task, row, metric))
                line[f"{one.stage.name}: {SHORT.get(metric, metric)}"] = _cell(results, metric, paper)
        table.append(line)
    return Grid(table, grouped=True) if table else None


def not_run(kept: Sequence[KeptStage], names: dict[str, str]) -> list[str]:
    """The names of rows that ran on no task."""
    return [name for row, name in names.items() if not any(one.rows.get(row) for one in kept)]


def _runs(results: Sequence[Result]) -> str:
    marks = sorted({mark for result in results for mark in result.cautions})
    return " ".join([str(len(results)), *marks]) if results else NOT_RUN


def _cell(results: Sequence[Result], metric: str, paper: float | None) -> str:
    """`46.81 ± 0.31; paper 48.2`, as much of it as there is."""
    values = [value for result in results if (value := result.score(metric)) is not None]
    ours = spread(values) if values else "-" if results else ""
    beside = f"paper {score_text(paper)}" if paper is not None else ""
    return "; ".join(filter(None, (ours, beside))) or "-"


def spread(values: Sequence[float]) -> str:
    """A mean and the standard deviation over seeds, in as many digits."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return score_text(mean)
    return f"{score_text(mean)} ± {statistics.stdev(values):{'.2f' if abs(mean) >= 10 else '.3f'}}"


def ablations(kept: Sequence[KeptStage], names: dict[str, str]) -> Grid | None:
    """Table 2: each ablation, and by how much ours is above it."""
    table = []
    for row, name in names.items():
        if not any(one.rows.get(row) for one in kept):
            continue
        line = {"system": name}
        for one in kept:
            line[f"{one.stage.name}: runs"] = _runs(one.rows.get(row, []))
            for metric in ABLATED:
                line[f"{one.stage.name}: {metric}"] = _cell(one.rows.get(row, []), metric, None)
                gap = difference(one.rows.get(OURS, []), one.rows.get(row, []), NAMED[metric]) if row != OURS else None
                line[f"{one.stage.name}: ours - it, {metric}"] = f"{gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]" if gap else "-"
        table.append(line)
    return Grid(table, grouped=True) if len(table) > 1 else None


def tests(outcomes: Iterable[Outcome]) -> Grid:
    """Each comparison with its interval and verdict."""
    table = []
    for one in outcomes:
        line = {
            "comparison": f"{one.row} - {one.beside}, {one.measure.name}",
            "verdict": SAID.get(one.verdict, one.verdict),
            "because": one.because,
        }
        line["difference"] = "-" if one.value is None else f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}] {one.measure.unit}"
        line["90%"] = f"[{one.narrow[0]:+.2f}, {one.narrow[1]:+.2f}]" if one.narrow else "-"
        line["margin of no difference"] = f"{one.margin:g}"
        line["p, corrected"] = "-" if one.corrected is None else f"{one.corrected:.3f}" if one.corrected >= 0.001 else "<0.001"
        line["seeds"], line["sentences"] = str(one.seeds or "-"), f"{one.sentences:,}" if one.sentences else "-"
        table.append(line)
    return _without_empty(table, "because")


def likelihoods(outcomes: Sequence[Outcome], kept: KeptStage) -> Grid | None:
    """What the compared rows' target texts cost for other choices of z: means over seeds, and their difference over the shared ones.

    The planned test asks one of them. A difference that changes its sign from one choice to another is no better or worse model of texts.
    None where a row has no z.
    """
    pairs = dict.fromkeys((one.row, one.beside) for one in outcomes)
    costs = {name: {result.seed: of_z for result in kept.rows.get(name, []) if (of_z := _costs(result))} for pair in pairs for name in pair}
    table = [_costs_line(name, list(by_seed.values())) for name, by_seed in costs.items() if by_seed]
    for mine, its in pairs:
        if shared := sorted(costs[mine].keys() & costs[its].keys()):
            gaps = [{of: costs[its][seed][of] - costs[mine][seed][of] for of in costs[mine][seed]} for seed in shared]
            table.append(_costs_line(f"{mine} beside {its}, gain", gaps, "+"))
    return Grid(table, f"{kept.stage.name}: NLL of y+ in nats a text, by where z is taken from") if len(table) > 2 else None


def _costs(result: Result) -> dict[str, float]:
    means = result.record["figures"]["means"]
    if not {"nll_prior", "nll_prior_sampled", "nll_posterior", "kl"} <= means.keys():
        return {}
    at_mean, drawn, posterior, kl = (means[name]["value"] for name in ("nll_prior", "nll_prior_sampled", "nll_posterior", "kl"))
    return {"the prior's mean": at_mean, "one draw from the prior": drawn, "posterior, plus KL: negative ELBO": posterior + kl}


def _costs_line(row: str, costs: Sequence[dict[str, float]], sign: str = "") -> dict[str, str]:
    """Means and standard deviations over seeds."""
    line = {"row": row, "seeds": str(len(costs))}
    for of in costs[0]:
        values = [one[of] for one in costs]
        deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        line[of] = f"{statistics.mean(values):{sign}.2f}{deviation}"
    return line


def _without_empty(table: list[dict], name: str) -> Grid:
    """A table without the column of a name where nothing stands in it."""
    return Grid(table if any(row[name] for row in table) else [{k: v for k, v in row.items() if k != name} for row in table])


def meter(kept: Iterable[KeptStage]) -> Grid | None:
    """Of each row with a latent variable, in how many runs each link is open."""
    table = []
    for one in kept:
        for row, results in one.rows.items():
            judged = [found for result in results if (found := links_of(result))]
            if not judged:
                continue
            line = {"row": f"{one.stage.name}: {row}"}
            for name in (*links.FIGURES, *links.ROADS):
                title = f"from {name} to the text" if name in links.ROADS else name
                line[title] = _counted([found[name] for found in judged if name in found]) or "-"
            table.append(line)
    return Grid(table) if table else None


def _counted(verdicts: Sequence[str]) -> str:
    """`OPEN`, or `OPEN 4 of 6` where runs differ; empty of no run."""
    if len(set(verdicts)) < 2:
        return "".join(verdicts[:1])
    return f"{links.OPEN} {verdicts.count(links.OPEN)} of {len(verdicts)}"


def on_training(one: KeptStage) -> Grid | None:
    """What the contrasts order on pairs that a stage's runs were trained on, and what that is worth to the text; None where nothing ran.

    Shares of pairs are means over seeds; a gain has its 95% interval over seeds and pairs.
    """
    table = []
    for row, results in one.rows.items():
        if not results:
            continue
        line = {"row": row, "runs": str(len(results))}
        for contrast in ("ins", "key", "ma"):
            shares = [mean["value"] for result in results if (mean := result.record["figures"]["means"].get(f"order_{contrast}"))]
            line[f"right order, L_{contrast}"] = f"{statistics.mean(shares):.1%}" if shares else "-"
        for measure in (MARGIN, NLL):
            line[f"gain in {measure.name}"] = _gain(one, row, results, measure)
        table.append(line)
    return Grid(table, one.stage.name) if table else None


def whatever_z(one: KeptStage) -> Grid | None:
    """What targets cost where no z is chosen, beside their cost at the prior's mean; None where no row has the study `likelihood`.

    Costs are means over seeds with their standard deviation; a gain over the base has its 95% interval over seeds and sentences.
    """
    table = []
    for row, results in one.rows.items():
        results = [result for result in results if LIKELIHOOD.study in result.record]
        if not results:
            continue
        found = [result.record[LIKELIHOOD.study] for result in results]
        line = {
            "row": row,
            "runs": str(len(results)),
            "the prior's mean": spread([result.record["figures"]["means"]["nll_prior"]["value"] for result in results]),
        }
        for draws in sorted(found[0]["bounds"], key=int):
            line[f"{draws} draws"] = spread([each["bounds"][draws]["value"] for each in found])
        line["draws of equal weight"] = f"{statistics.mean(each['effective_draws']['value'] for each in found):.0f}"
        for measure in (NLL, LIKELIHOOD):
            line[f"gain {measure.asked}"] = _gain(one, row, results, measure)
        table.append(line)
    return Grid(table, one.stage.name) if table else None


def _gain(one: KeptStage, row: str, results: Sequence[Result], measure: Measure) -> str:
    """By how much a row is better than its stage's base, with the 95% interval; `-` of the base itself."""
    gap = difference(results, one.rows.get(one.stage.base, []), measure) if row != one.stage.base else None
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] {measure.unit}" if gap else "-"


def claims_table(judged: Iterable[Judged], titles: dict[str, str]) -> Grid:
    """Each sentence of the paper with what became of it. titles: task -> what the page calls it."""
    table = [
        {
            "the paper says": one.says, "task": titles.get(one.task, one.task), "verdict": one.verdict, "ours, 95%": one.difference or "-",
            "paper": one.paper, "compared": one.compared, "seeds": str(one.seeds or "-"), "reason": one.reason, "cause": one.cause,
        }
        for one in judged
    ]  # fmt: skip
    return _without_empty(table, "cause")


def draws(kept: Iterable[KeptStage]) -> Grid | None:
    """What several outputs a source are worth: means over seeds."""
    table = []
    for one in kept:
        for row, results in one.rows.items():
            if found := [result.record["samples_of_z"] for result in results if "samples_of_z" in result.record]:
                values = {name: spread([each["means"][name]["value"] for each in found]) for name in found[0]["means"]}
                of = {"outputs a source": str(found[0]["of_each"]), "sources": f"{sources_of(found[0]['means']):,}"}
                table.append({"row": f"{one.stage.name}: {row}", **of, **values})
    return Grid(table) if table else None
