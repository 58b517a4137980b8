"""What a training will take, told before the first hour is spent: steps, hours at the measured rate, memory, and which micro-batch fits."""

import statistics
import subprocess
import tempfile
import time
from itertools import islice
from pathlib import Path

import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.progress import working
from hcl_tf.settings import TrainingSettings
from hcl_tf.training.determinism import make_deterministic
from hcl_tf.training.launch import assemble, settle
from hcl_tf.training.loop import Loop
from hcl_tf.training.step import TrainStep

TIMED = 5  # steps behind the first one, and batches of validation
SPARE = 0.9  # of the free memory is taken for what a step may use


def dry_run(task: str, data_dir: Path | None, preset: str | None, given: dict) -> list[str]:
    """Takes a few steps of a training without keeping anything of it. Returns lines that say what the whole will take.

    Only what is kept beside prepared data anyway stays: the states of an encoder's fixed layers.

    Raises:
      UserError: the system has nothing to train, or not even one example at a time fits.
    """
    data, settings, begun_with = settle(task, data_dir, preset, given)
    if not registry.class_of(settings.model).is_trained:
        raise UserError(f"--model={settings.model} has nothing to train; drop --dry_run")
    make_deterministic()
    with tempfile.TemporaryDirectory() as nowhere:
        loop = assemble(data, settings, begun_with, None, Path(nowhere), None)
    batches = list(islice(iter(loop.batches.dataset(0)), TIMED + 1))
    sizes = _sizes(settings)
    small = _memory_of(loop, batches, sizes[-1])
    try:
        large = _memory_of(loop, batches, sizes[0]) if len(sizes) > 1 else small
    except tf.errors.ResourceExhaustedError:
        large = None
    lines = _memory_lines(settings, sizes, small, large)
    if large is None:
        return lines
    with working("timing steps and a validation"):
        return [*_time_lines(loop, batches), *lines]


def _sizes(settings: TrainingSettings) -> list[int]:
    """Lists the micro-batches that divide the batch: all rows at once (or `--micro_batch`), then halves of it, down to 1."""
    size, found = settings.micro_batch or settings.batch_size, []
    while size:
        found.append(size)
        size = size // 2 if size % 2 == 0 else 0
    return found


def _memory_of(loop: Loop, batches: list, size: int) -> int:
    """Takes a step with micro-batches of `size` rows. Returns the peak memory in bytes."""
    settings = registry.resolve(loop.settings.preset, {**_given(loop.settings), "micro_batch": size})
    step = TrainStep(loop.system, settings, None, loop.train_step.compiled)
    _reset_peak()
    with working(f"a step with --micro_batch={size}, compiling it included"):
        step(batches[0], 0)
    return _peak()


def _given(settings: TrainingSettings) -> dict:
    values = settings.to_dict()
    values.pop("preset")
    return values


def _time_lines(loop: Loop, batches: list) -> list[str]:
    """Says how many steps there are and how long they and the validations take."""
    s, per_epoch = loop.settings, len(loop.batches)
    steps = loop.last_step
    first = _timed(lambda: loop.train_step(batches[0], 0))
    each = statistics.median(_timed(lambda b=batch, i=i: loop.train_step(b, i)) for i, batch in enumerate(batches[1:] or batches))
    every = s.validate_every or per_epoch
    passes = 1 + -(-steps // every)
    rows = min(s.validate_examples or loop.validation.batches.count, loop.validation.batches.count)
    part = min(TIMED * loop.validation.batches.batch_size, rows)
    loop.system.before_inference()
    loop.validation.loss(part)
    validation = _timed(lambda: loop.validation.loss(part)) * rows / part
    whole = steps * each + passes * validation
    return [
        *loop.warnings(),
        f"steps: {steps:,} ({steps / per_epoch:.1f} epochs of {per_epoch:,} batches of {s.batch_size})",
        f"a step: {each:.3g} s, {s.batch_size / each:.1f} examples/s; the first, with compilation: {first:.0f} s",
        f"validations: {passes:,} of {rows:,} examples, about {validation:.2g} s each, diagnostics and samples not counted",
        f"the whole: about {whole / 3600:.2g} hours, {passes * validation / whole:.0%} of them validation; --patience may end it earlier",
    ]


def _memory_lines(settings: TrainingSettings, sizes: list[int], small: int, large: int | None) -> list[str]:
    """Says what memory each micro-batch takes: the smallest and the largest measured, those between on the line through both."""
    free = int(SPARE * _free())
    if large is None:
        return [
            f"memory: --batch_size={settings.batch_size} at once does not fit; rows of {sizes[-1]} take {_gigabytes(small)} of "
            f"{_gigabytes(free)}. Give --micro_batch: the same step in parts, with the same result"
        ]
    slope = (large - small) / max(sizes[0] - sizes[-1], 1)
    needed = {size: small + slope * (size - sizes[-1]) for size in sizes}
    lines = [f"memory: {_gigabytes(large)} with {sizes[0]} rows at once, of {_gigabytes(free)} that are free on this {_where()}"]
    if large > free:
        fits = next((size for size, amount in needed.items() if amount <= free), None)
        lines.append(f"give --micro_batch={fits} (about {_gigabytes(needed[fits])})" if fits else "no micro-batch fits")
    elif len(sizes) > 1:
        lines.append("with --micro_batch: " + ", ".join(f"{size} {_gigabytes(amount)}" for size, amount in list(needed.items())[1:]))
    return lines


def _timed(work) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _gpu() -> str | None:
    devices = tf.config.list_logical_devices("GPU")
    return devices[0].name.removeprefix("/device:") if devices else None


def _where() -> str:
    return "card" if _gpu() else "machine"


def _reset_peak() -> None:
    if gpu := _gpu():
        tf.config.experimental.reset_memory_stats(gpu)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory counts from here


def _peak() -> int:
    """Returns the most bytes that were held since `_reset_peak`."""
    if gpu := _gpu():
        return tf.config.experimental.get_memory_info(gpu)["peak"]
    return _kilobytes("/proc/self/status", "VmHWM") * 1024


def _free() -> int:
    """Returns the bytes that this process may use: the card's memory, or the machine's that is free and its own."""
    if _gpu():
        command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]) * 2**20
    return (_kilobytes("/proc/meminfo", "MemAvailable") + _kilobytes("/proc/self/status", "VmRSS")) * 1024


def _kilobytes(file: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(name))


def _gigabytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
