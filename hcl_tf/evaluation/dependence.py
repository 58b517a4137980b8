"""Which examples belong together, because they share a text, and so are one unit of an interval."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hcl_tf.config import PARAPHRASES
from hcl_tf.data.corpora.qqp import Clusters
from hcl_tf.data.store.tfrecords import Record


def units_of(pairs: Iterable[tuple[str, str]], task: str) -> list[int] | None:
    """Numbers the units that examples are of, in the order of their first examples.

    Examples of one source are one unit. Where source and target mean the same, as questions do, those that share either text are, also
    through others: that is a cluster of duplicates. Of other tasks a target may be said to many sources, which makes them no unit.

    Args:
      pairs: source and target of each example. task: its name.

    Returns:
      A number for each example; None where each is a unit of its own.
    """
    pairs, clusters = list(pairs), Clusters()
    if task in PARAPHRASES:
        for source, target in pairs:
            clusters.join(source, target)
    names = [clusters.find(source) for source, _ in pairs]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names] if len(number) < len(names) else None


def units_of_records(records: Iterable[Record], manifest: dict[str, Any]) -> np.ndarray | None:
    """Returns the units of records of a prepared folder, which has this manifest: [n], or None where each is one of its own."""
    found = units_of(((record.source.raw, record.target.raw) for record in records), manifest["task"]["name"])
    return None if found is None else np.array(found)
