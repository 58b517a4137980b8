"""The spaCy pipelines behind the keywords: tags, lemmas and chunks of the built-in ones, and trained models in their place."""

import json
import marshal
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import jieba
import jieba.posseg
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab

from hcl_tf.config import TASKS
from hcl_tf.data.keywords import jieba_tokenizer, tagging
from hcl_tf.data.keywords.textrank import KeywordExtractor
from hcl_tf.errors import UserError

ROOT = Path(__file__).parents[3]
NLP = {language: tagging.load_pipeline(language, "builtin") for language in ("en", "zh")}
LETTERS = {"N": "NOUN", "P": "PROPN", "A": "ADJ", "V": "VERB", ".": "PUNCT", "X": "X"}


@pytest.fixture(params=["tags only", "with a parse"])
def model(request, tmp_path) -> str:
    """A spaCy model folder for English that knows five words."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("attribute_ruler")
    parse = {"DEP": "ROOT"} if request.param == "with a parse" else {}
    for word, pos, lemma in [("dogs", "NOUN", "hound"), ("cats", "NOUN", "cat"), ("small", "ADJ", "small"), ("see", "VERB", "see")]:
        ruler.add([[{"LOWER": word}]], {"POS": pos, "LEMMA": lemma, **parse})
    nlp.to_disk(tmp_path / "model")
    return str(tmp_path / "model")


def word_of(language: str, sentence: str, word: str):
    return next(token for token in NLP[language](sentence) if token.text == word)


@pytest.mark.slow
def test_builtin_pipelines_load_without_network_and_print_nothing(tmp_path):
    script = """
