"""The page's HTML, which needs no gradio."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from hcl_tf.errors import UserError
from hcl_tf.serving import demo_page
from hcl_tf.serving.keyword_edits import Answer, Comparison, prior_change

PRIORS = ((np.zeros(2), np.ones(2)), (np.array([0.0, 2.0]), np.ones(2)))
OWN, EDITED = (
    Answer(keywords, unknown, ((f"<b>{word}</b>", -1.0), ("second", -2.5)), prior)
    for keywords, unknown, word, prior in ((("diet",), (), "one", PRIORS[0]), (("zyx",), ("zyx",), "two", PRIORS[1]))
)


def run(uses_keywords: bool = True, ordered: bool = False) -> SimpleNamespace:
    return SimpleNamespace(name="a&b", model="hcl, step 6", notes=("a note",), uses_keywords=uses_keywords, ordered=ordered)


def test_outputs_stand_side_by_side_and_nothing_of_them_is_markup():
    html = demo_page.page([(run(), Comparison(OWN, EDITED, prior_change(*PRIORS)))])
    assert re.search(r"&lt;b&gt;one&lt;/b&gt;<small>score -1.00</small></td><td>&lt;b&gt;two", html)
    assert "<b>" not in html
    assert "a&amp;b" in html
    assert "counted as unknown: zyx" in html
    assert "2.000 (dimension 2)" in html
    assert html.count("2.000 nats") == 2  # |delta mu|^2 / 2 both ways
    assert html.count("<rect") == 2


def test_a_system_without_keywords_shows_its_output_once_and_says_so():
    html = demo_page.page([(run(uses_keywords=False), Comparison(OWN, OWN, None))])
    assert "does not use keywords" in html
    assert html.count("one") == 1
    assert "<svg" not in html


def test_bars_are_as_high_as_their_values():
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([0-9.]+)"', demo_page.bars(np.array([0.0, 1.0, 4.0])))]
    assert heights == [0.0, 0.25, 1.0]
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([0-9.]+)"', demo_page.bars(np.array([0.5])))]
    assert heights == [0.5]  # one standard deviation is always in sight


@pytest.mark.parametrize(
    ("typed", "found"), [("", []), (" , ", []), ("diet, belly fat", ["diet", "belly fat"]), ("减肥，饮食、水", ["减肥", "饮食", "水"])]
)
def test_keywords_are_separated_by_commas(typed, found):
    assert demo_page.split(typed) == found


def test_a_problem_is_said_without_the_flag_that_a_page_does_not_have():
    html = demo_page.problem(UserError("--keywords: '<i>' holds no word"))
    assert "--keywords" not in html
    assert "&lt;i&gt;" in html
