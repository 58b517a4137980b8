"""A checkpoint gives back exactly what was saved, or is refused; a killed process costs at most what it was saving."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.files.whole_file import write_whole
from hcl_tf.training.checkpoints import DTYPES, RECORD, VARIABLES, Checkpoints, assign, variables_of

PACKAGE = str(Path(hcl_tf.__file__).parents[1])
PLAIN = [dtype for name, dtype in DTYPES.items() if name != "BF16"]
ARRAYS = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.int64(7), "mask": np.array([True, False]), "none": np.zeros((0, 3))}
STATE = {"epoch": 2, "batch": 17, "best": 1 / 3, "worst": math.inf, "notes": ["说", None, True], "deep": {"a": [1, {"b": -0.0}]}}

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


def same_arrays(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        array = np.asarray(array)
        assert (found[name].dtype, found[name].shape) == (array.dtype.newbyteorder("="), array.shape)
        assert found[name].tobytes() == array.astype(found[name].dtype, copy=False).tobytes()  # NaN's bits too


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def three(folder: Path) -> Checkpoints:
    """Steps 1, 2, 3 and best_loss, all kept."""
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, ARRAYS, STATE | {"epoch": step})
    checkpoints.save_best("best_loss", 2, ARRAYS, STATE)
    return checkpoints


def flip(path: Path, place: int, bits: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= bits
    path.write_bytes(data)


# --- what is saved comes back


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
        st.sampled_from(PLAIN).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))),
        max_size=5,
    ),
    st.integers(0, 10**10),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_arrays_come_back_bit_for_bit(arrays, step):
    with tempfile.TemporaryDirectory() as folder:
        place = Checkpoints(folder).save(step, arrays, {})
        found = Checkpoints(folder).newest()
        same_arrays(load_file(place / VARIABLES), arrays)  # the library's own reader agrees that it is its format
    assert found.step == step
    same_arrays(found.arrays, arrays)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3),
        np.arange(24).reshape(2, 3, 4).T,
        np.arange(10, dtype=np.int32)[::-2],
        np.arange(4, dtype=">f4"),
        np.float16(0.1),
        np.array(True),
        np.array([np.nan, np.inf, -0.0], np.float16),
    ],
    ids=["bfloat16", "transposed", "strided", "big-endian", "scalar", "0-d", "not finite"],
)
def test_unusual_arrays_come_back(tmp_path, array):
    Checkpoints(tmp_path).save(1, {"x": array}, {})
    same_arrays(Checkpoints(tmp_path).newest().arrays, {"x": array})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text().filter(lambda key: key != "$float"), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "$float"), JSON, max_size=4))
@settings(max_examples=60, deadline=None)
def test_state_comes_back_exactly(state):
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(folder).save(3, {}, state)
        found = Checkpoints(folder).newest().state
    assert repr(sorted_deep(found)) == repr(sorted_deep(state))  # repr tells -0.0 from 0.0, 1 from 1.0 and True


def sorted_deep(value):
    if isinstance(value, dict):
        return {key: sorted_deep(value[key]) for key in sorted(value)}
    return [sorted_deep(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_json_is_standard_and_one_line_whatever_the_values(value):
    text = to_json(value)
    assert b"\n" not in text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not standard JSON"))


def test_json_of_what_json_lacks():
    assert math.isnan(from_json(to_json({"x": math.nan}))["x"])
    assert from_json(to_json([math.inf, -math.inf, (1, 2), np.float32(0.1), np.int64(3)])) == [
        math.inf, -math.inf, [1, 2], float(np.float32(0.1)), 3,
    ]  # fmt: skip
    assert from_json(to_json("half a pair \ud800")) == "half a pair \ud800"
    assert to_json({"b": 1, "a": "说"}) == '{"a": "说", "b": 1}'.encode()
    for data in (b"NaN", b"[Infinity]", b"{", b"", b"\xff", b'{"$float": "x"}', b'{"$float": [1]}'):
        with pytest.raises(ValueError):
            from_json(data)


@pytest.mark.parametrize("state", [{1: 2}, {"a": {"$float": 1}}, {"a": {3}}, {"a": b"x"}, {"a": np.zeros(2)}])
def test_a_state_that_json_can_not_hold_is_refused_before_anything_is_written(tmp_path, state):
    with pytest.raises((ValueError, TypeError)):
        Checkpoints(tmp_path / "c").save(1, ARRAYS, state)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "arrays", [{"x": np.array(["text"])}, {"x": np.array([None])}, {"x": np.zeros(2, np.complex64)}, {"__metadata__": np.zeros(2)}]
)
def test_an_array_that_can_not_be_kept_is_refused_before_anything_is_written(tmp_path, arrays):
    with pytest.raises(ValueError, match=next(iter(arrays))):
        Checkpoints(tmp_path / "c").save(1, arrays, {})
    assert not (tmp_path / "c").exists()


def test_equal_states_give_equal_bytes(tmp_path):
    one = Checkpoints(tmp_path / "1").save(5, ARRAYS, STATE)
    two = Checkpoints(tmp_path / "2").save(5, dict(reversed(ARRAYS.items())), dict(reversed(STATE.items())))
    assert names(one) == [RECORD, VARIABLES]
    for name in names(one):
        assert (one / name).read_bytes() == (two / name).read_bytes()


# --- which are kept


@given(st.integers(1, 4), st.lists(st.integers(0, 30), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_last_saved_are_kept_and_no_later_step(keep, steps):
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder, keep)
        expected = set()
        for number, step in enumerate(steps):
            checkpoints.save(step, {"x": np.int32(number)}, {})
            expected = set(sorted({other for other in expected if other < step} | {step})[-keep:])
            assert names(Path(folder)) == [f"step-{other:08d}" for other in sorted(expected)]
            found = checkpoints.newest()
            assert (found.step, found.arrays["x"]) == (step, number)


def test_best_checkpoints_stand_apart(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": np.int32(step)}, {})
        if step < 3:
            checkpoints.save_best("best_loss", step, {"x": np.int32(-step)}, {"loss": 1 / step})
        checkpoints.save_best("best_nll", 10 - step, {"x": np.int32(step)}, {})  # a later best may be of an earlier step
    assert names(tmp_path) == ["best_loss", "best_nll", "step-00000003"]
    best = checkpoints.read("best_loss")
    assert (best.step, best.arrays["x"], best.state) == (2, -2, {"loss": 0.5})
    assert checkpoints.read("best_nll").step == 7
    assert checkpoints.read("step-00000003").arrays["x"] == 3


@pytest.mark.parametrize("name", ["step-00000001", ".x", "a/b", "", "Best", "../x"])
def test_a_name_that_could_be_mistaken_is_refused(tmp_path, name):
    with pytest.raises(ValueError):
        Checkpoints(tmp_path).save_best(name, 1, {}, {})
    assert names(tmp_path) == []


def test_a_negative_step_and_keeping_none_are_refused(tmp_path):
    with pytest.raises(ValueError):
        Checkpoints(tmp_path).save(-1, {}, {})
    with pytest.raises(ValueError):
        Checkpoints(tmp_path, keep=0)


def test_no_checkpoint(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        assert Checkpoints(folder).newest() is None
        with pytest.raises(UserError, match=r"no checkpoint 'best_loss'; there are: none"):
            Checkpoints(folder).read("best_loss")
    Checkpoints(tmp_path).save(1, {}, {})
    with pytest.raises(UserError, match=r"no checkpoint 'best_loss'; there are: step-00000001"):
        Checkpoints(tmp_path).read("best_loss")


# --- damage


@given(st.sampled_from([VARIABLES, RECORD]), st.integers(0, 10**6), st.integers(1, 255), st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_is_seen(module_folder, name, place, bits, data):
    target = data.draw(st.sampled_from(["step-00000003", "best_loss"]))
    path = module_folder / target / name
    before = path.read_bytes()
    try:
        flip(path, place, bits)
        with pytest.raises(UserError, match=f"{target}/{name}: .*restore"):
            Checkpoints(module_folder).read(target)
        found = Checkpoints(module_folder).newest()
        assert (found.step, found.state["epoch"]) == ((2, 2) if target.startswith("step") else (3, 3))
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    three(folder)
    return folder


@pytest.mark.parametrize("harm", ["missing", "truncated", "empty", "longer", "a folder", "another step's"])
@pytest.mark.parametrize("name", [VARIABLES, RECORD])
def test_a_damaged_newest_is_named_and_the_one_before_is_used(tmp_path, capsys, name, harm):
    checkpoints = three(tmp_path / "run")
    path = tmp_path / "run" / "step-00000003" / name
    data = path.read_bytes()
    path.unlink()
    if harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "empty":
        path.touch()
    elif harm == "longer":
        path.write_bytes(data + b"\n")
    elif harm == "a folder":
        path.mkdir()
    elif harm == "another step's":
        if name == VARIABLES:  # of the same size, so that only its content tells
            other = Checkpoints(tmp_path / "other").save(3, ARRAYS | {"n": np.int64(8)}, {})
            assert len((other / name).read_bytes()) == len(data)
            shutil.copy(other / name, path)
        else:
            shutil.copy(tmp_path / "run" / "step-00000002" / name, path)
    found = checkpoints.newest()
    assert (found.step, found.state["epoch"]) == (2, 2)
    out = capsys.readouterr().out
    assert out.startswith(f"  checkpoint refused: {path}: ")
    assert out.count("\n") == 1
    with pytest.raises(UserError, match=f"{path}: .*there are: best_loss, step-00000001, step-00000002"):
        checkpoints.read("step-00000003")


def test_when_none_is_whole_all_are_named(tmp_path, capsys):
    checkpoints = three(tmp_path)
    for step in (1, 2, 3):
        flip(tmp_path / f"step-0000000{step}" / VARIABLES, 50, 1)
    with pytest.raises(UserError, match=r"no checkpoint is whole \(step-00000001, step-00000002, step-00000003\); .*--run_dir"):
        checkpoints.newest()
    assert capsys.readouterr().out.count("SHA-256") == 3


def test_a_damaged_later_checkpoint_goes_when_an_earlier_step_is_saved(tmp_path):
    checkpoints = three(tmp_path)
    (tmp_path / "step-00000003" / RECORD).unlink()
    assert checkpoints.newest().step == 2
    checkpoints.save(2, ARRAYS, {"again": True})
    assert names(tmp_path) == ["best_loss", "step-00000001", "step-00000002"]
    assert checkpoints.newest().state == {"again": True}


def test_a_record_of_another_format_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hcl_tf.training.checkpoints.FORMAT", 2)
    Checkpoints(tmp_path).save(1, {}, {})
    monkeypatch.undo()
    with pytest.raises(UserError, match="no checkpoint is whole"):
        Checkpoints(tmp_path).newest()
    assert "format 2, but this version of hcl_tf reads format 1" in capsys.readouterr().out


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path}/file/c/step-00000001: can't be written"):
        Checkpoints(tmp_path / "file" / "c").save(1, {}, {})


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


# --- killed processes


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


def test_write_whole_replaces_or_leaves(tmp_path):
    path = tmp_path / "sub" / "f"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["f"]
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{tmp_path}/folder: can't be written"):
        write_whole(tmp_path / "folder", b"three")
    assert names(tmp_path) == ["folder", "sub"]


# --- TensorFlow's variables


def model_variables() -> dict[str, tf.Variable]:
    return {
        "kernel": tf.Variable(tf.random.normal([3, 4])),
        "half": tf.Variable(tf.zeros([2], tf.float16)),
        "brain": tf.Variable(tf.ones([2], tf.bfloat16)),
        "count": tf.Variable(5, dtype=tf.int64),
        "flag": tf.Variable(True),
        "empty": tf.Variable(tf.zeros([0, 2])),
    }


def moved(array: np.ndarray) -> np.ndarray:
    return ~array if array.dtype == bool else array + array.dtype.type(1)


def test_variables_go_to_disk_and_back(tmp_path):
    variables = model_variables()
    saved = variables_of(variables)
    Checkpoints(tmp_path).save(1, saved, {})
    for variable in variables.values():
        variable.assign(moved(variable.numpy()))
    assert not np.array_equal(saved["kernel"], variables["kernel"].numpy())  # what was taken is a copy
    assign(variables, Checkpoints(tmp_path).newest().arrays)
    same_arrays(variables_of(variables), saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("count"), "count is missing"),
        (lambda arrays: arrays.update(other=np.zeros(1)), "other is unknown to the model"),
        (lambda arrays: arrays.update(kernel=np.zeros((4, 3), np.float32)), r"kernel is float32\[4, 3\] instead of float32\[3, 4\]"),
        (lambda arrays: arrays.update(kernel=np.zeros((3, 4))), r"kernel is float64\[3, 4\] instead of float32\[3, 4\]"),
        (lambda arrays: arrays.update(count=np.zeros(1, np.int64)), r"count is int64\[1\] instead of int64\[\]"),
        (lambda arrays: arrays.update(brain=np.ones(2, np.float16)), r"brain is float16\[2\] instead of bfloat16\[2\]"),
        (lambda arrays: arrays.clear(), "brain is missing; count is missing; .*; and 1 more"),
    ],
)
def test_arrays_that_do_not_fit_change_nothing(change, message):
    variables = model_variables()
    before = variables_of(variables)
    arrays = {name: moved(array) for name, array in before.items()}
    change(arrays)
    with pytest.raises(UserError, match=f"RUN/step does not fit the model: .*{message}; use the flags"):
        assign(variables, arrays, origin="RUN/step")
    same_arrays(variables_of(variables), before)


def test_variables_of_a_strategy_and_of_mixed_precision():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    with strategy.scope():
        layer = keras.layers.Dense(3, dtype=keras.mixed_precision.Policy("mixed_float16"))
        layer.build([None, 2])
        optimizer = keras.optimizers.Adam()
        optimizer.build(layer.trainable_variables)
    variables = {f"layer/{v.name}": v for v in layer.variables} | {f"adam/{v.name}": v for v in optimizer.variables}
    assert isinstance(layer.kernel, tf.distribute.DistributedValues) or hasattr(layer.kernel, "values")
    saved = variables_of(variables)
    assert saved["layer/kernel:0"].dtype == np.float32
    assert any(array.dtype == np.int64 and array.shape == () for array in saved.values())
    changed = {name: moved(array) for name, array in saved.items()}
    assign(variables, changed)
    same_arrays(variables_of(variables), changed)
    for replica in layer.kernel.values:
        np.testing.assert_array_equal(replica.numpy(), changed["layer/kernel:0"])
