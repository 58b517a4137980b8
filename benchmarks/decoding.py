"""How fast beam search is beside transformers' `generate` on PyTorch and beside CTranslate2, on the same sources, at the same sizes.

  python benchmarks/decoding.py --peer_python=PYTHON_WITH_TORCH --batch_size=1 --batch_size=32 --batch_size=128 --out=benchmarks/decoding.md

All search with 4 beams from random weights; CTranslate2 has the weights of ours, and its outputs are compared with ours token by token.
"forced" bars the end until the maximum, so that all take the same number of decoder calls; "natural" gives outputs of about the length
of real ones, and all stop when their own rule says so. Prints Markdown; benchmarks/decoding.md holds the last result.
"""

import itertools
import statistics
import sys
from dataclasses import dataclass
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
BATCH_SIZES = flags.DEFINE_multi_integer("batch_size", [sbs.BATCH], "Sources of a batch.", lower_bound=1)
PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "Interpreter with torch, transformers, ctranslate2; empty: no peer.")
OUT = flags.DEFINE_string("out", None, "Also write the report to this file.")

TASK = "questions"
BEAMS, MAXIMUM, PENALTY = 4, 20, 0.6
MINIMUM = {"forced": MAXIMUM, "natural": 5}
SYSTEMS = {"bert_gen": "ours, encoder-decoder without z", "hcl": "ours, hcl: graph states, prior, z"}
GENERATE, CTRANSLATE2 = "transformers.generate", "CTranslate2, weights of ours"
PRODUCTS = "the decoder's products alone, in TensorFlow"
SHARPNESS = 10.0  # embeddings times this make random weights as sure of the next piece as trained ones are
WANTED = 11.0  # pieces of an output in "natural", as targets have (side_by_side.TASKS)
TRIALS = 8  # halvings of the interval in which the end's bias is sought
NODES, KEYWORDS = 5000, 4  # of hcl's keyword graph, whose states are ready before decoding begins


class Subject:
    """One of our systems in decoding.

    Args:
      sources: [batches, B, S + 2].
    """

    def __init__(self, name: str, variant: str, sources: np.ndarray) -> None:
        import tensorflow as tf

        from hcl_tf.decoding.generator import Generator

        neighbours, size = np.full((NODES, 2, 1), -1, np.int32), sources.shape[1]
        lengths = {"beams": BEAMS, "minimum_length": MINIMUM[variant], "maximum_length": MAXIMUM, "length_penalty": PENALTY}
        self.system, _ = sbs.build(name, neighbours, KEYWORDS, TASK, size, **lengths)
        table = self.system.encoder.embedding_table
        table.assign(table * SHARPNESS)
        self.system.before_inference()
        nodes = np.random.default_rng(1).integers(0, NODES, (len(sources), size, KEYWORDS)).astype(np.int32)
        rows = tf.range(size)
        fixed = {"source_unknown": tf.zeros_like(rows), "example_rows": rows, "example_mask": tf.ones([size])}
        pairs = zip(tf.constant(sources), tf.constant(nodes), strict=True)
        self.batches = [{"source_ids": ids, "source_nodes": places, **fixed} for ids, places in pairs]
        self.generator, self.number = Generator(self.system, None, compiled=COMPILED.value), 0
        self.first = sbs.timed(lambda: self.search(0.0, 1))
        print(f"{name}, {variant}, batch {size}: first call {self.first:.1f} s", file=sys.stderr, flush=True)
        self.bias = choose_bias(lambda bias: self.search(bias, len(self.batches))) if variant == "natural" else 0.0
        self.length = self.search(self.bias, len(self.batches))

    def search(self, bias: float, count: int) -> float:
        """Decodes `count` batches and returns the mean length of the outputs."""
        values = self.system.tokens.bias.numpy()
        values[sbs.SEP] = bias
        self.system.tokens.bias.assign(values)
        return float(np.mean([(self.ids(batch) != sbs.PAD).sum(-1) for batch in self.batches[:count]]))

    def ids(self, batch: dict) -> np.ndarray:
        """The best outputs of a batch, [B, MAXIMUM] with padding."""
        return self.generator.ids(batch)[0][:, 0]

    def seconds(self, count: int) -> float:
        """Seconds a batch."""

        def work() -> None:
            for _ in range(count):
                self.generator.ids(self.batches[self.number % len(self.batches)])
                self.number += 1

        return sbs.timed(work) / count


