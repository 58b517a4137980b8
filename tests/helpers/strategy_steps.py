"""Run by test_strategies.py in a process of its own, because a CPU is split into devices before TensorFlow starts.

strategy_steps.py FOLDER OUT toy|hcl MODE...: three steps in each MODE; OUT.MODE.npz gets scalars, moments and weights.
"""

import dataclasses
import sys
from pathlib import Path

from hcl_tf import cli

cli.quieten_libraries()
cli.import_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from toy_system import toy, toy_settings  # noqa: E402

from hcl_tf.data.batching.pairs import pair_batches  # noqa: E402
from hcl_tf.data.keywords.subgraph import SubgraphSampler  # noqa: E402
from hcl_tf.data.store.prepared_data import PreparedData  # noqa: E402
from hcl_tf.models.registry import resolve  # noqa: E402
from hcl_tf.training import assembly, checkpoints  # noqa: E402
from hcl_tf.training.initialization import initialize  # noqa: E402
from hcl_tf.training.launch import _strategy  # noqa: E402
from hcl_tf.training.step import TrainStep  # noqa: E402
from hcl_tf.training.text_states import TextStates  # noqa: E402

MODES = {
    "one": {},
    "micro": {"micro_batch": 8},
    "mirrored": {"strategy": "mirrored", "logical_cpus": 2},
    "both": {"strategy": "mirrored", "logical_cpus": 2, "micro_batch": 8},
    "mixed": {"strategy": "mirrored", "logical_cpus": 2, "mixed_precision": True},
}
TINY = {
    "encoder": "random:1x16", "decoder_layers": 1, "latent_size": 8, "latent_hidden": 16, "warmup_steps": 5, "kl_ramp": 10,
    "batch_size": 32,
}  # fmt: skip


def hcl(folder: Path, settings):
    data = PreparedData(folder)
    settings, encoder = initialize(settings, data, TINY)
    train = data.arrays("train")
    inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, train, "train"))
    system, _ = assembly.new_system(settings, inputs, encoder)
    system.before_epoch(0, TextStates(data, train, keep=False))
    return system, pair_batches(data, train, settings.batch_size, settings.seed, SubgraphSampler(data.graph, (4, 2), 512))


def three_steps(folder: Path, kind: str, mode: str) -> dict[str, np.ndarray]:
    given = MODES[mode]
    make, settings = (toy, toy_settings(**given)) if kind == "toy" else (hcl, resolve("tiny", {**TINY, **given}))
    # The first mirrored mode splits the CPU; all share the two devices.
    strategy = _strategy(settings) if not STRATEGIES else _strategy(dataclasses.replace(settings, logical_cpus=0))
    STRATEGIES.append(strategy)
    with strategy.scope() if strategy else tf.device(None):
        system, batches = make(folder, settings)
        step = TrainStep(system, settings, strategy, compiled=False)
    scalars = [step(batch, number) for number, batch in enumerate(batches.dataset(0).take(3))]
    found = {f"scalar/{number}/{name}": np.array(value) for number, each in enumerate(scalars) for name, value in each.items()}
    for batch in batches.dataset(0).take(1):
        found |= {f"norm/{name}": np.array(value) for name, value in step.norms_by_term(batch, 0).items()}
    found["replicas"], found["traces"] = np.array(step.replicas), np.array(step._run.experimental_get_tracing_count())
    return found | checkpoints.variables_of({**assembly.variables(system), **step.state()})


STRATEGIES: list = []

if __name__ == "__main__":
    folder, out, kind, *modes = sys.argv[1:]
    for mode in modes:
        np.savez(f"{out}.{mode}.npz", **three_steps(Path(folder), kind, mode))
