"""Judges each known sentence of the paper by the rows of a plan: it holds, does not hold, is undecided, or can't be tested here."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from hcl_tf.evaluation import links
from hcl_tf.evaluation.rows import PER_SENTENCE, Result
from hcl_tf.metrics import decision
from hcl_tf.metrics.significance import compare_paired
from hcl_tf.models.registry import OURS
from hcl_tf.reporting.claims import Claim, Claims
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.meter import links_of
from hcl_tf.reporting.outcomes import begun_apart
from hcl_tf.settings import NO_WEIGHTS

HOLDS, FAILS, UNDECIDED, NOT_TESTABLE = VERDICTS = ("holds", "does not hold", "undecided", "not testable here")
MARGIN = 0.5  # points of BLEU that count as no difference
UNKNOWN = "cause unknown"
FOLLOWED, CHANGED = 0.2, 0.3  # of Table 4: shares of outputs with the keyword that was given, and of outputs that it changes
TABLE4 = "an output keeps its keyword and follows another that is given in its place (Table 4)"
RULE = (
    f"By seeds and sentences crossed, as the tests above. {HOLDS}: the 95% interval lies on the side that the sentence says. "
    f"{FAILS}: it lies on the other, or the 90% interval lies within {MARGIN} points of BLEU on both sides of 0. "
    f"{UNDECIDED}: neither, fewer than {decision.FEWEST_SEEDS} seeds of all rows, a planned seed that has not run, or weights that were "
    "made twice. "
    f"{NOT_TESTABLE}: a row is missing, lacks the published weights that define it, or began with another kind of weights than the other. "
    f"Of Table 4, in the mean over as many seeds: a swapped keyword changes at least {CHANGED:.0%} of the outputs and stands in at least "
    f"{FOLLOWED:.0%} of them. "
    "Sentences that name no metric are asked in BLEU-1. By how much is shown and not judged, and "
    "nothing is corrected for the number of sentences."
)


@dataclass(frozen=True)
class Judged:
    """A sentence.

    Attributes:
      task: a task of the paper, or empty: any. paper: by how much, in words. difference: value, interval and percent, in words; empty
        where there is none. seeds: that all of its rows have. reason: of the verdict. cause: of one that does not hold.
    """

    says: str
    task: str
    compared: str
    paper: str
    verdict: str
    reason: str
    difference: str = ""
    seeds: int = 0
    cause: str = ""


def judge(claims: Claims, kept: Iterable[KeptStage], causes: dict[str, str]) -> list[Judged]:
    """Judges every sentence on each task that it is about.

    Args:
      kept: one stage a task. causes: of the plan, `<task>: <sentence>` -> text.
    """
    stages = {one.stage.task: one for one in kept}
    found = []
    for claim in claims.claims:
        for task in [claim.task] if claim.task else stages:
            found.append(_judge(claim, task, stages.get(task), causes.get(f"{task}: {claim.says}", "")))
    if claims.human:
        why = "nobody rated outputs here; python -m hcl_tf.studies.human_evaluation makes the sheets"
        found.append(Judged(claims.human.says, "", f"{claims.human.of} with {', '.join(claims.human.to)}", "", NOT_TESTABLE, why))
    found += [_table4(task, one, causes.get(f"{task}: {TABLE4}", "")) for task, one in stages.items()]
    return found


def _judge(claim: Claim, task: str, kept: KeptStage | None, cause: str) -> Judged:
    percent = "direction only" if claim.percent is None else f"{claim.percent:+.1f}%"
    compared = f"{', '.join(claim.of)} with {', '.join(claim.to)}, {claim.metric}"
    empty = Judged(claim.says, task, compared, percent, NOT_TESTABLE, "")
    rows = (*claim.of, *claim.to)
    if missing := [row for row in rows if not kept or not kept.rows.get(row)]:
        return replace(empty, reason=f"NOT RUN: {', '.join(missing)}")
    results = {row: {result.seed: result for result in kept.rows[row]} for row in rows}
    planned = set.intersection(*(set(kept.stage.row(row).seeds) for row in rows))
    seeds = sorted(planned.intersection(*results.values()))
    if not seeds:
        return replace(empty, reason="its rows share no seed")
    if claim.metric not in PER_SENTENCE:
        return replace(empty, reason=f"{claim.metric} is not kept for each sentence, which an interval needs")
    kinds = {result.weights for row in rows for result in results[row].values() if result.weights}
    sign = 1 if claim.direction == "above" else -1
    sides = [_scores([results[row] for row in side], seeds, claim.metric) for side in (claim.of, claim.to)]
    table = results[rows[0]][seeds[0]].by_unit(sides[0] - sides[1])  # --> [seeds, units]
    gap = compare_paired(table)
    mean, percent_here = gap.difference, 100 * gap.difference / sides[1].mean()
    said = f"{mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] ({percent_here:+.1f}%)"
    one = replace(empty, difference=said, seeds=len(seeds))
    if unlike := [row for row in rows if any(NO_WEIGHTS in result.cautions for result in results[row].values())]:
        where = f"with {' and '.join(sorted(kinds))} weights"
        side = "above" if mean > 0 else "below"
        text = f"a sentence about published weights, which {', '.join(unlike)} had not; {where} {claim.of[0]} is {side} by {abs(mean):.2f}"
        return replace(one, reason=text)
    if len(kinds) > 1:
        return replace(one, reason=f"its rows began with different kinds of weights: {' and '.join(sorted(kinds))}")
    if missing := len(planned) - len(seeds):
        return replace(one, verdict=UNDECIDED, reason=f"{missing} of {len(planned)} planned seeds have not run, and nothing is said before")
    if apart := [text for of in claim.of for to in claim.to if (text := begun_apart(kept.rows[of], kept.rows[to]))]:
        return replace(one, verdict=UNDECIDED, reason=apart[0])
    size = _size(result for of_row in results.values() for result in of_row.values())
    verdict = {
        decision.YES: HOLDS, decision.LOSS: FAILS, decision.NO: FAILS, decision.UNDECIDED: UNDECIDED, decision.DESCRIPTIVE: UNDECIDED,
    }[found := decision.verdict(sign * table, MARGIN)]  # fmt: skip
    reason = {
        decision.YES: "the interval lies on the side that it says", decision.LOSS: "the interval lies on the other side",
        decision.NO: f"no difference beyond {MARGIN} points", decision.UNDECIDED: "the interval holds 0 and is too wide for no difference",
        decision.DESCRIPTIVE: _few(len(seeds)),
    }[found] + size  # fmt: skip
    return replace(one, verdict=verdict, reason=reason, cause=(cause or _measured_cause(rows, kept)) if verdict == FAILS else "")


def _few(seeds: int) -> str:
    return f"{seeds} seed{'s' if seeds > 1 else ''}, {decision.FEWEST_SEEDS} are needed for a verdict"


def _scores(rows: list[dict[int, Result]], seeds: list[int], metric: str) -> np.ndarray:
    """[seeds, sentences] scores, means over rows."""
    return np.mean([[np.array(of_row[seed].record["per_sentence"][metric]) / 100 for seed in seeds] for of_row in rows], axis=0)


def _size(results: Iterable[Result]) -> str:
    """Says where runs are not of the paper's size."""
    return "; at this size, which is not the paper's" if any(result.scaled for result in results) else ""


