"""What TensorBoard reads back is what was written."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from toy_system import toy_settings

from hcl_tf.training.board import Board, markdown_table

ROWS = [{"source": "a | b", "keywords": "belly fat", "output": "x"}, {"source": "多吃点", "keywords": "", "output": "*y*"}]


@pytest.fixture
def events(tmp_path):
    board = Board(tmp_path / "board", toy_settings(seed=7))
    for step, value in ((10, 1.5), (20, 0.25)):
        board.scalars("train", {"nll": value, "kl": 2 * value}, step)
    board.histogram("kl_by_dimension", np.array([0.0, 0.0, 3.0]), 20)
    board.samples(ROWS, 20)
    board.close()
    return EventAccumulator(str(tmp_path / "board"), size_guidance={"tensors": 0}).Reload()


def test_curves_come_back_by_group_step_and_value(events) -> None:
    for name, factor in (("nll", 1), ("kl", 2)):
        found = events.Tensors(f"train/{name}")
        assert [event.step for event in found] == [10, 20]
        assert [float(tf.make_ndarray(event.tensor_proto)) for event in found] == [1.5 * factor, 0.25 * factor]


def test_histogram_counts_its_values(events) -> None:
    (event,) = events.Tensors("kl_by_dimension")
    assert tf.make_ndarray(event.tensor_proto)[:, 2].sum() == 3


def test_samples_are_a_table_of_texts_with_their_keywords(events) -> None:
    (event,) = events.Tensors("samples")
    assert tf.make_ndarray(event.tensor_proto).item().decode() == markdown_table(ROWS)
    assert "belly fat" in markdown_table(ROWS)


def test_settings_are_hparams(events) -> None:
    data = plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    found = data.session_start_info.hparams
    assert found["seed"].number_value == 7
    assert found["encoder"].string_value == "random:1x8"
    assert set(found) == set(toy_settings().to_dict())


def test_a_table_keeps_its_columns_whatever_the_text() -> None:
    lines = markdown_table([{"source": "a|b\\c\nd", "output": "<b>_x_ `y`"}]).split("\n")
    assert lines == ["| source | output |", "| --- | --- |", "| a\\|b\\\\c / d | &lt;b>\\_x\\_ \\`y\\` |"]


# -- going on after a kill --------------------------------------------------------------------------------------------


def steps_of(folder, tag: str = "train/nll") -> list[int]:
    """A curve's steps in order. Files that one process begins within a second are read by the number in their names: 10 before 9."""
    return sorted(event.step for event in EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload().Tensors(tag))


def write(folder, steps) -> Board:
    board = Board(folder, toy_settings())
    for step in steps:
        board.scalars("train", {"nll": float(step)}, step)
    board.flush()  # a killed process closes nothing
    return board


def resume(folder, at: int, steps) -> None:
    board = Board(folder, toy_settings())
    board.rewind(at)
    for step in steps:
        board.scalars("train", {"nll": 100.0 + step}, step)
    board.close()


def test_a_resumed_run_shows_each_step_once(tmp_path):
    write(tmp_path, range(1, 8))
    resume(tmp_path, 4, range(5, 10))
    assert steps_of(tmp_path) == list(range(1, 10))
    resume(tmp_path, 9, range(10, 12))
    assert steps_of(tmp_path) == list(range(1, 12)), "nothing was too much"
    resume(tmp_path, -1, range(1, 3))
    assert steps_of(tmp_path) == [1, 2], "no checkpoint: from the beginning"


def test_what_a_kill_left_half_written_goes(tmp_path):
    write(tmp_path, range(1, 6))
    (path,) = tmp_path.glob("events*")
    path.write_bytes(path.read_bytes()[:-7])
    resume(tmp_path, 3, range(4, 7))
    assert steps_of(tmp_path) == list(range(1, 7))


def test_files_of_earlier_steps_stay_as_they_are(tmp_path):
    write(tmp_path, range(1, 4))
    (path,) = tmp_path.glob("events*")
    before = path.read_bytes()
    Board(tmp_path, toy_settings()).rewind(3)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "a board that writes nothing makes no file"
