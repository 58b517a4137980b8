"""Writes and reads the files of a prepared folder: records in shards, and a manifest with the checksum of every file.

  manifest.json                     settings, counts, sha256 of every other file and of itself
  {split}-{i}-of-{n}.tfrecord       tf.train.Example records, about 10,000 a shard
  vocab.txt                         the WordPiece vocabulary, one piece a line
  graph/nodes.tsv, graph/edges.npz  the keyword graph (graph.py)
  word_vectors.npz                  vectors for the embedding scores (word_vectors.py)

A record keeps the raw texts and keywords beside the WordPiece ids, so that another tokeniser or a pointer network can
work on the same records; and the normal form of a text where it is not the raw one. The manifest names the normalisation.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from hcl_tf.data.corpora.examples import ROLES, Keyword, SampledPair
from hcl_tf.data.store.untuned import untuned
from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256

FORMAT = 2  # raised when a record's or the manifest's meaning changes
MANIFEST = "manifest.json"
VOCABULARY = "vocab.txt"
GRAPH = "graph"
WORD_VECTORS = "word_vectors.npz"
RECORDS_A_SHARD = 10_000


@dataclass(slots=True)
class Text:
    """A text of a record.

    Attributes:
      raw: as it was given. ids: WordPiece ids, cut, without special tokens. keywords: of the part that was not cut off; their places are
        those in `normal`. nodes: the node of each keyword; -1: the graph does not have it.
      changed: the normal form (tokenizers/normalization.py) where it is not the raw one.
    """

    raw: str
    ids: list[int]
    keywords: tuple[Keyword, ...] = ()
    nodes: tuple[int, ...] = ()
    changed: str | None = None

    @property
    def normal(self) -> str:
        """The text as it is cut into pieces, tagged and scored."""
        return self.raw if self.changed is None else self.changed


@dataclass(slots=True)
class Record:
    """An example as it is stored.

    Attributes:
      route: how the negative was chosen. sampled: pairs that the corpus brings (Group-wise). references: targets that are as right as
        `target`, of test examples.
    """

    id: str
    source: Text
    target: Text
    negative: Text
    route: str
    sampled: tuple[SampledPair, ...] = field(default=())
    references: tuple[str, ...] = ()


def serialise(record: Record) -> bytes:
    """Writes a record as a tf.train.Example, byte for byte the same for equal records."""
    features = {"id": _bytes([record.id]), "route": _bytes([record.route])}
    for role in ROLES:
        text: Text = getattr(record, role)
        features[role] = _bytes([text.raw])
        features[f"{role}_ids"] = _ints(text.ids)
        features[f"{role}_keywords"] = _bytes([keyword.text for keyword in text.keywords])
        features[f"{role}_spans"] = _ints([edge for keyword in text.keywords for edge in (keyword.start, keyword.end)])
        features[f"{role}_ranks"] = _floats([keyword.rank for keyword in text.keywords])
        features[f"{role}_nodes"] = _ints(text.nodes)
        if text.changed is not None:
            features[f"{role}_changed"] = _bytes([text.changed])
    if record.sampled:
        features["sampled"] = _bytes([text for pair in record.sampled for text in (pair.context, pair.response)])
        features["sampled_scores"] = _floats([score for pair in record.sampled for score in (pair.response_score, pair.context_score)])
    if record.references:
        features["references"] = _bytes(record.references)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(serialised: bytes) -> Record:
    """Reads a record that `serialise` wrote. Raises `ValueError` where a feature is missing or its parts do not fit together."""
    try:
        features = tf.train.Example.FromString(serialised).features.feature
    except Exception as error:  # protobuf's DecodeError has no public name that all its versions share
        raise ValueError(f"not a tf.train.Example ({error})") from error
    # Asking a protobuf map for a key makes it, so what is missing is found before anything is read.
    parts = [f"{role}_{part}" for role in ROLES for part in ("ids", "keywords", "spans", "ranks", "nodes")]
    if missing := [name for name in ("id", "route", *ROLES, *parts) if name not in features]:
        raise ValueError(f"feature {missing[0]} missing")
    single = ["id", "route", *ROLES, *(name for name in map("{}_changed".format, ROLES) if name in features)]
    if several := [name for name in single if len(features[name].bytes_list.value) != 1]:
        raise ValueError(f"feature {several[0]} has {len(features[several[0]].bytes_list.value)} values instead of 1")
    sampled, scores = _texts(features["sampled"]), features["sampled_scores"].float_list.value
    pairs = zip(sampled[::2], sampled[1::2], scores[::2], scores[1::2], strict=True)
    texts = {role: _parse_text(features, role) for role in ROLES}
    return Record(
        _texts(features["id"])[0], **texts, route=_texts(features["route"])[0], sampled=tuple(SampledPair(*pair) for pair in pairs),
        references=tuple(_texts(features["references"])),
    )  # fmt: skip


def _parse_text(features, role: str) -> Text:
    words, ranks = _texts(features[f"{role}_keywords"]), features[f"{role}_ranks"].float_list.value
    spans = features[f"{role}_spans"].int64_list.value
    keywords = tuple(Keyword(*parts) for parts in zip(words, spans[::2], spans[1::2], ranks, strict=True))
    nodes = tuple(features[f"{role}_nodes"].int64_list.value)
    if len(nodes) != len(keywords):
        raise ValueError(f"{role} has {len(keywords)} keywords but {len(nodes)} nodes")
    changed = _texts(features[f"{role}_changed"])[0] if f"{role}_changed" in features else None
    return Text(_texts(features[role])[0], list(features[f"{role}_ids"].int64_list.value), keywords, nodes, changed)


def _bytes(values) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))


def _ints(values) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _texts(feature: tf.train.Feature) -> list[str]:
    return [value.decode() for value in feature.bytes_list.value]


def write_shards(folder: Path, split: str, records: Iterator[Record], count: int) -> list[dict]:
    """Writes `count` records in shards of equal size. Returns an entry of the manifest for each: file, records, sha256."""
    shards = max(1, -(-count // RECORDS_A_SHARD))
    bounds = [count * i // shards for i in range(shards + 1)]
    entries = []
    for number in range(shards):
        path = folder / f"{split}-{number:05}-of-{shards:05}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(bounds[number], bounds[number + 1]):
                writer.write(serialise(next(records)))
        entries.append({"file": path.name, "records": bounds[number + 1] - bounds[number], "sha256": sha256(path)})
    return entries


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the serialised records of a shard. Raises `UserError` with file and record (from 0) at the first damaged one."""
    count = 0
    try:
        for serialised in untuned(tf.data.TFRecordDataset(str(path))).as_numpy_iterator():
            yield serialised
            count += 1
    except tf.errors.OpError as error:
        raise UserError(f"{path}: record {count} is damaged ({error.message.split('[')[0].strip()}); prepare the data again") from error


