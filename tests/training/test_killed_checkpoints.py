"""A killed process costs at most the checkpoint that it was saving; so does a full disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import hcl_tf
from hcl_tf.training.checkpoints import Checkpoints

PACKAGE = str(Path(hcl_tf.__file__).parents[1])


# One state as a function of its step, for the scripts that get killed and for the test that looks at what they left.
STATES = """
import os, signal, sys, json, shutil
from pathlib import Path
import numpy as np
from hcl_tf.training.checkpoints import Checkpoints
assert "tensorflow" not in sys.modules

def arrays(step): return {"a": np.full((40, 50), step, np.float32), "b": np.arange(step, step + 3), "c": np.float16(step)}
def state(step): return {"position": step, "loss": 1 / (step + 1)}
def same(found, step):
    assert found.step == step and found.state == state(step), (found.step, found.state, step)
    assert found.arrays.keys() == arrays(step).keys()
    for name, array in arrays(step).items(): np.testing.assert_array_equal(found.arrays[name], array, strict=True)
"""


def run_script(script: str, *words: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", STATES + script, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A limit on the size of files stands for the full disk: the system refuses the write in the same way."""
    script = """
import resource
from hcl_tf.errors import UserError
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, arrays(1), state(1))
checkpoints.save_best("best_loss", 1, arrays(1), state(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
for save in (lambda: checkpoints.save(2, arrays(2), state(2)), lambda: checkpoints.save_best("best_loss", 2, arrays(2), state(2))):
    try: save()
    except UserError as error: print(error)
same(checkpoints.newest(), 1)
same(checkpoints.read("best_loss"), 1)
"""
    process = run_script(script, tmp_path)
    out = process.communicate()[0].splitlines()
    assert process.returncode == 0
    assert [line.split(":")[0] for line in out] == [f"{tmp_path}/step-00000002", f"{tmp_path}/best_loss"]
    assert all("File too large" in line and "free space" in line for line in out)
    assert names(tmp_path) == ["best_loss", "step-00000001"]


def test_killed_at_every_file_operation(tmp_path):
    """A child is killed at its first, second, ... call that changes a file, until one gets through."""
    script = """
base, work, case = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree")
def act(checkpoints):
    if "new step" in case: checkpoints.save(3, arrays(3), state(3))
    if case == "same step": checkpoints.save(2, arrays(3), state(3))
    if "best" in case: checkpoints.save_best("best_loss", 3, arrays(3), state(3))
def child(at):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and arguments[1] is not None and "w" in str(arguments[1])):
            seen += 1
            if seen == at: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    act(Checkpoints(work))
    os._exit(0)
first = Checkpoints(base)
for step in (1, 2): first.save(step, arrays(step), state(step))
first.save_best("best_loss", 1, arrays(1), state(1))
if "second" in case:  # an earlier process was killed between the two renames of a replacement
    for name in ("best_loss", "step-00000002"): (base / name).rename(base / f".{name}.old")
results = []
for at in range(1, 1000):
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    pid = os.fork()
    if not pid: child(at)
    killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    reader = Checkpoints(work)
    found, best = reader.newest(), reader.read("best_loss")
    steps = (found.state["position"], best.state["position"])
    same(best, steps[1])
    if case != "same step": same(found, steps[0])
    else: assert found.step == 2 and (found.arrays["a"] == steps[0]).all()
    for path in work.iterdir():  # a name that can be seen is a whole checkpoint's, also while it is being removed
        if not path.name.startswith("."): reader.read(path.name)
    results.append(steps)
    # the next process goes on as if nothing had been, and tidies up
    reader.save(4, arrays(4), state(4))
    reader.save_best("best_loss", 4, arrays(4), state(4))
    same(reader.newest(), 4); same(reader.read("best_loss"), 4)
    assert sorted(os.listdir(work))[0] == "best_loss" and len(os.listdir(work)) == 3, os.listdir(work)
    if not killed: break
print(json.dumps(results))
"""
    cases = {"new step": (3, 1), "same step": (3, 1), "best": (2, 3), "second new step": (3, 1), "second best": (2, 3)}
    before = (2, 1)  # the steps of the newest and of the best; then, after the change
    for case, after in cases.items():
        process = run_script(script, tmp_path / case / "base", tmp_path / case / "work", case)
        out = process.communicate()[0]
        assert process.returncode == 0, case
        assert "refused" not in out, case
        results = [tuple(pair) for pair in json.loads(out)]
        changed = results.index(after)
        assert changed >= 3, case  # it was killed before the change, several times, ...
        assert len(results) - changed >= 3, case  # ... and after it, while it was tidying up
        assert results == [before] * changed + [after] * (len(results) - changed), case


def test_killed_at_random_moments(tmp_path, capsys):
    script = """
checkpoints = Checkpoints(sys.argv[1])
found = checkpoints.newest()
step = found.step if found else 0
while True:
    step += 1
    checkpoints.save(step, arrays(step), state(step))
    checkpoints.save_best("best_loss", step, arrays(step), state(step))
    print(step, flush=True)
"""
    space = {}
    exec(STATES.replace('assert "tensorflow" not in sys.modules', ""), space)
    reached = 0
    for seed in range(4):
        with run_script(script, tmp_path) as process:
            process.stdout.readline()
            time.sleep(random.Random(seed).uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            printed = process.stdout.read().splitlines()
        reader = Checkpoints(tmp_path)
        newest, best = reader.newest(), reader.read("best_loss")
        assert newest.step >= max([reached + 1, *map(int, printed)])
        assert newest.step - best.step in (0, 1)
        space["same"](newest, newest.step)
        space["same"](best, best.step)
        reached = newest.step
    assert "refused" not in capsys.readouterr().out


def test_a_best_checkpoint_is_read_whole_while_it_is_being_replaced(tmp_path):
    script = """
checkpoints = Checkpoints(sys.argv[1])
for step in range(1, 10**9):
    checkpoints.save_best("best_loss", step, arrays(step), state(step))
    if step == 1: print(step, flush=True)
"""
    space = {}
    exec(STATES.replace('assert "tensorflow" not in sys.modules', ""), space)
    with run_script(script, tmp_path) as process:
        try:
            process.stdout.readline()
            seen = set()
            while len(seen) < 30:
                assert process.poll() is None
                found = Checkpoints(tmp_path).read("best_loss")
                space["same"](found, found.step)
                seen.add(found.step)
        finally:
            process.kill()
