"""Control: of what a source's hidden keywords are worth to the text, how much comes back through the keyword state?

Real questions whose keywords are all nodes and keywords of the target. A: nothing is hidden, and there is no keyword state. B: the keywords
are hidden in the source's text. C: hidden, with the keyword state in the prior, as in the paper. D: hidden, with the state beside z too.
"""

import numpy as np

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.metrics import significance
from hcl_tf.studies.controls import folders, planting
from hcl_tf.studies.controls.findings import Findings, entries
from hcl_tf.studies.controls.rows import SPLIT, Bench, Row, target_nll

USUAL = {
    "model": "bert_cvae", "output_vocab": "train", "decoder_layers": 2, "epochs": 10_000, "patience": 0, "max_steps": 1000,
    "latent_to": "inputs", "learning_rate": 1e-3, "refresh_graph_every": 0, "validate_every": 200, "checkpoint_every": 10_000,
    "log_every": 50,
}  # fmt: skip
ROWS = (
    ("A: not hidden, without u", False, Row("A", {"ablate": "keyword"})),
    ("B: hidden, without u", True, Row("B", {"ablate": "keyword"})),
    ("C: hidden, u in the prior", True, Row("C")),
    ("D: hidden, u beside z too", True, Row("D", {"decoder_keyword": True})),
)
LEAST = 32  # questions of a split
ABOUT = (
    "Real questions all of whose keywords are nodes and keywords of y+ too. NLL of y+ in nats, z at the prior's mean, of the test split. "
    "What comes back: (B - C) / (B - A) through the prior, (B - D) / (B - A) with the state beside z."
)


def folder(bench: Bench, data: PreparedData, hidden: bool) -> PreparedData:
    """Writes the folder with or without its keywords hidden, or opens it. Raises `UserError` where too few questions are left."""
    out = bench.folder / "data" / f"{'hidden' if hidden else 'shown'}-{data.manifest['sha256'][:12]}"
    if out.exists():
        return PreparedData(out)
    splits = {split: planting.hide_keywords(data.records(split), data)[hidden] for split in data.manifest["splits"]}
    for split, kept in splits.items():
        if len(kept) < LEAST:
            raise UserError(
                f"--data_dir={data.folder}: only {len(kept)} examples of the {split} split have keywords that are all nodes and in y+, and "
                f"{LEAST} are needed; prepare more data"
            )
    return folders.write_derived(out, data, splits, f"keywords of sources {'hidden' if hidden else 'shown'}; only where y+ has them too")


def run(bench: Bench, data: PreparedData) -> Findings:
    """Trains the rows, measures them, and says what comes back."""
    found, nll = Findings("masked_keywords", ABOUT, {}), {}
    for title, hidden, row in ROWS:
        used = folder(bench, data, hidden)
        found.data |= {split: entry["examples"] for split, entry in used.manifest["splits"].items()} | {"nodes": len(used.graph)}
        nll[row.name] = target_nll(bench.train(row, used), SPLIT)
        found.rows[title], found.flags[title] = entries({"NLL of y+": nll[row.name]}), dict(row.settings)
    lost = significance.means({"B - A": nll["B"] - nll["A"]})["B - A"]
    said = f"{lost['value']:.3f} [{lost['low']:.3f}, {lost['high']:.3f}]"
    found.check("B - A", "hidden keywords are missed", "the interval lies above 0", said, lost["low"] > 0)
    for name, what in (("C", "through the prior"), ("D", "with the state beside z")):
        value, low, high = returned(nll["A"], nll["B"], nll[name])
        found.rows[f"(B - {name}) / (B - A)"] = {"share": {"value": value, "low": low, "high": high, "examples": len(nll["A"])}}
        said = f"{value:.3f} [{low:.3f}, {high:.3f}]"
        found.check(f"(B - {name}) / (B - A)", f"something comes back {what}", "the interval lies above 0", said, low > 0)
    return found


def returned(a: np.ndarray, b: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Computes (mean b - mean other) / (mean b - mean a) of NLLs [n] of the same examples, and its 95% bootstrap interval."""

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums[:, 1]

    values = np.stack([b - other, b - a], 1).astype(np.float64)
    return float(ratio(values.sum(0, keepdims=True))[0]), *significance.percentiles(significance.resampled(values, ratio))
