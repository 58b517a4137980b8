"""How fast a training step is: beside transformers on PyTorch, beside the plain model, and beside what the machine can do.

  python benchmarks/training.py --peer_python=PYTHON_WITH_TORCH --data_dir=tfrecords/qqp --task=questions --task=stories \
    --batch_size=32 --batch_size=256 --out=benchmarks/training.md
  python benchmarks/training.py --peer_python= --encoder=6x384 --pieces=6730 --trainable_layers=2 --subject=graph --subject=hcl \
    --data_dir=tfrecords/qqp --out=benchmarks/upper_layers.md   # what contrasts cost where the encoder's lower layers are fixed

All subjects take turns on the same batches, blocks of --steps steps; ratios are taken within a round. The machine must be quiet:
the report says how much of the processor others took, and that it is no result where that was too much. Prints Markdown;
benchmarks/training.md holds the last result. Where a step's time goes is step_profile.py's.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import side_by_side as sbs

from hcl_tf import cli

REPEATS = flags.DEFINE_integer("repeats", 9, "Rounds in which every subject has its turn.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 4, "Steps of a turn.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 8, "Different batches, used in turn.", lower_bound=1)
TASKS = flags.DEFINE_multi_enum("task", ["questions"], list(sbs.TASKS), "Whose lengths of texts to draw.")
BATCH_SIZES = flags.DEFINE_multi_integer("batch_size", [sbs.BATCH], "Examples of a batch.", lower_bound=1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared qqp folder whose keyword graph is used. Default: the bundled sample's.")
PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "Interpreter that has torch and transformers; empty: no peer.")
ENCODER = flags.DEFINE_string("encoder", f"{sbs.LAYERS}x{sbs.WIDTH}", "LAYERSxWIDTH of our encoders; decoders have its width.")
PIECES = flags.DEFINE_integer("pieces", sbs.VOCABULARY, "Pieces that our outputs may contain.", lower_bound=4)
TRAINED = flags.DEFINE_multi_integer(
    "trainable_layers",
    [],
    "Our subjects once more, with so many of the encoder's layers trained: from cached states of the others and without.",
)
PROCESSOR = flags.DEFINE_boolean(
    "processor_time", False, "Seconds of processor time in place of the clock's: for a machine that others use."
)
COMPILED = flags.DEFINE_boolean("compiled", False, "Compile our steps with XLA (training does so on GPUs).")
PRODUCT = flags.DEFINE_integer("product", 2048, "Rows and columns of the matrix product that shows the machine's ceiling.", lower_bound=64)
OUT = flags.DEFINE_string("out", None, "Also write the report to this file.")

SYSTEMS = {  # our subjects: what they are, and the arguments of `side_by_side.build`
    "bert_gen": ("bert_gen: encoder-decoder without z", "bert_gen", {}),
    "cvae": ("bert_cvae without keywords", "bert_cvae", {"ablate": "keyword"}),
    "graph": ("bert_cvae: the graph in its prior", "bert_cvae", {}),
    "hcl": ("hcl: all contrasts", "hcl", {}),
}
CACHED, LIVE = "cached", "live"  # the states of fixed layers: brought by the batch, or computed in the step
PEERS = {  # PyTorch's: one table for encoder, decoder and output as in ours, or as the library's class comes
    "torch": ("transformers, one embedding table", {"shared": True, "compiled": False}),
    "torch_one_thread": ("transformers, one embedding table, 1 thread", {"shared": True, "compiled": False, "threads": 1}),
    "torch_apart": ("transformers, encoder's table apart (its default)", {"shared": False, "compiled": False}),
    "torch_compiled": ("transformers, one table, torch.compile", {"shared": True, "compiled": True}),
}
PEER_ROWS = flags.DEFINE_multi_enum(
    "peer", ["torch", "torch_apart"], list(PEERS), "Which of the peer's; torch_compiled needs a C++ compiler."
)
SUBJECTS = flags.DEFINE_multi_enum("subject", list(SYSTEMS), list(SYSTEMS), "Which of ours to measure; XLA takes its time over each.")
GOALS = (
    "Goals: the encoder-decoder at 2.0 times the examples/s of the fastest of the peer's rows and at 60% of the ceiling; hcl, with three "
    "texts an example, as fast as the peer's plain model; the graph at most 0.25 of a step of the CVAE without keywords; with two upper "
    "layers trained a step of hcl at most 1.3 times that of bert_cvae; the tiny preset's first step within 20 s of the command."
)


def make_batches(folder: Path, texts: dict[str, np.ndarray]) -> tuple[list[dict], np.ndarray, int]:
    """Batches with the folder's keywords and graph, sampled where training would, and with drawn texts; the whole graph; K."""
    from hcl_tf.data.batching.pairs import pair_batches
    from hcl_tf.data.keywords.subgraph import SubgraphSampler
    from hcl_tf.data.store.prepared_data import PreparedData
    from hcl_tf.models.settings.hcl import HCLSettings

    data = PreparedData(folder)
    settings = HCLSettings()
    sampled = len(data.graph) > settings.graph_whole
    sampler = SubgraphSampler(data.graph, settings.fanout, settings.graph_node_budget) if sampled else None
    count, size = texts["source_ids"].shape[:2]
    batches = pair_batches(data, data.arrays("train"), size, 1, sampler)
    made = [batch | {name: ids[i] for name, ids in texts.items()} for i, batch in enumerate(batches.dataset(0).take(count))]
    if len(made) < count:
        raise SystemExit(f"{folder} has {len(made)} batches of {size}, fewer than --batches={count}")
    import tensorflow as tf

    return [{name: tf.convert_to_tensor(values) for name, values in batch.items()} for batch in made], data.whole_graph, data.max_keywords


