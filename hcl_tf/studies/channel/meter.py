"""Measures the channel of a trained run: all that the rule of `evaluation.links` asks, and what lies behind it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.errors import UserError
from hcl_tf.evaluation import diagnostics, preference
from hcl_tf.evaluation.dependence import units_of_records
from hcl_tf.evaluation.links import links
from hcl_tf.evaluation.scoring import head_of
from hcl_tf.metrics.significance import means
from hcl_tf.models import registry
from hcl_tf.models.base import Batch
from hcl_tf.studies.channel import gradients
from hcl_tf.studies.channel.contrasts import of_contrasts
from hcl_tf.training import assembly
from hcl_tf.training.text_states import TextStates
from hcl_tf.training.trained_run import TrainedRun
from hcl_tf.training.validation import Validation

ALPHAS = (0.0, 0.5, 1.0)
GRADIENT_BATCHES = 8


@dataclass(frozen=True)
class MeterRequest:
    """What to measure.

    Attributes:
      split, limit: the examples, or the first so many of them. what_if: also decode from where L_ins would have the prior's mean.
      untrained: also build the model as it was before its first step, for the orders that it had then.
    """

    split: str = "validation"
    limit: int | None = None
    what_if: bool = False
    untrained: bool = True


def measure(trained: TrainedRun, request: MeterRequest) -> dict:
    """Measures a run. Returns all figures, ready for JSON.

    Raises:
      UserError: the system has no channel to measure, that is no latent variable, or no L_ins where what_if asks for it.
    """
    system = trained.system
    if system.output_nll != "nll_prior":
        raise UserError(
            f"--run_dir={trained.run.path}: {trained.settings.model} has no latent variable z, so there is no channel to measure"
        )
    if request.what_if and trained.settings.model not in registry.systems_with("weight_ins"):
        raise UserError(f"--what_if: {trained.settings.model} has no L_ins, so there is nowhere that it pulls. Drop the flag")
    validation = trained.validation(request.split, request.limit)
    print(f"measuring {validation.batches.count:,} examples of {request.split}", flush=True)
    found = trained.diagnosed(request.split, request.limit)
    head = head_of(
        trained.run.config, trained.settings, trained.checkpoint, trained.step, trained.data, request.split, validation.batches.count
    )
    units = units_of_records(islice(trained.data.records(request.split), request.limit), trained.data.manifest)
    figures = diagnostics.summary(found, system.comparisons, units)
    result = head | {
        "figures": figures,
        "links": [asdict(link) for link in links(figures["differences"])],
        "infonce_ceiling": float(np.log(min(validation.batches.batch_size, validation.batches.count))),
        "contrasts": of_contrasts(found, _untrained(trained, request) if request.untrained else None, units),
        "negatives": trained.data.manifest["splits"]["train"].get("negatives"),
    }
    arrays = trained.data.arrays(request.split).first(request.limit)
    result["preference"] = preference.summary(preference.of_split(found, system.output_nll, arrays, trained.inputs), units)
    if system.places:
        parts = gradients.parts_of(assembly.variables(system), system.places)
        result["gradients"] = gradients.by_part(system, parts, _training_batches(trained), trained.settings.seed)
    if request.what_if:
        result["what_if"] = _what_if(validation, units)
    return result


def _untrained(trained: TrainedRun, request: MeterRequest) -> dict[str, np.ndarray] | None:
    try:
        return trained.validation(request.split, request.limit, trained.beginning).diagnose()
    except UserError as error:
        print(f"the model before training can't be had, so nothing is said of it: {error}", flush=True)
        return None


def _training_batches(trained: TrainedRun) -> Iterator[Batch]:
    """The first training batches of an epoch that training never sees."""
    system, data, s = trained.system, trained.data, trained.settings
    arrays = data.arrays("train")
    frozen = [TextStates(data, arrays, keep=False).columns(system.frozen_encoder)] if system.frozen_encoder else []
    size = min(s.batch_size, len(arrays))
    batches = pair_batches(data, arrays, size, s.seed, system.sampler(data.graph), system.impostors, frozen)
    plan = batches.plan(2**31)[:GRADIENT_BATCHES]
    for number, rows in enumerate(plan):
        yield {name: tf.constant(value) for name, value in batches.make(rows, 2**31, number).items()}


def _what_if(validation: Validation, units: np.ndarray | None) -> dict[str, dict]:
    """Moves the prior's mean by alpha times the difference of the posterior's means, for each of `ALPHAS`.

    Returns:
      alpha -> `nll` of the target; `margin`, the negative's NLL minus the target's; `moved`, the margin minus that at alpha 0. Nats a text.
    """
    ask = tf.function(lambda batch: validation.system.what_if(batch, validation.noise(batch), ALPHAS), autograph=False)
    parts = [ask(batch).numpy()[..., batch["example_mask"].numpy() > 0] for batch in validation.batches.dataset(None)]
    columns: dict[str, np.ndarray] = {}
    for alpha, (target, negative) in zip(ALPHAS, np.concatenate(parts, axis=-1).astype(np.float64), strict=True):
        columns |= {f"{alpha:g} nll": target, f"{alpha:g} margin": negative - target}
        columns[f"{alpha:g} moved"] = columns[f"{alpha:g} margin"] - columns[f"{ALPHAS[0]:g} margin"]
    found = means(columns, units)
    return {f"{alpha:g}": {name: found[f"{alpha:g} {name}"] for name in ("nll", "margin", "moved")} for alpha in ALPHAS}
