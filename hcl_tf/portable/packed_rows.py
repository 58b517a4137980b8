"""Stores the rows of a pretraining in a bundle, and makes their batches again. NumPy alone."""

import dataclasses
from typing import Any

import numpy as np

from hcl_tf.data.batching.batches import Batches
from hcl_tf.portable.bundle import Bundle
from hcl_tf.pretraining.objectives import KINDS, Columns, Pieces
from hcl_tf.pretraining.rows import Packed, Texts

SPLITS = ("train", "validation")


def store(bundle: Bundle, objective: str, train: Batches, held_out: Batches) -> dict[str, Any]:
    """Stores the texts of both splits. Returns the description from which `batches` makes their batches again."""
    splits = {}
    for split, columns in zip(SPLITS, (train.columns[0], held_out.columns[0]), strict=True):
        parts = columns.texts.pieces, columns.texts.ends, columns.packed.order, columns.packed.ends
        splits[split] = [bundle.store(part) for part in parts]
    columns = train.columns[0]
    pieces = {
        field.name: bundle.store(value) if isinstance(value := getattr(columns.pieces, field.name), np.ndarray) else int(value)
        for field in dataclasses.fields(Pieces)
    }
    return {
        "objective": objective, "splits": splits, "filled": columns.packed.filled, "pieces": pieces, "length": columns.length,
        "corrupted": columns.corrupted, "mean_span": columns.mean_span, "whole_words": columns.whole_words,
        "batch_size": train.batch_size, "held_out_batch_size": held_out.batch_size, "seed": train.seed,
    }  # fmt: skip


def is_packed(description: dict[str, Any]) -> bool:
    """Says whether a bundle's batches are rows of a pretraining, and no pairs."""
    return "objective" in description


def batches(bundle: Bundle, description: dict[str, Any], split: str) -> Batches:
    """Makes the batches of a split, as `pretraining.launch` does."""
    d = description
    pieces, ends, order, row_ends = (bundle.array(key) for key in d["splits"][split])
    known = Pieces(**{name: bundle.array(value) if isinstance(value, str) else value for name, value in d["pieces"].items()})
    kind: type[Columns] = KINDS[d["objective"]]
    packed = Packed(order, row_ends, d["filled"])
    columns = kind(Texts(pieces, ends), packed, d["length"], known, d["corrupted"], d["mean_span"], d["whole_words"])
    return Batches(len(packed), d["batch_size" if split == "train" else "held_out_batch_size"], (columns,), d["seed"])
