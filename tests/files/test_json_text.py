"""Values come back from JSON exactly, and what JSON lacks is written in JSON's own terms."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from made_values import JSON

from hcl_tf.files.json_text import from_json, to_json


@given(JSON)
def test_json_is_standard_and_one_line_whatever_the_values(value):
    text = to_json(value)
    assert b"\n" not in text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not standard JSON"))


def test_json_of_what_json_lacks():
    assert math.isnan(from_json(to_json({"x": math.nan}))["x"])
    assert from_json(to_json([math.inf, -math.inf, (1, 2), np.float32(0.1), np.int64(3)])) == [
        math.inf, -math.inf, [1, 2], float(np.float32(0.1)), 3,
    ]  # fmt: skip
    assert from_json(to_json("half a pair \ud800")) == "half a pair \ud800"
    assert to_json({"b": 1, "a": "说"}) == '{"a": "说", "b": 1}'.encode()
    for data in (b"NaN", b"[Infinity]", b"{", b"", b"\xff", b'{"$float": "x"}', b'{"$float": [1]}'):
        with pytest.raises(ValueError):
            from_json(data)
