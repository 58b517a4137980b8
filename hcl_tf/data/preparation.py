"""Turns a raw corpus into a prepared folder. The steps are here in their order, and each is in a file of its own."""

from array import array
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import hcl_tf
from hcl_tf.config import CUSTOM, SPLITS, TARGET_MINIMUM, Task
from hcl_tf.data.corpora import negatives, reading
from hcl_tf.data.corpora.examples import ROLES, Example, Keyword
from hcl_tf.data.corpora.formats import ReadOptions
from hcl_tf.data.corpora.generated import GENERATED
from hcl_tf.data.corpora.qqp import text_key
from hcl_tf.data.corpora.text_files import BadLines
from hcl_tf.data.keywords import graph, tagging, textrank
from hcl_tf.data.keywords.impostor_hardness import hardness_lines
from hcl_tf.data.keywords.impostor_statistics import Impostors
from hcl_tf.data.store import tfrecords, word_vectors
from hcl_tf.data.store.tfrecords import Record, Text
from hcl_tf.data.tokenizers import normalization, wordpiece
from hcl_tf.data.tokenizers.words import words
from hcl_tf.files.checksums import sha256
from hcl_tf.files.whole_folder import whole_or_nothing
from hcl_tf.progress import track, working

WORTH_A_PROCESS = 20_000  # texts; starting another process takes some seconds
Keywords = dict[str, tuple[Keyword, ...]]  # of each distinct text, in the part that is kept


@dataclass(frozen=True)
class PreparationSettings:
    """The choices that prepared data depend on. All are flags of `hcl_tf.prepare`, and the manifest records them."""

    negatives: str | None  # None: what suits the corpus (`reading.load`); the manifest says which that was
    require_labelled: bool = False
    held_out_pairs: int = 0
    bm25_candidates: int = 10
    qqp_samples: str = "nearest"
    split_by: str = "sample"
    story_mode: str = "ending"
    fields: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    skip_bad_lines: bool = False
    format: str | None = None
    encoding: str | None = None
    tagger: str = "auto"
    keyword_unit: str = "word"
    max_keywords: int = 4
    min_keyword_count: int = 3
    graph_degree: int = 16
    graph_input_edges: bool = False
    edge_strength: str = "association"
    vocab: str | None = None
    vocab_size: int = 8000
    seed: int = 1


