"""How fast each system trains and decodes, and what memory that takes, on one machine in one run.

  python benchmarks/systems.py --data_dir=tfrecords/qqp --out=benchmarks/systems.md

Every system has a process of its own, so that its memory is its own; rounds go through all of them, every other one backwards.
Preset small with random weights in the shape of side_by_side.py; Group-wise is measured in its second phase, where it contrasts.
Decoding is from those weights with the end barred until the last piece, so all systems decode the same number of pieces. The machine
must be quiet. Prints Markdown; benchmarks/systems.md holds the last result.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import side_by_side as sbs

from hcl_tf import cli

ROUNDS = flags.DEFINE_integer("rounds", 2, "How often every system has its turn.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 8, "Training steps, and batches decoded, of a turn.", lower_bound=2)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared qqp folder. Default: the bundled sample, prepared anew.")
ONLY = flags.DEFINE_list("systems", [], "Only these. Default: all.")
MEASURE = flags.DEFINE_string("measure", None, "Measure this one system and print JSON; the program calls itself so.")
OUT = flags.DEFINE_string("out", None, "Also write the report to this file.")

BEAMS, PIECES = 4, 20
PLAIN = "bert_gen"  # the system beside which the others are put


def measure(model: str, folder: Path) -> dict[str, float]:
    """Trains and decodes in this process. Seconds a step and a batch, parameters, peak memory in GB with and without decoding."""
    before = _peak()
    import tensorflow as tf

    from hcl_tf.data.batching.pairs import pair_batches
    from hcl_tf.data.store.prepared_data import PreparedData
    from hcl_tf.decoding.generator import Generator
    from hcl_tf.models import registry
    from hcl_tf.training import assembly
    from hcl_tf.training.initialization import initialize
    from hcl_tf.training.step import TrainStep
    from hcl_tf.training.text_states import TextStates

    tf.config.experimental.enable_op_determinism()  # as training does
    given = {"model": model, "encoder": f"random:{sbs.LAYERS}x{sbs.WIDTH}", "batch_size": sbs.BATCH, "decoder_layers": sbs.LAYERS}
    given |= {"output_vocab": "train", "beams": BEAMS, "minimum_length": PIECES, "maximum_length": PIECES}
    given |= {"mle_steps": 1}  # Group-wise: both models at work from the first step on
    data = PreparedData(folder)
    given = registry.used(model, given)
    settings, begun_with = initialize(registry.resolve("small", given), data, given)
    arrays = data.arrays("train")
    inputs = assembly.inputs_of(data, begun_with.shape, assembly.output_ids(data, arrays, settings.output_vocab))
    system, _ = assembly.new_system(settings, inputs, begun_with)
    system.before_epoch(0, TextStates(data, arrays, keep=False))
    if system.phases():
        system.begin_phase()
    further = [columns for columns in [system.columns(data, "train", arrays, arrays)] if columns]
    batches = pair_batches(data, arrays, sbs.BATCH, settings.seed, system.sampler(data.graph), system.impostors, further)
    if len(batches) < STEPS.value:
        raise SystemExit(f"{folder} has {len(batches)} batches of {sbs.BATCH}, fewer than --steps={STEPS.value}")
    drawn = list(batches.dataset(0).take(STEPS.value))
    result = {"parameters": sum(int(np.prod(v.shape)) for v in system.trainable_variables)}
    if system.is_trained:
        step = TrainStep(system, settings, None, compiled=False)
        result["first_step"] = sbs.timed(lambda: step(drawn[0], 0))
        step(drawn[1], 1)
        result["train"] = statistics.median(sbs.timed(lambda b=b, i=i: step(b, i + 2)) for i, b in enumerate(drawn))
    result["train_memory"] = _peak() - before
    system.before_inference()
    held_out = data.arrays("validation")
    texts = pair_batches(data, held_out, sbs.BATCH)
    sources = [texts.make(np.arange(sbs.BATCH) % len(held_out), 0, 0)]
    generator = Generator(system, data.tokenizer)
    result["first_batch"] = sbs.timed(lambda: generator.ids(_tensors(sources[0])))
    result["decode"] = statistics.median(sbs.timed(lambda: generator.ids(_tensors(sources[0]))) for _ in range(STEPS.value))
    result["memory"] = _peak() - before
    return result


def _tensors(batch: dict[str, np.ndarray]) -> dict:
    import tensorflow as tf

    return {name: tf.constant(values) for name, values in batch.items()}


def _peak() -> float:
    """Gigabytes that this process held at most so far (`ru_maxrss` would begin with the parent's)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    if MEASURE.value:
        print(json.dumps(measure(MEASURE.value, Path(DATA_DIR.value))))
        return
    from hcl_tf.models.registry import SYSTEMS

    names = ONLY.value or list(SYSTEMS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(DATA_DIR.value or Path(scratch) / "sample")
        if not DATA_DIR.value:
            sbs.prepare_sample(folder)
        found: dict[str, list[dict]] = {name: [] for name in names}
        others = []
        for number in range(ROUNDS.value):
            for name in names[:: -1 if number % 2 else 1]:
                with sbs.watched(others):
                    found[name].append(_ask(name, folder))
                turn = f"round {number + 1} of {ROUNDS.value}, {name}, others {others[-1]:.0%}"
                print(f"{turn}: {found[name][-1]}", file=sys.stderr, flush=True)
    sbs.publish(report(found, others), OUT.value)


def report(found: dict[str, list[dict]], others: list[float]) -> str:
    """The Markdown page."""
    rows = [_row(name, turns, found.get(PLAIN)) for name, turns in found.items()]
    header = [
        "", "parameters", "training, examples/s", "ms a step", f"step beside {PLAIN}", "memory, GB", "decoding, examples/s", "ms a batch",
        f"batch beside {PLAIN}", "first step, first batch",
    ]  # fmt: skip
    corpus = "a prepared corpus" if DATA_DIR.value else "the bundled sample"
    shape = f"encoder {sbs.LAYERS} and decoder {sbs.LAYERS} layers of width {sbs.WIDTH} (`dialogpt`: as deep as both together)"
    text = (
        f"Made by `benchmarks/systems.py`. Preset small, random weights, {shape}, batch {sbs.BATCH}, texts and keyword graph of {corpus}, "
        "outputs from the pieces of its training targets; dropout, Adam, clipping; float32, a plain tf.function, deterministic, as in "
        f"training. `groupwise` in its second phase. Decoding: {BEAMS} beams, {PIECES} pieces forced. {ROUNDS.value} rounds, every turn in "
        f"a new process; medians over rounds of a turn's median of {STEPS.value}, and in brackets the range over rounds. Memory: how much "
        "training raised the most that the process ever held, from after importing the libraries on; the corpus's arrays are part of it."
    )
    return sbs.page("Systems: measured", [text, f"Machine: {sbs.describe_machine({})}.", sbs.judge(others)], sbs.table(header, rows))


def _row(name: str, turns: list[dict], plain: list[dict] | None) -> list[str]:
    seconds = {work: [turn[work] for turn in turns] for work in ("train", "decode") if work in turns[0]}
    beside = {work: sbs.ratio(each, [turn[work] for turn in plain]) if plain else "" for work, each in seconds.items()}
    speed = {work: f"{sbs.BATCH / statistics.median(each):.1f}" for work, each in seconds.items()}
    first = ", ".join(f"{turns[0][work]:.0f} s" for work in ("first_step", "first_batch") if work in turns[0])
    return [
        name, f"{turns[0]['parameters'] / 1e6:.1f} M", speed.get("train", "-"),
        sbs.milliseconds(seconds["train"]) if "train" in seconds else "-", beside.get("train", "-"),
        f"{max(turn['train_memory'] for turn in turns):.2f}", speed["decode"], sbs.milliseconds(seconds["decode"]), beside["decode"], first,
    ]  # fmt: skip


def _ask(name: str, folder: Path) -> dict:
    command = [sys.executable, __file__, f"--measure={name}", f"--data_dir={folder}", f"--steps={STEPS.value}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}; its message stands above")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    app.run(main)
