"""The score of every token of a text, twice: of the whole text at once (teacher forcing), and decoded step by step.

Which tokens are scored is given by labels, [B, T + 1] vocabulary ids, padding where nothing is: any label may be asked for after any text.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.models.base import System
from system_toolkit.breach import close, need
from system_toolkit.kit import STEP, noise_of, part_of, sources_of

LABELS = "asked_labels"  # a column of the batch


@contextmanager
def asked(system: System) -> Iterator[None]:
    """`System.labels` gives the batch's column `LABELS`; of a batch that the system makes itself, what it is."""
    own = system.labels

    def labels(batch: Batch) -> tf.Tensor:
        return batch[LABELS] if LABELS in batch else own(batch)

    object.__setattr__(system, "labels", labels)  # not Keras's, which would look for variables in it
    try:
        yield
    finally:
        object.__delattr__(system, "labels")


def taught(system: System, batch: Batch, labels: np.ndarray) -> np.ndarray:
    """[B] NLL of labels after `target_ids`, in one pass a row; with z, where the system has one, the prior's mean."""
    rows = [part_of(batch, slice(row, row + 1)) for row in range(len(labels))]
    return np.array([taught_total(system, row, labels[number : number + 1]) for number, row in enumerate(rows)])


def taught_total(system: System, batch: Batch, labels: np.ndarray) -> float:
    """The sum of `taught` over real rows, in one pass for all."""
    with asked(system):
        sums = system.losses({**batch, LABELS: tf.constant(labels, tf.int32)}, STEP, noise_of(batch), False)
    return float(sums[system.output_nll].value)


def stepped(system: System, batch: Batch, paths: np.ndarray) -> np.ndarray:
    """[B, beams, P, V' or more] log-probabilities of every next token in `paths` [B, beams, P + 1], decoded one by one.

    The scores of a step and what it does to the cache are looked at on the way.
    """
    rows, beams, length = paths.shape
    columns = columns_of(system, paths).reshape(rows * beams, length)
    columns[:, 0] = columns_of(system, np.array([system.start_id]))
    cache, fixed = system.start(sources_of(batch), beams, None)
    found, pieces = [], len(system.inputs_.output_ids)
    for position in range(length - 1):
        scores, new = system.step(tf.constant(columns[:, position]), tf.constant(position), cache, fixed)
        check_kept(cache, new)
        cache, width = new, scores.shape[-1]
        need(scores.shape[0] == rows * beams and width >= pieces, "scores", f"{scores.shape} for {rows * beams} rows and {pieces} pieces")
        need(bool(tf.reduce_all(tf.reduce_any(tf.math.is_finite(scores), -1))), "scores", f"none is finite at position {position}")
        found.append(tf.nn.log_softmax(tf.cast(scores, tf.float32)).numpy().reshape(rows, beams, width))
    return np.stack(found, 2)


def check_kept(old, new, path: str = "cache") -> None:
    """A search keeps its cache in a loop, so a step may change no tensor's type or shape."""
    if isinstance(old, dict):
        need(type(new) is type(old) and old.keys() == new.keys(), path, f"a step makes {_names(new)} of {_names(old)}")
        for name, part in old.items():
            check_kept(part, new[name], f"{path}/{name}")
    elif isinstance(old, list | tuple):
        need(type(new) is type(old) and len(new) == len(old), path, f"a step makes {_names(new)} of {_names(old)}")
        for number, part in enumerate(old):
            check_kept(part, new[number], f"{path}/{number}")
    else:
        before, after = (f"{tensor.dtype.name}{list(tensor.shape)}" for tensor in (old, new))
        need(before == after, path, f"a step makes {after} of {before}, which no search can keep in a loop")


def columns_of(system: System, ids: np.ndarray) -> np.ndarray:
    """Columns of the kept pieces' scores; a piece that is not kept reads as the unknown one."""
    kept = system.inputs_.output_ids
    ids = np.where(np.isin(ids, kept), ids, system.inputs_.unknown_id)
    return np.searchsorted(kept, ids).astype(np.int32)


def agree(system: System, batch: Batch, path: np.ndarray, labels: np.ndarray, each: np.ndarray, rel: float, name: str) -> None:
    """The labels' NLL after `path` [B, T + 2] in one pass is `each` [B], or [B, P] of every position.

    One pass over all rows has to come as close as that each row does; a difference is traced to its row and position.
    """
    batch, real = {**batch, "target_ids": tf.constant(path, tf.int32)}, batch["example_mask"].numpy() > 0
    by_row = each if each.ndim == 1 else each.sum(1)
    total, wanted = taught_total(system, batch, labels), by_row[real].sum()
    if abs(total - wanted) <= rel / real.sum() * abs(wanted):
        return
    why = "step by step instead of in one pass"
    for position in range(each.shape[1]) if each.ndim == 2 else ():
        alone = np.where(np.arange(labels.shape[1]) == position, labels, system.inputs_.pad_id)
        found, term = taught(system, batch, alone)[real], f"score of position {position} of {name}"
        close(term, each[real, position], found, why, rel, rel)
    close(f"score of {name}", by_row[real], taught(system, batch, labels)[real], why, rel)


def nll_of(steps: np.ndarray, system: System, labels: np.ndarray) -> np.ndarray:
    """[B, P] of what `stepped` gives for one beam [B, P, V']: the NLL of labels [B, P or more], 0 where nothing is asked for."""
    labels = labels[:, : steps.shape[1]]
    found = np.take_along_axis(steps, columns_of(system, labels)[..., None], -1)[..., 0]
    return -np.where(labels == system.inputs_.pad_id, 0.0, found)


def _names(part) -> str:
    if isinstance(part, dict):
        return f"a dict of {', '.join(part)}"
    return f"a {type(part).__name__} of {len(part)}" if isinstance(part, list | tuple) else "a tensor"
