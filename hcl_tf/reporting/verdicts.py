"""The paper's numbers and sentences beside ours: differences, significance, and verdicts by a printed rule.

A verdict says how our number relates to the paper's. Whether ours comes from a run of the paper's size is another thing, which the mark
SCALED says beside the verdict, never instead of it.
"""

import statistics
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hcl_tf.config import TASKS
from hcl_tf.evaluation.rows import Result
from hcl_tf.metrics.decision import FEWEST_SEEDS
from hcl_tf.metrics.significance import PairedComparison, compare_paired
from hcl_tf.models.registry import OURS
from hcl_tf.reporting.claims import METRICS, Claim, Claims
from hcl_tf.reporting.comparisons import ELSEWHERE
from hcl_tf.reporting.ratings import Ratings
from hcl_tf.settings import COMPUTATION, NO_WEIGHTS
from hcl_tf.studies.human_evaluation.study import SCALES

CLOSE, NEAR = 0.02, 0.10
OK_, NEAR_, FAIL, NOT_RUN, EMPTY = "OK", "NEAR", "FAIL", "NOT RUN", ""
NOT_COMPARABLE = "NOT COMPARABLE"
RULE = (
    f"OK: our mean lies within {CLOSE:.0%} of the paper's value, or the paper's value within the range of our seeds; NEAR: within "
    f"{NEAR:.0%}; FAIL: farther away; NOT RUN: we have no run. No verdict where the paper's cell is empty. A sentence of the text is "
    "OK if our means differ in the direction that it says (of Table 3: if our mean lies above that of each other system), else FAIL; "
    f"by how much is shown and not judged. {NOT_COMPARABLE}: a cell of a row without the published weights that define it, or a sentence "
    "about rows whose first weights differ in kind (published, equal pretraining, random)."
)
SCALED = "SCALED"
GAIN, LOSS, UNCERTAIN = f"{OURS} above", f"{OURS} below", "not certain"
TOO_FEW = f"no verdict under {FEWEST_SEEDS} seeds"
GAIN_RULE = (
    f"{GAIN}, {LOSS}: the 95% interval of {OURS} minus the row, over sentences and the seeds that both have, crossed, lies above or below "
    f"0; {UNCERTAIN}: it holds 0. With one seed the interval is over sentences alone and does not know what another seed would change. "
    "Sentences that share a text count as one unit. "
    "Nothing is corrected for the number of rows. Only a gain over a row is credited to what the row lacks. Where a plan has a test that "
    "decides, its tests and the paper's sentences are judged on the front page alone."
)


@dataclass(frozen=True)
class Cell:
    """One row's score. `ours`: of each seed; `p`: against `OURS`, None where it can't be had."""

    row: str
    metric: str
    paper: float | None
    ours: tuple[float, ...]
    p: float | None
    verdict: str

    @property
    def mean(self) -> float | None:
        """Ours over seeds; None where the row did not run."""
        return statistics.mean(self.ours) if self.ours else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper


@dataclass(frozen=True)
class Checked:
    """A claim beside our means `of` and `to` (None: not all rows are there) over those `seeds` that all of its rows have.

    Attributes:
      comparison: of the sentences' scores, paired.
    """

    claim: Claim
    seeds: tuple[int, ...]
    of: float | None
    to: float | None
    comparison: PairedComparison | None
    verdict: str

    @property
    def percent(self) -> float | None:
        """By how much ours differ, in percent of `to`."""
        return None if self.of is None or not self.to else 100 * (self.of - self.to) / self.to


@dataclass(frozen=True)
class Rated:
    """What the paper says of one human scale beside the means of a study. `rival`: the best of the others; None: not all were rated."""

    scale: str
    of: float | None
    rival: str | None
    to: float | None
    p: float | None
    verdict: str


