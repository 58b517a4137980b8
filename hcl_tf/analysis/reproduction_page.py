"""The page of a reproduction: every kept row's scores side by side, what it is, and what it says."""

import statistics
from pathlib import Path

from hcl_tf.training.board import markdown_table
from hcl_tf.training.checkpoints import from_json, write_whole

PAGE = "report.md"
BLEU, EMBEDDING = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "sacreBLEU"), ("Extrema", "Average", "Greedy")
BEYOND = ("distinct-2", "distinct-outputs", "source-BLEU-4", "verbatim-training-targets", "keywords-included")
SHOWN = 8  # samples
FLOORS = {"copy_source": "(copy the source)", "random_target": "(a random training target)"}
BUDGET = ("preset", "max_steps", "batch_size", "decoder_layers", "output_vocab")


def write(out: Path, manifest: dict) -> str:
    """Writes report.md of everything kept in `out`, and returns its table of scores."""
    rows = [from_json(path.read_bytes()) for path in sorted((out / "rows").glob("*.json"))]
    systems = sorted({row["system"] for row in rows}, key=lambda name: -_mean(rows, name, "BLEU-4"))
    entries = [_scores([row["scores"] for row in rows if row["system"] == name], name) for name in systems]
    table = markdown_table(entries + [_scores([rows[0]["floors"][name]], title) for name, title in FLOORS.items()])
    parts = [_head(rows, manifest), _legend(rows), table, _what(rows, systems), _samples(rows, systems), _origin(rows)]
    write_whole(out / PAGE, ("\n\n".join(parts) + "\n").encode())
    return table


def _head(rows: list[dict], manifest: dict) -> str:
    first = rows[0]
    shared = {k: v for k, v in first["settings"].items() if all(row["settings"].get(k) == v for row in rows)}
    scaled = (
        "\n\n**SCALED DOWN**: not the paper's model size, corpus and length of training. The numbers compare these systems under one "
        "small budget; they are not comparable with the paper's."
    )
    whole = shared.get("preset") == "paper" and not shared.get("max_steps")
    budget = ", ".join(f"{name} {shared[name]}" for name in BUDGET if name in shared)
    counts = f"{first['training_examples']:,} training and {first['examples']:,} test examples"
    title = f"# {manifest['task']['name']}: systems under one setting"
    return f"{title}{'' if whole else scaled}\n\n- the same for all rows: {budget}\n- {counts}"


def _legend(rows: list[dict]) -> str:
    seeds = sorted({row["seed"] for row in rows})
    signatures = "; ".join(f"`{rows[0]['scores'][name]['signature']}`" for name in ("BLEU-4", "sacreBLEU"))
    shown = f"Means over seeds (of {', '.join(map(str, seeds))}; the table says how many), in brackets the smallest and the largest"
    return f"## Scores, test split\n\n{shown}. Ordered by BLEU-4. Signatures: {signatures}."


def _scores(runs: list[dict], name: str) -> dict[str, str]:
    """One line of the table, from the scores of each seed."""
    scores = {score: _spread([run[score]["value"] for run in runs]) for score in (*BLEU, *EMBEDDING, *BEYOND)}
    return {"system": name, "seeds": "" if name in FLOORS.values() else str(len(runs)), **scores}


def _spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = f"{statistics.mean(known):.3f}"
    return text + (f" [{min(known):.3f}, {max(known):.3f}]" if len(known) > 1 else "")


def _mean(rows: list[dict], system: str, score: str) -> float:
    return statistics.mean(row["scores"][score]["value"] for row in rows if row["system"] == system)


def _what(rows: list[dict], systems: list[str]) -> str:
    """How each row was trained, and how its training went."""
    shared = {k for k, v in rows[0]["settings"].items() if all(row["settings"].get(k) == v for row in rows)}
    table = []
    for system in systems:
        row = next(row for row in rows if row["system"] == system)
        own = {k: v for k, v in row["settings"].items() if k not in shared and k not in ("model", "seed", "encoder")}
        best, figures = row["validation"], row["figures"]
        collapsed = {True: "COLLAPSED", False: "no"}.get(figures.get("collapsed"), "")
        table.append({
            "system": system, "weights": row["encoder"], "scored at step": f"{row['step']:,}", "validation NLL": _number(best.get("nll")),
            "NLL a token": _number(best.get("nll_token")), "KL": _number(best.get("kl")), "collapsed": collapsed,
            "settings of its own": ", ".join(f"{k}={v}" for k, v in sorted(own.items())),
        })  # fmt: skip
    return f"## What the rows are\n\n{markdown_table(table)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _samples(rows: list[dict], systems: list[str]) -> str:
    firsts = {system: next(row for row in rows if row["system"] == system) for system in systems}
    texts = []
    for place in range(0, len(rows[0]["samples"]), max(1, len(rows[0]["samples"]) // SHOWN)):
        known = rows[0]["samples"][place]
        lines = [{"": "source", "text": known["source"]}, {"": "keywords", "text": ", ".join(known["keywords"])}]
        lines += [{"": "reference", "text": known["reference"]}]
        lines += [{"": system, "text": row["samples"][place]["prediction"]} for system, row in firsts.items()]
        texts.append(markdown_table(lines))
    return "## Samples, evenly spread over the test split\n\n" + "\n\n".join(texts)


def _origin(rows: list[dict]) -> str:
    where = [(row["environment"]["cpu"], row["environment"]["gpus"]) for row in rows]
    machines = sorted({f"{cpu['name']}, {cpu['cores_usable']} cores, GPUs: {', '.join(gpus) or 'none'}" for cpu, gpus in where})
    commits = sorted({(row["environment"]["commit"] or {"id": "not recorded"})["id"][:12] for row in rows})
    lines = [*machines, f"commits {', '.join(commits)}", "each row's settings, figures and samples: rows/SYSTEM-SEED.json"]
    return "## Where from\n\n" + "\n".join(f"- {line}" for line in lines)
