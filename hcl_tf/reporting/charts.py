"""Pictures of a report as PNG bytes: losses over steps, scores with intervals, how well the contrasts order their pairs."""

import io
from collections.abc import Mapping, Sequence

import matplotlib

from hcl_tf.evaluation.rows import Result
from hcl_tf.metrics.decision import LOSS, NO, YES
from hcl_tf.reporting.comparisons import ABOVE, BELOW, ELSEWHERE, EQUAL, UNDECIDED, ComparedRow, Difference
from hcl_tf.reporting.measures import Measure

BARS = ("BLEU-1", "BLEU-2", "BLEU-4", "Greedy")
LOSSES = {"nll": "NLL a text", "kl": "KL a text"}
FOREST = {ABOVE: "tab:green", BELOW: "tab:red", EQUAL: "tab:blue", UNDECIDED: "tab:grey", ELSEWHERE: "tab:grey"}
FOREST_OF_TESTS = {YES: "tab:green", LOSS: "tab:red", NO: "tab:blue"}  # all else is grey
ORDERS = {"ins": "instance, KL", "key": "keyword, cosine", "ma": "keyword, Mahalanobis"}


def losses(results: list[Result]) -> bytes:
    """NLL and KL over steps: validation with marks, training pale behind it."""
    figure, axes = _figure(len(LOSSES))
    for number, result in enumerate(results):
        for axis, key in zip(axes, LOSSES, strict=True):
            for kind, style in (("train", {"alpha": 0.3}), ("validation", {"marker": "o", "markersize": 3, "label": _name(result)})):
                points = [point for point in result.record["curves"][kind] if key in point]
                if points:
                    axis.plot([p["step"] for p in points], [p[key] for p in points], color=_color(number), **style)
    for axis, title in zip(axes, LOSSES.values(), strict=True):
        axis.set(xlabel="step", title=title)
    axes[0].set_ylim(top=_quantile(results))
    return _png(figure, axes[0])


def scores(rows: dict[str, list[Result]]) -> bytes:
    """Means over seeds as bars; the line is the first seed's 95% bootstrap interval over sentences, which need not hold the mean."""
    figure, axes = _figure(len(BARS), height=0.8 + 0.28 * len(rows))
    for axis, metric in zip(axes, BARS, strict=True):
        for place, results in enumerate(rows.values()):
            entry = results[0].record["scores"][metric]
            known = [value for result in results if (value := result.score(metric)) is not None]
            if known:
                axis.barh(place, sum(known) / len(known), color=_color(place))
                if entry["low"] is not None:
                    axis.plot([entry["low"], entry["high"]], [place, place], color="black", linewidth=1)
        axis.set(title=metric, yticks=range(len(rows)), yticklabels=list(rows) if axis is axes[0] else [])
        axis.invert_yaxis()
    return _png(figure)


def orders(results: list[Result]) -> bytes | None:
    """Share of pairs that each contrast orders right, over steps of validation; None where no result has any."""
    known = [result for result in results if any(name.startswith("examined/order_") for p in _validations(result) for name in p)]
    if not known:
        return None
    figure, axes = _figure(len(ORDERS))
    for number, result in enumerate(known):
        for axis, name in zip(axes, ORDERS, strict=True):
            for suffix, style in (("", {"label": _name(result)}), ("_random", {"linestyle": ":"})):
                points = [p for p in _validations(result) if f"examined/order_{name}{suffix}" in p]
                values = [p[f"examined/order_{name}{suffix}"] for p in points]
                axis.plot([p["step"] for p in points], values, color=_color(number), marker="o", markersize=3, **style)
    for axis, title in zip(axes, ORDERS.values(), strict=True):
        axis.axhline(0.5, color="grey", linewidth=0.6)
        axis.set(xlabel="step", title=title, ylim=(0, 1.03))
    return _png(figure, axes[0])


def forest(compared: Sequence[ComparedRow], measures: Sequence[Measure], noise: Mapping[str, float]) -> bytes:
    """A forest plot: each row's difference from the one it stands beside, with its interval, a panel a measure; right of 0 is better.

    Args:
      noise: measure -> what two seeds of the base differ by, which is shown as a band around 0.
    """
    shown = [row for row in compared if row.differences]
    figure, axes = _figure(len(measures), height=1.2 + 0.3 * len(shown))
    for axis, measure in zip(axes, measures, strict=True):
        for place, row in enumerate(shown):
            if gap := row.differences.get(measure.name):
                color = FOREST[gap.verdict]
                axis.plot([gap.low, gap.high], [place, place], color=color, linewidth=2)
                axis.plot([gap.value], [place], color=color, marker="s", markersize=5)
        axis.axvspan(-noise[measure.name], noise[measure.name], color="lightgrey", zorder=0)
        axis.axvline(0, color="grey", linewidth=0.8)
        labels = [f"{row.name} - {row.beside}" for row in shown] if axis is axes[0] else []
        axis.set(
            title=measure.name,
            xlabel=f"better by, {measure.unit}",
            yticks=range(len(shown)),
            yticklabels=labels,
            ylim=(-0.6, len(shown) - 0.4),
        )
        axis.invert_yaxis()
    return _png(figure)


def forest_of_task(title: str, unit: str, rows: Sequence[tuple[str, Difference, str]]) -> bytes:
    """A forest plot of one task: (row, ours minus it, verdict), one under the other; hollow where one seed of it ran."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.2, 1.3 + 0.3 * len(rows)), constrained_layout=True)
    for place, (_, gap, verdict) in enumerate(rows):
        color = FOREST_OF_TESTS.get(verdict, "tab:grey")
        axis.plot([gap.low, gap.high], [place, place], color=color, linewidth=2)
        axis.plot([gap.value], [place], color=color, marker="s", markersize=6, markerfacecolor=color if gap.seeds > 1 else "white")
    axis.axvline(0, color="grey", linewidth=0.8)
    labels = [f"{name} ({gap.seeds})" for name, gap, _ in rows]
    axis.set(title=title, xlabel=f"ours minus it, {unit}", yticks=range(len(rows)), yticklabels=labels, ylim=(-0.6, len(rows) - 0.4))
    axis.invert_yaxis()
    return _png(figure, dpi=110)


def _validations(result: Result) -> list[dict]:
    return result.record["curves"]["validation"]


def _name(result: Result) -> str:
    return f"{result.row}, seed {result.seed}"


def _quantile(results: list[Result]) -> float:
    """Twice the largest NLL that a validation after the first found: what precedes it would hide the rest."""
    later = [point["nll"] for result in results for point in _validations(result)[1:] if "nll" in point]
    return 2 * max(later, default=1.0)


def _figure(columns: int, height: float = 3.4):
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(4 * columns, height), constrained_layout=True)


def _color(number: int) -> tuple:
    return matplotlib.colormaps["tab20"](number % 20)


def _png(figure, legend=None, dpi: int = 80) -> bytes:
    from matplotlib import pyplot

    if legend is not None:
        handles, labels = legend.get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=4)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()