class Table:
    """Comparable results of one task, by row.

    Args:
      results: at least one, all on the same data and scored alike (`comparable`).
      ratings: what people made of outputs of the same data, if there is such a study.
      judged: False where tests of a plan say what is a gain (`reporting.outcomes`), which ask for more than an interval.
    """

    def __init__(self, task: str, results: Iterable[Result], claims: Claims, ratings: Ratings | None = None, judged: bool = True) -> None:
        self.task, self.claims, self.ratings, self.judged = task, claims.of(task), ratings, judged
        self.rows: dict[str, list[Result]] = {}
        self._compared: dict[tuple, PairedComparison] = {}  # each page asks again, and a comparison is 10,000 resamples
        for result in results:
            self.rows.setdefault(result.row, []).append(result)

    @property
    def beside_paper(self) -> bool:
        """Whether the paper has this task."""
        return self.task in TASKS

    @property
    def names(self) -> dict[str, str]:
        """Row -> what the paper calls it; those that ran and have no such name keep their own."""
        named = {row: name for rows in self.claims.tables.values() for row, name in rows.items()}
        return named | {row: row for row in self.further}

    @property
    def further(self) -> list[str]:
        """Rows that ran and are in none of the claims' tables: other contrast weights."""
        return [row for row in self.rows if not any(row in rows for rows in self.claims.tables.values())]

    @property
    def layout(self) -> dict[str, dict[str, str]]:
        """Title -> row -> its name: the paper's tables and what else ran. Of a task that the paper lacks, one table of what ran."""
        if self.beside_paper:
            return self.claims.tables | ({"Further rows": {row: row for row in self.further}} if self.further else {})
        return {"Scores": {row: name for row, name in self.names.items() if row in self.rows}}

    def mark(self, rows: Collection[str] = ()) -> str:
        """`SCALED` where a run of some rows, by default of any, is not of the paper's size, and the paper has the task."""
        results = [result for row in rows or self.rows for result in self.rows.get(row, [])]
        return SCALED if self.beside_paper and any(result.scaled for result in results) else ""

    def rated_mark(self, rows: Collection[str]) -> str:
        """`mark`, of what people rated of some rows: the runs of the study may be others than those of the table, on the same data."""
        systems = self.ratings.origin["systems"] if self.ratings else []
        presets = {system["preset"] for system in systems if system["name"] in rows}
        return SCALED if self.beside_paper and presets - {"paper"} else self.mark(rows)

    def cell(self, row: str, metric: str) -> Cell:
        """A row's score beside the paper's and beside `OURS`."""
        ours = self._values(row, metric)
        paper = self.claims.cells.get((self.task, row, metric))
        compared = None if row == OURS else self.compare((OURS,), (row,), metric)
        judged = NOT_COMPARABLE if paper is not None and ours and NO_WEIGHTS in self.cautions([row]) else verdict(paper, ours)
        return Cell(row, metric, paper, ours, compared and compared.p_value, judged)

    def cautions(self, rows: Iterable[str]) -> dict[str, str]:
        """Why some rows can't be taken at face value: mark -> what that means."""
        return {mark: text for row in rows for result in self.rows.get(row, []) for mark, text in result.cautions.items()}

    def weights(self, rows: Iterable[str]) -> set[str]:
        """The kinds of weights that some rows began with, without rows that always begin with random ones."""
        return {kind for row in rows for result in self.rows.get(row, []) if (kind := result.weights)}

    def checked(self) -> list[Checked]:
        """Every claim about this task, or about any."""
        return [self.check(claim) for claim in self.claims.claims if claim.task in (None, self.task)]

    def check(self, claim: Claim) -> Checked:
        """A claim against our means over rows and seeds."""
        seeds = self.seeds((*claim.of, *claim.to))
        of, to = (self._mean(rows, claim.metric, seeds) for rows in (claim.of, claim.to))
        if of is None or to is None:
            return Checked(claim, seeds, of, to, None, NOT_RUN)
        agrees = of > to if claim.direction == "above" else of < to
        judged = ELSEWHERE if not self.judged else OK_ if agrees else FAIL
        judged = NOT_COMPARABLE if len(self.weights((*claim.of, *claim.to))) > 1 else judged
        return Checked(claim, seeds, of, to, self.compare(claim.of, claim.to, claim.metric), judged)

    def gain(self, row: str, metric: str) -> tuple[PairedComparison | None, str]:
        """`OURS` minus a row, and by `GAIN_RULE` what that says."""
        compared = self.compare((OURS,), (row,), metric)
        if not compared:
            return None, NOT_RUN
        if not self.judged:
            return compared, ELSEWHERE
        if len(self.seeds((OURS, row))) < FEWEST_SEEDS:
            return compared, TOO_FEW
        return compared, GAIN if compared.low > 0 else LOSS if compared.high < 0 else UNCERTAIN

    def rated(self) -> list[Rated]:
        """What the paper says of Table 3, scale by scale; nothing where it says nothing of this task."""
        claim = self.claims.human
        if not claim or claim.task not in (None, self.task):
            return []
        found = []
        for scale in SCALES:
            means = {row: self.ratings and self.ratings.mean(row, scale) for row in (claim.of, *claim.to)}
            if not all(means.values()):
                found.append(Rated(scale, None, None, None, None, NOT_RUN))
                continue
            of, rival = means[claim.of]["value"], max(claim.to, key=lambda row: means[row]["value"])
            to = means[rival]["value"]
            found.append(Rated(scale, of, rival, to, self.ratings.p(claim.of, rival, scale), OK_ if of > to else FAIL))
        return found

    def rated_mean(self, row: str, scale: str) -> tuple[float | None, str]:
        """The paper's mean of a row on a human scale, and the verdict on ours."""
        human, ours = self.claims.human, self.ratings and self.ratings.mean(row, scale)
        paper = human.cells.get((row, scale)) if human and human.task in (None, self.task) else None
        return paper, verdict(paper, (ours["value"],) if ours else ())

    def verdicts(self) -> set[str]:
        """Of all cells and claims."""
        cells = {self.cell(row, metric).verdict for rows in self.layout.values() for row in rows for metric in METRICS}
        rated = self.rated()
        people = {self.rated_mean(row, scale.scale)[1] for scale in rated for row in (self.claims.human.of, *self.claims.human.to)}
        return cells | people | {checked.verdict for checked in (*self.checked(), *rated)}

    def compare(self, of: tuple[str, ...], to: tuple[str, ...], metric: str) -> PairedComparison | None:
        """Compares means over rows, for each sentence and each seed that all of the rows have: crossed over both, or with one seed by a
        paired bootstrap over sentences. Sentences that share a text are one unit (`Result.by_unit`).

        None where a row is missing, no seed is common to all, or the metric has no value for single sentences.
        """
        seeds = self.seeds((*of, *to))
        compared = [result for row in (*of, *to) for result in self.rows.get(row, [])]
        if not seeds or not all(metric in result.record["per_sentence"] for result in compared):
            return None
        if (of, to, metric) not in self._compared:
            table = np.subtract(*(self._by_sentence(rows, metric, seeds) for rows in (of, to)))
            self._compared[of, to, metric] = compare_paired(compared[0].by_unit(table))
        return self._compared[of, to, metric]

    def seeds(self, rows: Collection[str]) -> tuple[int, ...]:
        """The seeds that each of some rows has: rows are compared over these alone, since seeds differ by more than most systems do."""
        return tuple(sorted(set.intersection(*({result.seed for result in self.rows.get(row, [])} for row in rows))))

    def _values(self, row: str, metric: str, seeds: Collection[int] | None = None) -> tuple[float, ...]:
        """A row's score of each seed (None: of all) that has one."""
        results = [result for result in self.rows.get(row, []) if seeds is None or result.seed in seeds]
        return tuple(value for result in results if (value := result.score(metric)) is not None)

    def _mean(self, rows: tuple[str, ...], metric: str, seeds: Collection[int]) -> float | None:
        means = [self.cell_mean(row, metric, seeds) for row in rows]
        return None if None in means else statistics.mean(means)

    def cell_mean(self, row: str, metric: str, seeds: Collection[int] | None = None) -> float | None:
        """Mean over seeds; None: over all that the row has."""
        values = self._values(row, metric, seeds)
        return statistics.mean(values) if values else None

    def _by_sentence(self, rows: tuple[str, ...], metric: str, seeds: Collection[int]) -> np.ndarray:
        """[seeds, n] score of each sentence, a mean over rows."""
        of_row = [{r.seed: r.record["per_sentence"][metric] for r in self.rows[row]} for row in rows]
        return np.mean([[scores[seed] for seed in sorted(seeds)] for scores in of_row], axis=0) / 100


