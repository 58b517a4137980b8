"""Evaluates filled sheets: each system's means, their differences to one of them, and how far annotators agree.

It needs neither TensorFlow nor the runs, because the key has everything.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.evaluation.intervals import entry_text
from hcl_tf.files.whole_folder import whole_or_nothing
from hcl_tf.markdown import markdown_table
from hcl_tf.metrics.agreement import Agreement, category_counts, fleiss_kappa
from hcl_tf.metrics.significance import LEVEL, RESAMPLES, confidence_interval, paired_bootstrap
from hcl_tf.studies.human_evaluation.sheets import read_all
from hcl_tf.studies.human_evaluation.study import FILLED_FOLDER, SCALES, SCORES, Study, read_key

RESULTS, PAGE = "results.json", "results.md"
FORM = ".2f"


def report(folder: Path, filled: list[Path], ours: str) -> dict:
    """Reads a study's filled sheets, writes results/results.json and results.md into its folder, prints the latter, and returns the former.

    Raises:
      UserError: the key or a sheet can't be used, there is no sheet, or `ours` is not a system of the study.
    """
    study = read_key(folder)
    if ours not in study.systems:
        raise UserError(f"--ours={ours}: not in this study; its systems are: {', '.join(study.systems)}")
    paths = filled or sorted(path for path in (folder / FILLED_FOLDER).glob("*") if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder / FILLED_FOLDER}: no filled sheets there; put them there, or give them with --filled")
    scores = read_all(study, paths)
    results = summarise(study, scores, ours)
    page = _page(study, results)
    with whole_or_nothing(folder / "results", RESULTS, True, flag="--sheets", what="results of a study") as out:
        (out / RESULTS).write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / PAGE).write_text(page, encoding="utf-8")
    print(page)
    print(f"wrote {folder / 'results' / PAGE} and {RESULTS}")
    return results


def summarise(study: Study, scores: dict[int, np.ndarray], ours: str) -> dict:
    """Computes means, differences and agreement, with intervals over items.

    A mean is over items and annotators. The bootstrap draws items, each with all its systems and annotators.

    Args:
      scores: by annotator, [items, labels, scales] each. ours: the system that the others are compared with.
    """
    ratings = by_system(study, np.stack(list(scores.values()), axis=-1))  # --> [items, systems, scales, annotators]
    values = ratings.mean(axis=-1)
    own = study.systems.index(ours)
    systems = {}
    for s, name in enumerate(study.systems):
        means, differences = {}, {}
        for k, scale in enumerate(SCALES):
            low, high = confidence_interval(values[:, s, k])
            means[scale] = {"value": float(values[:, s, k].mean()), "low": low, "high": high}
            if s != own:
                found = paired_bootstrap(values[:, own, k], values[:, s, k])
                differences[scale] = {"value": found.difference, "low": found.low, "high": found.high, "p": found.p_value}
        systems[name] = {"means": means, "ours_minus_it": differences}
    agreement = {scale: asdict(fleiss_kappa(category_counts(ratings[:, :, k], SCORES))) for k, scale in enumerate(SCALES)}
    return {
        "study": study.id, "origin": study.origin, "items": len(study.items), "seed": study.seed, "ours": ours,
        "annotators": list(scores), "missing_annotators": [n for n in range(1, len(study.orders) + 1) if n not in scores],
        "level": LEVEL, "resamples": RESAMPLES, "systems": systems, "agreement": agreement,
    }  # fmt: skip


def by_system(study: Study, scores: np.ndarray) -> np.ndarray:
    """Undoes the blinding: [items, labels, ...] -> [items, systems, ...]."""
    places = np.array([[study.labels.index(_label_of(item.systems, name)) for name in study.systems] for item in study.items])
    return scores[np.arange(len(scores))[:, None], places]


def _label_of(systems: dict[str, str], name: str) -> str:
    return next(label for label, other in systems.items() if other == name)


def _page(study: Study, results: dict) -> str:
    """Writes the text of results.md."""
    ours, systems = results["ours"], results["systems"]
    count = len(results["annotators"])
    means = [{"system": name, **{scale: entry_text(entry["means"][scale], FORM) for scale in SCALES}} for name, entry in systems.items()]
    others = [
        {f"{ours} minus": name, **{scale: _difference(entry["ours_minus_it"][scale]) for scale in SCALES}}
        for name, entry in systems.items() if name != ours
    ]  # fmt: skip
    kappas = [{"scale": scale, **agreement_row(Agreement(**results["agreement"][scale]))} for scale in SCALES]
    origin = study.origin
    lines = [
        f"# Human evaluation: {origin['task']}, study {study.id}",
        f"{results['items']} of {origin['examples']:,} test examples (seed {study.seed}), {len(systems)} systems, {count} annotators; "
        f"scores {SCORES[0]} to {SCORES[-1]}. Brackets: {LEVEL:.0%} bootstrap intervals over items ({RESAMPLES:,} resamples). "
        "They say what other items would change, not what other annotators would.",
    ]
    if missing := results["missing_annotators"]:
        lines.append(f"**INCOMPLETE**: no sheet of annotator {', '.join(map(str, missing))} of {len(study.orders)}.")
    lines += [
        "## Means",
        markdown_table(means),
        f"## {ours} against each other system",
        markdown_table(others),
        "Paired over items; p is two-sided, and not adjusted for the number of comparisons.",
        "## Agreement (Fleiss' kappa)",
        markdown_table(kappas),
        "Observed: share of pairs of annotators with the same score. Kappa is nominal: 1 against 3 is no worse than 1 against 2. "
        "Where nearly all scores are the same, kappa is low however often annotators agree.",
        "## Systems",
        "\n".join(
            f"- {system['name']}: preset {system['preset']}, seed {system['seed']}, step {system['step']:,}, "
            f"predictions {system['predictions_sha256'][:12]}"
            for system in origin["systems"]
        ),
    ]
    return "\n\n".join(lines) + "\n"


def _difference(entry: dict) -> str:
    return f"{entry_text(entry, '+' + FORM)}, p = {entry['p']:.4f}"


def agreement_row(found: Agreement) -> dict[str, str]:
    """Returns a line of a table: kappa with its interval, or why there is none, and its parts."""
    if found.kappa is None:
        kappa = f"undefined: {found.undefined}"
    else:
        kappa = entry_text({"value": found.kappa, "low": found.low, "high": found.high}, FORM)
        if found.undefined_resamples:
            kappa += f" (undefined in {found.undefined_resamples:.1%} of resamples, left out)"
    shares = ", ".join(f"{score}: {share:.0%}" for score, share in zip(SCORES, found.shares, strict=True))
    observed = "" if found.observed is None else f"{found.observed:.2f}"
    return {"kappa": kappa, "observed": observed, "by chance": f"{found.chance:.2f}", "scores given": shares}