def prepare(
    task: Task, raw: Path, out: Path, settings: PreparationSettings, workers: int, overwrite: bool, made_by: dict | None = None
) -> list[str]:
    """Writes the prepared folder `out` and returns the notes that it printed.

    The folder's bytes depend on the raw files, the task, the settings and the installed versions; `workers` (processes, or threads for
    BM25) only change how long it takes. `made_by`: what the manifest says of a program that made the raw files (`generated.about`).

    Raises:
      UserError: something is wrong that the user can mend.
    """
    notes: list[str] = []

    def say(*lines: str) -> None:
        notes.extend(lines)
        for line in lines:
            print(f"  {line}", flush=True)

    with whole_or_nothing(out, tfrecords.MANIFEST, overwrite) as folder:
        print(f"preparing {task.name} from {raw}", flush=True)
        named = _load_named(task, settings)
        with working("reading"):
            corpus = _read(task, raw, settings)
        settings = replace(settings, negatives=corpus.negatives)
        spelling = _Spelling(corpus.splits)
        legible = spelling.legible(corpus.splits)
        say(*corpus.notes, *spelling.notes())
        with working("choosing negatives"):
            splits, how_chosen = negatives.choose(
                legible, corpus.clusters, mode=settings.negatives, language=task.language, candidates=settings.bm25_candidates,
                own_split=settings.split_by == "question", seed=settings.seed, normal=spelling.normal, threads=workers,
                filled=("test",) if settings.held_out_pairs else (),
            )  # fmt: skip
        say("examples: " + ", ".join(f"{split} {len(splits[split]):,}" for split in SPLITS), *how_chosen, _overlap(splits))

        training_texts = (spelling.normal(text) for e in splits["train"] for text in (e.source, e.target))
        with working("tokenising"):
            tokenizer, note = named or wordpiece.load(settings.vocab, task.language, training_texts, settings.vocab_size)
            (folder / tfrecords.VOCABULARY).write_text("\n".join(tokenizer.vocabulary()) + "\n", encoding="utf-8")
            cut = _Cut(task, tokenizer, splits, spelling)
        say(note, *cut.notes())

        tagger = tagging.describe_tagger(task.language, settings.tagger)
        keywords = _extract_keywords(task, settings, splits, cut, workers)
        covered = sum(map(bool, keywords.values()))
        say(f"tagger: {tagger}", f"distinct texts: {len(keywords):,}; with a keyword: {covered:,} ({covered / len(keywords):.1%})")

        learning = _learn_word_vectors(task, splits["train"], spelling, workers)
        samples = _graph_samples(splits["train"], cut, keywords)
        with working("building the keyword graph"):
            keyword_graph = _build_graph(settings, samples)
        graph.save(keyword_graph, folder / tfrecords.GRAPH)
        edges = {name: keyword_graph.edges(relation) for relation, name in enumerate(graph.RELATIONS)}
        say(f"keyword graph: {len(keyword_graph):,} nodes, {edges['positive']:,} positive and {edges['negative']:,} negative edges")
        if not len(keyword_graph):
            say(
                f"the graph is empty: no keyword occurs in {settings.min_keyword_count} training samples; "
                "lower --min_keyword_count or give more data"
            )
        targets = {text_key(example.target) for example in splits["train"]}
        kinds = {split: _negative_kinds(examples, targets) for split, examples in splits.items()}
        say(f"negatives that are another training example's target: {kinds['train']['targets']:.1%} of train's")
        numbers = keyword_graph.numbers()
        entries = {}
        for split in SPLITS:
            records = _records(splits[split], split, spelling, cut, keywords, numbers)
            shards = tfrecords.write_shards(folder, split, records, len(splits[split]))
            entries[split] = {"examples": len(splits[split]), "negatives": kinds[split], "shards": shards}

        with working("learning word vectors"):
            vectors = learning()
        vectors.save(folder / tfrecords.WORD_VECTORS)
        say(f"word vectors for the embedding scores: {len(vectors):,} words x {vectors.vectors.shape[1]}, from {learning.texts:,} texts")
        if len(keyword_graph):
            impostors = Impostors.of_samples(keyword_graph, samples, settings.graph_degree)
            of_nodes = np.stack([vectors.mean(words(node, task.language)) for node in keyword_graph.nodes])
            say(*impostors.lines(keyword_graph), *hardness_lines(impostors, of_nodes, "word vectors"))

        manifest = _manifest(task, settings, corpus, tokenizer, folder)
        manifest |= {GENERATED: made_by} if made_by else {}
        manifest |= {"tagger": tagger, "graph": {"nodes": len(keyword_graph), "edges": edges}, "splits": entries, "notes": notes}
        tfrecords.write_manifest(folder, manifest)
    print(f"wrote {out}", flush=True)
    return notes


def _load_named(task: Task, settings: PreparationSettings) -> tuple[wordpiece.Tokenizer, str] | None:
    """Loads the tagger and the vocabulary that flags name, so that a wrong name is found before the long work.

    Returns the tokeniser and a line about it; None where no vocabulary is named.
    """
    if settings.tagger not in ("auto", tagging.BUILT_IN):
        tagging.load_pipeline(task.language, settings.tagger)
    if settings.vocab in (None, wordpiece.LEARN):
        return None
    return wordpiece.load(settings.vocab, task.language, (), settings.vocab_size)


def _read(task: Task, raw: Path, settings: PreparationSettings) -> reading.Corpus:
    """Reads the raw corpus."""
    bad = BadLines(settings.skip_bad_lines)
    options = ReadOptions(settings.fields, settings.story_mode, bad, settings.limit, settings.format, settings.encoding)
    return reading.load(
        task, raw, options, construction=settings.qqp_samples, negatives=settings.negatives, split_by=settings.split_by, seed=settings.seed,
        require_labelled=settings.require_labelled, held_out_pairs=settings.held_out_pairs,
    )  # fmt: skip


def _extract_keywords(task: Task, settings: PreparationSettings, splits: dict[str, list[Example]], cut: "_Cut", workers: int) -> Keywords:
    """Extracts the keywords of the part of each text that is kept."""
    texts = (cut.kept(role, getattr(example, role))[1] for split in SPLITS for example in splits[split] for role in ROLES)
    return textrank.extract_all(texts, task.language, settings.tagger, settings.keyword_unit, settings.max_keywords, workers)


def _graph_samples(training: list[Example], cut: "_Cut", keywords: Keywords) -> list[graph.SampleKeywords]:
    """Lists the keywords of the training examples."""

    def names(example: Example, role: str) -> tuple[str, ...]:
        return tuple(keyword.text for keyword in keywords[cut.kept(role, getattr(example, role))[1]])

    return [graph.SampleKeywords(*(names(example, role) for role in ROLES)) for example in training]


def _build_graph(settings: PreparationSettings, samples: list[graph.SampleKeywords]) -> graph.KeywordGraph:
    """Builds the keyword graph."""
    s = settings
    return graph.build(samples, s.min_keyword_count, s.graph_degree, s.graph_input_edges, s.edge_strength)