import socket
def refuse(*_, **__): raise AssertionError("a look at the network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from hcl_tf.data.keywords.tagging import load_pipeline
assert [len(load_pipeline(language, "builtin")("A cat. 猫")) for language in ("en", "zh")]
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("language", ["en", "zh"])
@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_offsets_reproduce_any_text(language, text):
    doc = NLP[language](text)
    assert doc.text == text
    assert all(text[token.idx : token.idx + len(token)] == token.text for token in doc)


@pytest.mark.parametrize(
    ("sentence", "word", "pos", "lemma"),
    [
        ("The mass of the planet is large.", "mass", "NOUN", "mass"),
        ("The mass of the planet is large.", "is", "AUX", None),
        ("The bus is late because of the gas leak.", "bus", "NOUN", "bus"),
        ("She took two courses in physics.", "courses", "NOUN", "course"),
        ("She took two courses in physics.", "physics", "NOUN", "physics"),
        ("She took two courses in physics.", "took", "VERB", "take"),
        ("Do I need a visa for China?", "Do", "AUX", None),
        ("Do I need a visa for China?", "need", "VERB", "need"),
        ("Do I need a visa for China?", "visa", "NOUN", "visa"),
        ("Do I need a visa for China?", "China", "PROPN", "China"),
        ("Which countries export the largest share of coffee?", "countries", "NOUN", "country"),
        ("Which countries export the largest share of coffee?", "largest", "ADJ", "large"),
        ("He was running quickly.", "running", "VERB", "run"),
        ("The children sang.", "children", "NOUN", "child"),
        ("Bicycles need oil.", "Bicycles", "NOUN", "bicycle"),
        ("Mice fear owls.", "Mice", "NOUN", "mouse"),
        ("Dogs bark all night.", "Dogs", "NOUN", "dog"),
        ("Cats sleep all day.", "Cats", "NOUN", "cat"),
        ("Rain falls. Trees grow.", "Trees", "NOUN", "tree"),
        ("Birds sing.", "Birds", "NOUN", "bird"),
    ],
)
def test_english_words_get_the_expected_tag_and_lemma(sentence, word, pos, lemma):
    token = word_of("en", sentence, word)
    assert (token.pos_, token.lemma_) == (pos, lemma or token.lemma_)


@pytest.mark.parametrize(
    ("sentence", "word", "pos"),
    [
        ("北京大学的学生喜欢唱歌。", "北京大学", "PROPN"),
        ("北京大学的学生喜欢唱歌。", "学生", "NOUN"),
        ("北京大学的学生喜欢唱歌。", "喜欢", "VERB"),
        ("北京大学的学生喜欢唱歌。", "。", "PUNCT"),
        ("今晚下雪了，要不要来我家涮羊肉？", "下雪", "VERB"),
        ("今晚下雪了，要不要来我家涮羊肉？", "涮羊肉", "NOUN"),
        ("哎呀，真好吃！", "哎呀", "INTJ"),
        ("我的iPhone手机", "iPhone", "NOUN"),
        ("漂亮的衣服", "漂亮", "ADJ"),
        ("漂亮的衣服", "衣服", "NOUN"),
        ("老师在教室里看电影", "电影", "NOUN"),
        ("我买了三斤苹果", "苹果", "NOUN"),
    ],
)
def test_chinese_words_get_the_expected_tag(sentence, word, pos):
    token = word_of("zh", sentence, word)
    assert (token.pos_, token.lemma_) == (pos, word.lower())


@pytest.mark.slow
def test_chinese_words_and_tags_are_jieba_s():
    rows = [json.loads(line) for line in TASKS["douban"].sample.read_text(encoding="utf-8").splitlines()[::8]]
    tagger = jieba.posseg.POSTokenizer(jieba.Tokenizer())
    for _ in range(2):  # the second time from memory
        for row in rows:
            doc, pairs = NLP["zh"](row["target"]), tagger.lcut(row["target"])
            assert [token.text for token in doc] == [pair.word for pair in pairs]
            assert [token.pos_ for token in doc] == [jieba_tokenizer.part_of_speech(pair.word, pair.flag) for pair in pairs]


@settings(deadline=None, max_examples=300)
@given(run=st.text(alphabet="".join(list(jieba.posseg.char_state_tab_P)[::60]) + "\u3fff的我了", min_size=1, max_size=9))
def test_runs_of_characters_have_jieba_s_best_states(run):
    """Also with characters that it does not know."""
    tables = (jieba.posseg.char_state_tab_P, jieba.posseg.start_P, jieba.posseg.trans_P, jieba.posseg.emit_P)
    assert jieba_tokenizer.best_states(run) == jieba.posseg.viterbi(run, *tables)[1]


def test_what_others_left_of_jieba_changes_no_word(tmp_path, monkeypatch):
    """A cache that another program wrote, and words that another part of this process added."""
    text = "北京大学的学生喜欢唱歌。"
    expected = [token.text for token in NLP["zh"](text)]
    assert "北京大学" in expected
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps(({"北": 1, "京": 1, "生喜": 9}, 11)))
    monkeypatch.setattr(jieba, "dt", jieba.Tokenizer())
    monkeypatch.setattr(jieba.posseg.dt, "tokenizer", jieba.dt)
    jieba.dt.add_word("生喜欢", 10**9, "n")
    assert jieba.posseg.lcut(text)[-3].word != expected[-3], "the global one is led astray"
    assert [token.text for token in tagging.load_pipeline("zh", "builtin")(text)] == expected
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]


@pytest.mark.parametrize(("language", "text", "count"), [("en", "A cat sat. A dog ran! Why?", 3), ("zh", "下雪了。来吗？好啊！\n走", 5)])
def test_sentences_end_at_their_marks(language, text, count):
    assert len(list(NLP[language](text).sents)) == count


@settings(deadline=None, max_examples=300)
@given(tags=st.text(alphabet=list(LETTERS), max_size=14))
def test_noun_chunks_are_the_longest_nominal_runs_that_end_in_a_noun(tags):
    doc = Doc(Vocab(), words=[f"w{i}" for i in range(len(tags))], pos=[LETTERS[letter] for letter in tags])
    expected = [match.span() for match in re.finditer("[ANP]*[NP]", tags)]
    assert [(start, end) for start, end, _ in tagging.noun_chunks(doc)] == expected


