"""What the channel meter says of a row: which links are open in each run, and whether z reaches the text at all."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import stats

from hcl_tf.evaluation import links
from hcl_tf.evaluation.rows import Result
from hcl_tf.models import registry

TO_TEXT = "z -> decoder"  # of links.FIGURES


def links_of(result: Result) -> Mapping[str, str]:
    """Link -> verdict, and `keywords` and `negatives`, the roads; empty where the system has no z.

    Without L_ins nothing pulls the prior's mean away from negatives, so there is no road from them.
    """
    figures = result.diagnostics
    if "latent_size" not in figures:
        return {}
    judged = links.links(figures["differences"])
    found = {link.name: link.verdict for link in judged} | {name: links.road(judged, name) for name in links.ROADS}
    pulled = result.settings.get("weight_ins")
    return found if pulled else {name: verdict for name, verdict in found.items() if name not in ("posterior -> prior", "negatives")}


def roads_of(results: Iterable[Result]) -> dict[str, tuple[int, int]]:
    """Road (`links.ROADS`) -> in how many runs it is open, and how many have it."""
    judged = [links_of(result) for result in results]
    verdicts = {road: [found[road] for found in judged if road in found] for road in links.ROADS}
    return {road: (found.count(links.OPEN), len(found)) for road, found in verdicts.items()}


def is_closed(runs: Sequence[Result]) -> bool:
    """Judges whether z does not reach the text in a row's runs (`RULE`); of one run by its own interval. False where there is no z."""
    runs = [run for run in runs if run.settings["model"] in registry.systems_with("latent_size")]
    if len(runs) < 2:
        return any(links_of(run).get(TO_TEXT) != links.OPEN for run in runs)
    found = [run.diagnostics.get("differences", {}).get(links.FIGURES[TO_TEXT][0]) for run in runs]
    costs = [entry["value"] for entry in found if entry]
    if len(costs) < len(runs) or None in costs:
        return True  # what was not measured is not open
    low = stats.ttest_1samp(costs, 0.0).confidence_interval(0.95).low
    return not (np.mean(costs) >= links.FELT and (low > 0 or np.ptp(costs) == 0))
