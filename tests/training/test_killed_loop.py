"""The loop on a toy system: stopped anywhere and taken up again, it ends with the same bytes."""

import os
import random
import signal
from pathlib import Path

import pytest
from toy_runs import Killed, Toys, kill

from hcl_tf.errors import UserError
from hcl_tf.training import checkpoints
from hcl_tf.training.run_folder import RunFolder

STOPS = (1, 3, 7, 8, 16)  # before, at and after a checkpoint; the end of an epoch; a metrics line in progress

pytestmark = pytest.mark.usefixtures("quick_environment")


def outcome(path: Path, toys: Toys) -> tuple:
    """All that two runs have to agree on, as bytes."""
    newest = checkpoints.Checkpoints(path / "checkpoints").newest()
    best = {name: checkpoints.Checkpoints(path / "checkpoints").read(name) for name in ("best_loss", "best_nll")}
    as_bytes = lambda c: (c.step, {name: array.tobytes() for name, array in c.arrays.items()}, c.state)  # noqa: E731
    now = {name: value.tobytes() for name, value in checkpoints.variables_of(toys.everything).items()}
    return as_bytes(newest), {name: as_bytes(c) for name, c in best.items()}, now, (path / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def toys(qqp_folder) -> Toys:
    return Toys(qqp_folder)


@pytest.fixture(scope="module")
def whole(toys, tmp_path_factory) -> tuple:
    """The outcome of the run that nothing interrupts."""
    path = tmp_path_factory.mktemp("whole") / "run"
    why, _ = toys.go(path)
    assert why == "steps"
    return outcome(path, toys)


@pytest.mark.parametrize("stop", STOPS)
def test_killed_anywhere_it_ends_the_same(toys, whole, tmp_path, stop) -> None:
    with pytest.raises(Killed):
        toys.go(tmp_path / "run", stop, kill)
    toys.go(tmp_path / "run")
    assert outcome(tmp_path / "run", toys) == whole


@pytest.fixture(scope="module")
def phased(qqp_folder) -> Toys:
    """Three phases: one begins at a checkpoint, one between two and within an epoch."""
    return Toys(qqp_folder, boundaries=(6, 10))


@pytest.fixture(scope="module")
def whole_in_phases(phased, tmp_path_factory) -> tuple:
    path = tmp_path_factory.mktemp("phased") / "run"
    phased.go(path)
    return outcome(path, phased)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop", [pytest.param(stop, marks=[pytest.mark.slow] if stop in (6, 10, 11) else []) for stop in (5, 6, 7, 9, 10, 11, 12)]
)
def test_killed_around_a_phase_s_beginning_it_ends_the_same(phased, whole, whole_in_phases, tmp_path, stop) -> None:
    with pytest.raises(Killed):
        phased.go(tmp_path / "run", stop, kill)
    phased.go(tmp_path / "run")
    assert outcome(tmp_path / "run", phased) == whole_in_phases
    assert whole_in_phases[2] != whole[2], "a phase changes something"


@pytest.mark.slow
def test_killed_again_and_again(toys, whole, tmp_path) -> None:
    draw, path = random.Random(5), tmp_path / "run"
    for _ in range(6):
        newest = checkpoints.Checkpoints(path / "checkpoints").newest()
        with pytest.raises(Killed):
            toys.go(path, min((newest.step if newest else 0) + draw.randint(0, 4), 16), kill)
    toys.go(path)
    assert outcome(path, toys) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (RunFolder, "append", 1), (RunFolder, "append", 5), (checkpoints.Checkpoints, "save", 1), (checkpoints.Checkpoints, "save", 3),
        (checkpoints.Checkpoints, "save_best", 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("done", [False, True])
def test_killed_while_writing_it_ends_the_same(toys, whole, tmp_path, monkeypatch, owner, method, call, done) -> None:
    """Right before and right after each kind of write: what is on disk is then a line ahead, or a checkpoint behind."""
    original, calls = getattr(owner, method), []

    def counted(*arguments):
        calls.append(None)
        if len(calls) == call and not done:
            raise Killed
        result = original(*arguments)
        if len(calls) == call:
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, method, counted)
        with pytest.raises(Killed):
            toys.go(tmp_path / "run")
    toys.go(tmp_path / "run")
    assert outcome(tmp_path / "run", toys) == whole


@pytest.mark.slow
@pytest.mark.parametrize(("number", "stop"), [(signal.SIGTERM, 0), (signal.SIGINT, 6), (signal.SIGTERM, 10)])
def test_a_signal_saves_and_the_same_command_goes_on(toys, whole, tmp_path, capsys, number, stop) -> None:
    before = signal.getsignal(number)
    why, loop = toys.go(tmp_path / "run", stop, lambda: os.kill(os.getpid(), number))
    assert why == number.name
    assert checkpoints.Checkpoints(tmp_path / "run/checkpoints").newest().step == loop.at.step == stop + 1
    assert f"{number.name}: saving" in capsys.readouterr().out
    assert signal.getsignal(number) == before, "what the loop takes over it gives back"
    why, _ = toys.go(tmp_path / "run")
    assert why == "steps"
    assert outcome(tmp_path / "run", toys)[2:] == whole[2:]
    assert f"going on from step {stop + 1} " in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_signal_leaves_at_once(toys, whole, tmp_path) -> None:
    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        toys.go(tmp_path / "run", 7, twice)
    toys.go(tmp_path / "run")
    assert outcome(tmp_path / "run", toys) == whole


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["variables.safetensors", "checkpoint.json", "missing"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(toys, whole, tmp_path, capsys, harm) -> None:
    path = tmp_path / "run"
    with pytest.raises(Killed):
        toys.go(path, 13, kill)
    newest = path / "checkpoints" / "step-00000012"
    if harm == "missing":
        (newest / "variables.safetensors").unlink()
    else:
        data = bytearray((newest / harm).read_bytes())
        data[len(data) // 2] ^= 1
        (newest / harm).write_bytes(data)
    capsys.readouterr()
    toys.go(path)
    said = capsys.readouterr().out
    assert "checkpoint refused" in said
    assert str(newest) in said
    assert "going on from step 9 " in said
    assert outcome(path, toys) == whole


def test_where_every_checkpoint_is_damaged_nothing_is_started_anew(toys, tmp_path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Killed):
        toys.go(path, 8, kill)
    for place in (path / "checkpoints").glob("step-*"):
        (place / "variables.safetensors").write_bytes(b"")
    metrics = (path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="no checkpoint is whole"):
        toys.go(path)
    assert (path / "metrics.jsonl").read_bytes() == metrics
