"""The paper's model on real prepared samples: batches, and what tests ask of them. hcl_fixtures.py has the fixtures."""

import math

import numpy as np
import tensorflow as tf

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.subgraph import ROUTES
from hcl_tf.layers.noise import Noise
from hcl_tf.models.hcl import HCL

Z, WIDTH, B, STEP = 5, 16, 4, tf.constant(30)
TINY = {"latent_size": Z, "latent_hidden": 8, "decoder_layers": 1, "beams": 2, "minimum_length": 1, "maximum_length": 3, "copy": False,
        "impostor": "mean", "contrast_scale": "both"}  # fmt: skip
NONE = ROUTES.index("none")


def tensors(batch: dict) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in batch.items()}


def noise_of(batch) -> Noise:
    return Noise(1, STEP, batch["example_rows"])


def sums_of(system: HCL, batch, training: bool = True) -> dict[str, float]:
    return {name: float(total.value) for name, total in system.losses(batch, STEP, noise_of(batch), training).items()}


def part_of(batch, rows: slice) -> dict[str, tf.Tensor]:
    return {name: tensor if name.startswith("graph_") else tensor[rows] for name, tensor in batch.items()}


def without_impostors(batch, row: int) -> dict[str, tf.Tensor]:
    nodes, routes = batch["impostor_nodes"].numpy(), batch["impostor_routes"].numpy()
    nodes[row], routes[row] = -1, NONE
    return {**batch, "impostor_nodes": tf.constant(nodes), "impostor_routes": tf.constant(routes)}


def junk_texts(batch, *names: str) -> dict[str, tf.Tensor]:
    """Other pieces and other keywords in some roles."""
    changed = dict(batch)
    for name in names:
        ids = batch[f"{name}_ids"].numpy()
        ids[:, 1:4] = ids[::-1, 1:4] + 7
        changed[f"{name}_ids"] = tf.constant(ids)
        if f"{name}_nodes" in batch:
            changed[f"{name}_nodes"] = tf.reverse(batch[f"{name}_nodes"], [0])
    return changed


def kl_of(m1, s1, m2, s2) -> float:
    return sum(math.log(b / a) + (a * a + (p - q) ** 2) / (2 * b * b) - 0.5 for p, a, q, b in zip(m1, s1, m2, s2, strict=True))


def head_of(head, *parts) -> tuple[np.ndarray, np.ndarray]:
    """A head's mean and deviation of one example, in NumPy."""
    inner = np.tanh(np.concatenate(parts) @ head.inner.kernel.numpy() + head.inner.bias.numpy())
    mean, log_variance = np.split(inner @ head.outer.kernel.numpy() + head.outer.bias.numpy(), 2)
    return mean, np.exp(10 * np.tanh(log_variance / 10) / 2)


def cosine(a, b) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def gaussians_of(system: HCL, batch) -> tuple:
    """Prior, posterior of the target and posterior of the negative, as means and deviations [B, Z] in NumPy; and what they are made of."""
    texts = system.encode(batch, None, ROLES)
    keywords = system.keyword_states(batch, texts, system.node_states)
    found = system.prior_of(texts, keywords), *(system.posterior_of(texts["source"], texts[role]) for role in ROLES[1:])
    return [(d.mean().numpy(), d.stddev().numpy()) for d in found], texts, keywords
