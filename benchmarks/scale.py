"""How time and memory grow with the data and with the keyword graph, and where each bends.

  python benchmarks/scale.py --raw=chat.jsonl --rows=5000,20000,80000 --nodes=1000,4000,16000,100000 --out=benchmarks/scale.md

Data: corpora of so many dialogues, made from a small one by joining and perturbing its turns, so that texts, keywords and n-grams are
nearly all distinct as in a real corpus; each is prepared by the command in a process of its own, then loaded and read in batches. Graph:
hcl's step and the states of the whole graph, which validation uses, on random graphs. Prints Markdown.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import side_by_side as sbs

from hcl_tf import cli

RAW = flags.DEFINE_string("raw", None, "JSONL of dialogues (context, response); without it only the graph is measured.")
ROWS = flags.DEFINE_list("rows", ["5000", "20000", "80000"], "Dialogues to make.")
NODES = flags.DEFINE_list("nodes", ["1000", "4000", "16000", "100000"], "Nodes of the graphs.")
CHARACTERS = flags.DEFINE_integer("characters", 150, "Least characters of a context.", lower_bound=1)
CHANGED = flags.DEFINE_float("changed", 0.03, "Share of characters replaced.", lower_bound=0, upper_bound=1)
OUT = flags.DEFINE_string("out", None, "Also write the report to this file.")
DEGREE, KEYWORDS, STEPS = 16, 4, 5
PART = flags.DEFINE_string("graph_of", None, "Measure one graph and print JSON; the program calls itself so.")


def make_rows(rows: list[dict], count: int, characters: int, changed: float):
    """Yields `count` dialogues of four turns; seeded."""
    draw = random.Random(1)
    alphabet = sorted({c for row in rows for c in row["response"] if "\u4e00" <= c <= "\u9fff"})
    known = set(alphabet)
    pool = [turn for row in rows for turn in (*row["context"], row["response"])]

    def perturb(text: str) -> str:
        return "".join(draw.choice(alphabet) if draw.random() < changed and c in known else c for c in text)

    for number in range(count):
        turns = [""] * 4
        while sum(map(len, turns)) < characters:
            turns[draw.randrange(4)] += draw.choice(pool)
        yield {"id": str(number), "context": [perturb(t) for t in turns if t], "response": perturb(draw.choice(rows)["response"])}


def of_data(raw: Path, scratch: Path) -> tuple[list[list[str]], list[list[str]]]:
    """For each size of corpus a row about the whole of preparation and of reading its result, and one about preparation's parts."""
    import processes

    from hcl_tf.data.batching.pairs import pair_batches
    from hcl_tf.data.store.prepared_data import PreparedData

    rows = [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    found, parts = [], []
    for count in map(int, ROWS.value):
        corpus, out = scratch / f"{count}.jsonl", scratch / str(count)
        with corpus.open("w", encoding="utf-8") as file:
            for row in make_rows(rows, count, CHARACTERS.value, CHANGED.value):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        ran = processes.run(
            ["-m", "hcl_tf.prepare", "--task=douban", f"--raw={corpus}", f"--out={out}", "--vocab=learn", "--tagger=builtin"]
        )
        start = time.perf_counter()
        data = PreparedData(out)
        arrays = data.arrays("train")
        loading = time.perf_counter() - start
        batches = pair_batches(data, arrays, 64, 1)
        reading = sbs.timed(lambda b=batches: sum(1 for _ in b.dataset(0)))
        found.append([
            f"{count:,}", f"{corpus.stat().st_size / 1e6:.0f} MB", f"{ran.seconds:.0f} s", f"{count / ran.seconds:,.0f}",
            f"{ran.gigabytes:.2f} GB",
            f"{len(data.graph):,}", f"{len(arrays) / loading:,.0f}", f"{len(arrays) / reading:,.0f}",
        ])  # fmt: skip
        parts.append([f"{count:,}", *(f"{seconds:.1f}" for seconds in ran.parts().values())])
        print(found[-1], parts[-1], file=sys.stderr, flush=True)
    return found, parts


def of_graph(nodes: int) -> dict:
    """Seconds of a step and of the whole graph's states, and the gigabytes that the latter adds to the most held so far."""
    import tensorflow as tf

    from hcl_tf.data.keywords.graph import KeywordGraph
    from hcl_tf.data.keywords.subgraph import SubgraphSampler
    from hcl_tf.models.settings.hcl import HCLSettings
    from hcl_tf.training.step import TrainStep

    draw = np.random.default_rng(1)
    table = draw.integers(0, nodes, (nodes, 2, DEGREE)).astype(np.int32)
    system, settings = sbs.build("hcl", table, KEYWORDS, "questions", sbs.BATCH)
    system.node_features.assign(draw.standard_normal(system.node_features.shape))
    keywords = [draw.integers(0, nodes, (sbs.BATCH, KEYWORDS)).astype(np.int32) for _ in range(3)]
    texts = {name: ids[0] for name, ids in sbs.draw_examples(1, sbs.BATCH, "questions").items()}
    counts = np.ones(nodes, np.int32)
    ends = np.arange(nodes + 1, dtype=np.int64) * DEGREE
    flat = tuple(table[:, relation].ravel() for relation in range(2))
    graph = KeywordGraph(tuple(map(str, range(nodes))), counts, counts, (ends, ends), flat, tuple(np.ones(len(f), np.int64) for f in flat))
    whole = nodes <= HCLSettings().graph_whole
    sampler = SubgraphSampler(graph, settings.fanout, settings.graph_node_budget)
    began = time.perf_counter()
    sampled = sampler.sample(*keywords, np.random.default_rng(1))
    sampling = time.perf_counter() - began
    if whole:
        sampled = {"source_nodes": keywords[0], "target_nodes": keywords[1], "impostor_nodes": table[keywords[1], 1]}
        sampled["impostor_routes"] = np.zeros(sbs.BATCH, np.int32)
    rows = np.arange(sbs.BATCH, dtype=np.int32)
    unknown = dict.fromkeys(("source_unknown", "target_unknown"), np.zeros_like(rows))
    batch = {name: tf.constant(v) for name, v in {**texts, **sampled, **unknown, "example_rows": rows}.items()}
    batch["example_mask"] = tf.ones([sbs.BATCH])
    step = TrainStep(system, settings, None, compiled=False)
    step(batch, 0)
    seconds = statistics.median(sbs.timed(lambda i=i: step(batch, i)) for i in range(1, STEPS + 1))
    system.before_inference()
    Path("/proc/self/clear_refs").write_text("5")
    before = _held("VmRSS")
    states = sbs.timed(system.before_inference)
    return {"step": seconds, "sampling": 0.0 if whole else sampling, "states": states, "memory": _held("VmHWM") - before}


def _held(what: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1e6


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    if PART.value:
        print(json.dumps(of_graph(int(PART.value))))
        return
    import processes

    sections = []
    if RAW.value:
        with tempfile.TemporaryDirectory() as scratch:
            header = [
                "dialogues",
                "text",
                "preparation",
                "dialogues/s",
                "peak memory",
                "nodes",
                "loading, examples/s",
                "batches, examples/s",
            ]
            whole, parts = of_data(Path(RAW.value), Path(scratch))
            sections.append(sbs.section("With the data", sbs.table(header, whole), []))
            sections.append(sbs.section("Parts of preparation, seconds", sbs.table(["dialogues", *processes.PARTS], parts), []))
    rows = []
    for nodes in NODES.value:
        found = json.loads(processes.run([__file__, f"--graph_of={nodes}"]).output.splitlines()[-1])
        rows.append([
            f"{int(nodes):,}", f"{1e3 * found['step']:.0f}", f"{1e3 * found['sampling']:.0f}" if found["sampling"] else "whole",
            f"{found['states']:.2f}", f"{found['memory']:.2f}",
        ])  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    header = ["nodes", "a step, ms", "sampling a batch, ms", "states of the whole graph, s", "memory that they take, GB"]
    sections.append(sbs.section("With the keyword graph", sbs.table(header, rows), []))
    text = (
        f"Made by `benchmarks/scale.py`. Graphs: random, {DEGREE} neighbours a relation, hcl in {sbs.shape_of()}, batch {sbs.BATCH}; whole "
        "at each step up to 4,096 nodes, sampled beyond. Data: contexts of at least "
        f"{CHARACTERS.value} characters, {CHANGED.value:.0%} of the characters replaced; one run each."
    )
    sbs.publish(sbs.page("Growth: measured", [text, f"Machine: {sbs.describe_machine({})}."], *sections), OUT.value)


if __name__ == "__main__":
    app.run(main)