def write_manifest(folder: Path, manifest: dict) -> None:
    """Writes manifest.json with its own checksum."""
    (folder / MANIFEST).write_text(_with_checksum(manifest), encoding="utf-8")


def read_manifest(folder: Path) -> dict:
    """Reads and checks the manifest of a prepared folder. Raises `UserError` where there is none, or it is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: not a prepared folder (no {MANIFEST}); make one with python -m hcl_tf.prepare")
    try:
        text = path.read_bytes().decode("utf-8")  # not read_text, which would mend a line end on the way
        manifest = json.loads(text)
        if text != _with_checksum(manifest):
            raise ValueError("its checksum does not fit its content")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); prepare the data again") from error
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path}: format {manifest.get('format')}, but this version reads {FORMAT}; prepare the data again")
    return manifest


def _with_checksum(manifest: dict) -> str:
    """Returns the text of a manifest with the checksum of its content; every manifest has exactly one."""
    manifest = {**manifest, "sha256": ""}
    manifest["sha256"] = hashlib.sha256(_as_text(manifest).encode()).hexdigest()
    return _as_text(manifest)


def _as_text(manifest: dict) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def content_of(manifest: dict) -> str:
    """Returns a hash of the records of all splits. Unlike the manifest's own it does not change with the version that wrote them, nor with
    what is computed from them in floating point, which has other last digits on another processor."""
    shards = [shard["sha256"] for split in sorted(manifest["splits"]) for shard in manifest["splits"][split]["shards"]]
    return hashlib.sha256("\n".join(shards).encode()).hexdigest()


def check_files(folder: Path, manifest: dict, names: list[str] | None = None) -> None:
    """Compares files with the manifest: those named, or all. Raises `UserError` with the file, and the record where it is a shard."""
    shards = {shard["file"]: shard for split in manifest["splits"].values() for shard in split["shards"]}
    expected = {**manifest["files"], **{name: shard["sha256"] for name, shard in shards.items()}}
    for name in expected if names is None else names:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing, but the manifest lists it; prepare the data again")
        if sha256(path) == expected[name]:
            continue
        if name in shards:
            records = sum(1 for _ in read_records(path))  # names the record, if one is damaged
            raise UserError(
                f"{path}: holds {records} whole records, but not the {shards[name]['records']} that the manifest lists: "
                "cut short, grown, or from another folder; prepare the data again"
            )
        raise UserError(f"{path}: not the file that the manifest lists; prepare the data again")
