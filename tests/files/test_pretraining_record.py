"""What is said of weights that were pretrained here, and by what they are told apart."""

import json
import re
from pathlib import Path

import pytest

from hcl_tf.files import pretraining_record as record

SETTINGS = {"objective": "mlm", "layers": 4, "learning_rate": 5e-4, "micro_batch": 0, "jit_compile": "auto", "log_every": 50}
KNOWN = {"settings": SETTINGS, "data": {"data": ["aa"], "exclude": ["bb"]}, "texts": 1000, "pieces_seen": 20000}


def origin(folder: Path, weights: bytes = b"bits", **changes) -> str:
    """The description of weights with this record."""
    folder.mkdir(exist_ok=True)
    (folder / record.WEIGHTS).write_bytes(weights)
    (folder / record.RECORD).write_text(json.dumps(KNOWN | changes))
    return record.origin_of(folder)


def test_a_description_names_the_recipe_and_the_bits(tmp_path):
    said = origin(tmp_path / "one")
    assert re.fullmatch(r", equal pretraining \(mlm, 1,000 texts, 20,000 pieces seen, recipe [0-9a-f]{8}, weights [0-9a-f]{8}\)", said)
    assert said == f"{record.without_bits(said)[:-1]}, weights {record.bits_of(said)})"
    assert record.bits_of(record.without_bits(said)) == ""


COMPUTED = {"settings": SETTINGS | {"micro_batch": 8, "jit_compile": "true"}}  # in another way


@pytest.mark.parametrize("changes", [{"weights": b"others"}, COMPUTED, {"step": 7}])
def test_one_recipe_may_give_other_bits(tmp_path, changes):
    one, other = origin(tmp_path / "one"), origin(tmp_path / "other", **changes)
    assert record.without_bits(one) == record.without_bits(other)
    assert (record.bits_of(one) == record.bits_of(other)) == ("weights" not in changes)


@pytest.mark.parametrize(
    "changes", [{"settings": SETTINGS | {"learning_rate": 1e-3}}, {"data": KNOWN["data"] | {"exclude": []}}, {"data": {"data": ["cc"]}}]
)
def test_other_settings_or_texts_are_another_recipe(tmp_path, changes):
    assert record.without_bits(origin(tmp_path / "one")) != record.without_bits(origin(tmp_path / "other", **changes))


def test_weights_of_others_have_no_record(tmp_path):
    assert record.origin_of(tmp_path) == ""
    assert record.bits_of("encoder: bert-base-uncased: 12 layers") == ""
