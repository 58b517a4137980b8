"""The rule that says of each link between keywords, negatives and the text whether it is open, from figures with intervals.

    u -> prior -> z -> decoder, u -> text       what the keywords of the source can say of the target, step by step and in all
    y- -> posterior -> prior                    what the contrast with a negative can say of it

All is asked at the prior's mean, where texts are made. Each step of a road can let something through, and not the same thing, so keywords
are asked from end to end, too. A low contrast proves nothing: variances alone can satisfy it, and where a link is closed it moves no text
(BUILD_NOTES 93 and 97).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hcl_tf.evaluation.intervals import entry_text

OPEN, CLOSED, UNKNOWN = "OPEN", "CLOSED", "UNKNOWN"
FELT = 0.05  # nats a text; a smaller difference is certain long before it is worth anything
ROADS = {"keywords": ("u -> prior", "prior -> z", "z -> decoder", "u -> text"), "negatives": ("y- -> posterior", "posterior -> prior")}


@dataclass(frozen=True)
class Link:
    """One link.

    Attributes:
      name: as in `ROADS`. verdict: `OPEN`, `CLOSED`, or `UNKNOWN` where a figure is missing. because: the figure, in words.
    """

    name: str
    verdict: str
    because: str


RULE = (
    f"A link is {OPEN} if its figure is at least {FELT} nats and the interval lies above 0. u -> prior: the posterior is nearer to the "
    "prior with the source's own keywords than with another example's. prior -> z: it is nearer to the source's own prior than to another "
    "example's. "
    "z -> decoder: with another example's prior mean the target costs more. u -> text: with the prior mean that another example's keywords "
    "give, it costs more. y- -> posterior: the means of the posterior tell target from "
    "negative, and at least half of what tells them is the means and not the variances. posterior -> prior: where L_ins pulls the prior's "
    "mean, the target costs less. That place is computed from the target and the negative, so an open link says what L_ins could do at "
    "most; a closed one, that it can do nothing."
)
FIGURES = {
    "u -> prior": ("kl_u_shuffled_minus_graph", "another's u puts the posterior {} nats farther away"),
    "prior -> z": ("kl_prior_shuffled_minus_prior", "another's prior lies {} nats farther from the posterior"),
    "z -> decoder": ("nll_prior_shuffled_minus_prior", "another's prior mean costs the target {} nats"),
    "u -> text": ("nll_u_shuffled_minus_graph", "with another's u in the prior the target costs {} nats more"),
    "y- -> posterior": ("h_of_means_negative_minus_target", "by its mean the negative lies {} nats farther away than the target"),
    "posterior -> prior": ("nll_prior_minus_moved", "where L_ins pulls, the target costs {} nats less"),
}


def links(differences: Mapping[str, Mapping[str, float | None]]) -> list[Link]:
    """Judges every link.

    Args:
      differences: name -> value, low and high, as `evaluation.diagnostics.summary` has them. Missing ones make a link `UNKNOWN`.
    """
    found = []
    for name, (figure, text) in FIGURES.items():
        entry = differences.get(figure, {"value": None, "low": None})
        if entry["low"] is None:
            found.append(Link(name, UNKNOWN, f"{figure} could not be taken"))
            continue
        verdict, because = OPEN if entry["low"] > 0 and entry["value"] >= FELT else CLOSED, text.format(entry_text(entry))
        if name == "y- -> posterior":
            share = share_of_means(differences)
            because += f", which is {share:.0%} of the whole difference" if share is not None else ", and no difference in all"
            verdict = OPEN if verdict == OPEN and share is not None and share >= 0.5 else CLOSED
        found.append(Link(name, verdict, because))
    return found


def share_of_means(differences: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """Computes what share of h- minus h+ is due to the posterior's means; None where there is no difference, or a negative one."""
    whole = differences.get("h_negative_minus_target", {"value": None})["value"]
    return differences["h_of_means_negative_minus_target"]["value"] / whole if whole and whole > 0 else None


def road(found: list[Link], name: str) -> str:
    """Judges a road of `ROADS`: open if all of its links are, closed if one is."""
    verdicts = {link.verdict for link in found if link.name in ROADS[name]}
    return CLOSED if CLOSED in verdicts else UNKNOWN if UNKNOWN in verdicts else OPEN


def lines(found: list[Link]) -> list[str]:
    """Writes the verdicts for a terminal."""
    return [f"{link.name:<20}{link.verdict:<9}{link.because}" for link in found] + [
        f"from {name} to the text: {road(found, name)}" for name in ROADS
    ]
