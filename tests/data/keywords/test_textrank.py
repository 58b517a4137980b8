"""TextRank keywords against a plain reading of pytextrank's graph, and what holds for any text."""

import json
import os
import signal
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spacy.lang.en.stop_words import STOP_WORDS as ENGLISH
from spacy.lang.zh.stop_words import STOP_WORDS as CHINESE

from hcl_tf.config import TASKS
from hcl_tf.data.keywords import tagging, textrank
from hcl_tf.data.keywords.textrank import KeywordExtractor
from hcl_tf.errors import UserError

TITLES = {"mr", "mr.", "mrs", "mrs.", "ms", "ms.", "dr", "dr."}
STOP_WORDS = {"en": ENGLISH | TITLES, "zh": CHINESE | ENGLISH | TITLES}
NOUNS = ("NOUN", "PROPN")
UNITS = ("word", "phrase")
MOST = 4
EXTRACTORS = {(language, unit): KeywordExtractor(language, "builtin", unit, MOST) for language in ("en", "zh") for unit in UNITS}


def has_content_word(extractor: KeywordExtractor, text: str) -> bool:
    return any(map(extractor._is_content, extractor.nlp(text[: textrank.LONGEST])))


def sample_texts(task: str) -> list[str]:
    rows = [json.loads(line) for line in TASKS[task].sample.read_text(encoding="utf-8").splitlines()]
    joined = [
        [row["target"], row.get("negative") or "", *([source] if isinstance(source := row["source"], str) else source)] for row in rows
    ]
    turns = ["\n".join(row["source"]) for row in rows if isinstance(row["source"], list)]
    return sorted({text for texts in joined for text in texts if text}) + turns


@pytest.fixture(scope="module", params=list(TASKS))
def sample(request):
    """A task's language, and (text, its document, its keywords by unit) of an eighth of its bundled texts."""
    language = TASKS[request.param].language
    nlp = tagging.load_pipeline(language, "builtin")
    docs = [(text, nlp(text)) for text in sample_texts(request.param)[::8]]
    return language, [(text, doc, {unit: EXTRACTORS[language, unit].of_doc(doc) for unit in UNITS}) for text, doc in docs]


def content(language: str, doc, pos: tuple[str, ...]) -> list:
    def is_content(token) -> bool:
        word = token.text
        shaped = "\u3400" <= word <= "\u9fff" if len(word) == 1 else any(map(str.isalpha, word))
        return token.pos_ in pos and shaped and not {token.lower_, token.lemma_.lower()} & STOP_WORDS[language]

    return [token for token in doc if is_content(token)]


def candidates(language: str, doc) -> list:
    return content(language, doc, (*NOUNS, "ADJ")) or content(language, doc, ("VERB",))


def best(found: list[tuple[str, int, int, float, bool]], most: int = MOST) -> list[tuple[str, int, int]]:
    """Of (text, start, end, rank, nominal): the highest of each text, nouns first, then by rank, then by place."""
    order = sorted(found, key=lambda k: (-round(k[3], 6), k[1]))
    distinct = {k[0]: k for k in reversed(order)}
    return [k[:3] for k in sorted(distinct.values(), key=lambda k: (not k[4], -round(k[3], 6), k[1]))][:most]


def places(found) -> list[tuple[str, int, int]]:
    return [(keyword.text, keyword.start, keyword.end) for keyword in found]


def words(language: str, unit: str, text: str) -> list[str]:
    return [keyword.text for keyword in EXTRACTORS[language, unit].extract(text)]


def test_word_keywords_are_those_of_a_plain_textrank(sample):
    language, docs = sample
    for text, doc, found_by in docs:
        rank = {(node.lemma, node.pos): score for node, score in doc._.textrank.ranks.items()}
        found = [
            (t.lemma_.lower(), t.idx, t.idx + len(t), rank[t.lemma_, t.pos_], t.pos_ != "ADJ")
            for t in candidates(language, doc)
            if (t.lemma_, t.pos_) in rank
        ]
        assert places(found_by["word"]) == best(found), text


