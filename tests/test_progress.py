"""Progress where no bar can be drawn: lines with rate and time left, and none for short work."""

import time

import pytest

from hcl_tf import progress


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.1)


def test_long_work_writes_lines_with_rate_and_time_left(capfd):
    with progress.bar("counting", 30, " sheep") as shown:
        for _ in range(30):
            time.sleep(0.02)
            shown.update(1)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("counting: ") and " sheep/s]" in line and "/30 [" in line and "<" in line for line in lines)


def test_one_slow_item_does_not_silence_it(capfd):
    for i in progress.track(range(12), "counting"):
        time.sleep(0.02 if i != 5 else 0.5)
    lines = capfd.readouterr().err.splitlines()
    assert sum(line.startswith("counting:  42% 5/12 [") for line in lines) >= 3
    assert all(line.count("counting") == 1 for line in lines)


def test_short_work_and_work_with_lines_of_its_own_write_nothing(capfd):
    assert list(progress.track(range(3), "short")) == [0, 1, 2]
    with progress.bar("silent", 10, lines=False) as shown:
        for _ in range(10):
            time.sleep(0.03)
            shown.update(1)
    assert capfd.readouterr().err == ""


def test_work_that_nobody_can_count_says_that_it_goes_on_and_ends(capfd):
    with progress.working("a library"):
        time.sleep(0.35)
    said = capfd.readouterr().err
    assert said.startswith("a library: 0 s so far\n")
    assert said.count("\n") >= 2
    time.sleep(0.2)
    assert capfd.readouterr().err == ""


def test_work_with_a_bar_in_it_is_said_once_and_goes_on_after_the_bar(capfd):
    with progress.working("all"):
        assert len([time.sleep(0.02) for _ in progress.track(range(20), "part")]) == 20
        said = capfd.readouterr().err
        assert said.startswith("part: ")
        assert "all" not in said
        time.sleep(0.25)
    assert capfd.readouterr().err.startswith("all: ")


def test_a_bar_that_was_left_behind_silences_nobody(capfd):
    assert next(iter(progress.track(range(3), "part"))) == 0
    with progress.working("all"):
        time.sleep(0.25)
    assert capfd.readouterr().err.startswith("all: ")


def test_it_ends_with_the_work_that_failed(capfd):
    with pytest.raises(ValueError, match="broken"), progress.working("a library"):
        raise ValueError("broken")
    time.sleep(0.2)
    assert capfd.readouterr().err == ""
