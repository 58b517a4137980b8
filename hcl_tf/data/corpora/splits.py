"""Draws the validation and test splits that no file gives."""

import numpy as np

from hcl_tf.config import SPLITS
from hcl_tf.data.corpora.examples import Example
from hcl_tf.data.corpora.qqp import Clusters, text_key
from hcl_tf.errors import UserError


def divide(
    given: dict[str, list[Example]], sizes: tuple[int, int, int] | None, proportions: tuple[int, int, int], by_text: bool, seed: int
) -> tuple[dict[str, list[Example]], list[str]]:
    """Completes the splits that are given to all three.

    Examples of one group, and those with the same source and target in either direction, stay together. Order within a split is the
    corpus's own.

    Args:
      given: examples by split; it has `train`, from which the others are drawn.
      sizes: of train, validation and test, where there are that many examples; else, or if None, `proportions` count.
      by_text: no text (source, target or candidate negative) may be in two splits. Connected examples then move together, and examples
        that share a text with a split that the user gave are left out of the splits before it.

    Returns:
      The three splits, and notes for the user.

    Raises:
      UserError: there are too few examples, or a split would be empty.
    """
    result, notes = _without_shared_texts(given) if by_text else (dict(given), [])
    missing = [split for split in SPLITS[1:] if split not in given]
    if missing:
        pool = result["train"]
        if len(pool) < 1 + len(missing):
            raise UserError(f"only {len(pool)} usable examples; at least {1 + len(missing)} are needed to make splits from")
        wanted = dict(zip(SPLITS, _sizes(len(pool), sizes, proportions), strict=True))
        if sizes and len(pool) < sum(sizes):
            notes.append(f"the full corpus, but {len(pool):,} samples are fewer than the paper's {sum(sizes):,}: its proportions are used")
        owner = _draw(_connected(pool, by_text), [wanted[split] for split in missing], seed)
        for number, split in enumerate(missing, 1):
            result[split] = [example for example, own in zip(pool, owner, strict=True) if own == number]
        train = [example for example, own in zip(pool, owner, strict=True) if own == 0]
        # The paper's sizes are those of a whole corpus; a training file beside given splits is the user's business.
        result["train"] = train[: wanted["train"]] if sizes and len(missing) == 2 and sum(sizes) <= len(pool) else train
        if len(result["train"]) < len(train):
            notes.append(f"{len(train) - len(result['train']):,} examples beyond the paper's sizes left out")
        notes.append(f"drawn from the training file with seed {seed}: {' and '.join(missing)}{', no text in two splits' * by_text}")
    if not all(result.values()):
        empty = next(split for split, examples in result.items() if not examples)
        raise UserError(
            f"the {empty} split would be empty: nearly all examples hang together"
            + (" by shared texts; use --split_by=sample" if by_text else " (one story, or the same pair throughout); give more data")
        )
    return result, notes


def _without_shared_texts(given: dict[str, list[Example]]) -> tuple[dict[str, list[Example]], list[str]]:
    """Leaves out of each given split the examples that share a text with a given split after it (train, validation, test)."""
    result, notes, taken = dict(given), [], set()
    for split in reversed(SPLITS):
        if split in given:
            result[split] = [e for e in given[split] if not taken & _texts(e)]
            if lost := len(given[split]) - len(result[split]):
                notes.append(f"{split}: {lost:,} examples that share a text with a later split left out (--split_by=question)")
            taken.update(*map(_texts, result[split]))
    return result, notes


def _texts(example: Example) -> set[str]:
    return {text_key(text) for text in (example.source, example.target, *example.negatives)}


def _sizes(count: int, sizes: tuple[int, int, int] | None, proportions: tuple[int, int, int]) -> tuple[int, int, int]:
    if sizes and count >= sum(sizes):
        return sizes
    held = [max(1, round(count * part / sum(proportions))) for part in proportions[1:]]
    return count - sum(held), held[0], held[1]


def _connected(examples: list[Example], by_text: bool) -> np.ndarray:
    """Returns the number of each example's set, [examples]. Examples that must not be parted are in one set."""
    sets = Clusters()
    keys = []
    for example in examples:
        keys.append("pair " + " | ".join(sorted((text_key(example.source), text_key(example.target)))))
        if example.group:
            sets.join(keys[-1], f"group {example.group}")
        for text in _texts(example) if by_text else ():
            sets.join(keys[-1], f"text {text}")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(sets.find(key), len(numbers)) for key in keys])


def _draw(groups: np.ndarray, wanted: list[int], seed: int) -> np.ndarray:
    """Fills the wanted splits with sets of examples in random order.

    Args:
      groups: [examples] the number of each example's set. wanted: sizes of the splits.

    Returns:
      [examples] 1, 2, ... for the wanted splits; 0 for the rest.
    """
    group_sizes = np.bincount(groups)
    owner_of_group = np.zeros(len(group_sizes), int)
    free_places = list(wanted)
    for group in np.random.default_rng(seed).permutation(len(group_sizes)):
        for number, left in enumerate(free_places):
            if group_sizes[group] <= left:
                owner_of_group[group] = number + 1
                free_places[number] -= group_sizes[group]
                break
        if not any(free_places):
            break
    for number in range(1, len(wanted) + 1):
        free = np.flatnonzero(owner_of_group == 0)
        if number not in owner_of_group and len(free) > 1:  # every group is larger than the split: better too large than empty
            owner_of_group[free[np.argmin(group_sizes[free])]] = number
    return owner_of_group[groups]
