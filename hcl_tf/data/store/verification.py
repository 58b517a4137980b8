"""Rereads a prepared folder from the first byte to the last (`prepare --verify`)."""

from pathlib import Path

from hcl_tf.config import SPLITS
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.corpora.qqp import text_key
from hcl_tf.data.keywords import graph
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.errors import UserError
from hcl_tf.progress import bar


def verify(folder: Path) -> dict:
    """Checks a prepared folder and returns its manifest.

    Every file has to be the one that the manifest lists, and every record whole. Ids have to be unique, pieces in the vocabulary, and
    lengths within the task's. Keywords have to stand inside their text and carry the graph's node numbers, edges to lead to nodes. No
    training negative may be a validation or test text.

    Raises:
      UserError: names the file, and the record (from 0) where there is one.
    """
    manifest = tfrecords.read_manifest(folder)
    tfrecords.check_files(folder, manifest)
    keyword_graph = graph.load(folder / tfrecords.GRAPH)
    _check_graph(folder, keyword_graph)
    with (folder / tfrecords.VOCABULARY).open(encoding="utf-8") as file:
        vocabulary = sum(1 for _ in file)
    numbers = keyword_graph.numbers()
    seen_ids: set[str] = set()
    training_negatives: dict[str, str] = {}
    with bar("verifying", sum(manifest["splits"][split]["examples"] for split in SPLITS), " records") as progress:
        for split in SPLITS:
            for shard in manifest["splits"][split]["shards"]:
                path = folder / shard["file"]
                count = -1
                for count, serialised in enumerate(tfrecords.read_records(path)):
                    where = f"{path}: record {count}"
                    try:
                        record = tfrecords.parse(serialised)
                        _check_record(record, manifest, vocabulary, numbers)
                        if record.id in seen_ids:
                            raise ValueError(f"id {record.id!r} occurs twice")
                        if split == "train":
                            training_negatives.setdefault(text_key(record.negative.raw), where)
                        else:
                            _check_not_in_training(record, training_negatives)
                    except ValueError as error:
                        raise UserError(f"{where}: {error}; prepare the data again") from error
                    seen_ids.add(record.id)
                    progress.update()
                if count + 1 != shard["records"]:
                    raise UserError(f"{path}: holds {count + 1} records, but the manifest says {shard['records']}; prepare the data again")
            if sum(shard["records"] for shard in manifest["splits"][split]["shards"]) != manifest["splits"][split]["examples"]:
                raise UserError(f"{folder / tfrecords.MANIFEST}: the {split} shards do not add up; prepare the data again")
    return manifest


def _check_record(record: Record, manifest: dict, vocabulary: int, numbers: dict[str, int]) -> None:
    lengths = {"source": manifest["task"]["source_length"]}
    for role in ROLES:
        text = getattr(record, role)
        if not text.raw or not text.normal:
            raise ValueError(f"{role} is empty")
        if len(text.ids) > lengths.get(role, manifest["target_length"]):
            raise ValueError(f"{role} has {len(text.ids)} pieces, more than the task allows")
        if any(not 0 <= piece < vocabulary for piece in text.ids):
            raise ValueError(f"{role} has a piece outside the vocabulary of {vocabulary}")
        for keyword, node in zip(text.keywords, text.nodes, strict=True):
            if not 0 <= keyword.start < keyword.end <= len(text.normal):
                raise ValueError(f"{role} keyword {keyword.text!r} stands at {keyword.start}:{keyword.end}, outside the text")
            if node != numbers.get(keyword.text, graph.UNKNOWN):
                raise ValueError(
                    f"{role} keyword {keyword.text!r} carries node {node}, but the graph says {numbers.get(keyword.text, graph.UNKNOWN)}"
                )


def _check_not_in_training(record: Record, training_negatives: dict[str, str]) -> None:
    texts = [(role, getattr(record, role).raw) for role in ROLES] + [("reference", text) for text in record.references]
    for role, text in texts:
        if where := training_negatives.get(text_key(text)):
            raise ValueError(f"its {role} is a training negative ({where})")


def _check_graph(folder: Path, keyword_graph: graph.KeywordGraph) -> None:
    for relation, name in enumerate(graph.RELATIONS):
        indices = keyword_graph.indices[relation]
        if len(keyword_graph.indptr[relation]) != len(keyword_graph) + 1 or (
            len(indices) and not 0 <= indices.min() <= indices.max() < len(keyword_graph)
        ):
            raise UserError(f"{folder / tfrecords.GRAPH}: the {name} edges do not fit the nodes; prepare the data again")
