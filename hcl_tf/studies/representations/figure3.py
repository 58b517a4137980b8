"""The paper's Figure 3: keyword, source, positive and negative before and after training, as vectors, maps and numbers."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from hcl_tf.data.store.tfrecords import Record
from hcl_tf.errors import UserError
from hcl_tf.evaluation.dependence import units_of_records
from hcl_tf.models.base import System
from hcl_tf.studies.representations import distances, tsne
from hcl_tf.training.diagnostics import summarise
from hcl_tf.training.loop import DIAGNOSED
from hcl_tf.training.trained_run import TrainedRun
from hcl_tf.training.validation import Validation

SPACES = {"text": "projected text vectors", "latent": "means of prior and posterior"}  # of `System.representations`
DEFAULT = "text"
SHOWN = ("source", "keyword", "positive", "negative")  # of what there are vectors of
TOLERANCE = 0.005  # relative, of diagnostics before training that are computed again: another machine gives other last bits
COUNTED = ("order_", "active_")  # diagnostics that one example, moved by those bits, can change by more


@dataclass(frozen=True)
class Figure3Request:
    """The arguments of the figure: how many `examples` of which split, drawn by `seed`, in one of `SPACES`."""

    split: str = "test"
    examples: int = 200
    seed: int = 1
    perplexity: float = 30.0
    space: str = DEFAULT

    @property
    def label(self) -> str:
        """The middle of the results' names. It has the space where that is not the default."""
        return self.split if self.space == DEFAULT else f"{self.split}.{self.space}"


@dataclass(frozen=True)
class Figure3:
    """What the figure shows, "before" and "after" training.

    Attributes:
      label: the middle of its files' names. records: the examples that are shown.
      vectors: when -> name -> [n, C]. maps: when -> the points of t-SNE. found: all numbers, ready for JSON.
    """

    label: str
    records: list[Record]
    vectors: dict[str, dict[str, np.ndarray]]
    maps: dict[str, tsne.Map]
    found: dict


def make(trained: TrainedRun, request: Figure3Request) -> Figure3:
    """Computes the figure of a run; publication.py writes it.

    Raises:
      UserError: the run's data or its starting weights can't be used, its system has no such representations, or the perplexity does
        not fit the examples.
    """
    if trained.model.representations is System.representations:
        raise UserError(
            f"--run_dir={trained.run.path}: {trained.settings.model} has no representations of source, positive and negative to show; "
            "give a run of the paper's model or of a control row built on it"
        )
    total = trained.data.manifest["splits"][request.split]["examples"]
    count = min(request.examples, total)
    # Before anything is computed; of keywords there may be fewer, so it is looked at again with the vectors at hand.
    tsne.check_perplexity(request.perplexity, len(SHOWN) * count)
    chosen = np.sort(np.random.default_rng(request.seed).choice(total, count, replace=False))
    tf.config.experimental.enable_op_determinism()
    print("reading the run and its beginning", flush=True)
    check_beginning(trained)
    systems = {"before": trained.beginning, "after": trained.system}
    vectors = {when: _vectors(trained.validation(request.split, system=system), request.space, chosen) for when, system in systems.items()}
    shown = [name for name in SHOWN if name in vectors["after"]]
    print("embedding", flush=True)
    maps = {when: tsne.embed({name: part[name] for name in shown}, request.perplexity, request.seed) for when, part in vectors.items()}
    drawn = set(chosen.tolist())
    records = [record for i, record in enumerate(trained.data.records(request.split)) if i in drawn]
    units = units_of_records(records, trained.data.manifest)
    found = _head(trained, request, vectors["after"], maps) | distances.summary(**vectors, units=units)
    return Figure3(request.label, records, vectors, maps, found)


def check_beginning(trained: TrainedRun) -> None:
    """Checks that the starting weights that are made again are those of the run, by what it measured before its first step.

    Raises:
      UserError: they are not, or the run did not measure anything then.
    """
    run = trained.run
    now = summarise(trained.validation("validation", system=trained.beginning).diagnose(DIAGNOSED))
    first = next((record for record in run.read_metrics() if record["kind"] == "validation" and record["step"] == 0), None)
    if first is None:
        raise UserError(f"{run.path}: metrics.jsonl has no validation of step 0, with which a beginning made again could be compared")
    for name, value in now.items():
        recorded = first.get(f"examined/{name}")
        if recorded is not None and not name.startswith(COUNTED) and abs(value - recorded) > TOLERANCE * max(1.0, abs(recorded)):
            raise UserError(
                f"{run.path}: its beginning can't be made again: {name} was {recorded:.4g} before training and is {value:.4g} now; "
                "the published weights or the versions of the packages (environment.json) are others than then"
            )


def _vectors(validation: Validation, space: str, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the vectors of the chosen examples in a space: by name, [n, C] each."""
    run = tf.function(lambda batch: validation.system.representations(batch)[space], autograph=False)
    parts = []
    for batch in validation.rows(chosen):
        real = batch["example_mask"].numpy() > 0
        parts += [{name: values.numpy()[real].astype(np.float32) for name, values in run(batch).items()}]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _head(trained: TrainedRun, request: Figure3Request, after: dict[str, np.ndarray], maps: dict[str, tsne.Map]) -> dict:
    """Describes what the numbers were computed from."""
    import sklearn

    s, config = trained.settings, trained.run.config
    present = {name: int(np.isfinite(values).all(-1).sum()) for name, values in after.items()}
    return {
        "task": config["task"], "model": s.model, "variant": s.variant, "preset": s.preset, "run_seed": s.seed,
        "encoder": config["encoder"], "freeze_encoder": trained.system.frozen_encoder is not None, "data": config["data"],
        "checkpoint": trained.checkpoint, "step": trained.step,
        "split": request.split, "examples": len(after["source"]), "of": trained.data.manifest["splits"][request.split]["examples"],
        "seed": request.seed, "space": request.space, "dimensions": after["source"].shape[1], "vectors": present,
        "tsne": {
            "perplexity": request.perplexity, "scikit-learn": sklearn.__version__,
            "divergence": {when: found.divergence for when, found in maps.items()},
        },
    }  # fmt: skip
