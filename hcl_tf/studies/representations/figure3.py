"""The paper's Figure 3: keyword, source, positive and negative before and after training, as a picture and as numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.data.store.tfrecords import Record
from hcl_tf.errors import UserError
from hcl_tf.files.whole_file import writing
from hcl_tf.models.base import System
from hcl_tf.studies.representations import distances, projector, tsne
from hcl_tf.training.diagnostics import summarise
from hcl_tf.training.loop import DIAGNOSED
from hcl_tf.training.run_folder import Run
from hcl_tf.training.trained_run import TrainedRun
from hcl_tf.training.validation import Validation

SPACES = {"text": "projected text vectors", "latent": "means of prior and posterior"}  # of `System.representations`
DEFAULT = "text"
SHOWN = ("source", "keyword", "positive", "negative")  # of what there are vectors of
CAPTION = ("keyword-source", "source-positive", "source-negative")
TOLERANCE = 0.005  # of figures before training, computed again: the last bits of another machine are not another beginning
COUNTED = ("order_", "active_")  # figures that one example, moved by those bits, can change by more


@dataclass(frozen=True)
class Figure3Request:
    """What to show: `examples` of a split, drawn by `seed`, in one of `SPACES`."""

    run_dir: Path
    data_dir: Path | None = None
    split: str = "test"
    examples: int = 200
    seed: int = 1
    perplexity: float = 30.0
    space: str = DEFAULT

    @property
    def label(self) -> str:
        """The middle of the results' names; the space is in it where it is not the default."""
        return self.split if self.space == DEFAULT else f"{self.split}.{self.space}"


def make(request: Figure3Request) -> dict:
    """Writes picture, numbers and projector files into the run's folder, prints the numbers and returns them.

    Files, each whole or not there: projector/<label>-before and -after, tensorboard/projector_config.pbtxt,
    representations.<label>.png, and last representations.<label>.json; an earlier one is removed first, so that where it is, the
    others belong to it. The label is the split, with the space where it is not the default.

    Raises:
      UserError: the run, its data or its starting weights can't be used, its system has no such representations, or the perplexity
        does not fit the examples.
    """
    trained = TrainedRun(request.run_dir, data_dir=request.data_dir)
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
    _check_beginning(trained)
    states = {
        when: _vectors(trained.validation(request.split, system=system), request.space, chosen)
        for when, system in (("before", trained.beginning), ("after", trained.system))
    }
    shown = [name for name in SHOWN if name in states["after"]]
    print("embedding", flush=True)
    maps = {when: tsne.embed({name: found[name] for name in shown}, request.perplexity, request.seed) for when, found in states.items()}
    found = _head(trained, request, states["after"], maps) | distances.summary(**states)
    drawn = set(chosen.tolist())
    records = [record for i, record in enumerate(trained.data.records(request.split)) if i in drawn]
    _write(trained.run, request.label, found, states, maps, records)
    print("\n".join(distances.lines(found)), flush=True)
    path = trained.run.path
    print(f"\nwrote representations.{request.label}.png and .json and projector files to {path}; tensorboard --logdir={path}")
    return found


def _check_beginning(trained: TrainedRun) -> None:
    """Compares the beginning that is made again with what the run measured before its first step."""
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
    """Name -> [n, C] vectors of the chosen examples in a space."""
    run = tf.function(lambda batch: validation.system.representations(batch)[space], autograph=False)
    parts: dict[str, list[np.ndarray]] = {}
    for batch in validation.rows(chosen):
        real = batch["example_mask"].numpy() > 0
        for name, values in run(batch).items():
            parts.setdefault(name, []).append(values.numpy()[real].astype(np.float32))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _head(trained: TrainedRun, request: Figure3Request, after: dict[str, np.ndarray], maps: dict[str, tsne.Map]) -> dict:
    """What the numbers are numbers of."""
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


def _write(run: Run, label: str, found: dict, states: dict, maps: dict[str, tsne.Map], records: list[Record]) -> None:
    numbers, picture = f"representations.{label}.json", _picture(found, maps)
    with writing(run.path / numbers):
        (run.path / numbers).unlink(missing_ok=True)
    for when, vectors in states.items():
        rows = [(vector, row) for name in maps[when].places for vector, row in zip(vectors[name], _rows(name, records), strict=True)]
        real = [(vector, row) for vector, row in rows if np.isfinite(vector).all()]
        projector.write_vectors(run, f"{label}-{when}", np.stack([vector for vector, _ in real]), [row for _, row in real])
    projector.write_config(run)
    run.write_bytes(f"representations.{label}.png", picture)
    run.write_json(numbers, found)


def _rows(name: str, records: list[Record]) -> list[dict[str, str]]:
    """What the projector shows of each record's vector of that name."""
    texts = {
        "source": lambda r: r.source.raw, "positive": lambda r: r.target.raw, "negative": lambda r: r.negative.raw,
        "keyword": lambda r: ", ".join(keyword.text for keyword in r.source.keywords),
    }  # fmt: skip
    return [{"text": texts[name](record), "role": name, "example": record.id} for record in records]


def _picture(found: dict, maps: dict[str, tsne.Map]) -> bytes:
    model = f"{found['model']} {found['variant']}".rstrip()
    title = f"{model} on {found['task']}, {found['split']} split: {found['examples']:,} examples, {SPACES[found['space']]}"
    times = {"before": "before training", "after": f"after training (step {found['step']:,})"}
    panels = []
    for when, place in maps.items():
        part = found[when]["cosine"]
        shown = (f"{name} {part['distances'][name]['value']:.3f}" for name in CAPTION if name in part["distances"])
        share = part["nearer"]["source: positive minus negative"]["value"]
        panels.append((f"{times[when]}; cosine distances\n{', '.join(shown)}\npositive nearer to source than negative: {share:.0%}", place))
    return tsne.draw(title, panels, "t-SNE of each panel by itself: neighbourhoods count, axes and lengths do not")
