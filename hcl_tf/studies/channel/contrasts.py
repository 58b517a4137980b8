"""How well each contrast orders its pairs, beside what could be had blindly and beside what the model did before training."""

from collections.abc import Collection

import numpy as np

from hcl_tf.data.keywords.impostor_hardness import LEAST_SAMPLES, blind_order
from hcl_tf.metrics.significance import means
from hcl_tf.training.diagnostics import MARGIN, gain

# contrast -> the vectors of its better and of its worse member, of which one fixed direction is asked to tell them
PAIRS = {
    "ins": ("posterior_mean", "negative_mean"), "key": ("target_state", "impostor_state"), "ma": ("target_state", "impostor_state")
}  # fmt: skip


def of_contrasts(diagnostics: dict[str, np.ndarray], untrained: dict[str, np.ndarray] | None) -> dict[str, dict]:
    """Sums up what each contrast does with some examples.

    Args:
      diagnostics: of the n examples (`Validation.diagnose`). untrained: the same before training; None: not to be had.

    Returns:
      contrast -> margin and order with intervals; the margin's median; gain, the nats that its order is worth at its best scale
      (`training.diagnostics.gain`); blind_order (None: too few pairs); untrained_order (None: not to be had).
    """
    found = {}
    for name, pair in PAIRS.items():
        margins = diagnostics.get(f"{MARGIN}{name}")
        if margins is None or np.isnan(margins).all():
            continue
        applies = ~np.isnan(margins)
        found[name] = means({"margin": margins.astype(np.float64), "order": diagnostics[f"order_{name}"].astype(np.float64)}) | {
            "median": float(np.median(margins[applies])),
            "gain": gain(margins),
            "blind_order": blind_order(*(diagnostics[vector][applies] for vector in pair)) if applies.sum() >= LEAST_SAMPLES else None,
            "untrained_order": float(np.nanmean(untrained[f"order_{name}"])) if untrained else None,
        }
    return found


def preference(diagnostics: dict[str, np.ndarray], lengths: dict[str, np.ndarray], overlaps: dict[str, np.ndarray], near: float) -> dict:
    """Says how often, and by how much a token, the model holds the target for likelier than the negative, at the prior's mean.

    Args:
      lengths: role (target, negative) -> [n] tokens that the NLL is summed over. overlaps: role -> [n] share of the text's pieces that the
        source has, too. near: overlaps that differ by no more count as equal; copying alone does not prefer either there.

    Returns:
      Over all pairs and over those of equal overlap: target_preferred (a share) and difference a token, each with an interval.
    """
    target, negative = (diagnostics[name].astype(np.float64) for name in ("nll_prior", "nll_negative"))
    difference = negative / lengths["negative"] - target / lengths["target"]
    equal = np.abs(overlaps["target"] - overlaps["negative"]) <= near
    columns = {"target_preferred": (target < negative).astype(np.float64), "difference_a_token": difference}
    return means(columns | {f"{name}_equal_overlap": np.where(equal, values, np.nan) for name, values in columns.items()})


def overlap(texts: np.ndarray, sources: np.ndarray, special: Collection[int]) -> np.ndarray:
    """Computes the share of each text's pieces that its source has, too: [n, T], [n, S] -> [n]. `special`: pieces that are no words."""
    words = ~np.isin(texts, list(special))
    shared = (texts[:, :, None] == sources[:, None]).any(-1) & words
    return shared.sum(1) / np.maximum(words.sum(1), 1)
