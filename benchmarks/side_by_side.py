"""What training.py, decoding.py and systems.py share: the shape, the batches, the PyTorch process beside ours, taking turns, the report."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

VOCABULARY, WIDTH, LAYERS, HEADS, INTERMEDIATE = 30_522, 256, 4, 4, 1024
BATCH = 32  # examples, where a benchmark has no flag for it
PAD, UNKNOWN, CLS, SEP = 0, 100, 101, 102  # of bert-base-uncased's vocabulary
FIRST_WORD = 1000  # ids below are special or single characters
BY_HAND = "<!-- what follows is written by hand -->\n"
QUIET = 0.05  # share of the processor that others may take while runtimes are compared
DROPOUT, CLIP, RATE = 0.1, 1.0, 5e-4


class Lengths(NamedTuple):
    """Pieces of texts without [CLS] and [SEP]: exp(N(log middle, spread)), rounded, at least `least` and cut at `most`."""

    most: int
    middle: float
    spread: float
    least: int = 4


class Texts(NamedTuple):
    """Lengths of a task's sources and targets (negatives are as targets)."""

    source: Lengths
    target: Lengths


# As the real corpora under BERT's vocabularies. Quora's questions, cut at 20: mean 11.5, quartiles 9, 11, 13. ROCStories: four sentences of
# mean 40.2, quartiles 34, 39, 46, and endings of mean 10.9. Chinese chat: contexts of mean 18.0, quartiles 12, 17, 22, and answers of 9.4.
TASKS = {
    "questions": Texts(Lengths(20, 11.0, 0.4), Lengths(20, 11.0, 0.4)),
    "stories": Texts(Lengths(100, 39.4, 0.21), Lengths(20, 10.5, 0.31)),
    "chat": Texts(Lengths(100, 16.5, 0.40), Lengths(20, 7.6, 0.67, 1)),
}


def shape_of(layers: int = LAYERS, width: int = WIDTH) -> str:
    """Says what is measured, for the top of a report; `layers`: of the encoder."""
    return f"vocabulary {VOCABULARY:,}, encoder {layers} and decoder {LAYERS} layers of width {width}"


def texts_of(task: str) -> str:
    """Says how long a task's texts are."""
    source, target = TASKS[task]
    return f"sources of up to {source.most} + 2 pieces and targets of up to {target.most} + 2"


def draw_texts(count: int, batch: int, lengths: Lengths, seed: int) -> np.ndarray:
    """[count, batch, most + 2] int32 `[CLS] pieces [SEP]` and padding; uniform pieces, log-normal lengths."""
    draw = np.random.default_rng(seed)
    drawn = np.rint(np.exp(draw.normal(np.log(lengths.middle), lengths.spread, (count, batch, 1))))
    ends = np.clip(drawn, lengths.least, lengths.most).astype(int)
    places = np.arange(lengths.most + 2)
    ids = draw.integers(FIRST_WORD, VOCABULARY, (count, batch, lengths.most + 2))
    ids = np.where(places == 0, CLS, np.where(places <= ends, ids, np.where(places == ends + 1, SEP, PAD)))
    return ids.astype(np.int32)


def draw_examples(count: int, batch: int, task: str) -> dict[str, np.ndarray]:
    """Draws `count` batches of sources, targets and negatives."""
    source, target = TASKS[task]
    lengths = {"source_ids": source, "target_ids": target, "negative_ids": target}
    return {name: draw_texts(count, batch, each, seed) for seed, (name, each) in enumerate(lengths.items())}


