"""Values and intervals as text."""

import pytest

from hcl_tf.evaluation.intervals import columns, entry_text, interval, number, score_text, table

WHOLE = {"value": 0.12345, "low": -0.1, "high": 0.25}
NO_INTERVAL = {"value": 2.0, "low": None, "high": None}
NOTHING = dict.fromkeys(("value", "low", "high"))


@pytest.mark.parametrize(
    ("entry", "form", "expected"),
    [
        (WHOLE, ".3f", "0.123 [-0.100, 0.250]"), (WHOLE, "+.2f", "+0.12 [-0.10, +0.25]"), (NO_INTERVAL, ".3f", "2.000"),
        (NOTHING, ".3f", ""), (None, ".3f", ""),
    ],
)  # fmt: skip
def test_an_entry_in_a_cell(entry, form, expected):
    assert entry_text(entry, form) == expected


def test_a_value_and_an_interval_alone():
    assert (number(None), number(1.0), number(1.0, "+.1f")) == ("-", "1.000", "+1.0")
    assert (interval(NOTHING), interval(WHOLE, ".1f")) == ("", "[-0.1, 0.2]")


def test_a_score_has_the_digits_of_its_scale():
    assert [score_text(value) for value in (23.456, 10.0, 9.9, 0.12345, -0.5, -12.345, 0.0)] == [
        "23.46", "10.00", "9.900", "0.123", "-0.500", "-12.35", "0.000",
    ]  # fmt: skip
    assert score_text(None) == ""


def test_columns_line_up():
    lines = [columns(entry) for entry in (WHOLE, NO_INTERVAL, NOTHING)]
    assert {len(line) for line in lines} == {29}
    assert [line.split() for line in lines] == [["0.123", "[-0.100,", "0.250]"], ["2.000"], ["-"]]


def test_a_table_has_its_columns_below_its_head():
    blank, head, first, second = table("some", {"whole": WHOLE, "no interval": NO_INTERVAL})
    assert blank == ""
    assert head.split() == ["some", "value", "95%", "interval"]
    assert head.index("value") + len("value") == first.index("0.123") + len("0.123") == second.index("2.000") + len("2.000")
    assert head.index("95%") == first.index("[")
