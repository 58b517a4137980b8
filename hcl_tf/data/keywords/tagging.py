"""Loads the spaCy pipelines that TextRank runs on: a trained one where it is installed, else one that needs no download.

The built-in ones tag from lexica that ship inside PyPI packages: Brill's English lexicon and rules (textblob) with
spaCy's lemma tables (spacy-lookups-data), and jieba's part-of-speech dictionary for Chinese.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc

from hcl_tf.errors import UserError

with contextlib.redirect_stdout(None):  # outside a git checkout of its own, pytextrank prints a path on import
    importlib.import_module("pytextrank")  # registers the "textrank" component

TRAINED = {"en": "en_core_web_sm", "zh": "zh_core_web_sm"}
BUILT_IN = "builtin"
_PROBE = {"en": "Dogs bark at cats.", "zh": "狗在院子里跑。"}
NOMINAL = ("NOUN", "PROPN", "ADJ")

# Penn Treebank tags to Universal ones with the morphology that spaCy's lemmatiser asks for (a word tagged as a base
# form is left alone: "mass" is not the plural of "mas").
_ENGLISH = {
    "NN": ("NOUN", "Number=Sing"), "NNS": ("NOUN", "Number=Plur"), "NNP": ("PROPN", "Number=Sing"), "NNPS": ("NOUN", "Number=Plur"),
    "JJ": ("ADJ", "Degree=Pos"), "JJR": ("ADJ", "Degree=Cmp"), "JJS": ("ADJ", "Degree=Sup"), "RB": ("ADV", ""), "CD": ("NUM", ""),
    "VB": ("VERB", "VerbForm=Inf"), "VBP": ("VERB", "VerbForm=Inf"), "VBZ": ("VERB", "VerbForm=Fin|Person=Three"),
    "VBD": ("VERB", "Tense=Past"), "VBN": ("VERB", "Tense=Past"), "VBG": ("VERB", "Aspect=Prog"), "MD": ("AUX", ""),
    "IN": ("ADP", ""), "DT": ("DET", ""), "PRP": ("PRON", ""),
}  # fmt: skip
_AUXILIARIES = frozenset((
    "be", "am", "is", "are", "was", "were", "been", "being", "have", "has", "had", "having", "do", "does", "did", "doing",
    "'s", "'re", "'ve", "'m", "'d", "'ll", "n't",
))  # fmt: skip
_SUBJECTS = frozenset(("i", "you", "we", "they"))


def load_pipeline(language: str, tagger: str = "auto", parsed: bool = True) -> Language:
    """Loads a spaCy pipeline with tags, lemmas, noun chunks and pytextrank.

    Args:
      language: "en" or "zh".
      tagger: "auto" (the trained model of `TRAINED` if installed, else built in), "builtin", or a spaCy model's name or
        folder.
      parsed: whether a trained model's parser runs, from which it has noun chunks. Words need none, only the ends of sentences.

    Raises:
      UserError: the named model is not there or has no tagger.
    """
    name = resolve_tagger(language, tagger)
    if name == BUILT_IN:
        nlp = spacy.blank(language) if language == "en" else spacy.blank("xx")
        if language == "en":
            nlp.add_pipe("sentencizer")
            nlp.add_pipe("hcl_english_tags")
            nlp.add_pipe("lemmatizer", config={"mode": "rule"})
            nlp.initialize()
        else:
            from hcl_tf.data.keywords.jieba_tokenizer import JiebaTokenizer  # reads jieba's tables, which English needs not

            nlp.tokenizer = JiebaTokenizer(nlp.vocab)
    else:
        nlp = _load_trained(name, language, parsed)
    if "parser" not in nlp.pipe_names:
        nlp.add_pipe("hcl_noun_chunks")
    nlp.add_pipe("textrank")
    return nlp


def _load_trained(name: str, language: str, parsed: bool) -> Language:
    """Loads a spaCy model, and completes it with the ends of sentences, which TextRank needs."""
    instead = f"pass --tagger={BUILT_IN}, or a model such as {TRAINED[language]}"
    try:
        nlp = spacy.load(name, exclude=["ner"] + ["parser"] * (not parsed))
    except (OSError, ImportError, ValueError) as error:
        raise UserError(f"--tagger={name}: spaCy can't load it ({error}); {instead}") from error
    if nlp.lang != language:
        raise UserError(f"--tagger={name}: a model for {nlp.lang!r}, but the task's language is {language!r}; {instead}")
    if not parsed and "senter" in nlp.disabled:  # spaCy's models have one, off while there is a parser
        nlp.enable_pipe("senter")
    if not {"parser", "senter", "sentencizer"} & set(nlp.pipe_names):
        nlp.add_pipe("sentencizer")
    if not any(token.pos_ for token in nlp(_PROBE[language])):
        raise UserError(f"--tagger={name}: the model tags no part of speech, and keywords need it; {instead}")
    return nlp


def resolve_tagger(language: str, tagger: str) -> str:
    """Returns the tagger that "auto" stands for on this machine; other names stay as they are."""
    if tagger != "auto":
        return tagger
    return TRAINED[language] if spacy.util.is_package(TRAINED[language]) else BUILT_IN


def describe_tagger(language: str, tagger: str) -> str:
    """Returns the tagger's name with versions, for the manifest: another version may give other keywords."""
    from importlib.metadata import version

    name = resolve_tagger(language, tagger)
    packages = ["spacy", "pytextrank"]
    if name == BUILT_IN:
        packages += ["textblob", "spacy-lookups-data"] if language == "en" else ["jieba"]
        own = []
    else:
        meta = spacy.load(name, exclude=["ner"]).meta
        own = [f"{meta.get('lang', '')}_{meta.get('name', '')} {meta.get('version', '')}"]
    return f"{Path(name).name} ({', '.join(own + [f'{package} {version(package)}' for package in packages])})"


