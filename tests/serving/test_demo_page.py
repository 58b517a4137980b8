"""What an address asks for, and the page's HTML."""

import re
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest

from hcl_tf.errors import UserError
from hcl_tf.serving import demo_page
from hcl_tf.serving.demo_page import Asked, Shown
from hcl_tf.serving.keyword_edits import Answer, Comparison, Example, prior_change

PRIORS = ((np.zeros(2), np.ones(2)), (np.array([0.0, 2.0]), np.ones(2)))
OWN, EDITED = (
    Answer(keywords, unknown, ((f"<b>{word}</b> more", -1.0), ("second", -2.5)), prior)
    for keywords, unknown, word, prior in ((("diet",), (), "one", PRIORS[0]), (("zyx",), ("zyx",), "two", PRIORS[1]))
)
EXAMPLES = [Example("first text", "first target"), Example("second text", "second target")]


def run(uses_keywords: bool = True, ordered: bool = False, compare=None) -> SimpleNamespace:
    """A run whose texts have the keywords a and b, and that takes four keywords in lower case."""

    def compared(text: str, keywords: tuple[str, ...]) -> Comparison:
        if len(keywords) > 4:
            raise UserError(f"--keywords: {len(keywords)} keywords; give fewer")
        edited = Answer(tuple(dict.fromkeys(word.lower() for word in keywords)), (), (("out", -1.0),), PRIORS[0])
        return Comparison(edited, edited, None)

    def own_keywords(text: str) -> tuple[str, ...]:
        if not text:
            raise UserError("there is no text; type one")
        return ("a", "b")

    return SimpleNamespace(
        name="a&b", model="hcl, step 6", notes=("a note",), uses_keywords=uses_keywords, ordered=ordered, language="en", most_keywords=4,
        frequent=("often",), compare=compared, own_keywords=own_keywords,
    )  # fmt: skip


def page(compared: Comparison, **options) -> str:
    one = run(**options)
    return demo_page.page([one], Shown("a text", ("zyx",), [(one, compared)]))


# -- what is asked for ------------------------------------------------------------------------------------------------


def asked(text: str = "a text", of: str = "a text", **fields) -> Asked | None:
    return demo_page.read(urlencode({"text": text, "of": demo_page.mark(of), **fields}, doseq=True), EXAMPLES)


def test_an_address_without_a_text_asks_for_an_example():
    assert demo_page.read("", EXAMPLES) == Asked("first text")
    assert demo_page.read("example=1", EXAMPLES) == Asked("second text")
    assert demo_page.read("example=2", EXAMPLES) == Asked("first text"), "the examples go round"
    for bad in ("-1", "x", "9" * 5000, ""):
        assert demo_page.read(f"example={bad}", EXAMPLES) == Asked("first text")
    assert demo_page.read("", []) is None


def test_keywords_stay_with_their_text():
    assert asked(keyword=["c", "d"]) == Asked("a text", ("c", "d"))
    assert asked() == Asked("a text", ()), "all keywords were removed"
    assert asked(of="another text", keyword=["c"]) == Asked("a text"), "a text that is new has its own"
    assert asked(own="1", keyword=["c"]) == Asked("a text")
    assert asked("one\r\ntwo ", of=" one\u2028two", keyword=["c"]) == Asked("one\ntwo", ("c",)), "browsers send other line ends"


def test_keywords_are_added_and_removed():
    assert asked(keyword=["c"], add="d, e，f") == Asked("a text", ("c",), ("d", "e", "f"))
    assert asked(keyword=["c, d", "e"], remove="c, d", add="") == Asked("a text", ("c, d", "e"), (), "c, d")


@pytest.mark.parametrize(
    ("typed", "found"), [("", ()), (" , ", ()), ("diet, belly fat", ("diet", "belly fat")), ("减肥，饮食、水", ("减肥", "饮食", "水"))]
)
def test_keywords_are_separated_by_commas(typed, found):
    assert demo_page.split(typed) == found


# -- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "keywords", "focus"),
    [
        (Asked("t"), ("a", "b"), -1),
        (Asked("t", ()), (), -1),
        (Asked("t", ("a", "b"), ("C",)), ("a", "b", "c"), None),
        (Asked("t", None, ("c",)), ("a", "b", "c"), None),
        (Asked("t", ("a", "b", "c"), (), "b"), ("a", "c"), 1),
        (Asked("t", ("a", "b"), (), "b"), ("a",), 0),
        (Asked("t", ("a",), (), "a"), (), None),
        (Asked("t", ("a",), (), "gone"), ("a",), -1),
    ],
    ids=["own", "none", "added", "added to own", "removed", "last removed", "only one removed", "not there"],
)
def test_chips_are_the_keywords_that_were_answered_and_a_keyboard_goes_on_beside_the_edit(given, keywords, focus):
    shown = demo_page.answer([run()], given)
    assert (shown.keywords, shown.focus, shown.problem) == (keywords, focus, "")
    assert len(shown.compared) == 1


