"""The bundled corpora: large and varied enough, and each text a text of its own."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from itertools import chain

import pytest

from hcl_tf.config import TASKS
from hcl_tf.data.corpora import formats
from hcl_tf.data.corpora.formats import ReadOptions

OPENING, GRAM = 4, 8
MOST_OPENING, MOST_SIMILAR = 0.02, 0.5
HASHES = {  # older runs resume on these bytes
    "qqp": "e3176a6325b9b5bc8344ee6edac37c6bedab1c6d326196eb8c0d753e1446e7c2",
    "douban": "7b3ffdc14ae5ac4e276047d330e1bf7e32c974ba509008e3cc7c23e7b41452c3",
    "rocstories": "fe88441dff788901007060e27dfc07652fb1a5eb3821d104d828e9948dffff6f",
}
KINDS = {"qqp": "question", "douban": "dialogue", "rocstories": "story"}


def units(text: str, language: str) -> list[str]:
    """Words, or characters for Chinese, over letters and digits only."""
    if language == "zh":
        return [character for character in text if character.isalnum()]
    words = ("".join(filter(str.isalnum, word)) for word in re.split(r"[\s\u2013\u2014-]+", text.casefold()))
    return [word for word in words if word]


def texts_of(rows: list[dict]) -> list[str]:
    """Every text of a corpus: sources or their turns or sentences, targets and negatives."""
    nested = (
        [*(row["source"] if isinstance(row["source"], list) else [row["source"]]), row["target"], row.get("negative")] for row in rows
    )
    return [text for text in chain.from_iterable(nested) if text]


def largest_opening(texts: list[str], language: str) -> tuple[float, str]:
    """The share of texts that begin with the commonest first four units, and those units."""
    openings = Counter(" ".join(units(text, language)[:OPENING]) for text in texts)
    opening, count = openings.most_common(1)[0]
    return count / len(texts), opening


def largest_similarity(texts: list[str], language: str) -> tuple[float, tuple[str, str]]:
    """The highest Jaccard similarity of two texts' sets of 8-grams, and the two."""
    grams = []
    for text in texts:
        found = units(text, language)
        grams.append({tuple(found[i : i + GRAM]) for i in range(max(1, len(found) - GRAM + 1))})
    owners = defaultdict(list)
    for number, found in enumerate(grams):
        for gram in found:
            owners[gram].append(number)
    shared = Counter((a, b) for found in owners.values() for i, a in enumerate(found) for b in found[i + 1 :])
    return max(((count / len(grams[a] | grams[b]), (texts[a], texts[b])) for (a, b), count in shared.items()), default=(0.0, ("", "")))


def shape_faults(rows: list[dict], kind: str) -> list[str]:
    """What is wrong with the rows' fields for a kind of corpus; ids of the rows and the fault."""

    def is_text(value):
        return isinstance(value, str) and value.strip() == value != ""

    turns = {"question": (0, 0), "dialogue": (2, 4), "story": (4, 4)}[kind]
    needed = ["id", "topic", "target", *(["negative"] if kind != "story" else [])]
    faults = []
    for number, row in enumerate(rows, 1):
        faults += [f"row {number}: {name}" for name in needed if not is_text(row.get(name))]
        source = row.get("source")
        if kind == "question":
            fine = is_text(source)
        else:
            fine = isinstance(source, list) and turns[0] <= len(source) <= turns[1] and all(map(is_text, source))
        faults += [] if fine else [f"row {number}: source"]
    if len({row.get("id") for row in rows}) < len(rows):
        faults.append("repeated id")
    return faults


@pytest.fixture(scope="module", params=TASKS)
def corpus(request):
    """(task, rows of its bundled corpus)."""
    task = TASKS[request.param]
    return task, [json.loads(line) for line in task.sample.read_text(encoding="utf-8").splitlines()]


def test_a_bundled_corpus_stays_as_it_is(corpus):
    task, _ = corpus
    assert hashlib.sha256(task.sample.read_bytes()).hexdigest() == HASHES[task.name]


