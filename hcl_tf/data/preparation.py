"""One raw corpus to one prepared folder: the steps in order, each in a file of its own."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import hcl_tf
from hcl_tf.config import SPLITS, TARGET_LENGTH, TARGET_MINIMUM, Task
from hcl_tf.data import corpora, graph, keywords, negatives, tagging, tfrecords, tokenization
from hcl_tf.data.formats import Example, ReadOptions
from hcl_tf.data.output_folder import whole_or_nothing
from hcl_tf.data.qqp import text_key
from hcl_tf.data.text_files import BadLines, sha256
from hcl_tf.data.tfrecords import ROLES, Record, Text
from hcl_tf.progress import track


@dataclass(frozen=True)
class Settings:
    """Every choice that shapes the prepared data; all are flags of `hcl_tf.prepare` and stand in the manifest."""

    negatives: str
    bm25_candidates: int = 10
    qqp_samples: str = "nearest"
    split_by: str = "sample"
    story_mode: str = "ending"
    fields: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    skip_bad_lines: bool = False
    tagger: str = "auto"
    keyword_unit: str = "word"
    max_keywords: int = 4
    min_keyword_count: int = 3
    graph_degree: int = 16
    graph_input_edges: bool = False
    vocab: str | None = None
    vocab_size: int = 8000
    seed: int = 1


def prepare(task: Task, raw: Path, out: Path, settings: Settings, workers: int, overwrite: bool) -> list[str]:
    """Writes the prepared folder `out` and returns the notes that it printed.

    The folder's bytes are a function of the raw files, the task, the settings and the installed versions; `workers` only
    changes how long it takes. Raises `UserError` for whatever the user can mend.
    """
    notes: list[str] = []

    def say(*lines: str) -> None:
        notes.extend(lines)
        for line in lines:
            print(f"  {line}", flush=True)

    with whole_or_nothing(out, tfrecords.MANIFEST, overwrite) as folder:
        print(f"preparing {task.name} from {raw}", flush=True)
        # What a flag names is looked for before the long work starts.
        if settings.tagger not in ("auto", tagging.BUILT_IN):
            tagging.load_pipeline(task.language, settings.tagger)
        named = settings.vocab not in (None, tokenization.LEARN)
        tokenizer, note = tokenization.load(settings.vocab, task.language, (), settings.vocab_size) if named else (None, "")
        options = ReadOptions(settings.fields, settings.story_mode, BadLines(settings.skip_bad_lines), settings.limit)
        corpus = corpora.load(
            task,
            raw,
            options,
            construction=settings.qqp_samples,
            negatives=settings.negatives,
            split_by=settings.split_by,
            seed=settings.seed,
        )
        say(*corpus.notes)
        splits, found = negatives.choose(
            corpus.splits, corpus.clusters, mode=settings.negatives, language=task.language, candidates=settings.bm25_candidates,
            own_split=settings.split_by == "question", seed=settings.seed,
        )  # fmt: skip
        say("examples: " + ", ".join(f"{split} {len(splits[split]):,}" for split in SPLITS), *found, _overlap(splits))

        tagger = tagging.describe_tagger(task.language, settings.tagger)
        all_texts = (getattr(example, role) for split in SPLITS for example in splits[split] for role in ROLES)
        of_text = keywords.extract_all(all_texts, task.language, settings.tagger, settings.keyword_unit, settings.max_keywords, workers)
        covered = sum(map(bool, of_text.values()))
        say(f"tagger: {tagger}", f"distinct texts: {len(of_text):,}; with a keyword: {covered:,} ({covered / len(of_text):.1%})")

        samples = [graph.SampleKeywords(*(_words(of_text[getattr(e, role)]) for role in ROLES)) for e in splits["train"]]
        keyword_graph = graph.build(samples, settings.min_keyword_count, settings.graph_degree, settings.graph_input_edges)
        graph.save(keyword_graph, folder / tfrecords.GRAPH)
        edges = {name: keyword_graph.edges(relation) for relation, name in enumerate(graph.RELATIONS)}
        say(f"keyword graph: {len(keyword_graph):,} nodes, {edges['positive']:,} positive and {edges['negative']:,} negative edges")
        if not len(keyword_graph):
            say(
                f"the graph is empty: no keyword occurs in {settings.min_keyword_count} training samples; "
                "lower --min_keyword_count or give more data"
            )

        if tokenizer is None:
            training_texts = [text for e in splits["train"] for text in (e.source, e.target)]
            tokenizer, note = tokenization.load(settings.vocab, task.language, training_texts, settings.vocab_size)
        (folder / tfrecords.VOCABULARY).write_text("\n".join(tokenizer.vocabulary()) + "\n", encoding="utf-8")
        say(note)

        writer = _Writer(task, tokenizer, of_text, keyword_graph.numbers())
        entries = {}
        for split in SPLITS:
            shards = tfrecords.write_shards(folder, split, writer.records(splits[split], split), len(splits[split]))
            entries[split] = {"examples": len(splits[split]), "shards": shards}
        say(*writer.notes())

        others = [tfrecords.VOCABULARY, f"{tfrecords.GRAPH}/nodes.tsv", f"{tfrecords.GRAPH}/edges.npz"]
        manifest = {
            "format": tfrecords.FORMAT,
            "code_version": hcl_tf.__version__,
            "task": asdict(task),
            "target_length": TARGET_LENGTH,
            "settings": {**asdict(settings), "vocab": tokenizer.name},  # not a path: the folder is the same wherever it is made
            "raw_files": corpus.files,
            "raw_rows": corpus.raw_rows,
            "tokenizer": {"name": tokenizer.name, "lowercase": tokenizer.lowercase, "pieces": len(tokenizer)},
            "tagger": tagger,
            "graph": {"nodes": len(keyword_graph), "edges": edges},
            "splits": entries,
            "files": {name: sha256(folder / name) for name in others},
            "notes": notes,
        }
        tfrecords.write_manifest(folder, manifest)
    print(f"wrote {out}", flush=True)
    return notes


def _words(found: tuple[keywords.Keyword, ...]) -> tuple[str, ...]:
    return tuple(keyword.text for keyword in found)


def _overlap(splits: dict[str, list[Example]]) -> str:
    """How much of the held-out data was seen in training: a paraphrase model can score by memory."""
    sources = {text_key(e.source) for e in splits["train"]}
    seen = sources | {text_key(e.target) for e in splits["train"]}
    parts = []
    for split in SPLITS[1:]:
        count = max(len(splits[split]), 1)
        as_source, anywhere = (sum(text_key(e.source) in known for e in splits[split]) for known in (sources, seen))
        parts.append(
            f"{split} {as_source:,} ({as_source / count:.1%}) as a source, {anywhere:,} ({anywhere / count:.1%}) in any role but negative"
        )
    return "sources that also occur in training: " + "; ".join(parts)


class _Writer:
    """Turns examples into records and counts what the length limits do to them."""

    def __init__(
        self, task: Task, tokenizer: tokenization.Tokenizer, of_text: dict[str, tuple[keywords.Keyword, ...]], numbers: dict[str, int]
    ) -> None:
        self._task, self._tokenizer, self._of_text, self._numbers = task, tokenizer, of_text, numbers
        self._counts = {role: [0, 0] for role in ROLES}  # texts, cut texts
        self._short = self._targets = 0

    def records(self, examples: list[Example], split: str) -> Iterator[Record]:
        """One record an example, in order."""
        for start in track(range(0, len(examples), tokenization.BATCH), f"writing {split}", unit=" blocks"):
            block = examples[start : start + tokenization.BATCH]
            encoded = [self._tokenizer.encode([getattr(e, role) for e in block]) for role in ROLES]
            for example, *ids in zip(block, *encoded, strict=True):
                texts = {role: self._text(role, getattr(example, role), pieces) for role, pieces in zip(ROLES, ids, strict=True)}
                self._targets += 1
                self._short += len(ids[1]) < TARGET_MINIMUM
                yield Record(example.id, **texts, route=example.route, sampled=example.sampled)

    def _text(self, role: str, raw: str, ids: list[int]) -> Text:
        length = self._task.source_length if role == "source" else TARGET_LENGTH
        self._counts[role][0] += 1
        self._counts[role][1] += len(ids) > length
        kept = ids[-length:] if role == "source" and self._task.source_keep == "tail" else ids[:length]
        found = self._of_text[raw]
        return Text(raw, kept, found, tuple(self._numbers.get(keyword.text, graph.UNKNOWN) for keyword in found))

    def notes(self) -> list[str]:
        """Shares cut, and references that the minimum of 5 decoding steps can't match."""
        limits = {
            "source": f"{self._task.source_length} pieces ({self._task.source_keep} kept)",
            "target": f"{TARGET_LENGTH}",
            "negative": f"{TARGET_LENGTH}",
        }
        cut = ", ".join(f"{role} over {limits[role]}: {cut:,} ({cut / max(total, 1):.1%})" for role, (total, cut) in self._counts.items())
        return [f"cut: {cut}", f"targets under {TARGET_MINIMUM} pieces: {self._short:,} ({self._short / max(self._targets, 1):.1%})"]
