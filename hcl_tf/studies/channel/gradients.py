"""Which weights a contrast's gradient reaches, how large it is there, and whether it points where the likelihood's does."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from hcl_tf.layers.noise import Noise
from hcl_tf.metrics.significance import means
from hcl_tf.models.base import Batch, System

LIKELIHOOD = "nll"


def by_part(system: System, parts: Mapping[str, list[tf.Variable]], batches: Iterable[Batch], seed: int) -> dict[str, dict]:
    """Computes gradients of the objective's terms, as the objective weighs them after all ramps, on some training batches.

    Args:
      parts: name -> the variables of a part of the system; a term that reaches none of them is 0 there.

    Returns:
      term -> part -> norm and cosine with the likelihood's gradient, each as `metrics.significance.means` has them over the batches. A
      cosine has no value where one of both gradients is 0.
    """
    variables = {name: [v for v in found if v.trainable] for name, found in parts.items()}
    every = [variable for found in variables.values() for variable in found]

    @tf.function(autograph=False)
    def products(batch: Batch) -> dict[str, tf.Tensor]:
        """Computes term -> [2, variables]: each gradient's inner product with itself, and with the likelihood's."""
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            for variable in every:
                tape.watch(variable)
            sums = system.losses(batch, tf.constant(0), Noise(seed, 0, batch["example_rows"]), training=True)
            sums[LIKELIHOOD] = sums.get("nll_smoothed", sums[LIKELIHOOD])  # what training follows; beside it the plain NLL has no gradient
            terms = system.terms(sums, system.counts(batch), None)
        zero = tf.UnconnectedGradients.ZERO
        found = {name: [tf.convert_to_tensor(g) for g in tape.gradient(t, every, unconnected_gradients=zero)] for name, t in terms.items()}
        return {name: tf.stack([_products(each, other) for other in (each, found[LIKELIHOOD])]) for name, each in found.items()}

    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    for batch in batches:
        found = {name: each.numpy().astype(np.float64) for name, each in products(batch).items()}
        first = 0
        for part, members in variables.items():
            of_part = {name: each[:, first : first + len(members)].sum(1) for name, each in found.items()}
            first += len(members)
            for name, (squared, with_likelihood) in of_part.items():
                kept = rows.setdefault(name, {}).setdefault(part, {"norm": [], "cosine": []})
                lengths = np.sqrt(squared * of_part[LIKELIHOOD][0])
                kept["norm"].append(float(np.sqrt(squared)))
                kept["cosine"].append(float(with_likelihood / lengths) if lengths else float("nan"))
    return {name: {part: means({k: np.array(v) for k, v in kept.items()}) for part, kept in of.items()} for name, of in rows.items()}


def _products(some: Iterable[tf.Tensor], others: Iterable[tf.Tensor]) -> tf.Tensor:
    """Computes the inner product of each tensor with its counterpart. Returns [tensors]."""
    return tf.stack([tf.reduce_sum(one * other) for one, other in zip(some, others, strict=True)])


def parts_of(variables: Mapping[str, tf.Variable], places: Mapping[str, tuple[str, ...]]) -> dict[str, list[tf.Variable]]:
    """Sorts variables into parts: name -> those whose path begins with one of its places. A variable belongs to the first part it fits."""
    found: dict[str, list[tf.Variable]] = {name: [] for name in places}
    for path, variable in variables.items():
        for name, prefixes in places.items():
            if path.removeprefix("model/").startswith(prefixes):
                found[name].append(variable)
                break
    return {name: members for name, members in found.items() if members}
