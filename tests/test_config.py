"""The tasks' fixed settings, and how a user's own task is described."""

import pytest

from hcl_tf import config
from hcl_tf.errors import UserError


@pytest.mark.parametrize(
    ("name", "language", "length", "keep", "sizes"),
    [
        ("qqp", "en", 20, "head", (40_441, 2_254, 2_254)),
        ("douban", "zh", 100, "tail", (218_039, 10_000, 10_000)),
        ("rocstories", "en", 100, "head", None),
    ],
)
def test_the_papers_tasks_have_the_papers_settings(name, language, length, keep, sizes):
    task = config.resolve_task(name)
    assert (task.name, task.language, task.source_length, task.source_keep, task.sizes) == (name, language, length, keep, sizes)
    assert task.sample.is_file()


def test_decoding_steps_are_the_papers():
    assert (config.TARGET_MINIMUM, config.TARGET_LENGTH) == (5, 20)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("asked", "lengths"), [((), (100, 20)), ((30,), (30, 20)), ((1,), (1, 20)), ((None, 60), (100, 60)), ((30, 1), (30, 1))]
)
def test_a_custom_task_takes_language_and_lengths(language, asked, lengths):
    task = config.resolve_task("custom", language, *asked)
    assert (task.name, task.language, task.source_length, task.target_length, task.sizes) == ("custom", language, *lengths, None)


def test_a_manifest_has_each_length_once():
    described = config.resolve_task("custom", "en", 30, 60).described()
    assert described["target_length"] == 60
    assert described["task"]["source_length"] == 30
    assert "target_length" not in described["task"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("custom",), "--lang"),
        (("custom", None, 30), "--lang"),
        (("qqp", "en"), "--lang"),
        (("douban", None, 30), "--source_length"),
        (("qqp", None, None, 30), "--target_length"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        config.resolve_task(*arguments)
