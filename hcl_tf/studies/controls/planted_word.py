"""Control: does a word that only the keyword state knows reach the text?

In real questions a keyword that source and target share is replaced in both by a word drawn uniformly from 64, and hidden in the source's
text (`planting`). Without the keyword state the word costs at least ln 64 nats; with the state beside z (`--decoder_keyword`) next
to nothing; and by the paper's road, keyword state, prior, z, decoder, as little if that road is open. The KL divergence says nothing of it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.studies.controls import folders, planting
from hcl_tf.studies.controls.findings import Findings, entries
from hcl_tf.studies.controls.rows import SPLIT, Bench, Row, nll_among, target_nll
from hcl_tf.training.trained_run import TrainedRun

QUESTIONS, DRAWS, HELD_OUT_DRAWS = 100, 64, 4  # real questions; draws of a word for each, in training and in the test split
VALIDATED = 64
OPEN = 1.0  # nats: a road is open that costs less
USUAL = {
    "model": "bert_cvae", "output_vocab": "train", "decoder_layers": 1, "dropout": 0.0, "epochs": 10_000, "patience": 0,
    "max_steps": 500, "kl_ramp": 500, "latent_to": "inputs", "learning_rate": 1e-3, "refresh_graph_every": 0, "validate_every": 10_000,
    "checkpoint_every": 10_000, "log_every": 50,
}  # fmt: skip
ROWS = (
    Row("without u", {"ablate": "keyword"}),
    Row("slot", {"decoder_keyword": True}),
    Row("bert_cvae"),
    Row("hcl", {"model": "hcl", "contrast_scale": "none"}),
)
ABOUT = (
    f"Real questions with a word planted in source and target, one of {planting.WORDS} nodes drawn uniformly, and hidden in the source's "
    "text. All splits have the same questions under draws of their own, so a text is known but for the word. NLL of the word at its first "
    "place in y+, in nats, z at the prior's mean; `among` is what of it is left once it is known that a planted word stands there, "
    "`among, posterior` the same with the posterior's mean, which has seen y+."
)


def folder(bench: Bench, data: PreparedData, words: dict[str, int]) -> PreparedData:
    """Writes the planted folder, or opens it."""
    out = bench.folder / "data" / f"planted-{data.manifest['sha256'][:12]}"
    if out.exists():
        return PreparedData(out)
    kept = list(data.records("train"))
    chosen = [kept[row] for row in sample_rows(len(kept), QUESTIONS)]
    splits = {}
    for seed, (split, draws) in enumerate((("train", DRAWS), ("validation", 1), ("test", HELD_OUT_DRAWS))):
        found = planting.plant(chosen, data, words, draws, seed)
        splits[split] = [_named(record, split) for record in found][: VALIDATED if split == "validation" else None]
    return folders.write_derived(out, data, splits, f"{QUESTIONS} questions, one of {len(words)} words planted in each of {DRAWS} draws")


def run(bench: Bench, data: PreparedData, rows: Sequence[Row] = ROWS) -> Findings:
    """Trains rows, measures them, and compares them with what is known."""
    words = planting.choose_words(data)
    planted = folder(bench, data, words)
    counts = {split: entry["examples"] for split, entry in planted.manifest["splits"].items()}
    found = Findings("planted_word", ABOUT, {**counts, "nodes": len(planted.graph), "words": ", ".join(words)})
    for row in rows:
        found.rows[row.name], found.flags[row.name] = measures(bench.train(row, planted), words), dict(row.settings)
    judge(found, len(words))
    return found


def measures(trained: TrainedRun, words: dict[str, int]) -> dict:
    """Computes the NLL of the planted word, and of whole targets."""
    places = planting.first_places(list(trained.data.records(SPLIT)), words, trained.data.target_length)
    ids = list(words.values())
    columns = {"word": target_nll(trained, SPLIT, places), "among": nll_among(trained, ids, SPLIT, places)}
    columns |= {"among, posterior": nll_among(trained, ids, SPLIT, places, posterior=True), "text": target_nll(trained)}
    kl = np.asarray(trained.validation(SPLIT).diagnose()["kl"], np.float64)
    return entries({**columns, "KL": kl})


def judge(found: Findings, words: int) -> None:
    """Adds the checks."""
    for name, row in found.rows.items():
        word = row["word"]
        said = f"{word['value']:.3f} [{word['low']:.3f}, {word['high']:.3f}]"
        if name == "without u":
            least = math.log(words)
            found.check(name, f"at least ln {words} = {least:.2f}", f"the interval reaches {least:.2f}", said, word["high"] >= least)
        else:
            expected = "near 0" if name == "slot" else f"the road is open: under {OPEN:g}"
            found.check(name, expected, f"the interval ends under {OPEN:g}", said, word["high"] < OPEN)


def _named(record: Record, split: str) -> Record:
    return dataclasses.replace(record, id=f"{record.id}-{split}")
