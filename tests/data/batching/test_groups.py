"""Groups: whom they hold, where they are kept, how pairs are drawn from them; the corpus's own sampled pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import fresh_copy, prepare_sample

from hcl_tf.data.batching import groups
from hcl_tf.data.batching.groups import FIRST, LAST, Groups, groups_of, neighbours
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora import bm25
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.files import array_cache


@pytest.fixture
def data(qqp_folder, tmp_path) -> PreparedData:
    return PreparedData(fresh_copy(qqp_folder, tmp_path / "prepared"))


def test_first_and_last_by_bm25(data):
    """Against sorting all scores: the first are the best, all of the last score no higher than anything left out."""
    contexts = [record.source.raw for record in data.records("train")]
    queries = contexts[:40] + [record.source.raw for record in data.records("validation")]
    members, counts = neighbours(contexts, queries, "en")
    index = bm25.Index(contexts, "en")
    for row, (query, scores) in enumerate(zip(queries, index.scores(queries).toarray(), strict=True)):
        found = members[row, : counts[row]]
        others = np.array([i for i, context in enumerate(contexts) if context != query])
        assert query not in [contexts[i] for i in found]
        assert len(set(found.tolist())) == counts[row]
        matching = np.sort(scores[others])[::-1]
        first = min(FIRST, int((matching > 0).sum()))
        np.testing.assert_allclose(scores[found[:first]], matching[:first], rtol=1e-6)
        assert counts[row] == first + LAST
        assert scores[found[first:]].max() <= matching[-LAST]
    assert len(np.unique(members[:, FIRST:])) > 100, "ties, here of texts without a common word, are drawn"
    again = neighbours(contexts, queries, "en")
    np.testing.assert_array_equal(members, again[0])


def test_small_corpora_give_what_they_have():
    members, counts = neighbours(["red cat", "red dog", "moon", "red cat"], ["red cat", "sun"], "en")
    assert counts.tolist() == [2, 4]
    assert set(members[0].tolist()) == {1, 2}
    assert members[0, 0] == 1
    assert set(members[1].tolist()) == {0, 1, 2, 3}
    with pytest.raises(UserError, match="no training source but 'sun'"):
        neighbours(["sun", "sun"], ["sun"], "en")


@pytest.mark.slow
def test_kept_beside_the_data_and_computed_again_if_damaged(data, monkeypatch):
    train = data.arrays("train")
    first = groups_of(data, "validation", train)
    (folder,) = (data.folder / array_cache.CACHE).iterdir()
    calls = []
    monkeypatch.setattr(groups, "neighbours", lambda *arguments: calls.append(1) or neighbours(*arguments))
    np.testing.assert_array_equal(groups_of(data, "validation", train).members, first.members)
    assert not calls
    (folder / "counts.npy").write_bytes(b"")
    np.testing.assert_array_equal(groups_of(data, "validation", train).members, first.members)
    assert calls == [1]
    groups_of(data, "train", train)
    assert calls == [1, 1], "each split has its own"
    assert len(PreparedData(data.folder).arrays("train")) == len(train), "the prepared folder stays whole"


@pytest.mark.slow
def test_a_draw_changes_one_side_of_the_pair_by_a_fair_coin(data):
    train = data.arrays("train")
    found = groups_of(data, "train", train)
    rows = np.arange(200)
    pairs = found.draw(train, rows, np.random.default_rng(4), 6)
    by_context, members = 0, set()
    for row in rows:
        of_group = found.members[row, : found.counts[row], 0]
        for source, target in zip(pairs["group_source_ids"][row], pairs["group_target_ids"][row], strict=True):
            contexts, responses = (
                [i for i in of_group if (ids[i] == text).all()] for ids, text in ((train.source_ids, source), (train.target_ids, target))
            )
            if (target == train.target_ids[row]).all() and contexts:
                by_context += 1
                members.update((row, i) for i in contexts)
            else:
                assert (source == train.source_ids[row]).all()
                assert responses
                members.update((row, i) for i in responses)
    assert abs(by_context / 1200 - 0.5) < 0.05
    assert len(members) > 1000, "of 20 members, six different ones as a rule"
    assert "group_scores" not in pairs


def drawn_from(found: Groups, train):
    """Columns of two pairs an example."""

    def columns(rows, filled, place):
        return found.draw(train, rows, place.random(1), 2)

    return columns


@pytest.mark.slow
def test_pairs_of_a_batch_are_a_function_of_seed_epoch_and_number(data):
    train = data.arrays("train")
    found = groups_of(data, "train", train)
    batches = pair_batches(data, train, 16, seed=3, further=[drawn_from(found, train)])
    epoch = [batch["group_source_ids"].numpy() for batch in batches.dataset(1)]
    for number, batch in enumerate(batches.dataset(1, 2), 2):
        np.testing.assert_array_equal(batch["group_source_ids"], epoch[number])
    rows = batches.plan(1)
    other = [batches.make(rows[2], *place)["group_source_ids"] for place in ((2, 2), (1, 3))]
    assert all((drawn != epoch[2]).any() for drawn in other)
    plain = pair_batches(data, train, 16, seed=3)
    np.testing.assert_array_equal(plain.make(rows[2], 1, 2)["impostor_nodes"], batches.make(rows[2], 1, 2)["impostor_nodes"])


def test_scores_of_a_member_go_with_the_side_that_was_drawn():
    ids = np.arange(6).reshape(3, 2)
    members = np.array([[[1, 2]]])
    scored = Groups(ids, ids + 100, members, np.array([1]), np.array([[[0.25, -0.5]]]))
    own = type("Arrays", (), {"source_ids": np.full((1, 2), -1), "target_ids": np.full((1, 2), -2)})
    pairs = scored.draw(own, np.zeros(50, int), np.random.default_rng(1), 1)
    for source, target, score in zip(*(pairs[f"group_{name}"][:, 0] for name in ("source_ids", "target_ids", "scores")), strict=True):
        assert (source.tolist(), target.tolist(), float(score)) in (([2, 3], [-2, -2], 0.25), ([-1, -1], [104, 105], -0.5))
    assert len(set(pairs["group_scores"][:, 0].tolist())) == 2


def with_pairs(folder: Path, change=str) -> PreparedData:
    """Douban as Cai et al. published it, with its own pairs, their texts changed."""
    lines = []
    for number in range(60):
        pairs = " __EOD__ ".join(change(f"你好{number} __EOT__ 样本{i} __EOC__ 回答{i}很好啊{number}") for i in range(2 + number % 2))
        scores = " __SAMP__ ".join(" ".join(f"{value + i / 10:.2f}" for i in range(2 + number % 2)) for value in (0.1, 0.6))
        lines.append(f"1 早上好{number} __EOT__ 你去哪里{number} __SAMP__ {pairs} __SAMP__ {scores}\t我去学校看书{number}")
    folder.mkdir()
    (raw := folder / "douban.txt").write_text("\n".join(lines), encoding="utf-8")
    return PreparedData(prepare_sample(folder / "prepared", "douban", raw=raw))


@pytest.mark.slow
def test_the_corpus_s_own_pairs_are_the_groups(tmp_path):
    """Contexts are cut at their head, scores from 0 to 1 become -1 to 1."""
    data = with_pairs(tmp_path / "plain")
    train = data.arrays("train")
    found = groups_of(data, "train", train)
    assert not (data.folder / array_cache.CACHE).exists()
    t = data.tokenizer
    for row, record in enumerate(data.records("train")):
        assert found.counts[row] == len(record.sampled) in (2, 3)
        for place, pair in enumerate(record.sampled):
            source, target = found.members[row, place]
            assert found.sources[source][found.sources[source] != t.pad_id].tolist() == [t.cls_id, *t.encode([pair.context])[0], t.sep_id]
            assert found.targets[target][found.targets[target] != t.pad_id].tolist() == [t.cls_id, *t.encode([pair.response])[0], t.sep_id]
            expected = [2 * pair.context_score - 1, 2 * pair.response_score - 1]
            np.testing.assert_allclose(found.scores[row, place], expected, atol=1e-6)
    pairs = pair_batches(data, train, 8, further=[drawn_from(found, train)]).make(np.arange(8), 0, 0)
    assert pairs["group_scores"].shape == (8, 2)
    assert json.loads((data.folder / "manifest.json").read_text())["splits"]["train"]["examples"] == len(train)


@pytest.mark.slow
def test_the_corpus_s_own_pairs_are_normalised(tmp_path):
    full_width = str.maketrans("0123456789", "０１２３４５６７８９")
    marked = with_pairs(tmp_path / "marked", lambda text: text.translate(full_width))
    assert "０" in next(iter(marked.records("train"))).sampled[0].context, "the raw text stays"
    plain, found = (groups_of(data, "train", data.arrays("train")) for data in (with_pairs(tmp_path / "plain"), marked))
    np.testing.assert_array_equal(found.sources, plain.sources)
    np.testing.assert_array_equal(found.targets, plain.targets)