class Peer:
    """Another library in a process of its own (a script of this folder), which computes only while it is asked to.

    Args:
      python: an interpreter that has the library. arrays: what its work is about. script: transformers on PyTorch, or CTranslate2.
    """

    def __init__(self, python: str, arrays: dict[str, np.ndarray], script: str = "pytorch_peer.py") -> None:
        self._needs = f"--peer_python must have what {script} imports"
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "batches.npz"
        np.savez(file, **arrays)
        shape = {"vocabulary": VOCABULARY, "width": WIDTH, "layers": LAYERS, "heads": HEADS, "intermediate": INTERMEDIATE}
        shape |= {"pad": PAD, "unknown": UNKNOWN, "cls": CLS, "sep": SEP, "dropout": DROPOUT, "clip": CLIP, "rate": RATE}
        command = [python, str(Path(__file__).with_name(script)), str(file), json.dumps(shape)]
        environment = {**os.environ, "USE_TF": "0", "USE_TORCH": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.versions = self.ask("versions")

    def ask(self, work: str, threads: int = 0, **arguments) -> dict:
        """Has the process do `work` with so many threads (0: one a core) and waits for what it answers."""
        self._process.stdin.write(json.dumps({"work": work, "threads": threads or cores(), **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the peer's process ended; its message stands above. {self._needs}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def take_turns(subjects: dict[str, Callable[[], float]], repeats: int) -> tuple[dict[str, list[float]], list[float]]:
    """Calls all subjects `repeats` times in turn, each round beginning with the next one.

    Returns what each call gave, and for each round the share of the processor that went to anything but us and the peer.
    """
    found, others = {name: [] for name in subjects}, []
    names = list(subjects)
    for number in range(repeats):
        first = number % len(names)
        with watched(others):
            for name in names[first:] + names[:first]:
                found[name].append(subjects[name]())
        values = ", ".join(f"{name} {values[-1]:.3g}" for name, values in found.items())
        print(f"round {number + 1} of {repeats}, others {others[-1]:.0%}: {values}", file=sys.stderr, flush=True)
    return found, others


@contextlib.contextmanager
def watched(others: list[float]) -> Iterator[None]:
    """Appends to `others` what share of the processor went to anything but us and our child processes meanwhile."""
    all_before, ours_before, start = *_processor_seconds(), time.perf_counter()
    yield
    everything, ours = _processor_seconds()
    spent = (everything - all_before) - (ours - ours_before)
    others.append(max(0.0, spent / ((time.perf_counter() - start) * os.cpu_count())))


def _processor_seconds() -> tuple[float, float]:
    """Busy processor seconds so far, of the machine (time that its host took away included) and of us with our children, ended ones too."""
    busy = psutil.cpu_times()
    machine = sum(busy) - busy.idle - getattr(busy, "iowait", 0.0) - getattr(busy, "guest", 0.0) - getattr(busy, "guest_nice", 0.0)
    us = psutil.Process()
    return machine, sum(sum(process.cpu_times()[:4]) for process in (us, *us.children(recursive=True)))


def judge(others: list[float]) -> str:
    """Whether the machine was quiet enough to compare.

    Taking turns does not make up for load: PyTorch's OpenMP threads wait for each other at every loop, so one core lost to
    another process costs them far more than it costs TensorFlow's pool. With a load of 6 on 2 cores the peer was slower with
    2 threads (7 to 13 s a step) than with 1 (1.2 to 2.5 s).
    """
    text = f"Other processes took {statistics.median(others):.0%} of the processor (at most {max(others):.0%} in a round)."
    if max(others) <= QUIET:
        return text
    return f"**NOT A RESULT.** {text} Ratios between different runtimes mean nothing above {QUIET:.0%}: measure again on a quiet machine."


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(above: list[float], below: list[float]) -> str:
    """The median over rounds of above / below, with the smallest and the largest."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(seconds: list[float]) -> str:
    """Median, smallest and largest."""
    return "{:.0f} ({:.0f} to {:.0f})".format(*(1e3 * f(seconds) for f in (statistics.median, min, max)))


def page(title: str, paragraphs: list[str], *sections: str) -> str:
    """A Markdown page: a heading, paragraphs, and what `section` made."""
    wrapped = [textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) for text in paragraphs]
    return "\n\n".join([f"# {title}", *wrapped, *sections])


def section(title: str, table: str, numbers: list[tuple[str, str]]) -> str:
    """A table and a list of numbers under a heading; without a title, without one."""
    return "\n\n".join(([f"## {title}"] if title else []) + [table] + (["\n".join(f"* {n}: {v}" for n, v in numbers)] if numbers else []))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def describe_machine(peer_versions: dict) -> str:
    """Processor, cores, memory, load and versions, for the top of a report."""
    import tensorflow as tf

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    widest = next((flag for flag in ("avx512_vnni", "avx512f", "avx2") if flag in flags), "no AVX2")
    accelerators = [device.device_type for device in tf.config.list_physical_devices() if device.device_type != "CPU"]
    ours = f"Python {platform.python_version()}, TensorFlow {tf.__version__} (TF_ENABLE_ONEDNN_OPTS={os.environ['TF_ENABLE_ONEDNN_OPTS']})"
    return (
        f"{name}, {cores()} cores used of {os.cpu_count()} ({widest}), {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{', '.join(accelerators) or 'no accelerator'}, load {os.getloadavg()[0]:.1f} at the end; "
        + "; ".join([ours, *(f"{name} {version}" for name, version in peer_versions.items())])
    )


def build(
    name: str, neighbours: np.ndarray, max_keywords: int, task: str, batch: int, encoder: tuple[int, int] = (LAYERS, WIDTH),
    pieces: int = VOCABULARY, **given,
):  # fmt: skip
    """A system of this benchmark's shape at random weights, and its settings.

    Args:
      encoder: layers and width, which is the decoder's too. pieces: how many outputs may contain, the vocabulary's last and special ones.
    """
    import tf_keras as keras

    from hcl_tf.layers.encoder import EncoderShape
    from hcl_tf.models import registry
    from hcl_tf.models.base import Inputs

    layers, width = encoder
    given = {"encoder": f"random:{layers}x{width}", "batch_size": batch, "decoder_layers": LAYERS, "learning_rate": RATE, **given}
    given |= {"dropout": DROPOUT, "gradient_clip": CLIP}
    settings = registry.resolve("small", registry.used(name, {"model": name, **given}))
    shape = EncoderShape(VOCABULARY, width, layers, width // 64, 4 * width)
    kept = np.union1d(np.arange(VOCABULARY - pieces, VOCABULARY), [PAD, UNKNOWN, CLS, SEP]).astype(np.int32)
    keywords = np.tile([[CLS, UNKNOWN, SEP]], [len(neighbours), 1])
    source, target = TASKS[task]
    inputs = Inputs("en", source.most, target.most, max_keywords, PAD, UNKNOWN, CLS, SEP, VOCABULARY, kept, neighbours, keywords, shape)
    keras.utils.set_random_seed(settings.seed)
    return registry.build(settings, inputs), settings


def prepare_sample(folder: Path) -> None:
    """The bundled sample, prepared."""
    from hcl_tf import config
    from hcl_tf.data import preparation

    task = config.TASKS["qqp"]
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the report
        preparation.prepare(
            task, task.sample, folder, preparation.PreparationSettings(negatives=task.negatives), workers=1, overwrite=False
        )


def publish(report: str, out: str | None) -> None:
    """Prints a report and, if asked, writes it; what stands in the file below the line `BY_HAND` stays."""
    print(report)
    if out:
        path = Path(out)
        _, line, kept = path.read_text(encoding="utf-8").partition(BY_HAND) if path.exists() else ("", "", "")
        path.write_text(report + "\n" + ("\n" + line + kept if line else ""), encoding="utf-8")
