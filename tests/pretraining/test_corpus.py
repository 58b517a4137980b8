"""Which texts are read: distinct ones of the training split, without those that a held-out split may not share with it."""

import itertools
import json
from pathlib import Path

import pytest
from conftest import prepare_sample

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.corpora.qqp import text_key
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.pretraining.corpus import Corpus, collect


def texts_of(folder, *splits: str) -> dict[tuple[int, ...], str]:
    data = PreparedData(folder)
    return {
        tuple(getattr(record, role).ids): text_key(getattr(record, role).normal)
        for split in splits for record in data.records(split) for role in ROLES if getattr(record, role).ids
    }  # fmt: skip


def pieces(texts) -> set[tuple[int, ...]]:
    return {tuple(texts[i].tolist()) for i in range(len(texts))}


@pytest.mark.slow
def test_training_texts_count_once_and_held_out_ones_are_none_of_them(qqp_folder):
    found = collect([qqp_folder, qqp_folder], [])
    train, held_out = texts_of(qqp_folder, "train"), texts_of(qqp_folder, "validation")
    assert pieces(found.train) == set(train)
    assert len(found.train) == len(train)
    assert pieces(found.held_out) == set(held_out) - set(train)
    assert found.excluded == 0
    assert found.language == "en"


@pytest.fixture(scope="module")
def chained(tmp_path_factory, qqp_folder) -> list[Path]:
    """Two divisions of one corpus, in which questions that mean the same are joined by pairs of different splits."""
    place = tmp_path_factory.mktemp("chained")
    words = ("how", "why", "when", "where")
    lines = [
        {"source": f"{first} is {n} bought", "target": f"{second} is {n} bought", "negative": f"who is {n} sold"}
        for n in range(100, 160) for first, second in itertools.pairwise(words)
    ]  # fmt: skip
    (place / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    vocabulary = str(qqp_folder / "vocab.txt")
    return [prepare_sample(place / str(seed), raw=place / "raw.jsonl", vocab=vocabulary, seed=seed) for seed in (1, 2)]


def plain_clusters(folders) -> dict[str, set[str]]:
    """Text -> all texts that pairs join it with, by walking through the pairs again and again."""
    pairs = [
        (text_key(r.source.normal), text_key(r.target.normal))
        for f in folders
        for s in PreparedData(f).manifest["splits"]
        for r in PreparedData(f).records(s)
    ]
    groups = {text: {text} for pair in pairs for text in pair}
    for first, second in pairs:
        if groups[first] is not groups[second]:
            joined = groups[first] | groups[second]
            for text in joined:
                groups[text] = joined
    return groups


@pytest.mark.slow
def test_no_text_of_a_cluster_that_a_held_out_split_touches_is_left(chained):
    folder, another = chained
    found = collect([folder], [another])
    groups = plain_clusters([folder, another])
    touched = {t for text in texts_of(another, "validation", "test").values() for t in groups.get(text, {text})}
    train = texts_of(folder, "train")
    expected = {ids for ids, text in train.items() if text not in touched}
    assert pieces(found.train) == expected
    assert found.excluded == len(train) - len(expected) > 0
    alone = set(texts_of(another, "validation", "test").values())
    assert any(text in touched - alone for text in train.values()), "some are left out because of their cluster alone"


@pytest.mark.slow
def test_of_dialogues_only_the_texts_themselves_are_left_out(douban_folder):
    found: Corpus = collect([douban_folder], [douban_folder])
    held_out = set(texts_of(douban_folder, "validation", "test").values())
    expected = {ids for ids, text in texts_of(douban_folder, "train").items() if text not in held_out}
    assert pieces(found.train) == expected


def test_what_does_not_belong_together_is_refused(qqp_folder, douban_folder, tmp_path):
    with pytest.raises(UserError, match="prepared with another vocabulary than"):
        collect([qqp_folder, douban_folder], [])
    with pytest.raises(UserError, match="--data_dir is needed"):
        collect([], [])
    with pytest.raises(UserError, match=r"manifest\.json"):
        collect([tmp_path / "nothing"], [])


@pytest.mark.slow
def test_too_few_texts_are_refused(tmp_path, qqp_folder):
    lines = [{"source": f"how is number {n}", "target": f"what is number {n}", "negative": f"who is number {n}"} for n in range(4)]
    raw = tmp_path / "few.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in lines))
    few = prepare_sample(tmp_path / "few", raw=raw, vocab=str(qqp_folder / "vocab.txt"))
    with pytest.raises(UserError, match=r"--data_dir: \d training texts are left, at least 10 are needed"):
        collect([few], [])
