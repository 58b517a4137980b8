"""Training steps on one device and on two, in a process of its own, because a CPU is split into devices before TensorFlow starts.

python -m system_toolkit.replicas FOLDER OUT MODEL...: OUT.MODEL.MODE.npz gets scalars, moments and weights of three steps, or
OUT.MODEL.txt what a system died of.
"""

import os
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    from hcl_tf import cli

    cli.quieten_libraries()
    cli.import_tensorflow()

import numpy as np
import tensorflow as tf

import hcl_tf
from hcl_tf.models import registry
from hcl_tf.training import checkpoints
from hcl_tf.training.step import TrainStep
from system_toolkit import broken_toys
from system_toolkit.breach import Breach
from system_toolkit.kit import ROWS, Kit

HELPERS = Path(__file__).parents[1]
MODES, STEPS, DEVICES = ("two", "one"), 3, 2


def steps_of(folder: Path, model: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What three steps on two devices leave, and what those on one."""
    toys = model in broken_toys.TOYS
    models = tuple(broken_toys.DIVIDED) if toys else tuple(name for name in registry.SYSTEMS if registry.class_of(name).is_trained)
    place = Path(_all_of(folder, models).name)
    if (place / f"{model}.txt").exists():
        raise Breach("process", (place / f"{model}.txt").read_text(encoding="utf-8")[-600:])
    return tuple(dict(np.load(place / f"{model}.{mode}.npz")) for mode in MODES)


@cache
def _all_of(folder: Path, models: tuple[str, ...]) -> tempfile.TemporaryDirectory:
    """One process for all of some systems: it takes longer to start than three steps do."""
    place = tempfile.TemporaryDirectory()
    paths = os.pathsep.join(map(str, (Path(hcl_tf.__file__).parents[1], HELPERS, HELPERS.parent)))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "system_toolkit.replicas", str(folder), place.name, *models]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Breach("process", done.stderr[-600:])
    return place


def _steps(kit: Kit, strategy: tf.distribute.Strategy | None) -> dict[str, np.ndarray]:
    kit = kit.divisible
    if strategy and kit.facts.divided:
        kit = kit.changed(micro_batch=len(ROWS) // DEVICES)
    with strategy.scope() if strategy else tf.device(None):
        system = kit.new()
        step = TrainStep(system, system.settings, strategy, compiled=False)
    system.before_epoch(0, kit.texts)
    found = {"replicas": np.array(step.replicas)}
    for number, batch in enumerate(kit.batches(len(ROWS)).dataset(0).take(STEPS)):
        if number in system.phases():
            system.begin_phase()
        found |= {f"scalar/{number}/{name}": np.array(value) for name, value in step(batch, number).items()}
    return found | checkpoints.variables_of(step.state())


def main(folder: Path, out: Path, models: list[str]) -> None:
    """Every system on both; what one dies of does not stop the others."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    strategy = tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    with broken_toys.registered():
        for model in models:
            try:
                kit = Kit(folder, model)
                for mode in MODES:
                    np.savez(out / f"{model}.{mode}.npz", **_steps(kit, strategy if mode == "two" else None))
            except Exception:
                (out / f"{model}.txt").write_text(traceback.format_exc(), encoding="utf-8")


if __name__ == "__main__":
    folder, out, *models = sys.argv[1:]
    main(Path(folder), Path(out), models)
