"""Stages of a plan, and rows of them whose examples have values that a test chooses."""

from pathlib import Path

import numpy as np
from made_results import made

from hcl_tf.evaluation.rows import Result
from hcl_tf.reporting.plan import PlannedRow, PlannedStage

N = 40


def stage(*rows: PlannedRow) -> PlannedStage:
    """A stage of these rows, on the validation split."""
    return PlannedStage("arms", "", "qqp", "small", Path("data"), "validation", "best_nll", 0, None, "base", rows)


def row(name: str, beside: str = "") -> PlannedRow:
    """A row of a stage."""
    return PlannedRow(name, "", "", beside, (1, 2))


def result(name: str, seed: int = 1, margin: float = 0.0, nll: float = 40.0, trunk: str = "t", **changes) -> Result:
    """A row whose examples lie around these values; examples of one number are alike in all rows."""
    of_example = np.random.default_rng(0).normal(0, 5, N)
    noise = np.random.default_rng([seed, len(name)]).normal(0, 0.1, (2, N))
    per_example = {"difference_a_token": (margin + noise[0]).tolist(), "nll": (nll + of_example + noise[1]).tolist()}
    found = made("hcl", seed, split="validation", checkpoint="best_nll", init_from={"sha256": trunk}, **changes)
    return Result(found.origin, found.record | {"system": name, "figures": found.record["figures"] | {"per_example": per_example}})
