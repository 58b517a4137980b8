"""Figures of the model behind the outputs: does the latent matter, do the keywords, do the contrasts order their pairs?

From what `System.examine` says of each example to means with 95% bootstrap intervals, and to one verdict: collapsed or not.
"""

import numpy as np

from hcl_tf.analysis.intervals import columns
from hcl_tf.metrics import significance
from hcl_tf.training.examined import summarise

# What one figure is compared with, example by example: name -> (figure, baseline). Above 0: taking it away does harm.
DIFFERENCES = {
    "nll_shuffled_minus_posterior": ("nll_shuffled", "nll_posterior"),
    "nll_prior_minus_posterior": ("nll_prior", "nll_posterior"),
    "nll_u_unknown_minus_graph": ("nll_prior_u_unknown", "nll_prior"),
    "nll_u_shuffled_minus_graph": ("nll_prior_u_shuffled", "nll_prior"),
    "kl_u_unknown_minus_graph": ("kl_u_unknown", "kl"),
    "kl_u_shuffled_minus_graph": ("kl_u_shuffled", "kl"),
}
COLLAPSE = "nll_shuffled_minus_posterior"


def summary(examined: dict[str, np.ndarray]) -> dict:
    """Everything about some examples, ready for JSON.

    Args:
      examined: name -> [n] (NaN: does not apply) or [n, Z], of the same n examples (`Validation.examine`).

    Returns:
      means: name -> value, low, high, examples. differences: the same, paired, for those of `DIFFERENCES` that can be taken.
      active_units, latent_size and kl_by_dimension, where there is a latent. collapsed: True where the interval of
      NLL with z shuffled minus NLL with z from the posterior does not lie above 0: then the decoder ignores z. None where
      that can't be said: the system has no latent, or there is one example only.
    """
    singles = {name: values.astype(np.float64) for name, values in sorted(examined.items()) if values.ndim == 1}
    pairs = {name: pair for name, pair in DIFFERENCES.items() if set(pair) <= singles.keys() and len(singles[pair[0]]) > 1}
    paired = {name: singles[figure] - singles[baseline] for name, (figure, baseline) in pairs.items()}
    found: dict = {"means": significance.means(singles), "differences": significance.means(paired), "collapsed": None}
    gap = found["differences"].get(COLLAPSE, {"low": None})
    if gap["low"] is not None:
        found["collapsed"] = not gap["low"] > 0
    if "posterior_mean" in examined:
        counted = {name: value for name, value in summarise(examined).items() if name.startswith("active_units")}
        found |= {**counted, "latent_size": examined["posterior_mean"].shape[1]}
    if "kl_by_dimension" in examined:
        found["kl_by_dimension"] = examined["kl_by_dimension"].mean(0, dtype=np.float64).tolist()
    return found


def lines(found: dict) -> list[str]:
    """A summary for people."""
    text = []
    for title, part in (("means", found["means"]), ("differences, paired", found["differences"])):
        if part:
            text += ["", f"{title:<30}{'value':>9}  95% interval"]
            text += [f"{name:<30}{columns(entry)}".rstrip() for name, entry in part.items()]
    if "active_units" in found:
        beyond = f", {found['active_units_beyond_prior']} beyond the prior" if "active_units_beyond_prior" in found else ""
        text += ["", f"active latent dimensions: {found['active_units']} of {found['latent_size']}{beyond}"]
    if found["collapsed"]:
        text.append("COLLAPSED: with another example's z the NLL is not certainly higher, so the decoder does not use z")
    return text
