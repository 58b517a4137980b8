"""Writes the curves, distributions, sample texts and settings of a run for TensorBoard."""

from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams

from hcl_tf.data.store.untuned import untuned
from hcl_tf.files.whole_file import hidden, writing
from hcl_tf.markdown import markdown_table
from hcl_tf.settings import Settings


class Board:
    """Writes TensorBoard's files below `folder`. Tags are `group/name`, so that TensorBoard shows one section for each group."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings

    @cached_property
    def _writer(self) -> tf.summary.SummaryWriter:
        """Made when something is written, which is after `rewind`."""
        writer = tf.summary.create_file_writer(str(self._folder))
        with writer.as_default():
            hparams.hparams(self._settings.to_dict(), trial_id=f"{self._settings.model}-{self._settings.seed}")
        return writer

    def rewind(self, step: int) -> None:
        """Takes back what was written of steps behind `step`, which a resumed run writes again; -1: all. Called before anything is written.

        TensorBoard would show such steps twice. What a killed process left half written goes, too.
        """
        for path in sorted(self._folder.glob("events.out.tfevents.*")):
            kept, whole = _events(path, step)
            if not kept:
                path.unlink()
            elif not whole:
                _write(path, kept)

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

    def flush(self) -> None:
        """Writes out what is still in memory: what a checkpoint covers must not be lost by a kill, since no run would write it again."""
        if "_writer" in self.__dict__:
            self._writer.flush()

    def close(self) -> None:
        """Writes out what is still in memory, and ends the file."""
        if "_writer" in self.__dict__:
            self._writer.close()


def _events(path: Path, step: int) -> tuple[list[bytes], bool]:
    """Reads the events of a file up to a step, and says whether these are all that it has, undamaged."""
    kept, whole = [], True
    try:
        for record in untuned(tf.data.TFRecordDataset(str(path))).as_numpy_iterator():
            if Event.FromString(record).step <= step:
                kept.append(record)
            else:
                whole = False
    except (tf.errors.OpError, DecodeError):  # a killed process left part of one
        whole = False
    return kept, whole


def _write(path: Path, records: list[bytes]) -> None:
    """Writes a file of events in place of the one that is there, whole or not at all."""
    partial = hidden(path, "partial")
    with writing(path):
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for record in records:
                writer.write(record)
        partial.replace(path)