@dataclass(frozen=True)
class Workload:
    """Batches of one task and size: drawn texts, with the keywords and the graph of a prepared folder."""

    task: str
    batch: int
    texts: dict[str, np.ndarray]
    batches: list[dict]
    neighbours: np.ndarray
    max_keywords: int

    @classmethod
    def drawn(cls, task: str, batch: int, folder: Path) -> "Workload":
        texts = sbs.draw_examples(BATCHES.value, batch, task)
        return cls(task, batch, texts, *make_batches(folder, texts))


class Subject:
    """One of our systems in training."""

    def __init__(self, name: str, work: Workload) -> None:
        from hcl_tf.training.step import TrainStep

        model, given, trained, states = subject_of(name)
        shape = {"encoder": encoder_shape(), "pieces": PIECES.value}
        system, settings = sbs.build(
            model, work.neighbours, work.max_keywords, work.task, work.batch, **shape, **given, trainable_layers=trained
        )
        if hasattr(system, "node_features"):
            system.node_features.assign(np.random.default_rng(1).standard_normal(system.node_features.shape))
        self.batches = [batch | lower_states(system, batch) for batch in work.batches] if states == CACHED else work.batches
        self.step, self.number = TrainStep(system, settings, None, compiled=COMPILED.value), 0
        self.parameters = sum(int(np.prod(v.shape)) for v in system.trainable_variables)
        self.first = sbs.timed(lambda: self.steps(1))
        print(f"{name}: first step {self.first:.1f} s", file=sys.stderr, flush=True)

    def steps(self, count: int) -> float:
        """Seconds a step."""
        clock = time.process_time if PROCESSOR.value else time.perf_counter
        start = clock()
        for _ in range(count):
            self.scalars = self.step(self.batches[self.number % len(self.batches)], self.number)
            self.number += 1
        return (clock() - start) / count


def subject_of(name: str) -> tuple[str, dict, int, str]:
    """A subject's system, its settings, how many of its encoder's layers train (-1: all), and where the states of the others come from.

    Args:
      name: one of `SYSTEMS`, or "NAME/LAYERS/cached" or "NAME/LAYERS/live".
    """
    name, *rest = name.split("/")
    return *SYSTEMS[name][1:], *((int(rest[0]), rest[1]) if rest else (-1, LIVE))


def title_of(name: str) -> str:
    """A subject's name in the report."""
    trained, states = subject_of(name)[2:]
    return SYSTEMS[name.split("/")[0]][0] + (f"; {trained} upper layers trained, the others' states {states}" if "/" in name else "")


def encoder_shape() -> tuple[int, int]:
    """Layers and width of our encoders."""
    layers, width = map(int, ENCODER.value.split("x"))
    return layers, width


def lower_states(system, batch: dict) -> dict:
    """The states of the fixed layers in 16 bits, as training has them from its cache."""
    import tensorflow as tf

    return {f"{role}_lower": tf.cast(system.encoder.lower_states(batch[f"{role}_ids"]), tf.float16) for role in system.encoded}


def model_flops(texts: dict[str, np.ndarray], encoded: tuple[str, ...]) -> float:
    """Floating-point operations that a training step of all layers needs, padding left out, mean over the batches.

    Forward, with n the tokens and L the lengths of what is encoded, t and T those of the decoder's input (a target's pieces
    and [CLS]), m and M those of the source, 2 operations for a multiplication and its addition:
      encoder   layers * (n (8 D^2 + 4 D I) + 4 D sum L^2)
      decoder   layers * (t (12 D^2 + 4 D I) + 4 m D^2 + 4 D sum (T^2 + T M))
      output    2 t V D
    The backward pass takes twice as many. Latent variable and graph are left out: they are below 2%.
    """
    layers, width = encoder_shape()
    inner = 4 * width
    lengths = {name: (ids != sbs.PAD).sum(-1).astype(float) for name, ids in texts.items()}
    source, target = lengths["source_ids"], lengths["target_ids"] - 1
    each = np.concatenate([lengths[name] for name in encoded], 1)
    encoder = layers * (each.sum() * (8 * width**2 + 4 * width * inner) + 4 * width * (each**2).sum())
    decoder = target.sum() * (12 * width**2 + 4 * width * inner) + 4 * source.sum() * width**2
    decoder = sbs.LAYERS * (decoder + 4 * width * (target**2 + target * source).sum())
    return 3 * (encoder + decoder + 2 * target.sum() * PIECES.value * width) / len(source)


