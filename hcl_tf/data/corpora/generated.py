"""Makes the generated sample of a task: some 3,000 examples that a grammar derives (grammar.py), the same ones for the same seed.

All meanings of a group, which share their words and differ in their move, are in one split, so no text is in two. An example's negative
is the target of the group's next move: a text about the same words that does not fit.
"""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hcl_tf.data.corpora import grammar
from hcl_tf.data.corpora.grammar import Family, Grammar, Group
from hcl_tf.files.checksums import sha256
from hcl_tf.files.whole_file import write_whole

SEED = 1
GROUPS = {"train": 109, "validation": 6, "test": 10}  # of each family
GENERATED = "generated"  # the key under which a manifest says what made its raw files


def rows(task: str, seed: int = SEED) -> dict[str, list[dict[str, Any]]]:
    """Returns the sample's examples by split, as rows of JSONL: id, topic (the family), move, source, target and negative."""
    draw = random.Random(seed)
    groups: dict[str, list[tuple[Family, Group]]] = {split: [] for split in GROUPS}
    for family in grammar.of_task(task).families.values():
        found = family.groups()
        draw.shuffle(found)
        for split, count in GROUPS.items():
            groups[split] += [(family, group) for group in found[:count]]
            found = found[count:]
    made = {}
    for split, chosen in groups.items():
        examples = [row for family, group in chosen for row in _of_group(family, group, draw)]
        draw.shuffle(examples)
        made[split] = [{"id": f"{split}-{number}", **row} for number, row in enumerate(examples, 1)]
    return made


def _of_group(family: Family, group: Group, draw: random.Random) -> Iterator[dict[str, Any]]:
    """Yields an example for each move."""
    texts = []
    for move, parts in family.moves.items():
        source = [draw.choice(part) for part in parts["source"]]
        # A wording of paraphrases is both source and target, but not of one example.
        target = draw.choice([wording for wording in parts["target"][0] if wording not in source])
        texts.append((move, [family.write(wording, group, draw) for wording in source], family.write(target, group, draw)))
    for (move, source, target), (_, _, negative) in zip(texts, texts[1:] + texts[:1], strict=True):
        yield {
            "topic": family.name, "move": move, "source": source if len(source) > 1 else source[0], "target": target, "negative": negative,
        }  # fmt: skip


def write(task: str, folder: Path, seed: int = SEED) -> Path:
    """Writes the sample as train.jsonl, validation.jsonl and test.jsonl, and returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, examples in rows(task, seed).items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in examples)
        write_whole(folder / f"{split}.jsonl", lines.encode())
    return folder


def folder_beside(prepared: Path) -> Path:
    """Returns where the sample's files are kept of which a prepared folder is made, for people to look at."""
    return prepared.with_name(f"{prepared.name}-generated")


def about(task: str, seed: int = SEED) -> dict[str, Any]:
    """Returns what a manifest says of prepared data that this module made."""
    path = grammar.GRAMMARS / f"{task}.yaml"
    return {"grammar": path.name, "sha256": sha256(path), "seed": seed}


def grammar_of(manifest: Mapping[str, Any]) -> Grammar | None:
    """Returns the grammar that texts were derived from; None: people wrote them, or another version of the grammar made them."""
    task, made_by = manifest["task"]["name"], manifest.get(GENERATED)
    return grammar.of_task(task) if made_by and made_by["sha256"] == about(task)["sha256"] else None
