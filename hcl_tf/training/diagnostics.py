"""From sums and diagnostics of single examples to what a validation reports. NumPy alone.

Until version 0.2.0 diagnostics were called "examined" in one place and "figures" in another. Stored names stay as they were, because
older runs have them: `examined/...` in metrics.jsonl and TensorBoard, figures.<split>.json, examined.test.npz, keys of bundle.json.
"""

from collections.abc import Mapping, Sequence

import numpy as np

MARGIN = "margin_"  # begins the names of diagnostics that say by how much a contrast orders its pair
ACTIVE_VARIANCE = 0.01  # Burda et al. 2016: a latent dimension is active if its posterior mean varies more than this

Parts = Sequence[tuple[Mapping[str, float], Mapping[str, float]]]


def means_of(parts: Parts, per: Mapping[str, str], weights: Mapping[str, float]) -> dict[str, float]:
    """Means over batches.

    Args:
      parts: of each batch the sums of its losses and the counts that these are taken over.
      per: loss -> the name of its count. weights: of the terms of the objective, whose sum is `loss` in the result.
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
    """Means of diagnostics over the examples that each applies to, and how many latent dimensions are active.

    The posterior's mean moves with the source even where the target adds nothing, because the prior's does too; so
    `active_units_beyond_prior` counts dimensions in which posterior and prior means differ from example to example.
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
    """Measures how well a contrast orders its pairs, whatever the scale of what it compares: nats that it saves beside knowing nothing.

    A contrast's own value falls when what it compares shrinks, and grows with it, so it is ln 2 for "no difference" only where differences
    are small (BUILD_NOTES 93). Here they are multiplied by the a >= 0 that serves them best, fitted on one half and tried on the other.

    Args:
      margins: [n] by how much each pair is ordered right, below 0 wrong; NaN: no pair.

    Returns:
      ln 2 minus the mean of softplus(-a margin); at most ln 2, about 0 or below where pairs are not ordered. NaN for fewer than 4 pairs.
    """
    margins = np.asarray(margins, np.float64)[~np.isnan(margins)]
    if len(margins) < 4:
        return float("nan")
    fitted, tried = margins[::2], margins[1::2]
    scales = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 1201) / max(float(np.median(np.abs(fitted))), 1e-12)])
    losses = [np.logaddexp(0.0, -scale * fitted).mean() for scale in scales]  # convex in the scale, so a grid finds its place
    return float(np.log(2.0) - np.logaddexp(0.0, -scales[int(np.argmin(losses))] * tried).mean())
