"""Does a model hold a source's target for likelier than its negative? Asked where texts are made: at the prior's mean, if there is one.

A model that copies prefers whichever text is nearer to the source. So the same is asked of the pairs whose texts overlap with it equally.
"""

from collections.abc import Collection, Mapping

import numpy as np

from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.metrics.significance import means
from hcl_tf.models.inputs import Inputs

NEAR = 0.05  # two overlaps with the source that differ by no more count as equal
NEGATIVE = "nll_negative"
KEPT = ("nll", "difference_a_token", "equal_overlap")  # of each example, from which rows are compared example by example


def of_split(diagnostics: Mapping[str, np.ndarray], output_nll: str, arrays: SplitArrays, inputs: Inputs) -> dict[str, np.ndarray]:
    """Compares the texts of a split.

    Args:
      diagnostics: of its n examples (`Validation.diagnose`).
      output_nll: which of them is the NLL where texts are made (`System.output_nll`).
      arrays: the split. inputs: say which pieces are no words.

    Returns:
      What `of_examples` returns; nothing where the system gives no such diagnostics.
    """
    if output_nll not in diagnostics or NEGATIVE not in diagnostics:
        return {}
    texts = {"target": arrays.target_ids, "negative": arrays.negative_ids}
    lengths = {role: (ids[:, 1:] != inputs.pad_id).sum(1) for role, ids in texts.items()}
    special = (inputs.pad_id, inputs.cls_id, inputs.sep_id)
    overlaps = {role: overlap(ids, arrays.source_ids, special) for role, ids in texts.items()}
    return of_examples(diagnostics[output_nll], diagnostics[NEGATIVE], lengths, overlaps)


def of_examples(
    target: np.ndarray, negative: np.ndarray, lengths: Mapping[str, np.ndarray], overlaps: Mapping[str, np.ndarray], near: float = NEAR
) -> dict[str, np.ndarray]:
    """Compares targets with negatives, [n] float64 each.

    Args:
      target, negative: [n] NLL of each text. lengths: role -> [n] tokens that it is summed over.
      overlaps: role -> [n] share of the text's pieces that its source has, too. near: as `NEAR`.

    Returns:
      nll: the target's. target_preferred: 1 or 0. difference_a_token: the negative's NLL a token minus the target's. The last two also
      under the ending `_equal_overlap`, NaN where overlaps are not equal. equal_overlap: 1 or 0.
    """
    target, negative = target.astype(np.float64), negative.astype(np.float64)
    equal = np.abs(overlaps["target"] - overlaps["negative"]) <= near
    compared = {
        "target_preferred": (target < negative).astype(np.float64),
        "difference_a_token": negative / lengths["negative"] - target / lengths["target"],
    }
    at_equal = {f"{name}_equal_overlap": np.where(equal, values, np.nan) for name, values in compared.items()}
    return {"nll": target, **compared, **at_equal, "equal_overlap": equal.astype(np.float64)}


def summary(compared: Mapping[str, np.ndarray], units: np.ndarray | None = None) -> dict[str, dict]:
    """Sums `of_examples` up: name -> mean with interval of what compares the two texts. `units`: as of `significance.means`."""
    return means({name: values for name, values in compared.items() if name not in ("nll", "equal_overlap")}, units)


def per_example(compared: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Returns those of `KEPT` that `of_examples` has, ready for JSON."""
    return {name: [round(value, 4) for value in compared[name].tolist()] for name in KEPT if name in compared}


def overlap(texts: np.ndarray, sources: np.ndarray, special: Collection[int]) -> np.ndarray:
    """Computes the share of each text's pieces that its source has, too: [n, T], [n, S] -> [n]. `special`: pieces that are no words."""
    words = ~np.isin(texts, list(special))
    shared = (texts[:, :, None] == sources[:, None]).any(-1) & words
    return shared.sum(1) / np.maximum(words.sum(1), 1)
