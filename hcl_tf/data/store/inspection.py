"""Describes a prepared folder to a person (`prepare --inspect`)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hcl_tf.config import SPLITS, TARGET_MINIMUM
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords import graph, subgraph
from hcl_tf.data.keywords.graph import NEGATIVE, POSITIVE, KeywordGraph
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.tokenizers import normalization, wordpiece

PERCENTILES = (5, 25, 50, 75, 95, 100)
NEIGHBOURS = 5


def inspect(folder: Path, examples: int = 10) -> Iterator[str]:
    """Yields the report's lines: how the folder was made, its counts and distributions, and some decoded examples."""
    manifest = tfrecords.read_manifest(folder)
    tfrecords.check_files(folder, manifest)
    keyword_graph = graph.load(folder / tfrecords.GRAPH)
    tokenizer = wordpiece.from_file(folder / tfrecords.VOCABULARY)
    name = manifest["tokenizer"]["name"]
    yield f"{folder}: task {manifest['task']['name']}, {name} tokeniser of {len(tokenizer):,} pieces, tagger {manifest['tagger']}"
    yield f"  normalisation: {normalization.name_in(manifest)}"
    yield from (f"  {note}" for note in manifest["notes"])
    table = keyword_graph.table(manifest["settings"]["graph_degree"])
    shown: list[Record] = []
    for split in SPLITS:
        records = list(_records(folder, manifest, split))
        yield ""
        yield from _describe_split(split, records, manifest, table)
        if split == "train":
            shown = records[:: max(1, len(records) // max(1, examples))][:examples]
    yield ""
    yield from _describe_graph(keyword_graph)
    for record in shown:
        yield ""
        yield from _describe_example(record, tokenizer, keyword_graph)


def _records(folder: Path, manifest: dict, split: str) -> Iterator[Record]:
    for shard in manifest["splits"][split]["shards"]:
        yield from map(tfrecords.parse, tfrecords.read_records(folder / shard["file"]))


def _percentiles(values) -> str:
    return "  ".join(f"{p}%: {value:.0f}" for p, value in zip(PERCENTILES, np.percentile(list(values) or [0], PERCENTILES), strict=True))


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


def _describe_split(split: str, records: list[Record], manifest: dict, table: np.ndarray) -> Iterator[str]:
    yield f"{split}: {len(records):,} examples"
    limits = {"source": manifest["task"]["source_length"]}
    for role in ROLES:
        texts = [getattr(record, role) for record in records]
        limit = limits.get(role, manifest["target_length"])
        known = [node for text in texts for node in text.nodes]
        full = sum(len(text.ids) == limit for text in texts)
        yield f"  {role} pieces  {_percentiles(len(text.ids) for text in texts)}; at the limit of {limit}: {_share(full, len(texts))}"
        yield (
            f"    with a keyword: {_share(sum(bool(t.keywords) for t in texts), len(texts))}; keywords unknown to the graph: "
            f"{_share(sum(node == graph.UNKNOWN for node in known), len(known))}; without a known keyword: "
            f"{_share(sum(all(node == graph.UNKNOWN for node in t.nodes) for t in texts), len(texts))}"
        )
    yield f"  targets under {TARGET_MINIMUM} pieces: {_share(sum(len(r.target.ids) < TARGET_MINIMUM for r in records), len(records))}"
    if several := [len(record.references) + 1 for record in records if record.references]:
        yield f"  with several references: {_share(len(several), len(records))}, up to {max(several)}"
    yield "  negatives: " + ", ".join(
        f"{route} {_share(count, len(records))}" for route, count in sorted(Counter(r.route for r in records).items())
    )
    routes = _impostor_routes(records, table, manifest["settings"]["max_keywords"])
    yield "  impostors from: " + ", ".join(f"{route} {_share(routes[route], len(records))}" for route in subgraph.ROUTES)


def _impostor_routes(records: list[Record], table: np.ndarray, keywords: int) -> Counter[str]:
    routes: Counter[str] = Counter()
    for start in range(0, len(records), 1024):
        block = records[start : start + 1024]
        nodes = np.full((len(ROLES), len(block), keywords), graph.UNKNOWN)
        for i, role in enumerate(ROLES):
            for j, record in enumerate(block):
                found = getattr(record, role).nodes
                nodes[i, j, : len(found)] = found
        routes.update(subgraph.ROUTES[route] for route in subgraph.find_impostors(table, *nodes)[1])
    return routes


def _describe_graph(keyword_graph: KeywordGraph) -> Iterator[str]:
    yield f"keyword graph: {len(keyword_graph):,} nodes"
    if not len(keyword_graph):
        return
    clusters = keyword_graph.clusters
    yield f"  training samples a node  {_percentiles(keyword_graph.counts)}"
    targets_only = _share(int((clusters == 0).sum()), len(clusters))
    yield f"  cluster sizes (sources with the keyword)  {_percentiles(clusters[clusters > 0])}; nodes in no source: {targets_only}"
    for relation, name in enumerate(graph.RELATIONS):
        degrees = np.diff(keyword_graph.indptr[relation])
        alone = _share(int((degrees == 0).sum()), len(degrees))
        yield f"  {name} neighbours a node  {_percentiles(degrees)}; edges {keyword_graph.edges(relation):,}; nodes with none: {alone}"
    top = np.argsort(-keyword_graph.counts, kind="stable")[:15]
    yield "  most frequent: " + ", ".join(f"{keyword_graph.nodes[node]} {keyword_graph.counts[node]:,}" for node in top)


def _describe_example(record: Record, tokenizer: wordpiece.Tokenizer, keyword_graph: KeywordGraph) -> Iterator[str]:
    yield f"example {record.id} (negative: {record.route})"
    for role in ROLES:
        text = getattr(record, role)
        marks = ", ".join(
            keyword.text + ("" if node != graph.UNKNOWN else " (unknown)") for keyword, node in zip(text.keywords, text.nodes, strict=True)
        )
        yield f"  {role:8}  {text.raw.replace(chr(10), ' / ')}"
        yield f"            read back: {tokenizer.decode(text.ids)}"
        yield f"            keywords: {marks or '-'}"
    for node in dict.fromkeys(node for node in record.target.nodes if node != graph.UNKNOWN):
        near, far = (
            [keyword_graph.nodes[n] for n in keyword_graph.neighbours(node, relation)[:NEIGHBOURS]] for relation in (POSITIVE, NEGATIVE)
        )
        yield f"            {keyword_graph.nodes[node]}: near {', '.join(near) or '-'}; far {', '.join(far) or '-'}"
