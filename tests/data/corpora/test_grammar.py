"""The grammar of the generated samples: it reads exactly the texts that it writes, which are listed here by other means."""

import random
import re
from itertools import permutations, product

import pytest

from hcl_tf.config import TASKS
from hcl_tf.data.corpora import grammar
from hcl_tf.data.corpora.grammar import Group, of_task

TOY = """
tale:
  words:
    pet: [cat | kitty, dog]
    hero(name their): [Anna/her, Mei/her, Omar/his]
  begin:
    - - "{hero} lost {hero.their} {pet}."
      - The {pet} left {hero}.
  moves:
    found:
      last: ["It slept."]
      target: ["{hero} found the {pet}."]
    gone:
      last: ["It ran.", "It swam."]
      target: ["{hero} wept for {hero.their} {pet}."]
question:
  words:
    fruit: [plum | damson]
  moves:
    price: ["What is a {fruit}?", "Tell me what a {fruit} is."]
"""
PETS, HEROES = {"cat": 0, "kitty": 0, "dog": 1}, {"Anna": ("her", 0), "Mei": ("her", 1), "Omar": ("his", 2)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("grammar") / "toy.yaml"
    path.write_text(TOY)
    return grammar.read(path)


def sources() -> dict[str, tuple]:
    """Every source of the tale, by loops: text -> move, hero's and pet's number."""
    found = {}
    for (pet, of_pet), (hero, (their, of_hero)) in product(PETS.items(), HEROES.items()):
        for first in (f"{hero} lost {their} {pet}.", f"The {pet} left {hero}."):
            for last, move in (("It slept.", "found"), ("It ran.", "gone"), ("It swam.", "gone")):
                found[f"{first}\n{last}"] = (move, of_hero, of_pet)
    return found


def targets() -> dict[str, tuple]:
    found = {}
    for (pet, of_pet), (hero, (their, of_hero)) in product(PETS.items(), HEROES.items()):
        found[f"{hero} found the {pet}."] = ("found", of_hero, of_pet)
        found[f"{hero} wept for {their} {pet}."] = ("gone", of_hero, of_pet)
    return found


@pytest.mark.parametrize(("role", "texts"), [("source", sources()), ("target", targets())])
def test_every_text_of_a_grammar_is_read_as_what_it_means(toy, role, texts):
    for text, (move, hero, pet) in texts.items():
        (reading,) = toy.readings(text.upper(), role)
        assert (reading.family, reading.move, reading.words) == ("tale", move, {"hero": {hero}, "pet": {pet}}), text


def test_texts_agree_where_family_move_and_words_are_the_same(toy):
    for (source, meant), (target, said) in product(sources().items(), targets().items()):
        (one,), (other,) = toy.readings(source, "source"), toy.readings(target)
        assert one.agrees(other) == other.agrees(one) == (meant == said)


@pytest.mark.parametrize("role", ["source", "target"])
def test_no_other_order_of_the_words_is_read(toy, role):
    texts = sources() if role == "source" else targets()
    known = {text.casefold() for text in texts}
    for text in list(texts)[::7]:
        words = re.findall(r"[\w.]+", text)[:6]
        for shuffled in permutations(words):
            made = " ".join(shuffled)
            assert bool(toy.readings(made, role)) == (made.casefold() in known)


@pytest.mark.parametrize(
    "broken",
    [
        "", " ", "Anna wept for his cat.", "Omar wept for her cat.", "Otto found the cat.", "Anna found the plum.", "Anna found the cat",
        "Anna found the cat. It slept.", "Anna found the the cat.", "Anna foundthe cat.", "Anna found cat.", "What is a plum.",
    ],
)  # fmt: skip
def test_a_broken_text_is_not_read(toy, broken):
    assert toy.readings(broken) == []


def test_spaces_and_case_make_no_difference(toy):
    assert toy.readings("  anna  FOUND the\tcat. ") == toy.readings("Anna found the cat.") != []


def test_wordings_of_paraphrases_are_sources_and_targets(toy):
    for text in ("What is a damson?", "Tell me what a plum is."):
        assert toy.readings(text) == toy.readings(text, "source") != []
    assert toy.topics("What is a plum?") == ["damson", "plum"]


def test_a_topic_is_the_first_slots_word_with_its_synonyms(toy):
    assert {source: toy.topics(source) for source in sources()} == {
        source: ["dog"] if pet else ["cat", "kitty"] for source, (_, _, pet) in sources().items()
    }


def test_a_group_is_written_with_its_own_words(toy):
    tale = toy.families["tale"]
    assert [dict(group.words) for group in tale.groups()] == [{"pet": p, "hero": h} for p in range(2) for h in range(3)]
    made = {
        tale.write("{hero} and {hero.their} {pet}", Group("tale", (("pet", 0), ("hero", 2))), random.Random(seed)) for seed in range(20)
    }
    assert made == {"Omar and his cat", "Omar and his kitty"}


@pytest.mark.parametrize("task", TASKS)
def test_every_text_of_a_shipped_grammar_names_all_slots_of_its_family(task):
    """Else texts of two groups, and so of two splits, could be one text."""
    for family in of_task(task).families.values():
        for texts in family.moves.values():
            for parts in texts.values():
                for chosen in product(*parts):
                    assert set(re.findall(r"\{(\w+)", "".join(chosen))) == set(family.words), chosen