def test_phrase_keywords_are_those_of_pytextrank(sample):
    language, docs = sample
    for text, doc, found_by in docs:
        allowed = {token.i: token for token in candidates(language, doc)}
        found = []
        for phrase in doc._.phrases:
            if inside := [allowed[token.i] for token in phrase.chunks[0] if token.i in allowed]:
                start, end = inside[0].idx, inside[-1].idx + len(inside[-1])
                found.append((" ".join(token.lemma_.lower() for token in inside), start, end, phrase.rank, True))
        if found:
            assert places(found_by["phrase"]) == best(found), text
        else:
            assert found_by["phrase"] == found_by["word"]


@pytest.mark.parametrize("text", ["我觉得it is the best手机", "Don't worry，I'll come to the 电影院", "IT和The在HERE的手机"])
def test_chinese_texts_have_no_english_stop_words(text):
    found = words("zh", "word", text)
    assert found
    assert not set(found) & (ENGLISH | {"don", "ll", "t"})


def test_data_from_before_english_stop_words_counted_keep_them():
    earlier = KeywordExtractor("zh", "builtin", stop_words=["zh"])
    assert {keyword.text for keyword in earlier.extract("我觉得it is the best手机")} == {"is", "the", "it", "best"}


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.sampled_from("ˊˋ_ʰー´`~·•…—（）!?/ a猫") | st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
@example("ˊ_ˋ")
@example("ˈˈ ˊˊ x")
def test_every_keyword_has_a_letter(text):
    for language in ("en", "zh"):
        for word in words(language, "word", text):
            assert any(unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lo") for c in word)


@pytest.mark.parametrize("unit", UNITS)
def test_keywords_of_the_samples_are_few_distinct_ranked_and_from_the_text(sample, unit):
    language, docs = sample
    with_content = with_keyword = 0
    for text, doc, found_by in docs:
        found = found_by[unit]
        assert len({keyword.text for keyword in found}) == len(found) <= MOST
        assert list(found) == sorted(found, key=lambda keyword: (not keyword.nominal, -round(keyword.rank, 6)))
        lemmas = {token.idx: token.lemma_.lower() for token in candidates(language, doc)}
        for keyword in found:
            assert keyword.text == " ".join(lemmas[at] for at in sorted(lemmas) if keyword.start <= at < keyword.end), text
            assert not {keyword.text, text[keyword.start : keyword.end].lower()} & STOP_WORDS[language]
        has_content = bool(candidates(language, doc))
        assert has_content == bool(found), text
        with_content += has_content
        with_keyword += bool(found)
    assert with_keyword == with_content >= 0.95 * len(docs)


def test_extracting_a_text_is_extracting_its_document(sample):
    language, docs = sample
    for text, doc, found_by in docs[::20]:
        assert {unit: EXTRACTORS[language, unit].extract(text) for unit in UNITS} == found_by
        assert has_content_word(EXTRACTORS[language, "word"], text) == bool(candidates(language, doc))


@pytest.mark.parametrize(
    ("language", "first", "second", "keyword"),
    [
        ("en", "My cat sleeps.", "I have two cats.", "cat"),
        ("en", "My cat sleeps.", "Cats sleep.", "cat"),
        ("en", "A tree fell.", "Trees grow.", "tree"),
        ("en", "My dog barks.", "Dogs bark.", "dog"),
        ("en", "I love coffee.", "Coffee is hot.", "coffee"),
        ("en", "A PHONE rang.", "Which phone rang?", "phone"),
        ("zh", "猫在睡觉", "我家的猫", "猫"),
        ("zh", "我喜欢iPhone手机", "我喜欢 iphone", "iphone"),
    ],
)
def test_the_same_word_in_two_texts_is_one_keyword(language, first, second, keyword):
    assert keyword in words(language, "word", first)
    assert keyword in words(language, "word", second)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("language", "text"), [("en", "Dr. Smith met Mr Jones, Mrs. Brown and Ms Green."), ("zh", "我们 的 自己 什么 Mr 北京")]
)
def test_stop_words_and_titles_are_never_keywords(language, text, unit):
    found = {word for keyword in words(language, unit, text) for word in keyword.split()}
    assert found
    assert not found & STOP_WORDS[language]


def test_nouns_stand_before_adjectives_and_verbs_serve_only_where_there_is_neither():
    assert words("en", "word", "The crisp and thick bread.") == ["bread", "crisp", "thick"]
    assert words("en", "word", "He was running.") == ["run"]
    assert "take" not in words("en", "word", "She took two courses.")


