"""Evaluated runs of one task and one budget in, one page out: what was run, how it went, what came out."""

from pathlib import Path

import matplotlib

from hcl_tf.analysis.compared import NOT_THE_BUDGET, EvaluatedRun, check_comparable
from hcl_tf.data.output_folder import whole_or_nothing
from hcl_tf.settings import FIELDS, OVERRIDES
from hcl_tf.training.board import markdown_table
from hcl_tf.training.checkpoints import from_json
from hcl_tf.training.loop import sample_rows

PAGE, CURVES = "report.md", "curves.png"
SAMPLES = 20
CONTRASTS = {"ins": "instance, KL", "key": "keyword, cosine", "ma": "keyword, Mahalanobis"}
AGAINST = {"": "its negative", "_random": "a random one", "_differ": "its negative, where keyword sets differ"}
COLUMNS = {"loss": "loss", "nll": "NLL a text", "nll_token": "NLL a token", "kl": "KL"}


def write_page(folders: list[Path], out: Path, overwrite: bool) -> None:
    """Writes report.md and curves.png. Raises `UserError` where runs can't be compared or are not evaluated."""
    runs = [EvaluatedRun(folder) for folder in folders]
    check_comparable(runs)
    with whole_or_nothing(out, PAGE, overwrite, what="a page of evidence") as folder:
        _draw(runs, folder / CURVES)
        parts = [_head(runs), _curves(runs), _latent(runs), _orders(runs), _scores(runs), _samples(runs), _origin(runs)]
        (folder / PAGE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {out / PAGE}")


def _head(runs: list[EvaluatedRun]) -> str:
    s, figures = runs[0].settings, runs[0].figures
    preset = _preset(s["preset"])
    changed = [f"`--{k}={v}`" for k, v in s.items() if k not in (*NOT_THE_BUDGET, "preset") and v != preset.get(k)]
    manifest = from_json(runs[0].run.stored("data/manifest.json").read_bytes())
    negatives = [note for note in manifest["notes"] if note.startswith(("negatives in train", "examples with a negative"))]
    length = f"{s['max_steps']:,} steps" if s["max_steps"] else f"up to {s['epochs']} epochs"
    checkpoints = [f"{run.name} step {run.figures['step']:,} of {run.done['step']:,}" for run in runs]
    scaled = "**SCALED DOWN**: not the paper's model size, corpus and length of training (below). These numbers show that the method runs"
    return "\n".join(
        [
            f"# {figures['task']}: {', '.join(run.name for run in runs)}",
            *(["", f"{scaled} and what it does; they are not comparable with the paper's."] if s["preset"] != "paper" or changed else []),
            "",
            f"- budget: {length} of {s['batch_size']} examples, seed {s['seed']}, the same for every run; {figures['encoder']}",
            f"- data: {figures['training_examples']:,} training examples; {figures['examples']:,} of {figures['of']:,} test examples",
            *(f"- {note}" for note in negatives),
            f"- preset {s['preset']}" + (f" with {', '.join(changed)}" if changed else ""),
            f"- checkpoint (smallest validation loss): {', '.join(checkpoints)}",
        ]
    )


def _preset(name: str) -> dict:
    return {field: item.default for field, item in FIELDS.items()} | OVERRIDES[name]


def _draw(runs: list[EvaluatedRun], path: Path) -> None:
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True)
    for number, run in enumerate(runs):
        train, color = [record for record in run.metrics if record["kind"] == "train"], f"C{number}"
        axes[0].plot([r["step"] for r in train], [r["nll"] for r in train], color, alpha=0.4, label=f"{run.name}, training")
        for axis, key in zip(axes, ("nll", "kl", "loss"), strict=True):
            records = [record for record in run.validations() if key in record]
            axis.plot([r["step"] for r in records], [r[key] for r in records], color, marker="o", label=f"{run.name}, validation")
    for axis, title in zip(axes, ("NLL a text", "KL a text", "validation loss (all terms)"), strict=True):
        axis.set(xlabel="step", title=title)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _curves(runs: list[EvaluatedRun]) -> str:
    rows = [
        {"": run.name, "step": str(r["step"]), **{title: f"{r[k]:.2f}" if k in r else "" for k, title in COLUMNS.items()},
         "active units beyond the prior": str(r.get("examined/active_units_beyond_prior", ""))}
        for run in runs for r in run.validations()
    ]  # fmt: skip
    text = (
        "The validation loss of a system with contrasts has their terms in it, so it compares checkpoints, not systems; NLL compares both."
    )
    return f"## Validation\n\n![curves]({CURVES})\n\n{markdown_table(rows)}\n\n{text}"


