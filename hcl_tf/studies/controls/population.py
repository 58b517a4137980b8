"""Calculates the population optimum that the planted disagreement has for a z of one dimension, with NumPy alone.

The prior is N(0, 1). Of y+ a share P(b) is b, whose negative is c, and the rest c, whose negative is far from everything, so that it adds
nothing. Minimised is the NLL of b or c given z, plus KL, plus the weight times L_ins, over the means and deviations of q(z | b) and
q(z | c) and over the decoder.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

GRID = np.linspace(-9.0, 9.0, 2001)
STARTS = (
    (0.5, 0.0, -0.8, 0.0, 1.0, 0.0),
    (0.3, -0.1, -0.9, -0.2, 1.0, 0.0),
    (0.1, 0.0, -1.0, 0.3, 1.0, 0.0),
    (0.4, -0.2, -0.8, -0.4, 2.0, 0.2),
)


class Optimum(NamedTuple):
    """The optimum: KL to the prior of q(z | b) and q(z | c), L_ins, and the probability that the decoder gives b at the prior's mean."""

    kl_b: float
    kl_c: float
    ins: float
    probability: float


def optimum(share: float, weight: float, free: bool = False) -> Optimum:
    """Calculates the optimum.

    Args:
      share: P(b). weight: of L_ins.
      free: the decoder may be any function of z, so it is Bayes's rule; else its logit is linear in z.
    """
    starts = [start[:4] if free else start for start in STARTS]
    found = min((minimize(_loss, start, (share, weight, free), method="BFGS") for start in starts), key=lambda result: result.fun)
    _, kl_b, kl_c, probability = _parts(found.x, share, free)
    return Optimum(kl_b, kl_c, share * float(np.logaddexp(0.0, kl_b - kl_c)), probability)


def _loss(parameters: np.ndarray, share: float, weight: float, free: bool) -> float:
    nll, kl_b, kl_c, _ = _parts(parameters, share, free)
    return nll + share * kl_b + (1.0 - share) * kl_c + weight * share * float(np.logaddexp(0.0, kl_b - kl_c))


def _parts(parameters: np.ndarray, share: float, free: bool) -> tuple[float, float, float, float]:
    """Computes the NLL of b or c, the KL of b and of c, and P(b) at z = 0.

    Args:
      parameters: mean and log deviation of q(z | b), the same of q(z | c), and slope and offset of the decoder's logit unless it is free.
    """
    mean_b, log_b, mean_c, log_c = parameters[:4]
    of_b, of_c = _log_normal(mean_b, log_b), _log_normal(mean_c, log_c)
    logit = np.log(share / (1.0 - share)) + of_b - of_c if free else parameters[4] * GRID + parameters[5]
    width = GRID[1] - GRID[0]
    nll = share * np.sum(np.exp(of_b) * np.logaddexp(0.0, -logit)) + (1.0 - share) * np.sum(np.exp(of_c) * np.logaddexp(0.0, logit))
    kl_b, kl_c = (0.5 * (mean**2 + np.exp(2 * log) - 1.0) - log for mean, log in ((mean_b, log_b), (mean_c, log_c)))
    return float(nll * width), float(kl_b), float(kl_c), float(1.0 / (1.0 + np.exp(-logit[len(GRID) // 2])))


def _log_normal(mean: float, log_deviation: float) -> np.ndarray:
    """Computes the log-density of a normal distribution at every point of `GRID`."""
    return -0.5 * ((GRID - mean) / np.exp(log_deviation)) ** 2 - log_deviation - 0.5 * np.log(2.0 * np.pi)