def encoded_by(name: str) -> tuple[str, ...]:
    """The texts that a subject's encoder reads."""
    return ("source_ids", "target_ids", "negative_ids")[: {"hcl": 3, "cvae": 2, "graph": 2}.get(name.split("/")[0], 1)]


def first_step(folder: Path) -> tuple[float, str]:
    """Seconds from the command to the end of the tiny preset's first step, with what precedes it, and the line that tells."""
    with tempfile.TemporaryDirectory() as run:
        command = [sys.executable, "-m", "hcl_tf.train", "--task=qqp", "--preset=tiny", f"--data_dir={folder}", f"--run_dir={run}/run"]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--max_steps=2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[1]
        )
        for line in process.stdout:
            if line.startswith("first step"):
                seconds = time.perf_counter() - start
                process.terminate()
                process.stdout.read()
                process.wait()
                return seconds, line.strip()
    raise SystemExit(f"no first step: {' '.join(command)}")


def products(size: int, peer: sbs.Peer | None) -> dict:
    """Subjects that give seconds of a large matrix product."""
    import tensorflow as tf

    a, b = (tf.random.stateless_uniform([size, size], [1, i]) for i in range(2))
    found = {"product, TensorFlow": lambda: sbs.timed(lambda: tf.matmul(a, b).numpy())}
    return found | ({"product, PyTorch": lambda: peer.ask("product", size=size)["seconds"]} if peer else {})


@dataclass(frozen=True)
class Measured:
    """What taking turns on one workload gave: seconds of each subject's turns, and what stands beside them in the table."""

    work: Workload
    found: dict[str, list[float]]
    others: list[float]
    parameters: dict[str, int]
    firsts: dict[str, float]
    versions: dict[str, str]

    @classmethod
    def of(cls, work: Workload) -> "Measured":
        wanted = [*SUBJECTS.value, *(f"{name}/{n}/{states}" for n in TRAINED.value for states in (CACHED, LIVE) for name in SUBJECTS.value)]
        ours = {name: Subject(name, work) for name in wanted}
        peer = sbs.Peer(PEER_PYTHON.value, work.texts) if PEER_PYTHON.value else None
        names = PEER_ROWS.value if peer else []
        theirs = {name: peer.ask("train", count=1, **PEERS[name][1]) for name in names}
        turn = lambda name: lambda: peer.ask("train", count=STEPS.value, **PEERS[name][1])["seconds"]  # noqa: E731
        subjects = {name: lambda s=subject: s.steps(STEPS.value) for name, subject in ours.items()}
        subjects |= {name: turn(name) for name in theirs} | products(PRODUCT.value, peer)
        for warm in subjects.values():
            warm()
        found, others = sbs.take_turns(subjects, REPEATS.value)
        parameters = {name: subject.parameters for name, subject in ours.items()}
        parameters |= {name: answer["parameters"] for name, answer in theirs.items()}
        firsts = {name: subject.first for name, subject in ours.items()} | {name: answer["seconds"] for name, answer in theirs.items()}
        versions = peer.versions if peer else {}
        if peer:
            peer.close()
        return cls(work, found, others, parameters, firsts, versions)


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # as training does
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch) / "sample"
        sbs.prepare_sample(sample)
        begun = first_step(sample)
        folder = Path(DATA_DIR.value or sample)
        measured = [Measured.of(Workload.drawn(task, size, folder)) for task in TASKS.value for size in BATCH_SIZES.value]
    sbs.publish(report(measured, begun), OUT.value)


def beside_the_base(found: dict[str, list[float]]) -> list[tuple[str, str]]:
    """How long a step of hcl takes beside one of bert_cvae, for all layers and for each number of upper ones."""
    pairs = []
    for name in found:
        model, *rest = name.split("/")
        base = "/".join(["graph", *rest])
        if model == "hcl" and base in found:
            which = f", {rest[0]} upper layers, {rest[1]}" if rest else ""
            pairs.append((f"hcl beside bert_cvae{which}", f"a step takes {sbs.ratio(found[name], found[base])} times as long"))
    return pairs