def test_a_model_folder_tags_the_text(model):
    nlp = tagging.load_pipeline("en", model)
    with nlp.select_pipes(disable="textrank"):
        assert [(t.pos_, t.lemma_) for t in nlp("Small dogs see cats")] == [
            ("ADJ", "small"),
            ("NOUN", "hound"),
            ("VERB", "see"),
            ("NOUN", "cat"),
        ]


@pytest.mark.parametrize("unit", ["word", "phrase"])
def test_a_model_folder_gives_keywords(model, unit):
    found = KeywordExtractor("en", model, unit).extract("Small dogs see cats.")
    assert {word for keyword in found for word in keyword.text.split()} >= {"hound", "cat"}


@Language.component("all_nouns")
def all_nouns(doc):
    for token in doc:
        token.pos_ = "NOUN"
    return doc


@pytest.mark.parametrize("language", ["en", "zh"])
def test_auto_picks_the_trained_model_where_it_is_installed(language, monkeypatch):
    asked = []
    model = spacy.blank(language)
    model.add_pipe("all_nouns")
    monkeypatch.setattr(spacy.util, "is_package", lambda name: name == tagging.TRAINED[language])
    monkeypatch.setattr(spacy, "load", lambda name, **_: asked.append(name) or model)
    assert tagging.resolve_tagger(language, "auto") == tagging.TRAINED[language]
    assert tagging.load_pipeline(language).lang == language
    assert asked == [tagging.TRAINED[language]]
    assert tagging.describe_tagger(language, "auto").startswith(tagging.TRAINED[language])


@pytest.mark.parametrize(("unit", "left_out"), [("word", ["ner", "parser"]), ("phrase", ["ner"])])
def test_words_need_no_parser_only_the_ends_of_sentences(monkeypatch, unit, left_out):
    asked = []

    def load(name, exclude):
        asked.append(exclude)
        model = spacy.blank("en")
        model.add_pipe("all_nouns")
        model.add_pipe("sentencizer", name="senter")  # as spaCy's models come: there, and off
        model.disable_pipe("senter")
        return model

    monkeypatch.setattr(spacy, "load", load)
    nlp = KeywordExtractor("en", "some_model", unit).nlp
    assert asked == [left_out]
    assert ("senter" in nlp.pipe_names) == (unit == "word")
    assert len(list(nlp("Cats sleep. Dogs bark.").sents)) == 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_auto_is_built_in_where_no_trained_model_is_installed(language, monkeypatch):
    monkeypatch.setattr(spacy.util, "is_package", lambda _: False)
    assert tagging.resolve_tagger(language, "auto") == tagging.BUILT_IN
    assert tagging.resolve_tagger(language, "some_model") == "some_model"


@pytest.mark.parametrize("name", ["no_such_model", "/no/such/folder", "", str(Path(__file__))])
def test_a_missing_model_is_a_user_error_with_a_remedy(name):
    with pytest.raises(UserError, match=rf"--tagger={re.escape(name)}: .*(pass|install)"):
        tagging.load_pipeline("en", name)


def test_a_model_for_another_language_is_a_user_error_with_a_remedy(model):
    with pytest.raises(UserError, match=r"'en'.*'zh'.*\b(pass|give|install)\b"):
        tagging.load_pipeline("zh", model)


def test_a_model_without_a_tagger_is_a_user_error(tmp_path):
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(UserError, match="--tagger"):
        KeywordExtractor("en", str(tmp_path)).extract("A cat sat.")


@pytest.mark.parametrize(
    ("language", "packages"), [("en", ["spacy", "pytextrank", "textblob", "spacy-lookups-data"]), ("zh", ["spacy", "pytextrank", "jieba"])]
)
def test_the_description_names_versions(language, packages):
    described = tagging.describe_tagger(language, "builtin")
    assert described.startswith("builtin")
    assert all(f"{package} {version(package)}" in described for package in packages)


def test_the_description_of_a_model_names_its_own_version(tmp_path):
    nlp = spacy.blank("en")
    nlp.meta["version"] = "7.8.9"
    nlp.to_disk(tmp_path / "model")
    assert "7.8.9" in tagging.describe_tagger("en", str(tmp_path / "model"))
