"""Kills a training again and again, and compares its end with one that was left alone, bit for bit.

  python benchmarks/kills.py --kills=100 --out=RUNS -- --task=qqp --model=hcl --preset=tiny --max_steps=60 --checkpoint_every=5
  python benchmarks/kills.py --command=hcl_tf.pretrain --kills=20 --out=RUNS -- --objective=mlm --data_dir=tfrecords/qqp --max_steps=40

SIGKILL comes at random moments of a process's life: while it starts, between two steps, inside of a checkpoint, a validation or a refresh
of the node features. What is compared: the weights of every checkpoint that is left, metrics.jsonl, and the steps in TensorBoard's files.
"""

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COMMAND = flags.DEFINE_string("command", "hcl_tf.train", "What is killed; the words behind -- are its flags.")
KILLS = flags.DEFINE_integer("kills", 100, "How often.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "Where the two runs go, a new folder.", required=True)
SEED = flags.DEFINE_integer("seed", 1, "Of the moments.")


def command(name: str, given: list[str]) -> list[str]:
    """The command of one of the two runs."""
    more = [f"--out={Path(OUT.value) / name}-weights"] if COMMAND.value.endswith("pretrain") else []
    return [sys.executable, "-m", COMMAND.value, *given, f"--run_dir={Path(OUT.value) / name}", *more]


def state(run: Path) -> dict[str, object]:
    """What both runs have to have in common."""
    found: dict[str, object] = {"metrics.jsonl": hashlib.sha256((run / "metrics.jsonl").read_bytes()).hexdigest()}
    for path in sorted(run.glob("checkpoints/*/variables.safetensors")):
        digest = hashlib.sha256()
        for name, array in sorted(load_file(path).items()):
            digest.update(name.encode() + array.tobytes())
        found[path.parent.name] = digest.hexdigest()
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    found |= {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"] if tag.startswith(("train/", "valid"))}
    return found


def main(arguments: list[str]) -> None:
    """Runs both, and prints what was found."""
    given, draw, folder = arguments[1:], random.Random(SEED.value), Path(OUT.value)
    if folder.exists():
        raise SystemExit(f"--out={folder}: there already; choose a new folder")
    folder.mkdir(parents=True)
    began = time.monotonic()
    with (folder / "alone.log").open("w") as log:
        subprocess.run(command("alone", given), stdout=log, stderr=subprocess.STDOUT, check=True)
    life = time.monotonic() - began
    at_start = during = 0
    for number in range(1, KILLS.value + 1):
        with (folder / "killed.log").open("a") as log:
            process = subprocess.Popen(command("killed", given), stdout=log, stderr=subprocess.STDOUT)
        steps = (folder / "killed" / "metrics.jsonl").stat().st_size if (folder / "killed" / "metrics.jsonl").exists() else 0
        time.sleep(draw.uniform(0, life))
        if process.poll() is not None:
            print(f"finished before kill {number}", flush=True)
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        grown = (folder / "killed" / "metrics.jsonl").exists() and (folder / "killed" / "metrics.jsonl").stat().st_size != steps
        at_start, during = at_start + (not grown), during + grown
        print(f"kill {number}: {'while it trained' if grown else 'before it wrote anything'}", flush=True)
    with (folder / "killed.log").open("a") as log:
        subprocess.run(command("killed", given), stdout=log, stderr=subprocess.STDOUT, check=True)
    alone, killed = state(folder / "alone"), state(folder / "killed")
    differing = sorted(name for name in alone.keys() | killed.keys() if alone.get(name) != killed.get(name))
    print(
        f"{at_start + during} kills, {during} of them after the run had written more; compared: {len(alone)} things; differing: {differing}"
    )
    if differing:
        raise SystemExit(1)


if __name__ == "__main__":
    app.run(main)
