"""Texts and keywords as a user gives them."""

import numpy as np
import pytest

from hcl_tf.errors import UserError
from hcl_tf.serving.arguments import as_lists, line

TWO = ["one text", "another"]


@pytest.mark.parametrize(
    ("texts", "keywords", "wanted"),
    [
        ("a text", None, (["a text"], None, True)),
        ("a text", ["diet"], (["a text"], [["diet"]], True)),
        ("a text", [], (["a text"], [[]], True)),
        (["a text"], [None], (["a text"], [None], False)),
        (tuple(TWO), (("belly", "fat"), None), (TWO, [["belly", "fat"], None], False)),
        (iter(TWO), None, (TWO, None, False)),
        (np.array(TWO), None, (TWO, None, False)),
    ],
    ids=["one", "one with keywords", "one without", "list", "tuples", "iterator", "array"],
)
def test_texts_and_keywords_become_lists(texts, keywords, wanted):
    assert as_lists(texts, keywords) == wanted


@pytest.mark.parametrize(
    ("texts", "keywords", "message"),
    [
        ([], None, "^sources: the list is empty"),
        (7, None, "^sources: a string or a list of strings is expected, not int"),
        (b"text", None, "not bytes"),
        ({"a": 1}, None, "not dict"),
        (["a text", 7], None, r"^sources\[1\]: a string is expected, not int"),
        (["a" * 1_000_001], None, r"^sources\[0\]: over 1,000,000 characters"),
        (TWO, [["diet"]], "^keywords: 1 for 2 texts; a list of keywords for each text is expected"),
        (["a text"], "diet", "^keywords: a list of keywords for each text"),
        ("a text", "diet", r"^keywords: 'diet' is no list; a list of keywords is expected, such as \['belly', 'fat'\]"),
        (TWO, ["belly", "fat"], r"^keywords\[0\]: 'belly' is no list; a list of keywords"),
        (TWO, [None, 3], r"^keywords\[1\]: 3 is no list"),
        ("a text", [["diet"]], r"^keywords: \['diet'\] is no string; a list of keywords is expected"),
    ],
)
def test_what_is_neither_is_refused_by_name_and_place(texts, keywords, message):
    with pytest.raises(UserError, match=message):
        as_lists(texts, keywords, "sources")


def test_turns_stand_in_one_line():
    assert line("How are you?\nFine.") == "How are you?\tFine."
