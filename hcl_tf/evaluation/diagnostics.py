"""Diagnostics of the model behind the outputs: does the latent matter, do the keywords, do the contrasts order their pairs?

From what `System.diagnose` says of each example to means with 95% bootstrap intervals, and to one verdict: collapsed or not.
"""

from collections.abc import Mapping

import numpy as np

from hcl_tf.evaluation import links
from hcl_tf.evaluation.intervals import table
from hcl_tf.metrics import significance
from hcl_tf.training.diagnostics import summarise

COLLAPSE = "nll_shuffled_minus_posterior"
SHOWN = ("nll", "nll_prior", "nll_posterior", "nll_negative", "kl")  # of the means; links sum up what people need of the differences


def summary(diagnostics: dict[str, np.ndarray], comparisons: Mapping[str, tuple[str, str]], units: np.ndarray | None = None) -> dict:
    """Everything about some examples, ready for JSON.

    Args:
      diagnostics: name -> [n] (NaN: does not apply) or [n, Z], of the same n examples (`Validation.diagnose`).
      comparisons: the system's (`System.comparisons`). units: as of `significance.means`.

    Returns:
      means: name -> value, low, high, examples. differences: the same, paired, for those of `comparisons` that can be taken.
      active_units, latent_size and kl_by_dimension, where there is a latent. collapsed: True where the interval of
      NLL with z shuffled minus NLL with z from the posterior does not lie above 0: then the decoder ignores z. None where
      that can't be said: the system has no latent, or there is one example only.
    """
    singles = {name: values.astype(np.float64) for name, values in sorted(diagnostics.items()) if values.ndim == 1}
    pairs = {name: pair for name, pair in comparisons.items() if set(pair) <= singles.keys() and len(singles[pair[0]]) > 1}
    paired = {name: singles[value] - singles[baseline] for name, (value, baseline) in pairs.items()}
    found: dict = {"means": significance.means(singles, units), "differences": significance.means(paired, units), "collapsed": None}
    gap = found["differences"].get(COLLAPSE, {"low": None})
    if gap["low"] is not None:
        found["collapsed"] = not gap["low"] > 0
    if "posterior_mean" in diagnostics:
        counted = {name: value for name, value in summarise(diagnostics).items() if name.startswith("active_units")}
        found |= {**counted, "latent_size": diagnostics["posterior_mean"].shape[1]}
    if "kl_by_dimension" in diagnostics:
        found["kl_by_dimension"] = diagnostics["kl_by_dimension"].mean(0, dtype=np.float64).tolist()
    return found


def lines(found: dict) -> list[str]:
    """A summary for people: a few means, the links, and how many figures more the run folder has."""
    shown = {name: found["means"][name] for name in SHOWN if name in found["means"]}
    text = table("of the model, in nats a text", shown) if shown else []
    if further := len(found["means"]) + len(found["differences"]) - len(shown):
        text.append(f"and {further} figures more of the model, in figures.*.json of the run folder")
    if "active_units" in found:
        beyond = f", {found['active_units_beyond_prior']} beyond the prior" if "active_units_beyond_prior" in found else ""
        text += ["", f"active latent dimensions: {found['active_units']} of {found['latent_size']}{beyond}"]
    text += ["", *links.lines(links.links(found["differences"]))] if "latent_size" in found else []
    if found["collapsed"]:
        text.append("COLLAPSED: with another example's z the NLL is not certainly higher, so the decoder does not use z")
    return text
