"""Rows of a plan's stage beside the row that each is compared with, example by example."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from hcl_tf.evaluation.rows import Result
from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.metrics.decision import within
from hcl_tf.metrics.significance import compare_paired
from hcl_tf.reporting.measures import MEASURES, Measure, of_examples, of_pair
from hcl_tf.reporting.plan import PlannedStage

NOT_RUN, ANOTHER_TRUNK, OTHER_EXAMPLES, DOES_NOT_COUNT = "NOT RUN", "ANOTHER TRUNK", "OTHER EXAMPLES", "DOES NOT COUNT"
ABOVE, BELOW, EQUAL, UNDECIDED = "above", "below", "within the margin of no difference", "undecided"
ELSEWHERE = "judged on the front page alone"


@dataclass(frozen=True)
class Difference:
    """A row minus the row that it is compared with, in the direction of better; `seeds`: those that both have.

    With one seed low and high are the bootstrap interval over examples, with more the crossed one over seeds and examples, of which
    `narrow` is the 90% one. `noise`: what two seeds of the row beside differ by, of the stage's base where that has one seed.
    `margin`: what the plan takes for no difference; None: it does not say. `judged`: whether its verdict follows from it alone.
    """

    value: float
    low: float
    high: float
    seeds: int
    noise: float = 0.0
    narrow: tuple[float, float] | None = None
    margin: float | None = None
    judged: bool = True

    @property
    def verdict(self) -> str:
        """Whether it lies above or below 0, or within the margin. One seed's interval does not know the noise, so it has to be larger."""
        if not self.judged:
            return ELSEWHERE
        certain = self.seeds > 1 or abs(self.value) > self.noise
        if certain and (self.low > 0 or self.high < 0):
            return ABOVE if self.low > 0 else BELOW
        return EQUAL if self.margin and self.narrow and within(*self.narrow, self.margin) else UNDECIDED


@dataclass(frozen=True)
class ComparedRow:
    """A row of a stage.

    Attributes:
      results: of its seeds. beside: the row that it is compared with. differences: measure -> difference, where both have it.
      marks: why a comparison can't be taken at face value, in words. counts: whether it is as good as the plan asks of a row that counts.
    """

    name: str
    asks: str
    results: tuple[Result, ...]
    beside: str
    differences: dict[str, Difference]
    marks: tuple[str, ...]
    counts: bool = True

    def value(self, measure: Measure) -> float | None:
        """The mean over seeds; None where it has none."""
        known = [np.nanmean(values) for result in self.results if (values := of_examples(result, measure)) is not None]
        return float(np.mean(known)) if known else None


def compare(stage: PlannedStage, results: Iterable[Result], judged: bool = True) -> list[ComparedRow]:
    """Compares a stage's rows (`kept.results_of`), in the order of the plan; a row without results is there, too.

    Args:
      judged: False where tests of the plan judge (`reporting.outcomes`), which ask for more than an interval.
    """
    found: dict[str, list[Result]] = {row.name: [] for row in stage.rows}
    for result in results:
        found[result.row].append(result)
    compared, of_stage = [], found[stage.base]
    for row in stage.rows:
        beside = "" if row.name == stage.beside(row.name) else stage.beside(row.name)
        own, base = found[row.name], found.get(beside, [])
        differences = {}
        for measure in MEASURES if beside else ():
            if gap := difference(own, base, measure):
                noise = between_seeds(base if len(base) > 1 else of_stage, measure)
                differences[measure.name] = replace(gap, noise=noise, margin=stage.margins.get(measure), judged=judged)
        short = [
            f"{DOES_NOT_COUNT}: {measure.name} {-differences[measure.name].value:.2f} worse, {allowed:g} allowed"
            for measure, allowed in stage.counts.items()
            if measure.name in differences and differences[measure.name].value < -allowed
        ]
        marks = (*_marks(own, base), *short)
        compared.append(ComparedRow(row.name, row.asks, tuple(own), beside, differences, marks, not short))
    return compared


def difference(own: Iterable[Result], base: Iterable[Result], measure: Measure) -> Difference | None:
    """Compares two rows, paired by example and by the seeds that both have; None where there is nothing to compare."""
    table = paired(own, base, measure)
    if table is None:
        return None
    found, narrow = compare_paired(table), None
    if min(table.shape) > 1:
        at_90 = crossed_mean(table, 0.90)
        narrow = at_90.low, at_90.high
    return Difference(found.difference, found.low, found.high, len(table), narrow=narrow)


def paired(own: Iterable[Result], base: Iterable[Result], measure: Measure) -> np.ndarray | None:
    """A row minus another for each seed that both have and each unit of examples that all have, in the direction of better: [seeds, units].

    None where they share no seed, one of them lacks the measure or has a value that is no number, or they were scored on different
    examples.
    """
    ours, theirs = ({result.seed: result for result in one if of_examples(result, measure) is not None} for one in (own, base))
    return _table([(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())], measure)


def _table(pairs: list[tuple[Result, Result]], measure: Measure) -> np.ndarray | None:
    values = [of_pair(mine, its, measure) for mine, its in pairs]
    same = len(_examples(result for pair in pairs for result in pair)) == 1 and len({len(v) for pair in values for v in pair}) == 1
    if not values or not same:
        return None
    table = measure.better * np.stack([mine - its for mine, its in values])
    if not measure.where and not np.isfinite(table).all():
        return None  # a sentence without a number is left out only where the measure is not asked of it
    found = pairs[0][0].by_unit(table)
    return found if found.size else None


def between_seeds(results: Iterable[Result], measure: Measure) -> float:
    """The largest difference between two seeds of one row; 0 where there are not two."""
    means_of_seeds = [float(np.nanmean(values)) for result in results if (values := of_examples(result, measure)) is not None]
    return max(means_of_seeds) - min(means_of_seeds) if means_of_seeds else 0.0


def _examples(results: Iterable[Result]) -> set[str]:
    """The examples that results are of, by the hashes of their ids and texts."""
    return {result.record["references"] for result in results}


def _marks(own: list[Result], base: list[Result]) -> list[str]:
    """Why a comparison can't be taken at face value."""
    found = [] if own else [NOT_RUN]
    trunks = [{(result.record.get("init_from") or {}).get("sha256") for result in one} for one in (own, base)]
    if own and base and trunks[0].isdisjoint(trunks[1]) and None not in trunks[0] | trunks[1]:
        found.append(ANOTHER_TRUNK)
    if own and base and _examples(own) != _examples(base):
        found.append(OTHER_EXAMPLES)
    return found + sorted({mark for result in own for mark in result.cautions})