def choose_bias(length_at) -> float:
    """The end token's bias at which outputs come nearest to `WANTED` pieces: the larger the bias, the shorter."""
    low, high, best = -20.0, 60.0, (float("inf"), 0.0)
    for _ in range(TRIALS):
        middle = (low + high) / 2
        length = length_at(middle)
        best = min(best, (abs(length - WANTED), middle))
        low, high = (middle, high) if length > WANTED else (low, middle)
    return best[1]


class Products:
    """The matrix products that no search of these lengths can leave out, at TensorFlow's speed: no attention, softmax or choice of pieces.

    Those of the encoder and of its keys and values aren't among them, and at the first position a text has one hypothesis.
    """

    def __init__(self, batch: int) -> None:
        import tensorflow as tf

        from hcl_tf.layers.decoder import stream_sizes

        width, rng = sbs.WIDTH, np.random.default_rng(2)

        def weights(*shape: int) -> tf.Tensor:
            return tf.constant(rng.normal(0.0, shape[0] ** -0.5, shape), tf.float32)

        # Queries, keys and values; what attention gives; queries to the memory; what it gives; two of the feed-forward network.
        shapes = [(width, 3 * width), (width, width), (width, width), (width, width), (width, 4 * width), (4 * width, width)]
        layers = [[weights(*shape) for shape in shapes] for _ in range(sbs.LAYERS)]
        table = weights(sbs.VOCABULARY, width)

        def position(states: tf.Tensor) -> tf.Tensor:
            """[rows, D] -> [rows, D], through every product of one position."""
            streams = tf.split(states, stream_sizes(states.shape[0]))  # as the decoder does, so that both cores are busy
            for kernel in (kernel for layer in layers for kernel in layer):
                streams = [stream[:, : kernel.shape[0]] @ kernel for stream in streams]
            return tf.matmul(tf.concat(streams, 0), table, transpose_b=True)[:, :width]

        def decoder(first: tf.Tensor) -> tf.Tensor:
            states = tf.repeat(position(first), BEAMS, 0)
            return tf.while_loop(lambda i, _: i < MAXIMUM, lambda i, states: (i + 1, position(states)), [0, states])[1]

        run = tf.function(decoder, autograph=False, jit_compile=COMPILED.value)
        states = tf.constant(rng.normal(0.0, 1.0, (batch, width)), tf.float32)
        self.work, self.length = lambda: run(states).numpy(), float(MAXIMUM)
        self.first = sbs.timed(self.work)

    def seconds(self, count: int) -> float:
        """Seconds a batch."""
        return sbs.timed(lambda: [self.work() for _ in range(count)]) / count

    def close(self) -> None:
        """Nothing."""


class Generate:
    """transformers' `generate` under the same settings; it counts the end token among the new ones, we do not."""

    def __init__(self, peer: sbs.Peer, variant: str) -> None:
        self.peer, self.first = peer, None
        same = {"beams": BEAMS, "maximum": MAXIMUM + 1, "length_penalty": PENALTY, "sharpness": SHARPNESS}
        self.settings = {**same, "minimum": MINIMUM[variant] + (variant == "forced")}
        ask = lambda bias: peer.ask("decode", count=BATCHES.value, end_bias=bias, **self.settings)  # noqa: E731
        self.bias = choose_bias(lambda bias: ask(bias)["length"]) if variant == "natural" else 0.0
        self.length = ask(self.bias)["length"]

    def seconds(self, count: int) -> float:
        """Seconds a batch."""
        return self.peer.ask("decode", count=count, end_bias=self.bias, **self.settings)["seconds"]

    def close(self) -> None:
        """Nothing: the variants share a process."""