def _negative_kinds(examples: list[Example], targets: set[str]) -> dict[str, dict[str, float] | float]:
    """Says where the negatives of a split come from, by shares, and what share of them are among some targets.

    A contrast between instances can move what a model writes only where a negative is somebody's target (BUILD_NOTES 93).
    """
    routes = Counter(example.route for example in examples)
    return {
        "routes": {route: count / len(examples) for route, count in sorted(routes.items())},
        "targets": sum(text_key(example.negative) in targets for example in examples) / len(examples),
    }


class _Learning:
    """Word vectors for the embedding scores, learnt by another process meanwhile, where there may be two and the texts are worth it.

    Attributes:
      texts: how many distinct texts they are learnt from.
    """

    def __init__(self, distinct: list[str], language: str, workers: int) -> None:
        self.texts, self._work = len(distinct), (distinct, language)
        self._pool = ProcessPoolExecutor(1, get_context("forkserver")) if workers > 1 and self.texts >= WORTH_A_PROCESS else None
        self._found = self._pool and self._pool.submit(_word_vectors_of, *self._work)

    def __call__(self) -> word_vectors.WordVectors:
        """Returns them, when they are there."""
        if self._pool is None:
            return _word_vectors_of(*self._work)
        with self._pool:
            return self._found.result()


def _learn_word_vectors(task: Task, training: list[Example], spelling: "_Spelling", workers: int) -> _Learning:
    distinct = dict.fromkeys(spelling.normal(getattr(example, role)) for example in training for role in ROLES)
    return _Learning(list(distinct), task.language, workers)


def _word_vectors_of(texts: list[str], language: str) -> word_vectors.WordVectors:
    return word_vectors.learn(words(text, language) for text in texts)


def _manifest(task: Task, settings: PreparationSettings, corpus: reading.Corpus, tokenizer: wordpiece.Tokenizer, folder: Path) -> dict:
    """Describes what the folder was made from and how, with checksums of its files except the shards. It has no paths: folders move."""
    others = [tfrecords.VOCABULARY, tfrecords.WORD_VECTORS, f"{tfrecords.GRAPH}/nodes.tsv", f"{tfrecords.GRAPH}/edges.npz"]
    return {
        "format": tfrecords.FORMAT,
        "code_version": hcl_tf.__version__,
        **task.described(),
        "settings": {**asdict(settings), "vocab": tokenizer.name},
        "raw_files": corpus.files,
        "raw_rows": corpus.raw_rows,
        "normalization": normalization.CURRENT,
        "stop_words": list(textrank.STOP_WORDS[task.language]),
        "parsed": settings.keyword_unit == "phrase",
        "tokenizer": {"name": tokenizer.name, "lowercase": tokenizer.lowercase, "pieces": len(tokenizer)},
        "files": {name: sha256(folder / name) for name in others},
    }


def _overlap(splits: dict[str, list[Example]]) -> str:
    """Says how much of the held-out data also occurs in training, where a paraphrase model can score by memory."""

    def pair(example: Example) -> frozenset[str]:
        return frozenset((text_key(example.source), text_key(example.target)))

    sources = {text_key(e.source) for e in splits["train"]}
    anywhere = sources | {text_key(e.target) for e in splits["train"]}
    pairs = set(map(pair, splits["train"]))
    parts = []
    for split in SPLITS[1:]:
        counts = {
            "as a source": sum(text_key(e.source) in sources for e in splits[split]),
            "as source or target": sum(text_key(e.source) in anywhere for e in splits[split]),
            "with their target, in either direction": sum(pair(e) in pairs for e in splits[split]),
        }
        shares = ", ".join(f"{count:,} ({count / len(splits[split]):.1%}) {what}" for what, count in counts.items())
        parts.append(f"{split} {shares}")
    return "sources that also occur in training: " + "; ".join(parts)


