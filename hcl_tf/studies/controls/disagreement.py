"""Control: does the instance contrast move texts where theory says that it does, and leave them where theory says so?

For each source a the target is b(a) in 45% of its samples and c(a) in 55%. In the overlapping corpus the negative of b(a) is c(a), and that
of c(a) a third text d(a). An objective without contrast gives P(b) 0.45, so a search writes c. With L_ins of weight 1 the optimum lifts it
above one half (`population`), so a search writes b. In the disjoint corpus the negative is always d(a): L_ins can be satisfied wholly
without touching the text, and P(b) stays.
"""

import numpy as np

from hcl_tf.data.preparation import PreparationSettings
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.decoding import sources
from hcl_tf.evaluation.scoring import decode
from hcl_tf.studies.controls import folders
from hcl_tf.studies.controls.findings import Findings, entries
from hcl_tf.studies.controls.population import optimum
from hcl_tf.studies.controls.rows import SPLIT, Bench, Row, target_nll
from hcl_tf.training.trained_run import TrainedRun

SOURCES, SAMPLES, PREFERRED = 8, 100, 45  # PREFERRED of SAMPLES targets of a source are b
CHECKPOINT = "best_loss"  # the paper's rule, which minimises the whole objective
NEAR = 0.03  # how far from 0.45 a probability may be that is to stay there
USUAL = {
    "model": "bert_cvae_ins", "ablate": "keyword", "encoder": "random:1x32", "decoder_layers": 1, "latent_size": 1, "latent_hidden": 32,
    "latent_to": "inputs", "dropout": 0.0, "batch_size": 100, "max_steps": 1500, "epochs": 10_000, "patience": 0, "learning_rate": 3e-3,
    "kl_ramp": 800, "copy": False, "minimum_length": 1, "no_repeat_ngram": 0, "validate_every": 500, "checkpoint_every": 10_000,
    "log_every": 500,
}  # fmt: skip
ABOUT = (
    f"Made up: {SOURCES} sources, each with {SAMPLES} training samples; y+ is b(a) in {PREFERRED}% of them and c(a) in the rest. "
    "Overlapping: y- is c(a) where y+ is b(a), else d(a). Disjoint: y- is always d(a). Scored at the prior's mean; P(b) is b's share "
    "of b and c. The calculation (z of one dimension) is `population.optimum`. The KL term's weight rises slowly, so that z is open "
    "before it counts: at full weight from the first step on (`--kl_ramp=0`) it closes, and stays so for long under a contrast of weight 1."
)


def records(overlapping: bool, samples: int, split: str) -> list[Record]:
    """Makes the samples of all sources, with exactly `PREFERRED` of a hundred targets that are b."""
    numbers, made = folders.numbered(vocabulary()), []
    for source in range(SOURCES):
        for sample in range(samples):
            preferred = sample * 100 < PREFERRED * samples
            words = "a", "b" if preferred else "c", "c" if overlapping and preferred else "d"
            texts = (folders.made_text([f"{word}{source}"], [f"{word}{source}"], numbers) for word in words)
            made.append(Record(f"{split}-{source}-{sample}", *texts, route="made up"))
    return made


def vocabulary() -> list[str]:
    """Lists the words of the corpus."""
    return [f"{word}{source}" for word in "abcd" for source in range(SOURCES)]


def folder(bench: Bench, overlapping: bool) -> PreparedData:
    """Writes the corpus, or opens it."""
    name = "overlapping" if overlapping else "disjoint"
    out = bench.folder / "data" / name
    if out.exists():
        return PreparedData(out)
    splits = {split: records(overlapping, count, split) for split, count in (("train", SAMPLES), ("validation", 20), ("test", 20))}
    return folders.write_made(out, splits, vocabulary(), PreparationSettings("labelled"), f"planted disagreement, {name}")


def run(bench: Bench) -> Findings:
    """Trains the rows, measures them, and compares them with what is known."""
    found = Findings("disagreement", ABOUT, {"sources": SOURCES, "samples of a source": SAMPLES, "P(b)": PREFERRED / 100})
    for name, overlapping, weight in (("base", True, 0.0), ("overlapping", True, 1.0), ("disjoint", False, 1.0)):
        row = Row(name, {"weight_ins": weight})
        trained = bench.train(row, folder(bench, overlapping), CHECKPOINT)
        found.rows[name], found.flags[name] = measures(trained), dict(row.settings)
    wanted = {weight: (optimum(0.45, weight), optimum(0.45, weight, free=True)) for weight in (0.0, 1.0)}
    found.data["calculated, linear decoder"] = wanted[1.0][0]._asdict()
    found.data["calculated, free decoder"] = wanted[1.0][1]._asdict()
    judge(found)
    return found


def measures(trained: TrainedRun) -> dict:
    """Computes P(b), what a beam search writes, and what the contrast sees, over the test split."""
    data = trained.data
    kept = list(data.records(SPLIT))
    first = np.zeros((len(kept), data.target_length + 1), np.float32)
    first[:, 0] = 1.0
    probability = np.exp(-target_nll(trained, SPLIT, first))
    is_b = np.array([record.target.raw.startswith("b") for record in kept])
    source = np.array([record.source.raw for record in kept])
    of_b, of_c = (np.array([probability[(source == name) & part].mean() for name in np.unique(source)]) for part in (is_b, ~is_b))
    outputs = decode(trained, [sources.from_record(record.source) for record in kept])
    seen = trained.validation(SPLIT).diagnose()
    ins = np.logaddexp(0.0, seen["h_target"] - seen["h_negative"])
    columns = {"P(b)": of_b / (of_b + of_c), "written b": np.array([text.startswith("b") for text in outputs], float)}
    columns |= {"h+ of b": seen["h_target"][is_b], "h+ of c": seen["h_target"][~is_b], "h- of b": seen["h_negative"][is_b]}
    columns |= {"h- of c": seen["h_negative"][~is_b], "L_ins": ins, "order": seen["order_ins"]}
    return {name: value for part in ({name: values} for name, values in columns.items()) for name, value in entries(part).items()}


def judge(found: Findings) -> None:
    """Adds the checks."""
    value = {name: {measure: entry["value"] for measure, entry in row.items()} for name, row in found.rows.items()}
    near = f"within {NEAR} of 0.45, and c is always written"
    for name, expected in (("base", "no contrast: P(b) is 0.45"), ("disjoint", "L_ins satisfied without the text: P(b) is 0.45")):
        passed = abs(value[name]["P(b)"] - 0.45) <= NEAR and value[name]["written b"] == 0
        found.check(f"text of {name}", expected, near, f"P(b) {value[name]['P(b)']:.3f}, b written {value[name]['written b']:.0%}", passed)
    passed = value["disjoint"]["order"] == 1 and value["disjoint"]["L_ins"] < 0.01
    said = f"order {value['disjoint']['order']:.1%}, L_ins {value['disjoint']['L_ins']:.4f}"
    found.check("contrast of disjoint", "order 100%, L_ins about 0", "order 100% and L_ins under 0.01", said, passed)
    flipped = value["overlapping"]
    linear, free = (found.data[f"calculated, {kind} decoder"]["probability"] for kind in ("linear", "free"))
    found.check(
        "text of overlapping", f"P(b) {free:.3f} (any decoder) to {linear:.3f} (logit linear in z): the search writes b",
        "P(b) above 0.5, and b is written for more than half of the sources",
        f"P(b) {flipped['P(b)']:.3f}, b written {flipped['written b']:.0%}", flipped["P(b)"] > 0.5 and flipped["written b"] > 0.5,
    )  # fmt: skip
