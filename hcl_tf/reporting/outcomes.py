"""What the tests of a plan say of the rows that are kept: differences, intervals, corrected p-values, verdicts with their reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hcl_tf.evaluation import links
from hcl_tf.evaluation.rows import Result
from hcl_tf.files.pretraining_record import bits_of
from hcl_tf.metrics import decision
from hcl_tf.metrics.crossed import CrossedMean, crossed_mean
from hcl_tf.metrics.significance import compare_paired
from hcl_tf.reporting.comparisons import paired
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.measures import Measure, of_examples
from hcl_tf.reporting.meter import is_closed
from hcl_tf.reporting.plan import PlannedTest

NOT_RUN, NOT_YET, CLOSED, OTHER_BITS, FAILED = "NOT RUN", "not yet", "channel CLOSED", "OTHER WEIGHTS", "FAILED SCORES"
SAME_STEPS = "SAME CHECKPOINTS"
UNJUDGED = (NOT_RUN, NOT_YET, CLOSED, OTHER_BITS, FAILED, SAME_STEPS)
ALPHA = 0.05
RULE = (
    f"{decision.RULE} {decision.YES} and {decision.LOSS} also need p below {ALPHA} after Holm's correction for all comparisons of the "
    "family that are planned with enough seeds, whether they ran or not; it is said where they lie within the margin all the same. "
    "Sentences that share a text are not independent and count as one. "
    f"{NOT_YET}: a planned seed of either row is missing or lacks the measure, and nothing is judged before. "
    f"{FAILED}: of some sentence the measure is no number. "
    f"{CLOSED}: in one of the rows z does not reach the text, so their difference says nothing of what acts through z. It "
    f"does where another example's prior mean costs the target at least {links.FELT} nats, in the mean over the row's runs, and the 95% "
    "interval of that mean over runs lies above 0. "
    f"{OTHER_BITS}: with some seed the two rows begin with weights of one name that were made twice, and so with other weights; of rows "
    "that are compared through an open channel also with weights of two names. "
    f"{SAME_STEPS}: the stage scores another stage's runs at another checkpoint, and both are of the same step in every run, so it is no "
    "second look; where some are, it says of how many."
)


@dataclass(frozen=True)
class Outcome:
    """A row beside another in one measure.

    Attributes:
      seeds, sentences: that both have. value, low, high: the difference in the direction of better and its 95% interval, over seeds and
        sentences, or with one seed over sentences alone; None: there is nothing to compare. narrow: the 90% interval.
      p: of no difference; corrected: by Holm, within its family. found: the analysis behind these, with two seeds or more.
      correlation: of both rows' means over seeds, of three seeds or more.
      because: the reason of a verdict that is none of the rule's, in words.
    """

    test: PlannedTest
    row: str
    beside: str
    measure: Measure
    margin: float
    verdict: str
    seeds: int = 0
    sentences: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    narrow: tuple[float, float] | None = None
    p: float | None = None
    corrected: float | None = None
    found: CrossedMean | None = None
    correlation: float | None = None
    because: str = ""


def outcomes(test: PlannedTest, kept: KeptStage, scored: KeptStage | None = None) -> list[Outcome]:
    """Judges a planned test, measure by measure, of each of the rows it stands beside.

    Args:
      scored: the stage whose runs the test's own stage scores at another checkpoint; None: it scores runs of its own.
    """
    found = [_outcome(test, kept, scored, beside, measure, margin) for beside in test.beside for measure, margin in test.margins.items()]
    judged = [place for place, one in enumerate(found) if one.verdict in (decision.YES, decision.NO, decision.LOSS, decision.UNDECIDED)]
    family = sum(len(_planned_seeds(kept, one.row, one.beside)) >= decision.FEWEST_SEEDS for one in found)
    for place, p in zip(judged, decision.holm([found[place].p for place in judged], family), strict=True):
        found[place] = _corrected(replace(found[place], corrected=p))
    return found


def _corrected(one: Outcome) -> Outcome:
    """Takes back a difference whose corrected p is too large, and says of one that stays whether it lies within the margin."""
    if one.verdict not in (decision.YES, decision.LOSS):
        return one
    small = decision.within(*one.narrow, one.margin)
    if one.corrected >= ALPHA:
        verdict = decision.NO if small else decision.UNDECIDED
        return replace(one, verdict=verdict, because=_joined(one.because, f"p is {one.corrected:.3f} after Holm's correction"))
    return replace(one, because=_joined(one.because, f"within {one.margin:g}, the margin of no difference" if small else ""))


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _planned_seeds(kept: KeptStage, row: str, beside: str) -> set[int]:
    """The seeds that two rows are to have both."""
    return set(kept.stage.row(row).seeds) & set(kept.stage.row(beside).seeds)


def _outcome(test: PlannedTest, kept: KeptStage, scored: KeptStage | None, beside: str, measure: Measure, margin: float) -> Outcome:
    planned = _planned_seeds(kept, test.row, beside)
    own, base = ([result for result in kept.rows[name] if result.seed in planned] for name in (test.row, beside))
    empty = Outcome(test, test.row, beside, measure, margin, NOT_RUN)
    if not own or not base:
        return replace(empty, because=f"{_counted(kept, test.row)}, {_counted(kept, beside)}")
    if failed := [text for result in (*own, *base) if (text := _failed(result, measure))]:
        return replace(empty, verdict=FAILED, because="; ".join(failed))
    table = paired(own, base, measure)
    if table is None:
        return replace(empty, because=f"no seed of both has {measure.name}")
    one = replace(_described(empty, table), correlation=_correlation(own, base, measure))
    if len(table) < len(planned):
        return replace(one, verdict=NOT_YET, because=f"{len(table)} of {len(planned)} paired seeds")
    same, runs = _same_steps((*own, *base), scored) if scored else 0, len(own) + len(base)
    if same == runs:
        return replace(one, verdict=SAME_STEPS, because=f"those of stage {scored.stage.name}, which judges them")
    if apart := begun_apart(own, base, test.open_channel):
        return replace(one, verdict=OTHER_BITS, because=apart)
    if test.open_channel and (closed := [name for name, runs in ((test.row, own), (beside, base)) if is_closed(runs)]):
        return replace(one, verdict=CLOSED, because=f"z does not reach the text in {' and '.join(closed)}")
    because = f"{same} of {runs} runs have the checkpoints of stage {scored.stage.name}" if same else ""
    return replace(one, verdict=decision.verdict(table, margin), because=because)


def _failed(result: Result, measure: Measure) -> str:
    """Says of how many sentences a measure is no number, though it is asked of all; "": of none."""
    values = None if measure.where else of_examples(result, measure)
    count = 0 if values is None else int((~np.isfinite(values)).sum())
    return f"{measure.name} of {result.row} seed {result.seed} is no number for {count} of {len(values)} sentences" if count else ""


def _same_steps(results: Sequence[Result], scored: KeptStage) -> int:
    """Counts the runs that are scored at the step at which the other stage scores them."""
    steps = {(result.row, result.seed): result.record["step"] for result in scored.results}
    return sum(steps.get((result.row, result.seed)) == result.record["step"] for result in results)


def begun_apart(own: Sequence[Result], base: Sequence[Result], one_name: bool = False) -> str:
    """Says with which seeds two rows begin with weights of hcl_tf.pretrain that have one name and other bits; "": with none.

    Args:
      one_name: whether the two rows have to begin with weights of one name, too.
    """
    of_base, seeds = {result.seed: result for result in base}, []
    for result in own:
        other = of_base.get(result.seed)
        if not other or not (result.pretrained_here or other.pretrained_here):
            continue
        same = result.pretrained_here == other.pretrained_here
        if (one_name and not same) or (same and bits_of(result.record["encoder"]) != bits_of(other.record["encoder"])):
            seeds.append(result.seed)
    names = {result.pretrained_here for result in (*own, *base)} - {""}
    said = f"{' and '.join(sorted(names))} {'was made twice' if len(names) == 1 else 'are two'}"
    return f"{said}, of seed {', '.join(map(str, sorted(seeds)))}" if seeds else ""


def _described(empty: Outcome, table: np.ndarray) -> Outcome:
    """The difference of a table [seeds, sentences] with its intervals."""
    sizes = {"seeds": len(table), "sentences": table.shape[1]}
    if len(table) == 1:
        one = compare_paired(table)
        return replace(empty, **sizes, value=one.difference, low=one.low, high=one.high)
    wide, narrow = crossed_mean(table), crossed_mean(table, 0.90)
    interval = {"value": wide.value, "low": wide.low, "high": wide.high, "narrow": (narrow.low, narrow.high)}
    return replace(empty, **sizes, **interval, p=wide.p, found=wide)


def _correlation(own: Sequence[Result], base: Sequence[Result], measure: Measure) -> float | None:
    """Correlates the means of both rows over the seeds that both have; None of fewer than three, or where one's means are all the same."""
    means_of = [{r.seed: np.nanmean(values) for r in rows if (values := of_examples(r, measure)) is not None} for rows in (own, base)]
    seeds = sorted(means_of[0].keys() & means_of[1].keys())
    columns = np.array([[of_row[seed] for seed in seeds] for of_row in means_of])
    return float(np.corrcoef(columns)[0, 1]) if len(seeds) > 2 and columns.std(1).all() else None


def _counted(kept: KeptStage, row: str) -> str:
    return f"{row} {len(kept.rows[row])} of {len(kept.stage.row(row).seeds)} seeds"
