"""The tokenisation: what it splits, and that spacing, case and accents make no difference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bert.tokenization_bert import BasicTokenizer

from hcl_tf.data.tokenizers.words import TOKENISATION, vocabulary, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What's the BEST T-shirt?!", ["what", "'", "s", "the", "best", "t", "-", "shirt", "?", "!"]),
        ("what ' s the best t - shirt ? !", ["what", "'", "s", "the", "best", "t", "-", "shirt", "?", "!"]),
        ("Café\u00a0naïve\t3.5\n$5", ["cafe", "naive", "3", ".", "5", "$", "5"]),
        ("", []),
        (" \n ", []),
        ("...", [".", ".", "."]),
    ],
)
def test_english(text, expected):
    assert words(text, "en") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我爱iPhone12，真的！", ["我", "爱", "iphone12", "，", "真", "的", "！"]),
        ("我 爱 猫", ["我", "爱", "猫"]),
        ("OK\n好", ["ok", "好"]),
        ("", []),
    ],
)
def test_chinese_characters_alone_and_latin_runs_whole(text, expected):
    assert words(text, "zh") == expected


def test_only_in_chinese_are_ideographs_split():
    assert (words("我爱ab", "zh"), words("我爱 ab", "en")) == (["我", "爱", "ab"], ["我爱", "ab"])


# Where Python's and the library's Unicode tables differ in age, they may disagree: so Latin and common Chinese only.
TEXT = st.text(st.one_of(st.characters(max_codepoint=0x17F), st.sampled_from("我爱你猫狗，。！？「」…—")), max_size=40)


@settings(max_examples=200, deadline=None)
@given(TEXT, st.sampled_from(["en", "zh"]))
def test_it_is_berts_basic_tokenisation(text, language):
    assert words(text, language) == BasicTokenizer(do_lower_case=True, tokenize_chinese_chars=language == "zh").tokenize(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["en", "zh"]))
def test_splitting_what_was_split_changes_nothing(text, language):
    found = words(text, language)
    assert all(word and not any(character.isspace() for character in word) for word in found)
    assert words(" ".join(found), language) == found


def test_the_vocabulary_is_all_words_once():
    assert vocabulary(["A cat.", "a Dog"], "en") == {"a", "cat", ".", "dog"}
    assert vocabulary(["爱ab", "爱"], "zh") == {"爱", "ab"}


def test_names_say_what_was_done():
    assert set(TOKENISATION) == {"en", "zh"}
    assert TOKENISATION["en"].startswith("tok:bert-basic-words-")
    assert "case:lc" in TOKENISATION["en"]
    assert TOKENISATION["zh"].startswith("tok:bert-basic-chars-")