class CTranslate2:
    """CTranslate2 with the weights of one of our subjects; in "natural" with an end's bias of its own, because its rule differs."""

    def __init__(self, ours: Subject, variant: str, sources: np.ndarray) -> None:
        weights = {f"weights/{name}": values for name, values in weights_of(ours.system).items()}
        self.peer, self.first = sbs.Peer(PEER_PYTHON.value, {"source_ids": sources, **weights}, "ctranslate2_peer.py"), None
        same = {"beams": BEAMS, "minimum": MINIMUM[variant], "maximum": MAXIMUM, "length_penalty": PENALTY}
        bias = ours.bias
        if variant == "natural":
            bias = choose_bias(lambda bias: self.peer.ask("decode", count=1, end_bias=bias, **same)["length"])
        self.settings = same | {"end_bias": bias}
        found = [self.peer.ask("decode", count=1, **self.settings)["ids"] for _ in ours.batches]
        self.length = float(np.mean([len(row) for batch in found for row in batch]))
        rows = zip(itertools.chain(*found), np.concatenate([ours.ids(batch) for batch in ours.batches]).tolist(), strict=True)
        self.equal = sum(theirs == [piece for piece in row if piece != sbs.PAD] for theirs, row in rows), sum(map(len, found))

    def seconds(self, count: int) -> float:
        """Seconds a batch."""
        return self.peer.ask("decode", count=count, **self.settings)["seconds"]

    def close(self) -> None:
        """Ends its process."""
        self.peer.close()


def weights_of(system) -> dict[str, np.ndarray]:
    """A BERT encoder's and our decoder's weights by their paths in CTranslate2's specification; linear ones as [out, in]."""
    encoder, decoder, bert, width = system.encoder, system.decoder, system.encoder.bert, sbs.WIDTH
    found = {}

    def linear(path: str, *layers) -> None:
        found[f"{path}.weight"] = np.concatenate([layer.kernel.numpy().reshape(layer.kernel.shape[0], -1) for layer in layers], 1).T.copy()
        found[f"{path}.bias"] = np.concatenate([layer.bias.numpy().ravel() for layer in layers])

    def output(path: str, layer) -> None:  # its kernel has the heads first
        found[f"{path}.weight"] = layer.kernel.numpy().reshape(width, width).T.copy()
        found[f"{path}.bias"] = layer.bias.numpy()

    def norm(path: str, layer) -> None:
        found[f"{path}.gamma"], found[f"{path}.beta"] = layer.gamma.numpy(), layer.beta.numpy()

    table, places, types = (
        layer.weights[0].numpy() for layer in (bert._embedding_layer, bert._position_embedding_layer, bert._type_embedding_layer)
    )
    found |= {"encoder.embeddings.0.weight": table, "encoder.position_encodings.encodings": places + types[0]}
    found |= {"decoder.embeddings.weight": table, "decoder.position_encodings.encodings": decoder.place.numpy()}
    found |= {"decoder.projection.weight": table, "decoder.projection.bias": system.tokens.bias.numpy()}
    norm("encoder.layernorm_embedding", bert._embedding_norm_layer)
    for i, block in enumerate(encoder.bert.transformer_layers):
        at, attention = f"encoder.layer.{i}", block._attention_layer
        linear(f"{at}.self_attention.linear.0", attention._query_dense, attention._key_dense, attention._value_dense)
        output(f"{at}.self_attention.linear.1", attention._output_dense)
        norm(f"{at}.self_attention.layer_norm", block._attention_layer_norm)
        linear(f"{at}.ffn.linear_0", block._intermediate_dense)
        linear(f"{at}.ffn.linear_1", block._output_dense)
        norm(f"{at}.ffn.layer_norm", block._output_layer_norm)
    norm("decoder.layernorm_embedding", decoder.first_norm)
    norm("decoder.layer_norm", decoder.last_norm)
    for i, block in enumerate(decoder.blocks):
        at = f"decoder.layer.{i}"
        linear(f"{at}.self_attention.linear.0", block.itself.query, block.itself.keys_values)
        linear(f"{at}.self_attention.linear.1", block.itself.out)
        norm(f"{at}.self_attention.layer_norm", block.norms[0])
        for number, layer in enumerate((block.memory.query, block.memory.keys_values, block.memory.out)):
            linear(f"{at}.attention.linear.{number}", layer)
        norm(f"{at}.attention.layer_norm", block.norms[1])
        linear(f"{at}.ffn.linear_0", block.inner)
        linear(f"{at}.ffn.linear_1", block.outer)
        norm(f"{at}.ffn.layer_norm", block.norms[2])
    return found