@Language.component("hcl_noun_chunks")
def set_noun_chunks(doc: Doc) -> Doc:
    """Gives the document `noun_chunks`, for pipelines without a parser."""
    doc.noun_chunks_iterator = noun_chunks
    return doc


@Language.component("hcl_english_tags")
def english_tags(doc: Doc) -> Doc:
    """Sets tags, parts of speech and morphology from Brill's lexicon."""
    from textblob.en import parser

    # A sentence's first word is capitalised whatever it is: unless the lexicon knows it so, its small form is looked up.
    # It also lists hundreds of plurals as names because headlines wrote them so ("Cats"): those are looked up small too.
    lexicon = parser.lexicon
    words = [
        token.lower_
        if (token.is_sent_start and token.text not in lexicon)
        or (lexicon.get(token.text, "").startswith("NNP") and lexicon.get(token.lower_) == "NNS")
        else token.text
        for token in doc
    ]
    for token, (_, tag) in zip(doc, parser.find_tags(words), strict=True):
        tag = tag.split("-")[0]  # "NNP-PERS" and the like
        if tag == "NN" and token.i and doc[token.i - 1].lower_ in _SUBJECTS:
            tag = "VB"  # "do I need", "when you use": the lexicon's most frequent tag is the noun
        token.tag_ = tag
        # "be", "have" and "do" are tagged as verbs; as content words they would be keywords of every question.
        pos, morphology = ("AUX", "") if token.lower_ in _AUXILIARIES else _ENGLISH.get(tag, ("X", ""))
        if token.is_punct or token.is_space:
            pos = "PUNCT"
        token.pos_ = pos
        token.set_morph(morphology)
    return doc


def noun_chunks(span: Doc) -> Iterator[tuple[int, int, int]]:
    """Yields runs of adjectives and nouns that end in a noun, as (start, end, label), like spaCy's parser-based iterator."""
    label = span.vocab.strings.add("NP")
    start = last_noun = None
    for token in span:
        if token.pos_ in NOMINAL:
            start = token.i if start is None else start
            if token.pos_ != "ADJ":
                last_noun = token.i
            continue
        if last_noun is not None:
            yield start, last_noun + 1, label
        start = last_noun = None
    if last_noun is not None:
        yield start, last_noun + 1, label