def section(measured: Measured) -> str:
    """One workload's part of the page."""
    work, found, parameters = measured.work, measured.found, measured.parameters
    flops = {name: model_flops(work.texts, encoded_by(name)) for name in parameters}
    median = {name: statistics.median(seconds) for name, seconds in found.items()}
    speeds = {name: 2 * PRODUCT.value**3 / seconds / 1e9 for name, seconds in median.items() if name.startswith("product")}
    titles = {name: PEERS[name][0] if name in PEERS else f"ours, {title_of(name)}" for name in parameters}
    unrelated = [name for name in parameters if "/" in name or PROCESSOR.value]  # to the ceiling, which is of the clock and of all layers

    def share(name: str) -> str:
        return "" if name in unrelated else f"{flops[name] / median[name] / 1e9 / max(speeds.values()):.0%}"

    rows = [
        [
            titles[name], f"{work.batch / median[name]:.1f}", sbs.milliseconds(found[name]), f"{parameters[name] / 1e6:.1f} M",
            f"{flops[name] / 1e9:.0f}", share(name), f"{measured.firsts[name]:.1f} s",
        ]
        for name in parameters
    ]  # fmt: skip
    pairs = [
        (f"{titles[one]}, beside {titles[other]}", f"examples/s {sbs.ratio(found[other], found[one])} times")
        for other in PEERS if other in parameters for one in ("bert_gen", "hcl") if one in parameters
    ]  # fmt: skip
    if {"graph", "cvae"} <= set(parameters):
        graph = [(a - b) / b for a, b in zip(found["graph"], found["cvae"], strict=True)]
        part = f"{statistics.median(graph):.2f} ({min(graph):.2f} to {max(graph):.2f})"
        pairs.append(("the graph's part", f"{part} of the step of the CVAE without keywords"))
    pairs += beside_the_base(found)
    pairs += [
        (f"{titles[name]}, beside all layers", f"a step takes {sbs.ratio(found[name], found[name.partition('/')[0]])} of the time")
        for name in found if "/" in name
    ]  # fmt: skip
    pairs.append(("matrix product, GFLOP/s", ", ".join(f"{name.partition(', ')[2]} {speed:.0f}" for name, speed in speeds.items())))
    if not PROCESSOR.value:
        pairs.append(("the machine", sbs.judge(measured.others)))
    lengths = {role: f"{float((work.texts[f'{role}_ids'] != sbs.PAD).sum(-1).mean()) - 2:.1f}" for role in ("source", "target")}
    title = (
        f"{work.task.capitalize()}, batch {work.batch}: {sbs.texts_of(work.task)}, "
        f"{lengths['source']} and {lengths['target']} pieces on average"
    )
    header = ["", "examples/s", "ms a step (smallest to largest)", "parameters", "GFLOP needed", "of the ceiling", "first step"]
    return sbs.section(title, sbs.table(header, rows), pairs)


def report(measured: list[Measured], begun: tuple[float, str]) -> str:
    """The Markdown page."""
    batch = measured[0].work.batches[0]
    graph = "the graph whole at each step"
    if "graph_nodes" in batch:
        nodes, shape = int((batch["graph_nodes"].numpy() >= 0).sum()), batch["graph_neighbours"].shape
        graph = f"{nodes} nodes in the first batch, of at most {shape[0]}, each with at most {shape[2]} neighbours a relation"
    how = "compiled by XLA" if COMPILED.value else "a plain tf.function"
    corpus = "prepared questions" if DATA_DIR.value else "the bundled sample"
    text = (
        f"Made by `benchmarks/training.py`. {sbs.shape_of(*encoder_shape())}; outputs from {PIECES.value:,} pieces; drawn texts "
        f"(`draw_examples`), lengths as of the real corpora; dropout {sbs.DROPOUT}, Adam, gradient norm clipped at {sbs.CLIP}; "
        f"float32. Ours is {how} and deterministic, as in training; the peer's optimiser is PyTorch's fused AdamW, and its batches "
        f"are as long as their longest text. Keywords and sub-graphs are those of {corpus}: {graph}. {BATCHES.value} batches in "
        f"turn; {REPEATS.value} rounds, {STEPS.value} steps a turn; medians, and in brackets the range over rounds. GFLOP needed: "
        f"`model_flops`, real tokens only. Ceiling: the faster product of two {PRODUCT.value} x {PRODUCT.value} matrices in the "
        "same rounds."
    )
    clock = ["Times of ours are processor time, of all threads, which others' work changes less than the clock's."] * PROCESSOR.value
    began = (
        f"First step of the tiny preset: {begun[0]:.1f} s after the command was given, graph features and validation included; {begun[1]}."
    )
    machine = f"Machine: {sbs.describe_machine(measured[0].versions)}."
    return sbs.page("Training: measured", [text, *clock, machine, GOALS, began], *map(section, measured))


if __name__ == "__main__":
    app.run(main)
