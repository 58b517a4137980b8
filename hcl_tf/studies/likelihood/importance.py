"""Estimates -log p(y | x), in which no z is chosen, of a trained run's targets.

The NLL at the prior's mean is what a target costs where outputs are made, the negative ELBO a bound that depends on how good the posterior
is: two systems may differ in either and be equal models of the text. Here z is drawn K times, half of them from the posterior and half from
the prior, and p(y | x) is the mean of p(y, z | x) over the density of the draws. The logarithm of such a mean is in expectation too small,
by less the more draws there are (Burda et al. 2016, "Importance Weighted Autoencoders", theorem 1), so what is shown is an upper bound on
-log p(y | x). Posterior draws alone, as Burda et al. have them, are no good where a contrast has made the posterior narrow: in hcl of
the evidence 128 of them are worth 10 draws of equal weight, and 128 of the mixture 24.
"""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from hcl_tf.errors import UserError
from hcl_tf.evaluation.dependence import units_of_records
from hcl_tf.evaluation.scoring import head_of
from hcl_tf.metrics.significance import means
from hcl_tf.progress import track
from hcl_tf.training.trained_run import TrainedRun

DRAWS = 64


@dataclass(frozen=True)
class LikelihoodRequest:
    """What to estimate: the examples of a split, or the first `limit` of them, with so many draws of z each, an even number."""

    split: str = "validation"
    limit: int | None = None
    draws: int = DRAWS


def measure(trained: TrainedRun, request: LikelihoodRequest) -> dict:
    """Estimates what the targets of a run cost, in nats a text. Returns all figures, ready for JSON.

    Returns:
      Beside what was asked: `bounds`, the number of draws -> the mean bound; `effective_draws`, how many of equal weight the draws are
      worth; `per_example`, the bound of all draws of each example.

    Raises:
      UserError: the system has no latent variable, or the number of draws is odd.
    """
    if request.draws < 2 or request.draws % 2:
        raise UserError(f"--draws={request.draws}: half are of the posterior and half of the prior; give an even number")
    if not trained.system.has_latent:
        raise UserError(f"--run_dir={trained.run.path}: {trained.settings.model} has no latent variable z: its NLL is its likelihood")
    validation = trained.validation(request.split, request.limit)
    count = validation.batches.count
    print(f"estimating the likelihood of {count:,} targets of {request.split} with {request.draws} draws", flush=True)
    system = trained.system
    ask = tf.function(lambda batch: system.importance_weights(batch, validation.noise(batch), request.draws), autograph=False)
    batches = track(iter(validation.batches.dataset(None)), "estimating", len(validation.batches), " batches")
    weights = np.concatenate([ask(batch).numpy()[:, batch["example_mask"].numpy() > 0] for batch in batches], 1).astype(np.float64)
    units = units_of_records(islice(trained.data.records(request.split), request.limit), trained.data.manifest)
    found = {str(draws): bound(weights, draws) for draws in _numbers(request.draws)}
    figures = means(found | {"effective": effective_draws(weights)}, units)
    head = head_of(trained.run.config, trained.settings, trained.checkpoint, trained.step, trained.data, request.split, count)
    return head | {
        "draws": request.draws, "effective_draws": figures.pop("effective"), "bounds": figures,
        "per_example": np.round(found[str(request.draws)], 4).tolist(),
    }  # fmt: skip


def bound(weights: np.ndarray, draws: int) -> np.ndarray:
    """Computes each target's bound [n] on -log p(y | x) with so many draws: the mean over the groups of log weights [K, n]."""
    groups = weights[: len(weights) // draws * draws].reshape(-1, draws, weights.shape[1])
    return np.log(draws) - logsumexp(groups, axis=1).mean(0)


def effective_draws(weights: np.ndarray) -> np.ndarray:
    """Computes how many draws of equal weight the draws of log weights [K, n] are worth (Kong 1992): [n], from 1 to K."""
    return np.exp(2 * logsumexp(weights, axis=0) - logsumexp(2 * weights, axis=0))


def _numbers(draws: int) -> list[int]:
    """2, 8, 32 and so on below the number of draws, and that number."""
    return [number for number in (2 * 4**power for power in range(12)) if number < draws] + [draws]
