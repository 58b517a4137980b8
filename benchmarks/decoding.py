"""How fast beam search is beside transformers' `generate` on PyTorch, on the same sources, at the same sizes.

  python benchmarks/decoding.py --peer_python=PYTHON_WITH_TORCH --out=benchmarks/decoding.md

Both search with 4 beams from random weights. "forced" bars the end until the maximum, so that both take the same number of decoder
calls; "natural" gives outputs of about the length of real ones, and both stop when their own rule says so. Prints Markdown;
benchmarks/decoding.md holds the last result.
"""

import statistics
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import side_by_side as sbs

from hcl_tf import cli

COMPILED = flags.DEFINE_boolean("compiled", False, "Compile our search with XLA (generation does so on GPUs).")
REPEATS = flags.DEFINE_integer("repeats", 9, "Rounds in which every subject has its turn.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 2, "Batches of a turn.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 4, "Different batches, used in turn.", lower_bound=1)
PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "Interpreter that has torch and transformers; empty: no peer.")
OUT = flags.DEFINE_string("out", None, "Also write the report to this file.")

BEAMS, MAXIMUM, PENALTY = 4, 20, 0.6
MINIMUM = {"forced": MAXIMUM, "natural": 5}
SYSTEMS = {"bert_gen": "ours, encoder-decoder without z", "hcl": "ours, hcl: graph states, prior, z"}
PEERS = {"transformers.generate": 0, "transformers.generate, 1 thread": 1}  # threads; 0: one a core
SHARPNESS = 10.0  # embeddings times this make random weights as sure of the next piece as trained ones are
WANTED = 11.0  # pieces of an output in "natural", as targets have (side_by_side.draw_texts)
TRIALS = 8  # halvings of the interval in which the end's bias is sought
NODES, KEYWORDS = 5000, 4  # of hcl's keyword graph, whose states are ready before decoding begins


class Subject:
    """One of our systems in decoding."""

    def __init__(self, name: str, variant: str, sources: np.ndarray) -> None:
        import tensorflow as tf

        from hcl_tf.decoding.generator import Generator

        neighbours = np.full((NODES, 2, 1), -1, np.int32)
        lengths = {"beams": BEAMS, "minimum_length": MINIMUM[variant], "maximum_length": MAXIMUM, "length_penalty": PENALTY}
        self.system, _ = sbs.build(name, neighbours, KEYWORDS, **lengths)
        table = self.system.encoder.embedding_table
        table.assign(table * SHARPNESS)
        self.system.before_inference()
        nodes = np.random.default_rng(1).integers(0, NODES, (len(sources), sbs.BATCH, KEYWORDS)).astype(np.int32)
        rows = tf.range(sbs.BATCH)
        fixed = {"source_unknown": tf.zeros_like(rows), "example_rows": rows, "example_mask": tf.ones([sbs.BATCH])}
        pairs = zip(tf.constant(sources), tf.constant(nodes), strict=True)
        self.batches = [{"source_ids": ids, "source_nodes": places, **fixed} for ids, places in pairs]
        self.generator, self.number = Generator(self.system, None, compiled=COMPILED.value), 0
        self.first = sbs.timed(lambda: self.search(0.0, 1))
        print(f"{name}, {variant}: first call {self.first:.1f} s", file=sys.stderr, flush=True)
        if variant == "natural":
            self.bias = choose_bias(lambda bias: self.search(bias, len(self.batches)))
        else:
            self.bias = 0.0
        self.length = self.search(self.bias, len(self.batches))

    def search(self, bias: float, count: int) -> float:
        """Decodes `count` batches and returns the mean length of the outputs."""
        values = self.system.tokens.bias.numpy()
        values[sbs.SEP] = bias
        self.system.tokens.bias.assign(values)
        return float(np.mean([(self.generator.ids(batch)[0][:, 0] != sbs.PAD).sum(-1) for batch in self.batches[:count]]))

    def seconds(self, count: int) -> float:
        """Seconds a batch."""

        def work() -> None:
            for _ in range(count):
                self.generator.ids(self.batches[self.number % len(self.batches)])
                self.number += 1

        return sbs.timed(work) / count

    def calls(self) -> float:
        """How often a batch calls the decoder, counted where Python runs each call."""
        import tensorflow as tf

        count, step = 0, self.system.step

        def counted(*arguments):
            nonlocal count
            count += 1
            return step(*arguments)

        self.system.step = counted
        tf.config.run_functions_eagerly(True)
        self.system.generate(self.batches[0])
        tf.config.run_functions_eagerly(False)
        self.system.step = step
        return count