def test_a_bundled_corpus_has_400_examples_and_30_topics(corpus):
    task, rows = corpus
    topics = Counter(row["topic"] for row in rows)
    print(f"\n{task.name}: {len(rows)} examples, {len(topics)} topics, {min(topics.values())} to {max(topics.values())} examples each")
    assert len(rows) >= 400
    assert len(topics) >= 30


def test_a_bundled_corpus_has_the_shape_of_its_task(corpus):
    task, rows = corpus
    assert shape_faults(rows, KINDS[task.name]) == []
    assert len(list(formats.read(task.sample, ReadOptions()))) == len(rows)


def test_a_bundled_corpus_has_no_common_opening(corpus):
    task, rows = corpus
    texts = texts_of(rows)
    share, opening = largest_opening(texts, task.language)
    print(f"\n{task.name}: commonest opening {opening!r} in {share:.2%} of {len(texts)} texts")
    assert share <= MOST_OPENING


def test_a_bundled_corpus_has_no_two_alike_texts(corpus):
    task, rows = corpus
    similarity, pair = largest_similarity(texts_of(rows), task.language)
    print(f"\n{task.name}: highest 8-gram similarity {similarity:.3f}: {pair}")
    assert similarity <= MOST_SIMILAR, pair


@pytest.mark.parametrize(
    ("texts", "language", "share"),
    [
        (["How do I fix it?", "how do I, fix that?", "Why is it so?", "Who is there now?"], "en", 0.5),
        (["我们今天去", "我，们今天走", "你好"], "zh", 2 / 3),
        (["short", "Short!", "other"], "en", 2 / 3),
    ],
)
def test_the_opening_check_reports_a_bad_corpus(texts, language, share):
    assert largest_opening(texts, language)[0] == pytest.approx(share)


@pytest.mark.parametrize(
    ("texts", "language", "similarity"),
    [
        (["a b c d e f g h i", "A b c d e f g h, j", "x"], "en", 1 / 3),  # one of three 8-grams
        (["a b c d e f g h i j", "a b c d e f g h i j!", "x"], "en", 1.0),
        (["a b c d e f g h i j k", "z b c d e f g h i j k", "x"], "en", 3 / 5),
        (["too short", "Too short.", "another"], "en", 1.0),
        (["一二三四五六七八九十甲", "乙二三四五六七八九十甲"], "zh", 3 / 5),
        (["一二三", "一二三。", "四"], "zh", 1.0),
        (["a b c", "d e f"], "en", 0.0),
    ],
)
def test_the_similarity_check_reports_a_bad_corpus(texts, language, similarity):
    assert largest_similarity(texts, language)[0] == pytest.approx(similarity)


@pytest.mark.parametrize(
    ("row", "kind", "fault"),
    [
        ({"id": "1", "topic": "t", "source": "s", "target": "t", "negative": "n"}, "question", []),
        ({"id": "1", "topic": "t", "source": ["s"], "target": "t", "negative": "n"}, "question", ["row 1: source"]),
        ({"id": "1", "topic": "t", "source": "s", "target": "t"}, "question", ["row 1: negative"]),
        ({"id": "1", "source": "s", "target": "t", "negative": ""}, "question", ["row 1: topic", "row 1: negative"]),
        ({"id": "1", "topic": "t", "source": ["a", "b"], "target": "t", "negative": "n"}, "dialogue", []),
        ({"id": "1", "topic": "t", "source": ["a"], "target": "t", "negative": "n"}, "dialogue", ["row 1: source"]),
        ({"id": "1", "topic": "t", "source": list("abcde"), "target": "t", "negative": "n"}, "dialogue", ["row 1: source"]),
        ({"id": "1", "topic": "t", "source": list("abcd"), "target": "e"}, "story", []),
        ({"id": "1", "topic": "t", "source": ["a", "b", "c", " "], "target": "e"}, "story", ["row 1: source"]),
        ({"id": "1", "topic": "t", "source": list("abc"), "target": ""}, "story", ["row 1: target", "row 1: source"]),
    ],
)
def test_the_shape_check_reports_a_bad_row(row, kind, fault):
    assert shape_faults([row], kind) == fault


def test_the_shape_check_reports_a_repeated_id():
    row = {"id": "1", "topic": "t", "source": "s", "target": "t", "negative": "n"}
    assert shape_faults([row, row], "question") == ["repeated id"]
