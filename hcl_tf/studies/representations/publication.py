"""Writes Figure 3 into its run's folder: a picture, numbers, and vectors for TensorBoard's projector."""

import numpy as np

from hcl_tf.data.store.tfrecords import Record
from hcl_tf.files.whole_file import writing
from hcl_tf.studies.representations import distances, projector, tsne
from hcl_tf.studies.representations.figure3 import SPACES, Figure3
from hcl_tf.training.run_folder import Run

CAPTION = ("keyword-source", "source-positive", "source-negative")


def publish(run: Run, figure: Figure3) -> None:
    """Writes picture, numbers and projector files into the run's folder, and prints the numbers.

    Files, each whole or not there: projector/<label>-before and -after, tensorboard/projector_config.pbtxt,
    representations.<label>.png, and last representations.<label>.json; an earlier one is removed first, so that where it is, the
    others belong to it. The label is the split, with the space where it is not the default.
    """
    numbers, picture = run.path / f"representations.{figure.label}.json", _picture(figure)
    with writing(numbers):
        numbers.unlink(missing_ok=True)
    for when, vectors in figure.vectors.items():
        _write_vectors(run, f"{figure.label}-{when}", {name: vectors[name] for name in figure.maps[when].places}, figure.records)
    projector.write_config(run)
    run.write_bytes(f"representations.{figure.label}.png", picture)
    run.write_json(numbers.name, figure.found)
    print("\n".join(distances.lines(figure.found)), flush=True)
    print(f"\nwrote representations.{figure.label}.png and .json and projector files to {run.path}; tensorboard --logdir={run.path}")


def _write_vectors(run: Run, name: str, vectors: dict[str, np.ndarray], records: list[Record]) -> None:
    """Writes the projector's files; a record without a known keyword has no keyword vector, and is left out there."""
    rows = [(vector, row) for role, part in vectors.items() for vector, row in zip(part, _rows(role, records), strict=True)]
    real = [(vector, row) for vector, row in rows if np.isfinite(vector).all()]
    projector.write_vectors(run, name, np.stack([vector for vector, _ in real]), [row for _, row in real])


def _rows(name: str, records: list[Record]) -> list[dict[str, str]]:
    """Returns what the projector shows beside each record's vector of that name."""
    return [{"text": _text(name, record), "role": name, "example": record.id} for record in records]


def _text(name: str, record: Record) -> str:
    """Returns the text, or the keywords, that a vector belongs to."""
    if name == "keyword":
        return ", ".join(keyword.text for keyword in record.source.keywords)
    return {"source": record.source, "positive": record.target, "negative": record.negative}[name].raw


def _picture(figure: Figure3) -> bytes:
    """Draws the picture, with a panel for each time, as a PNG."""
    found = figure.found
    model = f"{found['model']} {found['variant']}".rstrip()
    title = f"{model} on {found['task']}, {found['split']} split: {found['examples']:,} examples, {SPACES[found['space']]}"
    times = {"before": "before training", "after": f"after training (step {found['step']:,})"}
    panels = []
    for when, place in figure.maps.items():
        part = found[when]["cosine"]
        shown = (f"{name} {part['distances'][name]['value']:.3f}" for name in CAPTION if name in part["distances"])
        share = part["nearer"]["source: positive minus negative"]["value"]
        panels.append((f"{times[when]}; cosine distances\n{', '.join(shown)}\npositive nearer to source than negative: {share:.0%}", place))
    return tsne.draw(title, panels, "t-SNE of each panel by itself: neighbourhoods count, axes and lengths do not")