@dataclass(frozen=True)
class Measured:
    """What taking turns with one size of batches gave."""

    batch: int
    subjects: dict[tuple[str, str], object]
    found: dict[tuple[str, str], list[float]]
    others: list[float]

    @classmethod
    def of(cls, batch: int, versions: dict) -> "Measured":
        sources = sbs.draw_texts(BATCHES.value, batch, sbs.TASKS[TASK].source, 0)
        subjects = {(name, variant): Subject(name, variant, sources) for variant in MINIMUM for name in SYSTEMS}
        subjects[PRODUCTS, "forced"] = Products(batch)
        torch = sbs.Peer(PEER_PYTHON.value, {"source_ids": sources}) if PEER_PYTHON.value else None
        for variant in MINIMUM if torch else ():
            subjects[GENERATE, variant] = Generate(torch, variant)
            subjects[CTRANSLATE2, variant] = CTranslate2(subjects["bert_gen", variant], variant, sources)
            versions |= torch.versions | subjects[CTRANSLATE2, variant].peer.versions
        work = {" ".join(key): lambda s=subject: s.seconds(STEPS.value) for key, subject in subjects.items()}
        for warm in work.values():
            warm()
        found, others = sbs.take_turns(work, REPEATS.value)
        for (name, _), subject in subjects.items():
            if name not in SYSTEMS:
                subject.close()
        if torch:
            torch.close()
        return cls(batch, subjects, {key: found[" ".join(key)] for key in subjects}, others)


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    versions = {}
    measured = [Measured.of(batch, versions) for batch in BATCH_SIZES.value]
    sbs.publish(report(measured, versions), OUT.value)


def section(measured: Measured) -> str:
    """One size of batches: its part of the page."""
    found, subjects = measured.found, measured.subjects
    rows = [
        [
            f"{SYSTEMS.get(name, name)}, {variant}", f"{measured.batch / statistics.median(seconds):.1f}", sbs.milliseconds(seconds),
            f"{(subject := subjects[name, variant]).length:.1f}", f"{subject.first:.0f} s" if subject.first else "-",
        ]
        for (name, variant), seconds in found.items()
    ]  # fmt: skip
    ours = SYSTEMS | {PRODUCTS: PRODUCTS}
    numbers = [
        (f"{ours[name]}, {variant}, beside {peer}", f"examples/s {sbs.ratio(found[peer, variant], found[name, variant])} times")
        for name, variant in found for peer in (GENERATE, CTRANSLATE2) if name in ours and (peer, variant) in found
    ]  # fmt: skip
    numbers += [
        (f"{variant}: outputs of CTranslate2 and of ours that are the same, piece for piece", "{} of {}".format(*subject.equal))
        for (name, variant), subject in subjects.items() if (name, variant) == (CTRANSLATE2, "forced")
    ]  # fmt: skip
    numbers.append(("the machine", sbs.judge(measured.others)))
    header = ["", "examples/s", "ms a batch (smallest to largest)", "pieces of an output", "first call"]
    return sbs.section(f"Batch {measured.batch}", sbs.table(header, rows), numbers)


def report(measured: list[Measured], versions: dict) -> str:
    """The Markdown page."""
    how = "compiled by XLA" if COMPILED.value else "a plain tf.function"
    text = (
        f"Made by `benchmarks/decoding.py`. {sbs.shape_of()}; {sbs.texts_of(TASK)}; {BEAMS} beams, {MINIMUM['natural']} to "
        f"{MAXIMUM} pieces (forced: {MAXIMUM}), length penalty {PENALTY}, by each library's own formula; float32; one embedding "
        f"table. Random weights, embeddings times {SHARPNESS:g}; in natural the bias of the end token is set so that outputs have "
        f"about {WANTED:g} pieces. Ours is {how}. {BATCHES.value} batches in turn; {REPEATS.value} rounds, {STEPS.value} batches a "
        "turn; medians, and in brackets the range over rounds."
    )
    goal = "Goal: three times the examples/s of transformers.generate, and more than CTranslate2's."
    return sbs.page("Decoding: measured", [text, f"Machine: {sbs.describe_machine(versions)}.", goal], *map(section, measured))


if __name__ == "__main__":
    app.run(main)
