"""Drawing and blinding: functions of the seed, fair, and undone by the key alone."""

import json
from collections import Counter

import pytest
from toy_study import SYSTEMS, toy_study

from hcl_tf.errors import UserError
from hcl_tf.studies.human_evaluation.study import KEY, draw, read_key


def test_the_same_seed_gives_the_same_key_and_another_one_another():
    assert toy_study(seed=3).to_bytes() == toy_study(seed=3).to_bytes()
    one, other = toy_study(seed=3), toy_study(seed=4)
    assert one.id != other.id
    assert [item.id for item in one.items] != [item.id for item in other.items]


def test_items_are_drawn_without_replacement_and_keep_their_outputs():
    study = toy_study(items=20, seed=2)
    places = [int(item.id.removeprefix("id-")) for item in study.items]
    assert len(set(places)) == 20
    assert places == sorted(places)
    assert [item.number for item in study.items] == list(range(1, 21))
    for place, item in zip(places, study.items, strict=True):
        assert item.source == f"source number {place}"
        assert sorted(item.systems.values()) == sorted(SYSTEMS)
        assert item.outputs == {label: f"output of program {SYSTEMS.index(name)} for {place}" for label, name in item.systems.items()}


def test_every_label_stands_for_every_system_equally_often():
    study = toy_study(items=2000)
    counts = Counter(pair for item in study.items for pair in item.systems.items())
    assert len(counts) == 16
    assert all(abs(count - 500) < 100 for count in counts.values())  # five standard deviations


def test_each_annotator_has_an_order_of_all_items():
    study = toy_study(items=20)
    assert all(sorted(order) == list(range(1, 21)) for order in study.orders)
    assert len(set(study.orders)) == 3
    more = toy_study(items=20, annotators=4)
    assert (more.items, more.orders[:3]) == (study.items, study.orders)


def test_capitals_are_shown_on_request_only():
    texts = ["What Is THIS?", "ΣΑΣ"]
    assert {text for item in toy_study(texts=texts).items for text in item.outputs.values()} == {"what is this?", "σας"}
    assert {text for item in toy_study(texts=texts, keep_case=True).items for text in item.outputs.values()} == set(texts)
    assert {item.source for item in toy_study(texts=texts, items=12).items} <= set(texts)


def test_what_no_sheet_can_carry_is_left_out():
    (text,) = {text for item in toy_study(texts=["a\x00b\ud800c\r\nd"]).items for text in item.outputs.values()}
    assert text == "a b c\nd"


def test_key_is_read_back(tmp_path):
    study = toy_study()
    (tmp_path / KEY).write_bytes(study.to_bytes())
    assert read_key(tmp_path) == study


def reseed(key: dict) -> None:
    key["seed"] = 2


def swap(key: dict) -> None:
    systems = key["items"][0]["systems"]
    systems["A"], systems["B"] = systems["B"], systems["A"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reseed, "changed since"),
        (swap, "changed since"),
        (lambda key: key.pop("orders"), "not a key file"),
        (lambda key: key["items"].append({}), "not a key file"),
    ],
)
def test_a_changed_key_is_refused(tmp_path, change, message):
    key = json.loads(toy_study().to_bytes())
    change(key)
    (tmp_path / KEY).write_text(json.dumps(key))
    with pytest.raises(UserError, match=message) as error:
        read_key(tmp_path)
    assert str(tmp_path / KEY) in str(error.value)


def test_no_key_and_a_damaged_key_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"key\.json: can't be read .*--sheets"):
        read_key(tmp_path)
    (tmp_path / KEY).write_text("{")
    with pytest.raises(UserError, match=r"key\.json: damaged"):
        read_key(tmp_path)


def test_too_few_examples_and_too_few_systems_are_refused():
    with pytest.raises(UserError, match="--items=3: there are only 2 examples"):
        draw({"a": ["x", "y"], "b": ["x", "y"]}, [{"id": "1", "source": "s"}] * 2, 3, 1, 1, False, {})
    with pytest.raises(UserError, match="--runs: 1 systems"):
        toy_study(systems=("hcl",))
