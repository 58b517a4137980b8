"""Turns sums over batches, and diagnostics of single examples, into the numbers that a validation reports. It uses NumPy alone.

Until version 0.2.0 diagnostics were called "examined" in one place and "figures" in another. Stored names stay as they were, because
older runs have them: `examined/...` in metrics.jsonl and TensorBoard, figures.<split>.json, examined.test.npz, keys of bundle.json.
"""

from collections.abc import Mapping, Sequence

import numpy as np

MARGIN = "margin_"  # diagnostics of this prefix say by how much a contrast orders its pair right, below 0 wrong
SUREST = 10.0  # nats that a pair with a margin of the median size may be held for certain; else one wrong pair would outweigh all others
ACTIVE_VARIANCE = 0.01  # Burda et al. 2016: a latent dimension is active if its posterior mean varies more than this

# Of each batch: loss -> its sum, and the name of a count -> its value.
Parts = Sequence[tuple[Mapping[str, float], Mapping[str, float]]]


def means_of(parts: Parts, per: Mapping[str, str], weights: Mapping[str, float]) -> dict[str, float]:
    """Computes the mean of each loss over all batches, and the objective.

    Args:
      parts: for each batch the sums of its losses, and the counts that these are divided by.
      per: loss -> the name of its count. weights: term of the objective -> its weight.

    Returns:
      Loss -> its mean, 0 where nothing was counted; and `loss`: the weighted sum of the means of the objective's terms. A term in nats a
      token would stand in it without the factor that training gives it (`System.terms`), so CLAPS and SimCTG weigh theirs in training only.
    """
    totals: dict[str, float] = {}
    counts: dict[str, float] = {}
    for part in parts:
        for whole, values in zip((totals, counts), part, strict=True):
            for name, value in values.items():
                whole[name] = whole.get(name, 0.0) + value
    means = {name: total / counts[per[name]] if counts[per[name]] else 0.0 for name, total in totals.items()}
    return means | {"loss": sum(weight * means[name] for name, weight in weights.items())}


def summarise(diagnostics: dict[str, np.ndarray]) -> dict[str, float]:
    """Averages each diagnostic over the examples that it applies to, and counts the active latent dimensions.

    The posterior's mean varies with the source even where the target adds nothing, because the prior's mean does too. So
    `active_units_beyond_prior` counts the dimensions in which the difference between the two means, in deviations of the prior, varies: a
    learnt prior has a scale of its own.

    Args:
      diagnostics: name -> [n], NaN where it does not apply, or [n, Z].

    Returns:
      Name -> mean; `active_units` and `active_units_beyond_prior`; for each margin a `gain_...` (see `gain`).
    """
    means = {name: float(np.nanmean(values)) for name, values in diagnostics.items() if values.ndim == 1 and not np.isnan(values).all()}
    for name, values in (("active_units", "posterior_mean"), ("active_units_beyond_prior", "posterior_shift")):
        if values in diagnostics:
            means[name] = int((diagnostics[values].var(0) > ACTIVE_VARIANCE).sum())
    for name, values in diagnostics.items():
        if name.startswith(MARGIN) and not np.isnan(found := gain(values)):
            means[f"gain_{name.removeprefix(MARGIN)}"] = found
    return means


def gain(margins: np.ndarray) -> float:
    """Measures how well a contrast orders its pairs: how many nats it saves for each pair, compared with a guess.

    A contrast's own loss also changes with the scale of what it compares, so it is near ln 2, the loss of a guess, only where the margins
    are small (BUILD_NOTES 93). Here the margins are first multiplied by the factor a >= 0 that gives the smallest loss, up to `SUREST`
    for the median margin. Half of the pairs choose that factor and the other half are measured, so that chance earns nothing.

    Args:
      margins: [n] by how much each pair is ordered right, below 0 where it is ordered wrong, NaN where there is no pair.

    Returns:
      ln 2 minus the mean of softplus(-a margin): at most ln 2; about 0 or below where pairs are not ordered; NaN for fewer than 4 pairs.
    """
    margins = np.asarray(margins, np.float64)[~np.isnan(margins)]
    if len(margins) < 4:
        return float("nan")
    fitted, tried = margins[::2], margins[1::2]
    scales = np.concatenate([[0.0], np.geomspace(1e-3, SUREST, 1201) / max(float(np.median(np.abs(fitted))), 1e-12)])
    losses = [np.logaddexp(0.0, -scale * fitted).mean() for scale in scales]  # convex in the scale, so a grid comes close to the least
    return float(np.log(2.0) - np.logaddexp(0.0, -scales[int(np.argmin(losses))] * tried).mean())
