"""Drawing the validation and test splits that no file gives, by seed."""

import numpy as np

from hcl_tf.config import SPLITS
from hcl_tf.data.formats import Example
from hcl_tf.data.qqp import Clusters, text_key
from hcl_tf.errors import UserError


def divide(
    given: dict[str, list[Example]], sizes: tuple[int, int, int] | None, proportions: tuple[int, int, int], by_text: bool, seed: int
) -> tuple[dict[str, list[Example]], list[str]]:
    """Completes `given` (which has `train`) to all three splits and says what was done.

    `sizes` (train, validation, test) applies where the pool holds that many; else `proportions`. With `by_text`, no text
    (source, target or candidate negative) is in two of the drawn splits: connected groups of examples move together.
    Order within a split is the corpus's own.
    """
    missing = [split for split in SPLITS[1:] if split not in given]
    result = dict(given)
    notes = []
    if missing:
        pool = given["train"]
        if len(pool) < 1 + len(missing):
            raise UserError(f"only {len(pool)} usable examples; at least {1 + len(missing)} are needed to make splits from")
        wanted = dict(zip(SPLITS, _sizes(len(pool), sizes, proportions), strict=True))
        if sizes and len(pool) < sum(sizes):
            notes.append(f"the full corpus, but {len(pool):,} samples are fewer than the paper's {sum(sizes):,}: its proportions are used")
        groups = _connected(pool) if by_text else np.arange(len(pool))
        owner = _draw(groups, [wanted[split] for split in missing], seed)
        for number, split in enumerate(missing, 1):
            result[split] = [example for example, own in zip(pool, owner, strict=True) if own == number]
        train = [example for example, own in zip(pool, owner, strict=True) if own == 0]
        result["train"] = train[: wanted["train"]] if sizes and sum(sizes) <= len(pool) else train
        if len(result["train"]) < len(train):
            notes.append(f"{len(train) - len(result['train']):,} examples beyond the paper's sizes left out")
        notes.append(
            f"drawn from the training file with seed {seed}: {' and '.join(missing)}{', no text in two splits' if by_text else ''}"
        )
        if by_text and not all(result.values()):
            raise UserError("--split_by=question leaves a split empty: nearly all examples hang together; use --split_by=sample")
    return result, notes


def _sizes(count: int, sizes: tuple[int, int, int] | None, proportions: tuple[int, int, int]) -> tuple[int, int, int]:
    if sizes and count >= sum(sizes):
        return sizes
    held = [max(1, round(count * part / sum(proportions))) for part in proportions[1:]]
    return count - sum(held), held[0], held[1]


def _connected(examples: list[Example]) -> np.ndarray:
    """For each example the number of its group, [examples]: examples that share any text are in one group."""
    texts = Clusters()
    for example in examples:
        for other in (example.target, *example.negatives):
            texts.join(example.source, other)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(texts.find(text_key(example.source)), len(numbers)) for example in examples])


def _draw(groups: np.ndarray, wanted: list[int], seed: int) -> np.ndarray:
    """For each example 0 (the rest) or 1, 2, ... (the wanted splits, filled group by group in random order)."""
    group_sizes = np.bincount(groups)
    owner_of_group = np.zeros(len(group_sizes), int)
    room = list(wanted)
    for group in np.random.default_rng(seed).permutation(len(group_sizes)):
        for number, left in enumerate(room):
            if group_sizes[group] <= left:
                owner_of_group[group] = number + 1
                room[number] -= group_sizes[group]
                break
        if not any(room):
            break
    for number in range(1, len(wanted) + 1):
        free = np.flatnonzero(owner_of_group == 0)
        if number not in owner_of_group and len(free) > 1:  # every group is larger than the split: better too large than empty
            owner_of_group[free[np.argmin(group_sizes[free])]] = number
    return owner_of_group[groups]
