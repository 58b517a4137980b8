"""What a comparison of two systems says, by a rule that is fixed before the runs."""

from collections.abc import Sequence

import numpy as np

from hcl_tf.metrics.crossed import crossed_mean

YES, NO, UNDECIDED, LOSS, DESCRIPTIVE = "yes", "no", "undecided", "loss", "descriptive"
FEWEST_SEEDS = 5  # with fewer, sets that do not differ are called different more often than stated (BUILD_NOTES 132)
RULE = (
    f"{YES}: the 95% interval over seeds and sentences lies above 0; {LOSS}: below 0; {NO}: the 90% interval lies within the margin on "
    f"both sides of 0 (two one-sided tests); {UNDECIDED}: none of these. Rows under {FEWEST_SEEDS} seeds are {DESCRIPTIVE}: no verdict."
)


def verdict(differences: np.ndarray, margin: float) -> str:
    """Judges paired differences of two systems by `RULE`.

    Args:
      differences: [seeds, sentences], in the direction of better. margin: what counts as no difference, in the same unit.
    """
    if len(differences) < FEWEST_SEEDS:
        return DESCRIPTIVE
    wide, narrow = crossed_mean(differences, 0.95), crossed_mean(differences, 0.90)
    if wide.low > 0:
        return YES
    if wide.high < 0:
        return LOSS
    return NO if within(narrow.low, narrow.high, margin) else UNDECIDED


def within(low: float, high: float, margin: float) -> bool:
    """Whether an interval lies within the margin on both sides of 0; of a 90% interval these are two one-sided tests at 5%."""
    return -margin < low and high < margin


def holm(p_values: Sequence[float], planned: int | None = None) -> list[float]:
    """Corrects p-values for their number (Holm 1979): each times the number of those that are not smaller, never below a smaller one's.

    Args:
      planned: how many tests the family has, where some have no p-value yet: those count as larger. None: as many as there are p-values.
    """
    order, found, largest = np.argsort(p_values, kind="stable"), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, ((planned or len(p_values)) - rank) * p_values[place]))
        found[int(place)] = largest
    return found
