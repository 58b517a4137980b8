"""The sentences at the top of the front page, which follow from verdicts alone."""

from collections import Counter
from collections.abc import Sequence

from hcl_tf.evaluation import links
from hcl_tf.metrics.decision import DESCRIPTIVE, NO, TURNED, UNDECIDED, YES
from hcl_tf.reporting.judged_claims import VERDICTS, Judged
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.outcomes import CLOSED, NOT_RUN, NOT_YET, Outcome, links_of

WORDS = {
    YES: "a gain", TURNED: "a loss", NO: "no difference beyond {margin:g} {unit}", UNDECIDED: "undecided",
    DESCRIPTIVE: "too few seeds for a verdict", NOT_YET: "not judged before all planned seeds are there", CLOSED: "not judged",
}  # fmt: skip


def headline(primary: Sequence[Outcome], secondary: Sequence[Outcome], kept: Sequence[KeptStage], judged: Sequence[Judged]) -> list[str]:
    """One sentence for each measure of the primary test, and one each for the other tests, the meter, and the paper's sentences."""
    return [*map(_of_primary, primary), _of_secondary(secondary), _of_meter(kept), _of_claims(judged)]


def _of_primary(one: Outcome) -> str:
    where = f"On {one.test.stage}, {one.row} beside {one.beside} in {one.measure.name}"
    if one.verdict == NOT_RUN:
        return f"{where}, the test that decides: {NOT_RUN} ({one.because})."
    word = WORDS[one.verdict].format(margin=one.margin, unit=one.measure.unit)
    interval = f"{one.value:+.2f} {one.measure.unit} [{one.low:+.2f}, {one.high:+.2f}], above 0 is better"
    return (
        f"{where}: {word}{f' ({one.because})' if one.because else ''}; {interval}, over {one.seeds} seeds and {one.sentences:,} sentences."
    )


def _of_secondary(outcomes: Sequence[Outcome]) -> str:
    ran = [one for one in outcomes if one.verdict != NOT_RUN]
    if not ran:
        return f"The {len(outcomes)} further planned comparisons: {NOT_RUN}."
    said = []
    for row in dict.fromkeys(one.row for one in ran):
        named = {
            word: [f"{one.beside} ({one.test.stage}, {one.measure.name})" for one in ran if (one.row, one.verdict) == (row, verdict)]
            for word, verdict in (("above", YES), ("below", TURNED), ("no different from", NO))
        }
        of_row = [f"{word} {', '.join(rows)}" for word, rows in named.items() if rows]
        said.append(f"{row} is {'; '.join(of_row) or 'above and below none'}")
    open_ = sum(one.verdict not in (YES, TURNED, NO) for one in ran)
    left = [f"{open_} without a verdict"] if open_ else []
    missing = [f"{len(outcomes) - len(ran)} {NOT_RUN}"] if len(ran) < len(outcomes) else []
    return f"Of {len(outcomes)} further planned comparisons: {'; '.join([*said, *left, *missing])}."


def _of_meter(kept: Sequence[KeptStage]) -> str:
    judged = [found for one in kept if not one.stage.runs_of for result in one.results if (found := links_of(result))]
    if not judged:
        return f"Whether keywords and negatives reach the text through z: {NOT_RUN}."
    counts = [f"from {road} in {sum(found[road] == links.OPEN for found in judged)}" for road in links.ROADS]
    return f"The road through z to the text is {links.OPEN} {' and '.join(counts)} of {len(judged)} runs that have a z."


def _of_claims(judged: Sequence[Judged]) -> str:
    counts = Counter(one.verdict for one in judged)
    parts = ", ".join(f"{counts[verdict]} {_verb(verdict, counts[verdict])}" for verdict in VERDICTS)
    return f"Of the paper's {len(judged)} known claims, asked task by task, {parts}."


def _verb(verdict: str, count: int) -> str:
    if verdict in VERDICTS[:2]:
        return verdict if count == 1 else {VERDICTS[0]: "hold", VERDICTS[1]: "do not hold"}[verdict]
    return f"{'is' if count == 1 else 'are'} {verdict}"
