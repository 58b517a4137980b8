"""A checkpoint gives back exactly what was saved, or is refused."""

import math
import shutil
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_values import JSON, assert_same_arrays
from safetensors.numpy import load_file

from hcl_tf.errors import UserError
from hcl_tf.training.checkpoints import DTYPES, RECORD, VARIABLES, Checkpoints

PLAIN = [dtype for name, dtype in DTYPES.items() if name != "BF16"]
ARRAYS = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.int64(7), "mask": np.array([True, False]), "none": np.zeros((0, 3))}
STATE = {"epoch": 2, "batch": 17, "best": 1 / 3, "worst": math.inf, "notes": ["说", None, True], "deep": {"a": [1, {"b": -0.0}]}}


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
        assert_same_arrays(load_file(place / VARIABLES), arrays)  # the library's own reader agrees that it is its format
    assert found.step == step
    assert_same_arrays(found.arrays, arrays)


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
    assert_same_arrays(Checkpoints(tmp_path).newest().arrays, {"x": array})


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
