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
@pytest.mark.parametrize(("asked", "length"), [(None, 100), (30, 30), (1, 1)])
def test_a_custom_task_takes_language_and_length(language, asked, length):
    task = config.resolve_task("custom", language, asked)
    assert (task.name, task.language, task.source_length, task.sizes) == ("custom", language, length, None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("custom",), "--lang"), (("custom", None, 30), "--lang"), (("qqp", "en"), "--lang"), (("douban", None, 30), "--source_length")],
)
def test_settings_that_do_not_fit_the_task_are_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        config.resolve_task(*arguments)
