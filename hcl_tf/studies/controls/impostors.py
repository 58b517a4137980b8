"""Control: do L_key and L_ma learn to order pairs of keywords that nothing but the pair's own text can order?

Target words are linked in a ring: the negative of a sample with target word i has word i + r. So each word is an impostor exactly as often
as it is a target, and any rule that looks at the keyword alone is right in one half of the cases, however clever it is.
"""

import numpy as np
import tensorflow as tf

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.graph import NEGATIVE
from hcl_tf.data.preparation import PreparationSettings
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.studies.controls import folders
from hcl_tf.studies.controls.findings import Findings, entries
from hcl_tf.studies.controls.rows import SPLIT, Bench, Row
from hcl_tf.training.trained_run import TrainedRun

PAIRS, STEPS, COPIES = 64, 8, 4  # words of a kind; r = 1 .. STEPS; samples of each
ORDERED, BLIND = 0.95, 0.05  # the least order accuracy; how far from one half a blind one may be
USUAL = {
    "model": "hcl", "encoder": "random:1x64", "decoder_layers": 1, "latent_size": 32, "latent_hidden": 64, "latent_to": "inputs",
    "dropout": 0.0, "batch_size": 64, "max_steps": 600, "epochs": 10_000, "patience": 0, "learning_rate": 3e-3, "copy": False,
    "minimum_length": 1, "refresh_graph_every": 0, "validate_every": 600, "checkpoint_every": 10_000, "log_every": 100,
    "contrast_scale": "none",
}  # fmt: skip
ABOUT = (
    f"Made up: {PAIRS} source words, each with a target word of its own; negatives have the target word r places further in a ring, "
    f"r = 1 to {STEPS}, so each target word has the {2 * STEPS} nearest as impostors. Orders are shares of all pairs of a target "
    "word and one of its impostors, the impostor at the target's length. Blind: by the best fixed "
    "direction, and by a constant mu, the mean of all posteriors' means, with their mean deviation."
)


def records(copies: int, split: str) -> list[Record]:
    """Makes the samples: each source word with its target word and each of the negatives."""
    numbers, made = folders.numbered(vocabulary()), []
    for word in range(PAIRS):
        for step in range(1, STEPS + 1):
            names = f"x{word}", f"y{word}", f"y{(word + step) % PAIRS}"
            for copy in range(copies):
                texts = (folders.made_text([name], [name], numbers) for name in names)
                made.append(Record(f"{split}-{word}-{step}-{copy}", *texts, route="made up"))
    return made


def vocabulary() -> list[str]:
    """Lists the words of the corpus."""
    return [f"{kind}{word}" for kind in "xy" for word in range(PAIRS)]


def folder(bench: Bench) -> PreparedData:
    """Writes the corpus, or opens it."""
    out = bench.folder / "data" / "ring"
    if out.exists():
        return PreparedData(out)
    splits = {split: records(copies, split) for split, copies in (("train", COPIES), ("validation", 1), ("test", 1))}
    settings = PreparationSettings("labelled", graph_degree=2 * STEPS)
    return folders.write_made(out, splits, vocabulary(), settings, "impostors from the marginal of positives")


def run(bench: Bench) -> Findings:
    """Trains the row, measures it, and compares it with what is known."""
    found = Findings("impostors", ABOUT, {"words of a kind": PAIRS, "impostors of a word": 2 * STEPS})
    row = Row("hcl")
    trained = bench.train(row, folder(bench), "best_loss")
    for name, measured in (("before training", trained.beginning), ("hcl", trained.system)):
        found.rows[name], found.flags[name] = orders(*states(trained, measured)), dict(row.settings)
    value = {measure: entry["value"] for measure, entry in found.rows["hcl"].items()}
    for name in ("order of L_key", "order of L_ma"):
        found.check(name, "learnt from the pair", f"above {ORDERED:.0%}", f"{value[name]:.1%}", value[name] > ORDERED)
    for name in ("blind: fixed direction", "blind: constant mu"):
        passed = abs(value[name] - 0.5) <= BLIND
        found.check(name, "50% by construction", f"within {BLIND:.0%} of 50%", f"{value[name]:.1%}", passed)
    return found


def states(trained: TrainedRun, system) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Computes what the contrasts compare, for each target word.

    Returns:
      u_x, u_y [P, Z]; mean and deviation of q(z | x, y) [P, Z]; [P, 2 * STEPS] the places of each target word's impostors among them.
    """
    numbers = trained.graph.numbers()
    nodes = system.node_states.numpy()
    source, target = (np.array([numbers[f"{kind}{word}"] for word in range(PAIRS)]) for kind in "xy")
    place = {node: number for number, node in enumerate(target)}
    impostors = np.array([[place[other] for other in trained.graph.neighbours(node, NEGATIVE)] for node in target])

    def posterior(batch):
        texts = system.encode(batch, None, ROLES)
        found = system.posterior_of(texts["source"], texts["target"])
        return found.mean(), found.stddev()

    rows = np.arange(0, PAIRS * STEPS, STEPS)
    means, deviations = [], []
    for batch in trained.validation(SPLIT, system=system).rows(rows):
        mean, deviation = tf.function(posterior, autograph=False)(batch)
        real = batch["example_mask"].numpy() > 0
        means.append(mean.numpy()[real])
        deviations.append(deviation.numpy()[real])
    return nodes[source], nodes[target], np.concatenate(means), np.concatenate(deviations), impostors


def orders(u_x: np.ndarray, u_y: np.ndarray, mean: np.ndarray, deviation: np.ndarray, impostors: np.ndarray) -> dict:
    """Computes how often each rule prefers the target word to an impostor of its length, over all pairs; arguments as `states` returns."""
    length = np.linalg.norm(u_y, axis=-1)
    other = u_y[impostors] * (length[:, None] / length[impostors])[..., None]  # --> [P, I, Z]

    def order_key() -> np.ndarray:
        """Prefers the larger cosine with u_x."""
        return _cosine(u_x, u_y)[:, None] > _cosine(u_x[:, None], other)

    def order_ma(centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Prefers the smaller Mahalanobis distance."""
        own = np.square((u_y - centre) / scale).sum(-1)
        return own[:, None] < np.square((other - centre[:, None]) / scale[:, None]).sum(-1)

    direction = (u_y[:, None] - other).reshape(-1, u_y.shape[1])
    direction = np.linalg.lstsq(direction, np.ones(len(direction)), rcond=None)[0]  # the least squares fit of a difference of 1
    constant = order_ma(np.broadcast_to(mean.mean(0), mean.shape), np.broadcast_to(deviation.mean(), deviation.shape))
    found = {
        "order of L_key": order_key(), "order of L_ma": order_ma(mean, deviation),
        "blind: fixed direction": u_y @ direction[:, None] > other @ direction, "blind: constant mu": constant,
    }  # fmt: skip
    return entries({name: values.mean(1) for name, values in found.items()})


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Computes the cosine along the last axis."""
    return np.sum(a * b, -1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
