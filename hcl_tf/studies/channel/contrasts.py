"""How well each contrast orders its pairs, beside what could be had blindly and beside what the model did before training."""

import numpy as np

from hcl_tf.data.keywords.impostor_hardness import LEAST_SAMPLES, blind_order
from hcl_tf.metrics.significance import means
from hcl_tf.training.diagnostics import MARGIN, gain

# contrast -> the vectors of its better and of its worse member, of which one fixed direction is asked to tell them
PAIRS = {
    "ins": ("posterior_mean", "negative_mean"), "key": ("target_state", "impostor_state"), "ma": ("target_state", "impostor_state")
}  # fmt: skip


def of_contrasts(
    diagnostics: dict[str, np.ndarray], untrained: dict[str, np.ndarray] | None, units: np.ndarray | None = None
) -> dict[str, dict]:
    """Sums up what each contrast does with some examples.

    Args:
      diagnostics: of the n examples (`Validation.diagnose`). untrained: the same before training; None: not to be had.
      units: as of `significance.means`.

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
        columns = {"margin": margins.astype(np.float64), "order": diagnostics[f"order_{name}"].astype(np.float64)}
        found[name] = means(columns, units) | {
            "median": float(np.median(margins[applies])),
            "gain": gain(margins),
            "blind_order": blind_order(*(diagnostics[vector][applies] for vector in pair)) if applies.sum() >= LEAST_SAMPLES else None,
            "untrained_order": float(np.nanmean(untrained[f"order_{name}"])) if untrained else None,
        }
    return found
