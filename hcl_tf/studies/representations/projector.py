"""Writes files for TensorBoard's embedding projector: vectors, a table about them, and the list of all such files of a run."""

from pathlib import PurePosixPath

import numpy as np

from hcl_tf.training.run_folder import Run

FOLDER, VECTORS, METADATA = "projector", "vectors.tsv", "metadata.tsv"
# It stands beside the events, where TensorBoard finds it whichever folder above was given as --logdir.
CONFIG = "tensorboard/projector_config.pbtxt"


def write_vectors(run: Run, name: str, vectors: np.ndarray, rows: list[dict[str, str]]) -> None:
    """Writes projector/<name>/vectors.tsv and metadata.tsv.

    Args:
      vectors: [n, C]. rows: n dictionaries with the same keys, at least two, which are shown beside each vector.
    """
    if len(vectors) != len(rows):
        raise ValueError(f"{len(vectors)} vectors and {len(rows)} rows about them")
    columns = list(rows[0])
    table = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    numbers = "".join("\t".join(f"{value:.7g}" for value in vector) + "\n" for vector in vectors)
    run.write_text(f"{FOLDER}/{name}/{VECTORS}", numbers)
    run.write_text(f"{FOLDER}/{name}/{METADATA}", "".join("\t".join(line) + "\n" for line in table))


def write_config(run: Run) -> None:
    """Writes the list of all folders below projector/ that have both files."""
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    config = ProjectorConfig()
    up = PurePosixPath(*[".."] * (len(PurePosixPath(CONFIG).parts) - 1))
    for folder in sorted((run.path / FOLDER).iterdir()):
        if all((folder / name).is_file() for name in (VECTORS, METADATA)):
            place = up / FOLDER / folder.name
            config.embeddings.add(tensor_name=folder.name, tensor_path=str(place / VECTORS), metadata_path=str(place / METADATA))
    run.write_text(CONFIG, text_format.MessageToString(config))


def _cell(text: str) -> str:
    """Makes a text fit for a cell of a table whose separators are TAB and line break."""
    return " ".join(text.split())