def _latent(runs: list[EvaluatedRun]) -> str:
    names = dict.fromkeys(name for run in runs for part in ("means", "differences") for name in run.figures["figures"][part])
    rows = []
    for name in names:
        if not name.startswith(("nll", "kl")):
            continue
        entries = [run.figures["figures"]["means"].get(name) or run.figures["figures"]["differences"].get(name) for run in runs]
        rows.append({"nats a text, test": name.replace("_", " "), **{run.name: _entry(e) for run, e in zip(runs, entries, strict=True)}})
    verdicts = []
    for run in runs:
        found = run.figures["figures"]
        verdict = {True: "**COLLAPSED**", False: "not collapsed", None: "no verdict (no latent, or one example)"}[found["collapsed"]]
        beyond = found.get("active_units_beyond_prior", "unknown")
        units = f"{found.get('active_units')} of {found.get('latent_size')} latent dimensions active, {beyond} beyond the prior"
        verdicts.append(f"- {run.name}: {verdict}" + (f"; {units}" if "active_units" in found else ""))
    text = (
        "COLLAPSED: with another example's z the NLL is not certainly higher (paired, 95% bootstrap interval). Rows: z is drawn from the "
        "posterior, the prior, or another example's posterior (shuffled); u is the graph's, of the text alone (unknown) or another "
        "example's. `minus` is paired: above 0, taking the information away does harm."
    )
    return "## Does the latent matter, do the keywords\n\n" + "\n".join(verdicts) + f"\n\n{text}\n\n{markdown_table(rows)}"


def _orders(runs: list[EvaluatedRun]) -> str:
    rows = []
    for name, title in ((f"order_{c}{a}", f"{of}: target before {than}") for c, of in CONTRASTS.items() for a, than in AGAINST.items()):
        row = {"share ordered right": title}
        for run in runs:
            start = run.validations()[0].get(f"examined/{name}")
            row[f"{run.name}, before training"] = "" if start is None else f"{start:.3f}"
            row[f"{run.name}, trained"] = _entry(run.figures["figures"]["means"].get(name))
        if any(value for key, value in row.items() if key != "share ordered right"):
            rows.append(row)
    if not rows:
        return "## Contrasts\n\nNo run on this page has figures of contrasts."
    text = (
        "How often the target lies nearer than a negative: by KL(posterior, prior); by the keywords' states, to the source's keywords "
        "(cosine) or to the posterior (Mahalanobis). 0.5 is chance. Before training: up to 512 validation examples; else the test split."
    )
    return f"## Contrasts\n\n{text}\n\n{markdown_table(rows)}"


def _scores(runs: list[EvaluatedRun]) -> str:
    names = list(runs[0].scores["scores"])
    columns = {run.name: run.scores["scores"] for run in runs} | {k.replace("_", " "): v for k, v in runs[0].figures["floors"].items()}
    rows = [{"test": name, **{column: _entry(scores[name]) for column, scores in columns.items()}} for name in names]
    signatures = "\n".join(f"- `{entry['signature']}`" for entry in runs[0].scores["scores"].values())
    return f"## Scores\n\n{markdown_table(rows)}\n\n<details><summary>signatures</summary>\n\n{signatures}\n\n</details>"


def _entry(entry: dict | None) -> str:
    if not entry or entry["value"] is None:
        return ""
    interval = f" [{entry['low']:.3f}, {entry['high']:.3f}]" if entry["low"] is not None else ""
    return f"{entry['value']:.3f}{interval}"


def _samples(runs: list[EvaluatedRun]) -> str:
    first = runs[0].predictions
    rows = [
        {"source": first[i]["source"], "keywords": ", ".join(first[i]["keywords"]), "reference": first[i]["reference"],
         **{run.name: run.predictions[i]["prediction"] for run in runs}}
        for i in sample_rows(len(first), SAMPLES)
    ]  # fmt: skip
    return f"## {len(rows)} test examples, evenly spread\n\n{markdown_table(rows)}"


def _origin(runs: list[EvaluatedRun]) -> str:
    environment = runs[0].run.environment
    commits = {(run.run.environment["commit"] or {"id": "not recorded"})["id"][:12] for run in runs}
    cpu, packages = environment["cpu"], environment["packages"]
    machine = (
        f"{cpu['name']}, {cpu['cores_usable']} cores, {environment['memory_gib']} GiB, GPUs: {', '.join(environment['gpus']) or 'none'}"
    )
    versions = ", ".join(f"{name} {packages[name]}" for name in ("tensorflow", "tf-keras", "tensorflow-probability", "hcl_tf"))
    return f"## Where from\n\n- {machine}; Python {environment['python']}; {versions}\n- commit {', '.join(sorted(commits))}"
