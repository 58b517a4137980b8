"""Kills a training again and again, and compares its end with one that was left alone, bit for bit.

  python benchmarks/kills.py --kills=100 --out=RUNS -- --task=qqp --model=hcl --preset=tiny --max_steps=200 --checkpoint_every=5
  python benchmarks/kills.py --command=hcl_tf.tune --kills=20 --out=RUNS -- --task=qqp --model=hcl --preset=tiny --max_steps=40 --trials=3
  python benchmarks/kills.py --command=hcl_tf.pretrain --kills=20 --out=RUNS -- --objective=mlm --data_dir=tfrecords/qqp --max_steps=40

SIGKILL comes at random moments of a process's life: while it starts, between two steps, inside of a checkpoint, a validation or a refresh
of the node features. A run that has come to its end is compared, and the next is killed, until there were as many kills as asked for.
What is compared, of every run in the folder: the weights of the best checkpoints and the newest, metrics.jsonl, samples.md, and the steps
in TensorBoard's files; of a study of trials its table and its best settings.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hcl_tf.files.checksums import sha256

COMMAND = flags.DEFINE_string("command", "hcl_tf.train", "What is killed; the words behind -- are its flags.")
KILLS = flags.DEFINE_integer("kills", 100, "How often.", lower_bound=1)
WITHIN = flags.DEFINE_float("within", None, "Seconds within which a kill comes; as long as the run that is left alone takes if unsaid.")
OUT = flags.DEFINE_string("out", None, "Where the runs go, a new folder.", required=True)
SEED = flags.DEFINE_integer("seed", 1, "Of the moments.")
SAME = ("metrics.jsonl", "samples.md", "trials.md", "best.flags")


def start(name: str, given: list[str]) -> subprocess.Popen:
    """Starts or goes on with a run."""
    folder = Path(OUT.value)
    place = [f"--study={folder / name}" if COMMAND.value.endswith("tune") else f"--run_dir={folder / name}"]
    place += [f"--out={folder / name}-weights"] if COMMAND.value.endswith("pretrain") else []
    words = [sys.executable, "-m", COMMAND.value, *given, *place]
    with (folder / f"{name}.log").open("a") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)


def state(folder: Path) -> dict[str, object]:
    """What the run that was left alone and a killed one have to have in common."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in SAME:
            found[str(path.relative_to(folder))] = sha256(path)
        elif path.name == "variables.safetensors" and not _is_older(path.parent):
            digest = hashlib.sha256()
            for name, array in sorted(load_file(path).items()):
                digest.update(name.encode() + array.tobytes())
            found[str(path.relative_to(folder))] = digest.hexdigest()
        elif path.name == "tensorboard":
            events = EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()
            tags = [tag for tag in events.Tags()["tensors"] if tag.startswith(("train/", "valid"))]
            found |= {f"{path.relative_to(folder)}: {tag}": [event.step for event in events.Tensors(tag)] for tag in tags}
    return found


def _is_older(checkpoint: Path) -> bool:
    """Whether it is a step's and not the newest: which of these are left depends on when a run was told to end, as it saves then."""
    return checkpoint.name.startswith("step-") and checkpoint.name != max(path.name for path in checkpoint.parent.glob("step-*"))


def size(folder: Path) -> int:
    """Bytes of metrics in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("metrics.jsonl"))


def killed(name: str, given: list[str], after: float) -> str:
    """Starts a run and kills it. Says what the process had done by then: nothing, written something, or come to its end."""
    folder = Path(OUT.value) / name
    before = size(folder)
    process = start(name, given)
    try:
        if code := process.wait(after):
            raise SystemExit(f"{name} ended by itself with exit code {code}; {name}.log says why")
        return "finished"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return "written" if size(folder) != before else "nothing"


def main(arguments: list[str]) -> None:
    """Makes the runs, and prints what was found."""
    given, draw, folder = arguments[1:], random.Random(SEED.value), Path(OUT.value)
    if folder.exists():
        raise SystemExit(f"--out={folder}: there already; choose a new folder")
    folder.mkdir(parents=True)
    began = time.monotonic()
    if code := start("alone", given).wait():
        raise SystemExit(f"the run that is left alone ended with exit code {code}; {folder / 'alone.log'} says why")
    within, alone = WITHIN.value or time.monotonic() - began, state(folder / "alone")
    kills, written, runs, faults = 0, 0, 1, []

    def compare() -> None:
        found = state(folder / f"killed-{runs}")
        differing = sorted(name for name in alone.keys() | found.keys() if alone.get(name) != found.get(name))
        faults.extend(f"killed-{runs}: {name}" for name in differing)
        print(f"killed-{runs} came to its end: {len(alone) - len(differing)} of {len(alone)} things are the same", flush=True)

    while kills < KILLS.value:
        outcome = killed(f"killed-{runs}", given, draw.uniform(0, within))
        if outcome == "finished":
            compare()
            runs += 1
            continue
        kills, written = kills + 1, written + (outcome == "written")
        print(f"kill {kills}: it had written {'more' if outcome == 'written' else 'nothing yet'}", flush=True)
    if code := start(f"killed-{runs}", given).wait():
        raise SystemExit(f"killed-{runs} ended by itself with exit code {code}; its log says why")
    compare()
    print(f"{kills} kills of {runs} runs, {written} of them after more had been written; differing: {faults or 'nothing'}")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    app.run(main)
