"""Writes the curves, distributions, sample texts and settings of a run for TensorBoard."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from hcl_tf.markdown import markdown_table
from hcl_tf.settings import Settings


class Board:
    """Writes TensorBoard's files below `folder`. Tags are `group/name`, so that TensorBoard shows one section for each group."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))
        with self._writer.as_default():
            hparams.hparams(settings.to_dict(), trial_id=f"{settings.model}-{settings.seed}")

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Adds a point to the curve of each name in `values`."""
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """Adds the distribution of an array of any shape, such as the KL of each latent dimension."""
        with self._writer.as_default(step):
            tf.summary.histogram(tag, values)

    def samples(self, rows: list[dict[str, str]], step: int) -> None:
        """Adds a table of texts with a row for each example and a column for each key."""
        with self._writer.as_default(step):
            tf.summary.text("samples", markdown_table(rows))
        self._writer.flush()

    def close(self) -> None:
        """Writes out what is still in memory."""
        self._writer.close()