def _measured_cause(rows: Iterable[str], kept: KeptStage) -> str:
    """What the meter says of ours: contrasts can't act where the road from negatives is closed."""
    if OURS not in rows:
        return UNKNOWN
    judged = [found for result in kept.rows[OURS] if (found := links_of(result))]
    closed = [road for road in links.ROADS if judged and all(found[road] == links.CLOSED for found in judged)]
    if closed:
        return f"the meter: the road from {' and from '.join(closed)} to the text is {links.CLOSED} in all {len(judged)} runs of {OURS}"
    return UNKNOWN


def _table4(task: str, kept: KeptStage, cause: str) -> Judged:
    """Whether outputs follow a keyword that is given in place of their own."""
    made = [result.record["keyword_control"]["figures"] for result in kept.rows.get(OURS, []) if "keyword_control" in result.record]
    empty = Judged(TABLE4, task, f"{OURS}, swapped keywords with its own", "two examples", NOT_TESTABLE, "")
    if not made:
        return replace(empty, reason=f"NOT RUN: keyword control of {OURS}")
    followed, changed = (
        float(np.mean([figures[name]["values"]["swapped"]["value"] for figures in made]))
        for name in ("swapped-keyword-included", "outputs-changed")
    )
    holds = followed >= FOLLOWED and changed >= CHANGED
    reason = f"a swapped keyword changes {changed:.1%} of the outputs and stands in {followed:.1%} of them"
    planned = len(kept.stage.row(OURS).seeds)
    if len(made) < max(planned, decision.FEWEST_SEEDS):
        few = f"{planned - len(made)} of {planned} planned seeds have not run" if len(made) < planned else _few(len(made))
        return replace(empty, verdict=UNDECIDED, reason=f"{reason}; {few}", seeds=len(made))
    found = replace(empty, verdict=HOLDS if holds else FAILS, reason=reason, seeds=len(made))
    return found if holds else replace(found, cause=cause or _measured_cause((OURS,), kept))
