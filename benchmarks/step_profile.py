"""Where the time of one training step goes, operation by operation, and what of it could be saved.

  python benchmarks/step_profile.py --data_dir=tfrecords/qqp --task=questions --task=stories --subject=bert_gen --subject=hcl

Steps are traced by TensorFlow's profiler (its host events), with one operation at a time, so that the parts add up to the step; each
operation still uses all cores. Names of operations say whose they are: layers name theirs, and packing, dropout, normalisation, GELU,
the output layer, clipping and Adam have name scopes. Prints Markdown.
"""

import collections
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import side_by_side as sbs
import training

from hcl_tf import cli

TRACED = flags.DEFINE_integer("traced", 8, "Steps that are traced.", lower_bound=1)

PRODUCT = re.compile(r"MatMul|Einsum|BatchMatMul")
# The first that fits an operation's name, its gradient's prefix removed, or its type. Products of the output layer come before its rest.
PARTS = (
    ("output layer: products", r"(^|/)output/.*(MatMul|Einsum)"),
    ("output layer: softmax, cross-entropy, sums", r"(^|/)output/"),
    ("dropout: noise and masks", r"(^|/)dropout(_\d+)?/"),
    ("packing: gathers between rows and texts", r"(^|/)packing(_\d+)?/"),
    ("normalisations", r"(^|/)norm(_\d+)?/"),
    ("GELU", r"(^|/)gelu(_\d+)?/"),
    ("graph network and keywords", r"^(graph|node_projection|impostor|keyword)"),
    ("encoder: attention's products", r"^encoder/.*BatchMatMul"),
    ("encoder: products", r"^encoder/.*(MatMul|Einsum)"),
    ("encoder: else (bias, softmax, residuals, shapes)", r"^encoder/"),
    ("decoder: attention's products", r"^decoder/.*BatchMatMul"),
    ("decoder: products", r"^decoder/.*(MatMul|Einsum)"),
    ("decoder: else (bias, softmax, residuals, shapes)", r"^decoder/"),
    ("prior, posterior and z", r"^(prior|posterior|latent)"),
    ("clipping: norm and scaling", r"^clip/"),
    ("Adam", r"^Adam"),
    ("embeddings: gathers, their gradients, sums of the table's", r"GatherV2|ResourceGather|UnsortedSegmentSum|AddN|tmp_var"),
    ("contrasts and all else", r""),
)


def part_of(event: str) -> str:
    """Returns the name in `PARTS` that an event "operation's name:type" belongs to."""
    plain = event.removeprefix("gradient_tape/")
    return next(name for name, pattern in PARTS if re.search(pattern, plain))


def events_of(folder: str) -> tuple[dict[str, float], float]:
    """Reads a trace. Returns seconds by event "operation's name:type", and seconds of whole calls of the step's function."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    operations, calls = collections.Counter(), 0.0
    for plane in space.planes:
        names = plane.event_metadata
        for event in (event for line in plane.lines for event in line.events):
            name, seconds = names[event.metadata_id].name, event.duration_ps / 1e12
            if name == "KernelAndDeviceFunc::Run":
                calls += seconds
            elif re.fullmatch(r"[^\s:]+:[A-Za-z_]\w*", name) and "::" not in name:
                operations[name] += seconds
    return operations, calls


def profile(subject: "training.Subject") -> tuple[dict[str, float], dict[str, float], float]:
    """Traces steps. Returns seconds a step by part, the ten longest kinds of operation outside of products, and seconds of a step."""
    import tensorflow as tf

    subject.steps(4)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0))
        start = time.perf_counter()
        subject.steps(TRACED.value)
        whole = (time.perf_counter() - start) / TRACED.value
        tf.profiler.experimental.stop()
        operations, calls = events_of(folder)
    found, kinds = collections.Counter(), collections.Counter()
    for name, seconds in operations.items():
        found[part_of(name)] += seconds / TRACED.value
        if not PRODUCT.search(name.rsplit(":", 1)[1]):
            kinds[name.rsplit(":", 1)[1]] += seconds / TRACED.value
    calls /= TRACED.value
    found["between operations: scheduling, memory"] = calls - sum(found.values())
    found["Python, and results to it"] = whole - calls
    return found, dict(kinds.most_common(10)), whole


def pipeline(folder: Path, batch: int) -> float:
    """Seconds that the input pipeline takes for a batch of a prepared folder, while nothing else runs."""
    from hcl_tf.data.batching.pairs import pair_batches
    from hcl_tf.data.store.prepared_data import PreparedData

    data = PreparedData(folder)
    batches = pair_batches(data, data.arrays("train"), batch, 1)
    count = min(50, len(batches))
    return sbs.timed(lambda: collections.deque(batches.dataset(0).take(count), maxlen=0)) / count


def section(task: str, batch: int, name: str, work: "training.Workload", ceiling: float, loading: float) -> str:
    """One subject's table on one workload."""
    subject = training.Subject(name, work)
    ordinary = statistics.median(subject.steps(1) for _ in range(TRACED.value))
    found, kinds, whole = profile(subject)
    rows = [[part, f"{1e3 * found[part]:.1f}", f"{found[part] / whole:.1%}"] for part, _ in PARTS if found.get(part, 0) > 0]
    rows += [[part, f"{1e3 * seconds:.1f}", f"{seconds / whole:.1%}"] for part, seconds in found.items() if part not in dict(PARTS)]
    rows.append(["**sum: the step, traced**", f"{1e3 * whole:.1f}", "100%"])
    needed = training.model_flops(work.texts, training.encoded_by(name)) / 1e9
    numbers = [
        ("a step", f"{1e3 * ordinary:.0f} ms; {needed:.1f} GFLOP needed, {needed / ordinary:.0f} GFLOP/s of {ceiling:.0f}"),
        ("the input pipeline", f"{1e3 * loading:.2f} ms a batch, beside the step"),
        ("longest kinds outside of products", ", ".join(f"{kind} {1e3 * seconds:.1f} ms" for kind, seconds in kinds.items())),
    ]
    title = f"{training.title_of(name)}: {task}, batch {batch}"
    return sbs.section(title, sbs.table(["part of a step", "ms", "share"], rows), numbers)


def main(_) -> None:
    """Measures and prints."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    import tensorflow as tf

    from hcl_tf.training.determinism import make_deterministic

    tf.config.threading.set_inter_op_parallelism_threads(1)
    make_deterministic()
    sections = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(training.DATA_DIR.value or Path(scratch) / "sample")
        if not training.DATA_DIR.value:
            sbs.prepare_sample(folder)
        products = next(iter(training.products(training.PRODUCT.value, None).values()))
        ceiling = 2 * training.PRODUCT.value**3 / statistics.median(products() for _ in range(9)) / 1e9
        for task in training.TASKS.value:
            for batch in training.BATCH_SIZES.value:
                work = training.Workload.drawn(task, batch, folder)
                loading = pipeline(folder, batch)
                sections += [section(task, batch, name, work, ceiling, loading) for name in training.SUBJECTS.value]
    text = (
        f"Made by `benchmarks/step_profile.py`. {sbs.shape_of(*training.encoder_shape())}; outputs from {training.PIECES.value:,} pieces; "
        f"dropout {sbs.DROPOUT}, Adam, clipping; float32, a plain tf.function. {TRACED.value} steps traced with one operation at a time, "
        f"on {os.cpu_count()} threads each; a step is the median of as many without a trace."
    )
    page = sbs.page("A training step: where its time goes", [text, f"Machine: {sbs.describe_machine({})}."], *sections)
    sbs.publish(page, training.OUT.value)


if __name__ == "__main__":
    app.run(main)
