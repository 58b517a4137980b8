"""What rows are compared by, and its value for each example of a result."""

from dataclasses import dataclass

import numpy as np

from hcl_tf.evaluation.rows import PER_SENTENCE, Result
from hcl_tf.metrics.matched_overlap import at_matched_overlap
from hcl_tf.metrics.scores import SOURCE_BLEU


@dataclass(frozen=True)
class Measure:
    """What rows are compared by.

    Attributes:
      unit: of its values. better: 1 where more is better, -1 where less is.
      of_diagnostics: its name in the record's figures.per_example; empty: it is a score of each sentence.
      where: the name, there, of what is 1 for the examples that it is asked of; empty: of all.
      at_matched_overlap: the name of the score that is compared at matched overlap with the source (metrics/matched_overlap.py).
      asked: for which z, in words that follow the name; empty where no z is chosen.
      study: the record's entry (of hcl_tf.studies) that has it for each example; empty: it is no study's.
    """

    name: str
    unit: str
    better: int = 1
    of_diagnostics: str = ""
    where: str = ""
    at_matched_overlap: str = ""
    asked: str = ""
    study: str = ""

    @property
    def in_full(self) -> str:
        """Its name and the z for which it is asked."""
        return f"{self.name} {self.asked}".rstrip()


MARGIN = Measure("margin of y+ over y-", "nats a token", 1, "difference_a_token")
NLL = Measure("NLL of y+", "nats a text", -1, "nll", asked="at the prior's mean")
LIKELIHOOD = Measure("NLL of y+", "nats a text", -1, asked="whatever z", study="likelihood")  # of studies alone: no plan can test it
BLEU = Measure("BLEU-2", "points")
SHOWN = (MARGIN, NLL, BLEU, Measure("iBLEU", "points"))  # in pictures, too
# A model that copies prefers whichever text is nearer to the source, so the margin is also asked of texts that are equally near.
MEASURES = (
    *SHOWN,
    Measure("margin at equal overlap", "nats a token", 1, "difference_a_token", "equal_overlap"),
    Measure("BLEU-2 at matched overlap", "points", at_matched_overlap="BLEU-2"),
)
# By name, with every other score of sentences that a row keeps.
NAMED = {measure.name: measure for measure in MEASURES} | {
    name: Measure(name, "points") for name in PER_SENTENCE if name not in {measure.name for measure in MEASURES}
}


def of_examples(result: Result, measure: Measure) -> np.ndarray | None:
    """A measure of each example, [n] float64, NaN where it is not asked of one; None where the row does not have it."""
    if measure.study:
        found = result.record.get(measure.study)
        return None if found is None else np.array(found["per_example"], np.float64)
    if measure.of_diagnostics:
        kept = result.record["figures"].get("per_example", {})
        if measure.of_diagnostics not in kept or (measure.where and not any(kept.get(measure.where, ()))):
            return None
        values = np.array(kept[measure.of_diagnostics], np.float64)
        return np.where(kept[measure.where], values, np.nan) if measure.where else values
    if measure.at_matched_overlap and not result.record.get("per_copy"):
        return None  # kept before version 0.5
    values = result.record["per_sentence"].get(measure.at_matched_overlap or measure.name)
    return None if values is None else np.array(values, np.float64) / 100


def of_pair(mine: Result, its: Result, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """A measure of each example of two results, which at matched overlap depends on both."""
    scores = of_examples(mine, measure), of_examples(its, measure)
    if not measure.at_matched_overlap or len(scores[0]) != len(scores[1]):
        return scores
    overlaps = [np.array(one.record["per_sentence"][SOURCE_BLEU], np.float64) / 100 for one in (mine, its)]
    copies = [np.array(mine.record["per_copy"][name], np.float64) / 100 for name in (measure.at_matched_overlap, SOURCE_BLEU)]
    matched = at_matched_overlap(*scores, *overlaps, *copies)
    return matched.first, matched.second