def choose_bias(length_at) -> float:
    """The end token's bias at which outputs come nearest to `WANTED` pieces: the larger the bias, the shorter."""
    low, high, best = -20.0, 60.0, (float("inf"), 0.0)
    for _ in range(TRIALS):
        middle = (low + high) / 2
        length = length_at(middle)
        best = min(best, (abs(length - WANTED), middle))
        low, high = (middle, high) if length > WANTED else (low, middle)
    return best[1]


class PeerSubject:
    """transformers' `generate` under the same settings; it counts the end token among the new ones, we do not."""

    def __init__(self, peer: sbs.Peer, variant: str, threads: int) -> None:
        self.peer, self.first = peer, None
        same = {"beams": BEAMS, "maximum": MAXIMUM + 1, "length_penalty": PENALTY, "sharpness": SHARPNESS, "threads": threads}
        self.settings = {**same, "minimum": MINIMUM[variant] + (variant == "forced")}
        ask = lambda bias: peer.ask("decode", count=BATCHES.value, end_bias=bias, **self.settings)  # noqa: E731
        self.bias = choose_bias(lambda bias: ask(bias)["length"]) if variant == "natural" else 0.0
        found = ask(self.bias)
        self.length, self._calls = found["length"], found["calls"]

    def seconds(self, count: int) -> float:
        """Seconds a batch."""
        return self.peer.ask("decode", count=count, end_bias=self.bias, **self.settings)["seconds"]

    def calls(self) -> float:
        """How often a batch calls the decoder."""
        return self._calls


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    sources = sbs.draw_texts(BATCHES.value, 0)
    peer = sbs.Peer(PEER_PYTHON.value, source_ids=sources) if PEER_PYTHON.value else None
    subjects = {(name, variant): Subject(name, variant, sources) for variant in MINIMUM for name in SYSTEMS}
    subjects |= {(name, variant): PeerSubject(peer, variant, PEERS[name]) for variant in MINIMUM for name in PEERS if peer}
    work = {" ".join(key): lambda s=subject: s.seconds(STEPS.value) for key, subject in subjects.items()}
    for warm in work.values():
        warm()
    found, others = sbs.take_turns(work, REPEATS.value)
    page = report({key: found[" ".join(key)] for key in subjects}, subjects, peer.versions if peer else {}, others)
    sbs.publish(page, OUT.value)
    if peer:
        peer.close()


def report(found: dict, subjects: dict, versions: dict, others: list[float]) -> str:
    """The Markdown page."""
    titles = SYSTEMS | {name: name for name in PEERS}
    rows = [
        [
            f"{titles[name]}, {variant}", f"{sbs.BATCH / statistics.median(seconds):.1f}", sbs.milliseconds(seconds),
            f"{(subject := subjects[name, variant]).calls():.1f}", f"{subject.length:.1f}",
            f"{subject.first:.0f} s" if subject.first else "-",
        ]
        for (name, variant), seconds in found.items()
    ]  # fmt: skip
    pairs = [
        (f"{titles[name]}, {variant}, beside {peer}", f"examples/s {sbs.ratio(found[peer, variant], found[name, variant])} times")
        for name, variant in found
        for peer in PEERS
        if name in SYSTEMS and (peer, variant) in found
    ]
    header = ["", "examples/s", "ms a batch (smallest to largest)", "decoder calls a batch", "pieces of an output", "first call"]
    how = "compiled by XLA" if COMPILED.value else "a plain tf.function"
    text = (
        f"Made by `benchmarks/decoding.py`. {sbs.SHAPE}; {BEAMS} beams, {MINIMUM['natural']} to {MAXIMUM} pieces (forced: {MAXIMUM}), "
        f"length penalty {PENALTY}; float32; one embedding table. Random weights, embeddings times {SHARPNESS:g}; in natural the bias of "
        f"the end token is set on each side so that outputs have about {WANTED:g} pieces. Ours is {how}. {BATCHES.value} "
        f"batches in turn; {REPEATS.value} rounds, {STEPS.value} batches a turn; medians, and in brackets the range over rounds."
    )
    goal = "Goal: twice the examples/s of the faster of the peer's rows."
    return sbs.page(
        "Decoding: measured",
        [text, f"Machine: {sbs.describe_machine(versions)}.", sbs.judge(others), goal],
        sbs.section("", sbs.table(header, rows), pairs),
    )


if __name__ == "__main__":
    app.run(main)