@pytest.mark.parametrize("most", [1, 2, 9])
def test_most_bounds_the_number_of_keywords(most):
    text = "The old teacher gave bread, milk, cheese and honey to five hungry children in London."
    few = KeywordExtractor("en", "builtin", most=most).extract(text)
    many = KeywordExtractor("en", "builtin", most=99).extract(text)
    assert len(many) >= 9
    assert few == many[:most]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("text", ["", " \n\t", "?!... --", "。，！", "😀😀👍🏽", "12 34", "\x00\u200b"])
def test_texts_without_a_content_word_have_no_keyword(language, unit, text):
    assert EXTRACTORS[language, unit].extract(text) == ()
    assert not has_content_word(EXTRACTORS[language, unit], text)


@pytest.mark.parametrize(("language", "text"), [("en", "Is it you and me?"), ("zh", "的了吗")])
def test_texts_of_stop_words_have_no_keyword(language, text):
    assert words(language, "word", text) == words(language, "phrase", text) == []


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("text", ["cat " * 20_000, "A big dog saw a cat. " * 5000, "我喜欢北京的猫。" * 5000, "x" * 50_000])
def test_a_very_long_text_is_looked_at_up_to_a_limit(language, text):
    found = EXTRACTORS[language, "word"].extract(text)
    assert len(found) <= MOST
    assert all(keyword.end <= textrank.LONGEST for keyword in found)


@pytest.mark.parametrize("language", ["en", "zh"])
@settings(deadline=None, max_examples=60)
@given(text=st.one_of(st.text(max_size=60), st.text(alphabet="cat dogs 北京大学的猫iPhone。.?!'’\n\r\t😀é-_/&", max_size=60)))
@example(text="我用 Python 写 code，very good！The cats 很可爱")
@example(text="😀 cats 👩‍👩‍👧 dogs")
def test_keywords_of_any_text_are_words_of_it(language, text):
    for unit in UNITS:
        found = EXTRACTORS[language, unit].extract(text)
        assert len({keyword.text for keyword in found}) == len(found) <= MOST
        for keyword in found:
            assert 0 <= keyword.start < keyword.end <= len(text)
            assert keyword.text.strip() == keyword.text != ""
        assert bool(found) == has_content_word(EXTRACTORS[language, unit], text)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks and the worth of a worker cut down, and no test that hangs."""
    monkeypatch.setattr(textrank, "CHUNK", 15)
    monkeypatch.setattr(textrank, "WORTH_A_WORKER", 10)

    def hung(*_):
        raise AssertionError("hung")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_two_workers_find_what_one_finds(small_chunks):
    texts = sample_texts("qqp")[:100] * 2
    one, two = (textrank.extract_all(iter(texts), "en", "builtin", "word", MOST, workers) for workers in (1, 2))
    assert list(one) == list(dict.fromkeys(texts))
    assert list(one.items()) == list(two.items())
    assert one[texts[0]] == EXTRACTORS["en", "word"].extract(texts[0])


class Deadly(str):
    """A text that ends the process that unpickles it, as a kill for want of memory would."""

    def __reduce__(self):
        return os._exit, (9,)


@pytest.mark.slow
def test_a_dying_worker_is_a_user_error(small_chunks):
    texts = [Deadly("dies") if i == 40 else f"text {i}" for i in range(80)]
    with pytest.raises(UserError, match="--workers=1"):
        textrank.extract_all(texts, "zh", "builtin", "word", MOST, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_model_is_named_whatever_the_number_of_workers(small_chunks, workers):
    with pytest.raises(UserError, match="--tagger=no_such_model"):
        textrank.extract_all([f"text {i}" for i in range(80)], "en", "no_such_model", "word", MOST, workers)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_many_texts_at_once_have_the_keywords_of_each(language):
    texts = ["Can dogs eat raw potatoes?", "", "Why is the sky blue? Clouds are white.", "狗可以吃生土豆吗？", "a" * 20_000]
    extractor = EXTRACTORS[language, "word"]
    assert extractor.extract_each(texts) == [extractor.extract(text) for text in texts]
