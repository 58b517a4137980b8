"""Maps named groups of vectors into the plane by t-SNE (van der Maaten and Hinton 2008), and draws several such maps side by side."""

import io
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from hcl_tf.errors import UserError
from hcl_tf.studies.representations.distances import unit

NEIGHBOURS = 3  # t-SNE considers this many times the perplexity as neighbours of a point
# Okabe and Ito's colours, which colour-blind readers tell apart; shapes tell them apart without colour.
LOOKS = {
    "source": {"c": "#0072B2", "marker": "o"},
    "keyword": {"c": "#000000", "marker": "^"},
    "positive": {"c": "#009E73", "marker": "P"},
    "negative": {"c": "#D55E00", "marker": "x", "linewidths": 1.0},
}


@dataclass(frozen=True)
class Map:
    """A map in the plane.

    Attributes:
      places: name -> [n, 2]; NaN where an example has no such vector.
      divergence: the value that t-SNE minimised, at the end.
    """

    places: dict[str, np.ndarray]
    divergence: float


def check_perplexity(perplexity: float, points: int) -> None:
    """Raises `UserError` where there are too few points for every one to have enough neighbours."""
    if NEIGHBOURS * perplexity >= points:
        most = (points - 1) / NEIGHBOURS
        raise UserError(
            f"--perplexity={perplexity:g}: too much for {points} points, each of which needs {NEIGHBOURS} times as many others; "
            f"give at most {np.floor(most * 10) / 10:g}, or more --examples"
        )


def embed(vectors: dict[str, np.ndarray], perplexity: float, seed: int) -> Map:
    """Maps all vectors into one plane, by their cosines: they are scaled to length 1.

    The map starts from the first two principal components (Kobak and Berens 2019). It is computed by one thread, so that it is the same at
    every call on one machine: another order of sums changes the last bits, and after a thousand steps the map.

    Args:
      vectors: name -> [n, C]; rows of NaN are left out.

    Raises:
      UserError: the perplexity does not fit.
    """
    from sklearn.manifold import TSNE

    stacked = np.concatenate([unit(part.astype(np.float64)) for part in vectors.values()])
    real = np.isfinite(stacked).all(-1)
    check_perplexity(perplexity, int(real.sum()))
    places = np.full((len(stacked), 2), np.nan)
    with threadpool_limits(1):
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        places[real] = tsne.fit_transform(stacked[real])
    parts = np.split(places, np.cumsum([len(part) for part in vectors.values()])[:-1])
    return Map(dict(zip(vectors, parts, strict=True)), float(tsne.kl_divergence_))


def draw(title: str, panels: list[tuple[str, Map]], note: str) -> bytes:
    """Draws a PNG with a panel for each map, each under its caption; the note stands below all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(panels), 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (caption, found) in zip(axes, panels, strict=True):
        for name, places in found.places.items():
            axis.scatter(*places.T, s=20, alpha=0.75, label=name, **{"linewidths": 0, **LOOKS[name]})
        axis.set_title(caption, fontsize=9)
        axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    figure.suptitle(title, fontsize=12)
    handles, labels = axes[0].get_legend_handles_labels()
    looks = {"ncols": len(labels), "frameon": False, "markerscale": 1.6, "title": note, "title_fontsize": 9}
    figure.legend(handles, labels, loc="outside lower center", **looks)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