def verdict(paper: float | None, ours: tuple[float, ...]) -> str:
    """`RULE`, of a cell."""
    if paper is None:
        return EMPTY if ours else NOT_RUN
    if not ours:
        return NOT_RUN
    away = abs(statistics.mean(ours) - paper)
    if away <= CLOSE * abs(paper) or min(ours) <= paper <= max(ours):
        return OK_
    return NEAR_ if away <= NEAR * abs(paper) else FAIL


def comparable(results: list[Result]) -> tuple[list[Result], list[tuple[Result, str]]]:
    """Those that can stand in one table, and the others with the reason.

    The measure is the first run of `OURS`, or the first run: all need its raw data, split, references and signatures. Another tokeniser
    is shown, not set apart. A second run of the same row and seed is set apart, and so is one of other settings than its row's first.
    """
    first = next((result for result in results if result.row == OURS), results[0])
    same: dict[str, Callable[[Result], object]] = {
        "task": lambda r: r.record["task"],
        "raw files": lambda r: sorted(r.record["corpus"]["raw_files"].values()),
        "test examples (other split, limit or references)": lambda r: r.record["references"],
        # Of the scores that both have: a version may have some that an earlier one had not.
        "metric signatures": lambda r: [r.record["scores"].get(name, entry)["signature"] for name, entry in first.record["scores"].items()],
    }
    kept, apart = [], []
    for result in results:
        differing = [what for what, of in same.items() if of(result) != of(first)]
        siblings = [other for other in kept if other.row == result.row]
        if differing:
            apart.append((result, f"other {differing[0]} than {first.origin}"))
        elif any(other.seed == result.seed for other in siblings):
            apart.append((result, f"a second {result.row} with seed {result.seed}; the first is {siblings[0].origin}"))
        elif siblings and (names := differing_settings(result, siblings[0])):
            apart.append((result, f"another {names[0]} than {siblings[0].origin}, and one row has one setting"))
        else:
            kept.append(result)
    return kept, apart


def differing_settings(a: Result, b: Result) -> list[str]:
    """Names of settings in which two results differ, besides the seed and those that say how to compute and not what."""
    return sorted(differing(a.settings, b.settings) - {"seed", *COMPUTATION})


def differing(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    """The names that do not have the same value in both."""
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
