"""White space in raw texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.corpora import examples


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("我 爱 你", "我爱你"),
        ("你 好 ， 世 界 ！", "你好，世界！"),
        ("我　爱\t你", "我爱你"),
        ("我 用 iPhone 7 打 电 话", "我用 iPhone 7 打电话"),
        ("他 说 ： “ 好 ” 。", "他说：“好”。"),
        ("等 等 …… 我", "等等……我"),
        ("a  b \n c", "a b c"),
        (" \t ", ""),
        ("Ｈｏｗ ｃａｎ ＢＭＷ １ ？", "Ｈｏｗ ｃａｎ ＢＭＷ １ ？"),  # full-width letters are words, as others are
    ],
)
def test_spaces_between_chinese_characters_go_and_others_collapse(raw, expected):
    assert examples.clean(raw) == expected


@settings(deadline=None)
@given(st.text(st.sampled_from("ab 1\t\n\u3000中文，。\u00a0"), max_size=20))
def test_cleaning_twice_changes_nothing_and_keeps_all_that_is_not_space(text):
    once = examples.clean(text)
    assert examples.clean(once) == once
    assert "".join(once.split()) == "".join(text.split())