class _Spelling:
    """The normal forms of a corpus's texts. Examples keep their raw texts."""

    def __init__(self, splits: dict[str, list[Example]]) -> None:
        texts = {text for examples in splits.values() for e in examples for text in (e.source, e.target, *e.negatives, *e.references)}
        self._texts = len(texts)
        self._changed = {text: found for text in texts if (found := normalization.visible(text)) != text}
        self._left_out = 0

    def normal(self, raw: str) -> str:
        """Returns the normal form of a text."""
        return self._changed.get(raw, raw)

    def legible(self, splits: dict[str, list[Example]]) -> dict[str, list[Example]]:
        """Leaves out examples whose source or target shows nothing, and such negatives and references."""
        kept = {
            split: [self._legible(e) for e in examples if self.normal(e.source) and self.normal(e.target)]
            for split, examples in splits.items()
        }
        self._left_out = sum(map(len, splits.values())) - sum(map(len, kept.values()))
        return kept

    def _legible(self, example: Example) -> Example:
        """Leaves out negatives and references that show nothing, and references that show what another one does."""
        shown = {self.normal(text): text for text in reversed((example.target, *example.references))}
        del shown[self.normal(example.target)]
        references = tuple(text for text in example.references if self.normal(text) and text in shown.values())
        return replace(example, negatives=tuple(filter(self.normal, example.negatives)), references=references)

    def notes(self) -> list[str]:
        """Says how many texts have another normal form than their raw one, and how many examples show nothing."""
        said = [f"normalisation {normalization.CURRENT}: changes {len(self._changed):,} of {self._texts:,} distinct texts"]
        return said + ([f"examples with a text that shows nothing, left out: {self._left_out:,}"] if self._left_out else [])


class _Cut:
    """Brings texts to their normal form, and cuts them to the length limits. Keywords are those of the text that the model sees."""

    def __init__(self, task: Task, tokenizer: wordpiece.Tokenizer, splits: dict[str, list[Example]], spelling: _Spelling) -> None:
        self._spelling, self._own = spelling, task.name == CUSTOM
        self._limits = dict.fromkeys(ROLES, (task.target_length, "head")) | {"source": (task.source_length, task.source_keep)}
        self._spans: dict[str, dict[str, tuple[int, int]]] = {}  # role -> normal text -> kept characters, of cut texts only
        self._counts: dict[str, tuple[int, int]] = {}
        self._ids: dict[str, dict[str, array]] = {}  # role -> normal text -> its kept pieces
        for role, (length, keep) in self._limits.items():
            texts = list(dict.fromkeys(spelling.normal(getattr(e, role)) for split in SPLITS for e in splits[split]))
            encoded = tokenizer.kept(texts, length, keep)
            self._spans[role] = {text: span for text, (span, _) in zip(texts, encoded, strict=True) if span}
            self._ids[role] = {text: array("i", ids) for text, (_, ids) in zip(texts, encoded, strict=True)}
            counted = [spelling.normal(getattr(e, role)) for split in SPLITS for e in splits[split]]
            self._counts[role] = (len(counted), sum(text in self._spans[role] for text in counted))
            if role == "target":  # a cut one has more pieces than the minimum
                self._short = sum(len(self._ids[role][text]) < TARGET_MINIMUM for text in counted)

    def kept(self, role: str, raw: str) -> tuple[int, str]:
        """Returns where the kept part of a text begins in its normal form, and that part."""
        text = self._spelling.normal(raw)
        start, end = self._spans[role].get(text, (0, len(text)))
        return start, text[start:end]

    def ids(self, role: str, raw: str) -> list[int]:
        """Returns the kept pieces of a text."""
        return self._ids[role][self._spelling.normal(raw)].tolist()

    def notes(self) -> list[str]:
        """Says how many texts were cut, and how many references no output can equal because decoding takes at least 5 steps."""
        shares = (
            f"{role} over {length} pieces ({keep} kept): {cut:,} ({cut / total:.1%})"
            for (role, (length, keep)), (total, cut) in zip(self._limits.items(), self._counts.values(), strict=True)
        )
        total = self._counts["target"][0]
        own = self._own and any(cut for _, cut in self._counts.values())
        longer = "; --source_length and --target_length keep longer texts" if own else ""
        return [f"cut: {', '.join(shares)}{longer}", f"targets under {TARGET_MINIMUM} pieces: {self._short:,} ({self._short / total:.1%})"]


def _records(
    examples: list[Example], split: str, spelling: _Spelling, cut: _Cut, keywords: Keywords, numbers: dict[str, int]
) -> Iterator[Record]:  # fmt: skip
    """Yields a record for each example, in order."""

    def text(role: str, raw: str) -> Text:
        start, kept = cut.kept(role, raw)
        marked = keywords[kept]
        if start:
            marked = tuple(replace(k, start=k.start + start, end=k.end + start) for k in marked)
        nodes = tuple(numbers.get(k.text, graph.UNKNOWN) for k in marked)
        normal = spelling.normal(raw)
        return Text(raw, cut.ids(role, raw), marked, nodes, None if normal == raw else normal)

    for example in track(examples, f"writing {split}"):
        texts = {role: text(role, getattr(example, role)) for role in ROLES}
        yield Record(example.id, **texts, route=example.route, sampled=example.sampled, references=example.references)