def test_what_can_not_be_added_leaves_the_rest_and_is_said_without_the_flag_that_a_page_does_not_have():
    shown = demo_page.answer([run()], Asked("t", ("a", "b"), ("c", "d", "e")))
    assert (shown.keywords, shown.problem) == (("a", "b"), "5 keywords; give fewer")
    assert shown.compared[0][1].edited.keywords == ("a", "b")
    assert demo_page.answer([run()], Asked("", None, ("c",))).problem == "there is no text; type one"
    assert demo_page.answer([run()], None) == Shown("")


def test_own_keywords_are_those_of_a_run_that_uses_keywords():
    blind = run(uses_keywords=False)
    blind.own_keywords = lambda text: pytest.fail("asked for keywords that it does not use")
    assert demo_page.answer([blind, run()], Asked("t")).keywords == ("a", "b")


# -- the page ---------------------------------------------------------------------------------------------------------


def test_both_outputs_are_shown_and_nothing_of_them_is_markup():
    html = page(Comparison(OWN, EDITED, prior_change(*PRIORS)))
    assert "&lt;b&gt;one&lt;/b&gt; more" in html
    assert "&lt;b&gt;<mark>two</mark>&lt;/b&gt; more" in html, "what is new is marked"
    assert html.count("score -1.00") == html.count("score -2.50") == 2
    assert "<b>" not in html
    assert "a&amp;b" in html
    assert "counted as unknown: zyx" in html
    assert "2.00 standard deviations in dimension 2" in html
    assert html.count("2.000 nats") == 2  # |delta mu|^2 / 2 both ways
    assert html.split('class="bars"')[1].split("</svg>")[0].count("<rect") == 2
    assert "did not change the output" not in html


def test_an_edit_without_effect_is_called_that():
    same = Answer(("zyx",), (), OWN.beams, PRIORS[0])
    html = page(Comparison(OWN, same, prior_change(PRIORS[0], PRIORS[0])))
    assert "The edit did not change the output." in html
    assert "It hardly moved" in html
    assert "<mark>" not in html


def test_before_an_edit_there_is_one_answer():
    html = page(Comparison(OWN, OWN, prior_change(PRIORS[0], PRIORS[0])))
    assert "Nothing is edited yet" in html
    assert html.count("score -1.00") == 1
    assert 'class="bars"' not in html


def test_a_system_without_keywords_shows_its_output_once_and_says_so():
    html = page(Comparison(OWN, OWN, None), uses_keywords=False)
    assert "does not use keywords" in html
    assert html.count("&lt;b&gt;one") == html.count("score -1.00") == 1
    assert "<svg" not in html


def test_an_example_is_said_to_be_one_and_the_next_is_linked():
    one = run()
    html = demo_page.page([one], Shown("second text"), EXAMPLES)
    assert '<q lang="en">second target</q>' in html
    assert 'href="/?example=0"' in html
    typed = demo_page.page([one], Shown("typed"), EXAMPLES)
    assert "test split" not in typed
    assert 'href="/?example=0"' in typed
    assert "example=" not in demo_page.page([one], Shown(""))


def test_the_form_holds_what_the_next_address_needs():
    html = demo_page.page([run()], Shown("\n<t>", ("c, d", '"'), focus=1))
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))
    assert fields == {"of": demo_page.mark("\n<t>"), "keyword": "&#34;"}
    assert 'name="remove" value="c, d"' in html
    assert re.search(r'value="&#34;" autofocus', html)
    assert html.count("autofocus") == 1
    assert html.index('id="answer"') < html.index('class="chip"'), "Enter in a field presses the first button: no chip"
    assert "\n\n&lt;t&gt;</textarea>" in html, "a browser drops the first line end"


def test_new_words_are_found_in_both_languages():
    assert demo_page.changed_words("how can i run", "how do i run") == [("how ", False), ("do", True), (" i run", False)]
    assert demo_page.changed_words("我不去", "我想去") == [("我", False), ("想", True), ("去", False)]
    assert demo_page.changed_words("", "a b") == [("a b", True)]
    assert demo_page.changed_words("a b", "b") == [("b", False)]


def test_bars_are_as_high_as_their_values():
    sides, ticks = demo_page.bars(np.array([0.0, 1.0, 4.0]))
    assert [float(side["height"][:-1]) for side in sides] == [0.0, 25.0, 100.0]
    assert [float(side["y"][:-1]) for side in sides] == [100.0, 75.0, 0.0]
    assert ticks == [("100.000%", "0"), ("75.000%", "1"), ("0.000%", "4.0")]
    sides, ticks = demo_page.bars(np.array([0.5]))
    assert sides[0]["height"] == "50.000%"
    assert ticks == [("100.000%", "0"), ("0.000%", "1")], "one standard deviation is always in sight"
