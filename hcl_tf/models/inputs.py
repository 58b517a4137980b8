"""What a system knows of its task, and the batch on which it makes its variables."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.layers.encoder import EncoderShape


@dataclass(frozen=True)
class Inputs:
    """What a system knows of its task. It is the same in training and in generation.

    Attributes:
      language: "en" or "zh". source_length, target_length: the most pieces of a text, without special ones.
      max_keywords: K, the most keywords of a text. vocabulary: V, the number of pieces in the vocabulary.
      pad_id, unknown_id, cls_id, sep_id: the vocabulary's special pieces.
      output_ids: [V'] int32, the vocabulary ids that an output may contain, ascending.
      neighbours: [N, 2, M] int32, the keyword graph (`KeywordGraph.table`).
      keyword_ids: [N, P] int32, the pieces of each node's keyword: `[CLS] pieces [SEP]` and padding.
      shape: the encoder's sizes; None for a system without weights.
      library: the configuration of a library model's published weights (`System.read_published`); None: there are none.
    """

    language: str
    source_length: int
    target_length: int
    max_keywords: int
    pad_id: int
    unknown_id: int
    cls_id: int
    sep_id: int
    vocabulary: int
    output_ids: np.ndarray
    neighbours: np.ndarray
    keyword_ids: np.ndarray
    shape: EncoderShape | None
    library: dict | None = None


def dummy_batch(inputs: Inputs, rows: int = 2) -> Batch:
    """Makes a batch of the right shapes, with meaningless content. A system runs on it once to make its variables."""

    def text(length: int) -> tf.Tensor:
        return tf.tile([[inputs.cls_id, inputs.unknown_id, inputs.sep_id] + [inputs.pad_id] * (length - 1)], [rows, 1])

    nodes = tf.fill([rows, inputs.max_keywords], -1)
    return {
        "source_ids": text(inputs.source_length), "target_ids": text(inputs.target_length), "negative_ids": text(inputs.target_length),
        "example_rows": tf.range(rows), "example_mask": tf.ones([rows]), "source_nodes": nodes, "target_nodes": nodes,
        "source_unknown": tf.ones([rows], tf.int32), "target_unknown": tf.ones([rows], tf.int32),
        "impostor_nodes": tf.fill([rows, inputs.max_keywords, 1], -1), "impostor_routes": tf.zeros([rows], tf.int32),
        "graph_nodes": tf.fill([1], -1), "graph_neighbours": tf.fill([1, 2, 1], -1),
    }  # fmt: skip
