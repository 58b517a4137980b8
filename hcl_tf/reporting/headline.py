"""The sentences at the top of the front page, which follow from verdicts alone."""

from collections import Counter
from collections.abc import Sequence

from hcl_tf.evaluation import links
from hcl_tf.metrics.decision import DESCRIPTIVE, LOSS, NO, UNDECIDED, YES
from hcl_tf.reporting.judged_claims import VERDICTS, Judged
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.meter import roads_of
from hcl_tf.reporting.outcomes import CLOSED, FAILED, NOT_RUN, NOT_YET, OTHER_BITS, SAME_STEPS, UNJUDGED, Outcome

WORDS = {
    YES: "a gain", LOSS: "a loss", NO: "no difference beyond {margin:g} {unit}", UNDECIDED: "undecided",
    DESCRIPTIVE: "too few seeds for a verdict", NOT_YET: "not judged before all planned seeds are there", CLOSED: "not judged",
    OTHER_BITS: "not judged", SAME_STEPS: "not judged",
}  # fmt: skip
TOGETHER = {
    YES: "what it adds helps", NO: "what it adds makes no difference", LOSS: "what it adds harms", UNDECIDED: "undecided",
}  # fmt: skip
OF_ROWS = {YES: "above {beside}", LOSS: "below {beside}", NO: "no different from {beside} beyond {margin:g} {unit}"}


def headline(primary: Sequence[Outcome], secondary: Sequence[Outcome], kept: Sequence[KeptStage], judged: Sequence[Judged]) -> list[str]:
    """One sentence for each measure of the primary test and one for all of them, and one each for the other tests, the meter, and the
    paper's sentences.
    """
    return [*map(_of_primary, primary), *_of_both(primary), _of_secondary(secondary), _of_meter(kept), _of_claims(judged)]


def _of_primary(one: Outcome) -> str:
    where = f"On {one.test.stage}, {one.row} beside {one.beside} in {one.measure.in_full}"
    if one.verdict in (NOT_RUN, FAILED):
        return f"{where}, the test that decides: {one.verdict} ({one.because})."
    word = WORDS[one.verdict].format(margin=one.margin, unit=one.measure.unit)
    interval = f"{one.value:+.2f} {one.measure.unit} [{one.low:+.2f}, {one.high:+.2f}], above 0 is better"
    size = f"{one.seeds} seed{'s' if one.seeds != 1 else ''} and {one.sentences:,} sentences"
    return f"{where}: {word}{f' ({one.because})' if one.because else ''}; {interval}, over {size}."


def _of_both(primary: Sequence[Outcome]) -> list[str]:
    """For each row beside, what several measures say together; nothing where one has no verdict yet."""
    said = []
    for beside in dict.fromkeys(one.beside for one in primary):
        ours = [one for one in primary if one.beside == beside]
        verdicts = {one.verdict for one in ours}
        if len(ours) < 2 or verdicts & {*UNJUDGED, DESCRIPTIVE}:
            continue
        where = f"{ours[0].row} beside {beside}, by {' and '.join(one.measure.name for one in ours)}"
        word = TOGETHER[ours[0].verdict] if len(verdicts) == 1 else "they do not agree, so nothing is said of both"
        said.append(f"{where} together: {word}.")
    return said


def _of_secondary(outcomes: Sequence[Outcome]) -> str:
    ran = [one for one in outcomes if one.verdict != NOT_RUN]
    if not ran:
        return f"The {len(outcomes)} further planned comparisons: {NOT_RUN}."
    said = []
    for row in dict.fromkeys(one.row for one in ran if one.verdict in OF_ROWS):
        named = [_of_row(one) for verdict in OF_ROWS for one in ran if (one.row, one.verdict) == (row, verdict)]
        said.append(f"{row} is {', '.join(named)}")
    undecided = sum(one.verdict == UNDECIDED for one in ran)
    unjudged = sum(one.verdict in (*UNJUDGED, DESCRIPTIVE) for one in ran)
    left = [f"{undecided} undecided"] * bool(undecided) + [f"{unjudged} not judged"] * bool(unjudged)
    missing = [f"{len(outcomes) - len(ran)} {NOT_RUN}"] if len(ran) < len(outcomes) else []
    return f"Of {len(outcomes)} further planned comparisons: {'; '.join([*said, *left, *missing])}."


def _of_row(one: Outcome) -> str:
    word = OF_ROWS[one.verdict].format(beside=one.beside, margin=one.margin, unit=one.measure.unit)
    return f"{word} ({', '.join(filter(None, (one.test.stage, one.measure.name, one.because)))})"


def _of_meter(kept: Sequence[KeptStage]) -> str:
    roads = roads_of(result for one in kept if not one.stage.runs_of for result in one.results)
    (keywords, with_z), (negatives, with_ins) = (roads[name] for name in ("keywords", "negatives"))
    if not with_z:
        return f"Whether keywords and negatives reach the text through z: {NOT_RUN}."
    return (
        f"The road through z to the text is {links.OPEN} from keywords in {keywords} of {with_z} runs that have a z. From negatives it is "
        f"{links.OPEN} in {negatives} of {with_ins} runs that have L_ins: that is what L_ins could do to the text if the prior knew the "
        "target, not what it does."
    )


def _of_claims(judged: Sequence[Judged]) -> str:
    counts = Counter(one.verdict for one in judged)
    parts = ", ".join(f"{counts[verdict]} {_verb(verdict, counts[verdict])}" for verdict in VERDICTS)
    return f"Of the paper's {len(judged)} known claims, asked task by task, {parts}."


def _verb(verdict: str, count: int) -> str:
    if verdict in VERDICTS[:2]:
        return verdict if count == 1 else {VERDICTS[0]: "hold", VERDICTS[1]: "do not hold"}[verdict]
    return f"{'is' if count == 1 else 'are'} {verdict}"
