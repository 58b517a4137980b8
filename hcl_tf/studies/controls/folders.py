"""Writes prepared folders of a control: records that were transformed or made up, with the keyword graph that belongs to them.

The folders are like those of hcl_tf.prepare in every way, so that a control's runs are ordinary runs.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import hcl_tf
from hcl_tf.config import CUSTOM, SPLITS, TARGET_LENGTH, Task
from hcl_tf.data.corpora.examples import ROLES, Keyword
from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import UNKNOWN, KeywordGraph, SampleKeywords
from hcl_tf.data.preparation import PreparationSettings
from hcl_tf.data.store import tfrecords, word_vectors
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record, Text
from hcl_tf.data.tokenizers import wordpiece
from hcl_tf.data.tokenizers.words import words
from hcl_tf.files.checksums import sha256
from hcl_tf.files.whole_folder import whole_or_nothing

Splits = dict[str, list[Record]]


def write_derived(out: Path, data: PreparedData, splits: Splits, note: str) -> PreparedData:
    """Writes a folder of records that were derived from those of another, and opens it.

    The keyword graph is built anew from the training records, by the settings of the other folder; nodes of the records are set here.

    Args:
      out: the folder, which must not be there yet. data: the other. note: says what was done to the records.
    """
    return _write(out, splits, data.tokenizer.vocabulary(), {**data.manifest, "notes": [*data.manifest["notes"], note]})


def write_made(out: Path, splits: Splits, vocabulary: Sequence[str], settings: PreparationSettings, note: str) -> PreparedData:
    """Writes a folder of records that were made up, and opens it.

    Args:
      out: the folder, which must not be there yet. vocabulary: the words of the texts, each of which is one piece.
      settings: say how the graph is built. note: says what the records are.
    """
    pieces = [*wordpiece.SPECIAL, *vocabulary]
    manifest = {
        "format": tfrecords.FORMAT, "code_version": hcl_tf.__version__,
        **Task(CUSTOM, "en", TARGET_LENGTH, "head", "labelled", None, 0).described(),
        "settings": dataclasses.asdict(settings) | {"vocab": "made up"}, "raw_files": {}, "raw_rows": 0, "tagger": "none: made up",
        "tokenizer": {"name": "made up", "lowercase": True, "pieces": len(pieces)}, "notes": [note],
    }  # fmt: skip
    return _write(out, splits, pieces, manifest)


def made_text(tokens: Sequence[str], keywords: Sequence[str], numbers: dict[str, int]) -> Text:
    """Makes a text of words that are pieces of their own, some of them its keywords.

    Args:
      numbers: word -> its id in the vocabulary of `write_made`.
    """
    raw = " ".join(tokens)
    places = [(word, len(" ".join(tokens[: tokens.index(word)])) + bool(tokens.index(word))) for word in keywords]
    marked = tuple(Keyword(word, start, start + len(word), 1.0) for word, start in places)
    return Text(raw, [numbers[token] for token in tokens], marked, (UNKNOWN,) * len(marked))


def numbered(vocabulary: Sequence[str]) -> dict[str, int]:
    """Returns the id that each word has in the vocabulary of `write_made`."""
    return {word: number for number, word in enumerate(vocabulary, len(wordpiece.SPECIAL))}


def _write(out: Path, splits: Splits, pieces: Sequence[str], manifest: dict) -> PreparedData:
    settings, language = manifest["settings"], manifest["task"]["language"]
    with whole_or_nothing(out, tfrecords.MANIFEST, overwrite=False) as folder:
        (folder / tfrecords.VOCABULARY).write_text("\n".join(pieces) + "\n", encoding="utf-8")
        built = _graph(splits["train"], settings)
        graph.save(built, folder / tfrecords.GRAPH)
        distinct = dict.fromkeys(getattr(record, role).normal for record in splits["train"] for role in ROLES)
        word_vectors.learn(words(text, language) for text in distinct).save(folder / tfrecords.WORD_VECTORS)
        numbers, entries = built.numbers(), {}
        for split in SPLITS:
            records = (_renumbered(record, numbers) for record in splits[split])
            shards = tfrecords.write_shards(folder, split, records, len(splits[split]))
            entries[split] = {"examples": len(splits[split]), "shards": shards}
        names = [tfrecords.VOCABULARY, tfrecords.WORD_VECTORS, f"{tfrecords.GRAPH}/nodes.tsv", f"{tfrecords.GRAPH}/edges.npz"]
        edges = {name: built.edges(relation) for relation, name in enumerate(graph.RELATIONS)}
        manifest = {
            **manifest, "graph": {"nodes": len(built), "edges": edges}, "splits": entries,
            "files": {name: sha256(folder / name) for name in names},
        }  # fmt: skip
        tfrecords.write_manifest(folder, manifest)
    return PreparedData(out)


def _graph(training: Iterable[Record], settings: dict) -> KeywordGraph:
    """Builds the graph of training records."""
    samples = [SampleKeywords(*(tuple(k.text for k in getattr(record, role).keywords) for role in ROLES)) for record in training]
    return graph.build(
        samples, settings["min_keyword_count"], settings["graph_degree"], settings["graph_input_edges"], settings["edge_strength"]
    )


def _renumbered(record: Record, numbers: dict[str, int]) -> Record:
    """Gives the keywords of a record the numbers of a graph's nodes."""
    texts = {}
    for role in ROLES:
        text: Text = getattr(record, role)
        texts[role] = dataclasses.replace(text, nodes=tuple(numbers.get(keyword.text, UNKNOWN) for keyword in text.keywords))
    return dataclasses.replace(record, **texts)
