"""Learnt vectors against a dense computation by hand; files of vectors as users have them, whole and broken."""

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.store import word_vectors
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.word_vectors import WordVectors
from hcl_tf.data.tokenizers.words import words
from hcl_tf.errors import UserError

TEXTS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=14), max_size=12)


def counted(texts, min_count):
    """(words, [V, V] pair counts) one token and one neighbour at a time."""
    flat = [word for text in texts for word in text]
    kept = sorted(word for word in set(flat) if flat.count(word) >= min_count)
    counts = np.zeros((len(kept), len(kept)))
    for text in texts:
        for i, word in enumerate(text):
            for j, other in enumerate(text):
                if i != j and abs(i - j) <= 5 and word in kept and other in kept:
                    counts[kept.index(word), kept.index(other)] += 1
    return kept, counts


def dense_ppmi(counts):
    total, contexts = counts.sum(), counts.sum(axis=0) ** 0.75
    table = np.zeros_like(counts)
    for w, c in zip(*counts.nonzero(), strict=True):
        table[w, c] = max(0.0, math.log((counts[w, c] / total) / (counts[w].sum() / total * contexts[c] / contexts.sum())))
    return table


def zipf_texts(count, types, seed):
    """Texts over words w0, w1, ... of Zipf's frequencies in which neighbours of a text tend to be near in number."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        centre = int(types ** draw.random())
        texts.append([f"w{min(types - 1, abs(int(draw.gauss(centre, 5))))}" for _ in range(draw.randrange(3, 15))])
    return texts


# --- learning


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_ppmi_equals_a_dense_loop(texts, min_count):
    ids, numbers, found = word_vectors._number_words(texts, min_count)
    kept, counts = counted(texts, min_count)
    pairs = word_vectors._count_pairs(ids, numbers, len(found))
    assert found == kept
    np.testing.assert_array_equal(pairs.toarray(), counts)
    np.testing.assert_allclose(word_vectors.ppmi(pairs).toarray(), dense_ppmi(counts), rtol=1e-12, atol=1e-14)


def test_blocks_of_tokens_do_not_change_the_counts(monkeypatch):
    texts = zipf_texts(60, 30, 1)
    ids, numbers, found = word_vectors._number_words(texts, 2)
    whole = word_vectors._count_pairs(ids, numbers, len(found)).toarray()
    for block in (1, 7, 64):
        monkeypatch.setattr(word_vectors, "BLOCK", block)
        np.testing.assert_array_equal(word_vectors._count_pairs(ids, numbers, len(found)).toarray(), whole)


@pytest.mark.slow
@pytest.mark.parametrize("types", [80, 900])  # all singular values at once, and the iteration
def test_vectors_are_the_best_approximation_of_the_matrix_of_their_rank(types):
    texts = zipf_texts(3000, types, 2)
    learnt = word_vectors.learn(texts, dimensions=20, min_count=2)
    ids, numbers, found = word_vectors._number_words(texts, 2)
    matrix = word_vectors.ppmi(word_vectors._count_pairs(ids, numbers, len(found))).toarray()
    assert learnt.words == tuple(found)
    assert (len(found) > word_vectors.DENSE_UP_TO) == (types == 900)
    # W = U S^1/2, so W W^T is the square root of M M^T in the first 20 dimensions: no signs, no order to agree on.
    values, bases = np.linalg.eigh(matrix @ matrix.T)
    top = np.argsort(-values)[:20]
    expected = (bases[:, top] * values[top] ** 0.5) @ bases[:, top].T
    np.testing.assert_allclose(learnt.vectors @ learnt.vectors.T, expected, atol=3e-4)
    assert learnt.vectors.dtype == np.float32
    np.testing.assert_allclose((learnt.vectors**2).sum(axis=0), values[top] ** 0.5, rtol=1e-3)  # strongest dimension first
    largest = np.abs(learnt.vectors).argmax(axis=0)
    assert (learnt.vectors[largest, np.arange(20)] > 0).all()


@pytest.mark.parametrize("types", [80, 900])
def test_neither_order_nor_threads_change_a_byte(types):
    texts = zipf_texts(2500, types, 3)
    with threadpool_limits(2):
        one = word_vectors.learn(texts, 15, 2)
    with threadpool_limits(1):
        other = word_vectors.learn(random.Random(4).sample(texts, len(texts)), 15, 2)
    assert one.words == other.words
    assert one.vectors.tobytes() == other.vectors.tobytes()
    assert one.name == other.name


def test_words_of_the_same_company_are_neighbours():
    texts = [
        f"the {animal} drinks some {liquid} now".split() for animal in ("cat", "dog") for liquid in ("milk", "water") for _ in range(3)
    ]
    texts += [f"a {vehicle} needs {fuel} today".split() for vehicle in ("car", "bus") for fuel in ("petrol", "oil") for _ in range(3)]
    learnt = word_vectors.learn(texts, dimensions=4)
    unit = {word: vector / np.linalg.norm(vector) for word, vector in zip(learnt.words, learnt.vectors, strict=True)}
    assert unit["cat"] @ unit["dog"] > 0.9
    assert abs(unit["cat"] @ unit["car"]) < 0.1


def test_rare_words_keep_their_place_but_get_no_vector():
    texts = [["a", "x", "x", "x", "x", "b"], ["a", "x", "x", "x", "x", "x", "c"]] * 2
    texts += [["b", "rare"], ["c", "once"]]
    _, _, found = word_vectors._number_words(texts, 3)
    assert found == ["a", "b", "c", "x"]
    kept, counts = counted(texts, 3)
    assert counts[kept.index("a"), kept.index("b")] == 2  # five places apart
    assert counts[kept.index("a"), kept.index("c")] == 0  # six
    assert not {"rare", "once"} & set(word_vectors.learn(texts).words)


@pytest.mark.parametrize("texts", [[], [[]], [["a"]], [["a"]] * 5, [["a", "b"]], [["a", "a", "a", "a"]]])
def test_texts_without_any_association_give_no_vectors(texts):
    learnt = word_vectors.learn(texts)
    assert len(learnt) == 0
    assert learnt.words == ()
    assert learnt.vectors.shape[0] == 0
    assert learnt.of(["a", "b"]).shape[0] == 0


def test_names_tell_settings_and_content_apart():
    texts = zipf_texts(200, 30, 5)
    names = {word_vectors.learn(*arguments).name for arguments in ((texts,), (texts, 10), (texts, 10, 5), (texts[:150], 10, 5))}
    assert len(names) == 4
    assert any(name.startswith("ppmi-svd-window5-cds0.75-power0.5-min5-10d#") for name in names)


# --- saving, and the prepared folder


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1), unique=True, max_size=6))
def test_what_is_saved_is_read_back(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("saved") / "vectors.npz"
    kept = WordVectors("næme", tuple(found), np.arange(len(found) * 3, dtype=np.float32).reshape(-1, 3) + 1)
    kept.save(path)
    first = path.read_bytes()
    back = word_vectors.load(path)
    assert (back.name, back.words, back.rows) == (kept.name, kept.words, {word: row for row, word in enumerate(found)})
    np.testing.assert_array_equal(back.vectors, kept.vectors)
    assert (back.vectors.shape, back.vectors.dtype) == (kept.vectors.shape, np.float32)
    back.save(path)
    assert path.read_bytes() == first


def test_tokens_without_a_vector_are_skipped_and_repeated_ones_repeat():
    vectors = WordVectors("n", ("a", "b"), np.array([[1, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(vectors.of(["b", "x", "a", "b"]), [[3, 4], [1, 2], [3, 4]])
    assert vectors.of(["x"]).shape == vectors.of([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("folder", "language"),
    [
        ("qqp_folder", "en"),
        pytest.param("douban_folder", "zh", marks=pytest.mark.slow),
        pytest.param("rocstories_folder", "en", marks=pytest.mark.slow),
    ],
)
def test_the_prepared_folder_holds_the_vectors_of_its_distinct_training_texts(folder, language, request):
    data = PreparedData(request.getfixturevalue(folder))
    texts = {getattr(record, role).raw for record in data.records("train") for role in ROLES}
    expected = word_vectors.learn([words(text, language) for text in sorted(texts)])
    assert "word_vectors.npz" in data.manifest["files"]
    assert (data.word_vectors.name, data.word_vectors.words) == (expected.name, expected.words)
    np.testing.assert_array_equal(data.word_vectors.vectors, expected.vectors)
    notes = [note for note in data.manifest["notes"] if note.startswith("word vectors")]
    assert [re.findall(r"[\d,]+(?= words| texts)", note) for note in notes] == [[f"{len(expected):,}", f"{len(texts):,}"]]
    assert len(expected) > 100


# --- files of vectors


GLOVE = "the 0.1 -2 3e-1\ncat 1 2 3\n. 0 0 1\n"


def read(tmp_path, text: str | bytes, *wanted: str) -> WordVectors:
    path = tmp_path / "vectors.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return word_vectors.load_text(path, set(wanted))


@pytest.mark.parametrize("text", [GLOVE, f"3 3\n{GLOVE}", GLOVE.replace("\n", " \n"), GLOVE.replace("\n", "\r\n"), GLOVE.rstrip("\n")])
def test_glove_and_word2vec_text_with_or_without_header(tmp_path, text):
    vectors = read(tmp_path, text, "cat", "the", "dog")
    assert vectors.words == ("the", "cat")
    np.testing.assert_array_equal(vectors.vectors, np.array([[0.1, -2, 0.3], [1, 2, 3]], np.float32))
    assert re.fullmatch(r"vectors\.txt#[0-9a-f]{8}", vectors.name)


def test_tabs_accents_chinese_and_double_lines(tmp_path):
    vectors = read(tmp_path, "猫\t1\t2\né 3 4\n猫 5 6\nzero 0 0\n", "猫", "é", "zero")
    assert vectors.words == ("猫", "é")
    np.testing.assert_array_equal(vectors.vectors, [[1, 2], [3, 4]])


def test_nothing_wanted_gives_no_vectors_of_the_files_width(tmp_path):
    assert read(tmp_path, GLOVE, "absent").vectors.shape == (0, 3)


def test_words_of_several_parts_are_passed_over(tmp_path):
    vectors = read(tmp_path, "a 1 2\n. . . 3 4\nat name@domain.com 5 6\n. 7 8\n", "a", ".", "at")
    assert vectors.words == ("a", ".")
    np.testing.assert_array_equal(vectors.vectors, [[1, 2], [7, 8]])


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a 1 2\nb 1\n", 2, "1 numbers after the word instead of 2"),
        ("a 1 2\nb 1 2 3\n", 2, "3 numbers after the word instead of 2"),
        ("2 3\na 1 2\n", 2, "2 numbers after the word instead of 3"),
        ("a 1 2\n\nb 1 2\n", 2, "0 numbers"),
        ("a 1 2\nb 1 x\n", 2, "no 2 finite numbers"),
        ("a 1 2\nb  2\n", 2, "no 2 finite numbers"),
        ("a 1 nan\n", 1, "no 2 finite numbers"),
        ("a 1 1e999\n", 1, "no 2 finite numbers"),
        ("word\n", 1, "0 numbers after the word instead of some"),
        (b"2 3\na \x00\x01\x80\xff\x00\n", 2, "1 numbers"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, line, why):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, "a", "b")
    assert f"{tmp_path / 'vectors.txt'}:{line}: {why}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "400000 50\n"])
def test_a_file_without_vectors_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"vectors\.txt"):
        read(tmp_path, text, "a")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.txt: no such file"):
        word_vectors.load_text(tmp_path / "absent.txt", {"a"})


def test_the_name_changes_with_the_files_content(tmp_path):
    assert read(tmp_path, GLOVE, "cat").name != read(tmp_path, GLOVE.replace("3e-1", "3e-2"), "cat").name
