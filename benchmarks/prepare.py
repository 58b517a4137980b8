"""How fast preparation is: keyword extraction beside the plain loop, batches a second, and whole runs.

  python benchmarks/prepare.py --task=qqp --raw=quora_duplicate_questions.tsv --negatives=labelled_then_bm25

Prints Markdown; benchmarks/prepare.md holds the last results with the machine they were measured on.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hcl_tf import cli, config

TASK = flags.DEFINE_enum("task", "qqp", list(config.TASKS), "Task whose corpus is measured.")
RAW = flags.DEFINE_string("raw", None, "Raw corpus. Default: the bundled sample.")
NEGATIVES = flags.DEFINE_string("negatives", None, "As for hcl_tf.prepare.")
VOCAB = flags.DEFINE_string("vocab", "learn", "As for hcl_tf.prepare.")
TEXTS = flags.DEFINE_integer("texts", 40_000, "Distinct texts for the keyword comparison.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds; both sides run in each, medians are printed.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 64, "Rows of a batch.", lower_bound=1)


def compare_keywords(texts: list[str], language: str, rounds: int) -> str:
    """One process and the plain pytextrank loop against `extract_all`; refuses to print where the keywords differ."""
    from hcl_tf.data.keywords import tagging, textrank

    nlp = tagging.load_pipeline(language, "builtin")
    extractor = textrank.KeywordExtractor(language, "builtin")
    workers = flags.FLAGS.workers if "workers" in flags.FLAGS else 2
    plain, ours = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        docs = {}
        for text in texts:
            doc = nlp(text)
            doc._.phrases  # noqa: B018  (the loop that users write: TextRank has run, its phrases are there)
            docs[text] = extractor.of_doc(doc)
        plain.append(time.perf_counter() - start)
        start = time.perf_counter()
        found = textrank.extract_all(texts, language, "builtin", "word", 4, workers)
        ours.append(time.perf_counter() - start)
        if found != docs:
            raise SystemExit("the two sides found different keywords")
    slow, fast = (len(texts) / statistics.median(seconds) for seconds in (plain, ours))
    return (
        f"keywords: plain loop {slow:,.0f} texts/s, ours with {workers} workers {fast:,.0f} texts/s, start-up of the workers included: "
        f"{fast / slow:.2f} times; the same keywords for all {len(texts):,} texts; medians of {rounds} rounds"
    )


def measure_batches(folder: Path, batch_size: int) -> list[str]:
    """Examples a second of one epoch of training batches, without and with sub-graphs."""
    from hcl_tf.data.batching.pairs import pair_batches
    from hcl_tf.data.keywords.subgraph import SubgraphSampler, describe_caps
    from hcl_tf.data.store.prepared_data import PreparedData

    data = PreparedData(folder)
    start = time.perf_counter()
    arrays = data.arrays("train")
    lines = [f"loading and checking the training split: {len(arrays) / (time.perf_counter() - start):,.0f} examples/s"]
    for name, sampler in (
        ("whole-graph numbers", None),
        ("sub-graphs", SubgraphSampler(data.graph, node_budget=max(2048, 8 * batch_size))),
    ):
        batches = pair_batches(data, arrays, batch_size, sampler=sampler)
        start, caps = time.perf_counter(), 0
        for batch in batches.dataset(epoch=0):
            caps = caps + batch["graph_caps"].numpy() if sampler else 0
        lines.append(f"batches of {batch_size} with {name}: {len(arrays) / (time.perf_counter() - start):,.0f} examples/s")
    return [*lines, describe_caps(caps)]


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    import processes

    from hcl_tf.data.store.prepared_data import PreparedData

    task = config.TASKS[TASK.value]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "prepared"
        command = ["-m", "hcl_tf.prepare", f"--task={task.name}", f"--out={out}", f"--vocab={VOCAB.value}", "--tagger=builtin"]
        command += [f"--raw={RAW.value}"] * bool(RAW.value) + [f"--negatives={NEGATIVES.value}"] * bool(NEGATIVES.value)
        ran = processes.run(command)
        corpus = Path(RAW.value).name if RAW.value else "bundled sample"
        print(f"### {task.name}: {corpus}\n\nend to end: {ran.seconds:.0f} s, peak {ran.gigabytes:.2f} GB\n")
        print(f"seconds: {', '.join(f'{part} {seconds:.0f}' for part, seconds in ran.parts().items())}\n")
        print("\n".join(f"    {line.strip()}" for line in ran.output.splitlines()[1:-1]), "\n")
        for line in measure_batches(out, BATCH.value):
            print(f"* {line}")
        records = PreparedData(out).records("train")
        texts = list(dict.fromkeys(text for record in records for text in (record.source.raw, record.target.raw)))[: TEXTS.value]
        print(f"* {compare_keywords(texts, task.language, ROUNDS.value)}")


if __name__ == "__main__":
    app.run(main)
