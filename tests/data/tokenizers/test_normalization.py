"""The normal form of texts: what becomes of each kind of mark, and what holds for any text."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.corpora.examples import TURN_BREAK, clean
from hcl_tf.data.tokenizers import normalization
from hcl_tf.data.tokenizers.normalization import visible
from hcl_tf.data.tokenizers.words import words
from hcl_tf.errors import UserError

INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u202e\u2060\u2066\u2069\u3164\ufe0e\ufe0f\ufeff\uffa0"
FAMILY, FLAG = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\u200d\U0001f308"
# Characters that the rules are about are drawn as often as any other.
CHARACTERS = st.sampled_from(f"{INVISIBLE}\x00\x7f\x85\x9f ea\u0301\u0300ＡｚＺ０９，！我你\n{FAMILY}{FLAG}\u2764") | st.characters(
    exclude_categories=["Cs"]
)


def cleaned(text: str) -> str:
    """What readers make of a raw text of several turns."""
    return TURN_BREAK.join(turn for turn in map(clean, text.split(TURN_BREAK)) if turn)


TEXTS = st.text(CHARACTERS, max_size=30).map(cleaned)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("cof\u200bfee", "coffee"),  # zero-width space
        ("cof\u00adfee", "coffee"),  # soft hyphen
        ("\ufeffcoffee \u200e", "coffee"),  # byte order mark, direction mark
        ("\u202adelhi\u202c and \u2066goa\u2069", "delhi and goa"),  # embeddings and isolates
        ("co\u2060ffee", "coffee"),  # word joiner
        ("co\u200dffee", "coffee"),  # a joiner of nothing
        ("a \u200b b", "a b"),
        ("atom\x7f", "atom"),  # a control character
        ("cafe\u0301", "café"),
        ("e\u200b\u0301te\u0301", "été"),
        ("ＢＭＷ Ｘ５ ｃａｒ", "BMW X5 car"),
        ("我买了ｉＰｈｏｎｅ７，好！", "我买了iPhone7，好！"),  # Chinese signs stay
        ("咖\u200b啡馆", "咖啡馆"),
        ("我 \u200b你", "我你"),  # as without the mark between the two spaces
        ("\u8eca and \uf902", "\u8eca and \u8eca"),  # a compatibility ideograph
        (f"{FAMILY} dinner", f"{FAMILY} dinner"),
        ("\U0001f3f3\ufe0f\u200d\U0001f308", FLAG),
        ("love\u2764\ufe0fyou", "love\u2764you"),  # how an emoji looks is no word
        ("one\n\u200b\ntwo", "one\ntwo"),
        ("\u200b", ""),
        ("我\u302b\u200b \u302a", "我\u302a\u302b"),  # tone marks that come together stand in Unicode's order
        ("½ m² is ™ ﬁne… “so”", "½ m² is ™ ﬁne… “so”"),  # what shows and is spelt otherwise is not touched
    ],
)
def test_each_kind(raw, expected):
    assert visible(raw) == expected


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(text=TEXTS)
def test_a_normal_form_is_its_own(text):
    assert visible(visible(text)) == visible(text)


@settings(deadline=None, max_examples=300)
@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.just("\n"), max_size=40))
def test_printable_ascii_is_not_touched(text):
    assert visible(text) is text


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(text=TEXTS)
def test_what_is_left_is_composed_cleaned_and_shows_itself(text):
    found = visible(text)
    assert unicodedata.is_normalized("NFC", found)
    assert cleaned(found) == found
    assert not set(found) & set(INVISIBLE.replace("\u200d", ""))
    assert not any("\uff10" <= c <= "\uff19" or "\uff21" <= c <= "\uff3a" or "\uff41" <= c <= "\uff5a" for c in found)


@settings(deadline=None, max_examples=500)
@given(text=TEXTS)
def test_it_is_longer_only_where_unicode_has_no_composed_form(text):
    """A handful of characters (U+0958 and such) are composed only as parts."""
    shown = "".join(c for c in text if unicodedata.normalize("NFC", c) == c)
    assert len(visible(cleaned(shown))) <= len(text)
    assert len(visible(text)) <= 3 * len(text)


@settings(deadline=None, max_examples=300)
@given(word=st.text("abcdeé", min_size=2, max_size=8), mark=st.sampled_from(INVISIBLE), place=st.integers(1, 7))
def test_a_mark_within_a_word_changes_nothing_that_is_seen(word, mark, place):
    assert visible(word[:place] + mark + word[place:]) == word


@settings(deadline=None, max_examples=300)
@given(word=st.text("abcáéñçÅ", max_size=8), turn=st.sampled_from(["我你猫", "ok"]))
def test_accents_in_any_form_are_one_word(word, turn):
    forms = {visible(unicodedata.normalize(form, f"{word}{turn}")) for form in ("NFC", "NFD")}
    assert forms == {f"{word}{turn}"}


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cc"]), max_size=30).map(cleaned))
def test_words_of_scores_are_those_of_the_raw_text_where_it_is_latin(text):
    """BERT's basic tokenisation leaves accents and marks out of its own accord."""
    assert words(visible(text), "en") == words(text, "en")


def test_data_says_which_it_was_made_with():
    assert normalization.name_in({}) == "none"
    assert normalization.of({})("cof\u200bfee") == "cof\u200bfee"
    assert normalization.of({"normalization": normalization.CURRENT}) is visible
    with pytest.raises(UserError, match=r"'nfkc-7', and this version knows none, .*; use the version .*or prepare"):
        normalization.of({"normalization": "nfkc-7"})
