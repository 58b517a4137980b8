"""Ranks of words against pytextrank's."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab

from hcl_tf.config import TASKS
from hcl_tf.data.keywords import tagging, word_ranks

PYTEXTRANK = {language: tagging.load_pipeline(language, "builtin") for language in ("en", "zh")}
VOCAB = Vocab()


def check(doc: Doc) -> None:
    expected = {(node.lemma, node.pos): rank for node, rank in doc._.textrank.ranks.items()}
    found = word_ranks.ranks(doc)
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("task", list(TASKS))
def test_ranks_are_pytextrank_s(task):
    rows = [json.loads(line) for line in TASKS[task].sample.read_text(encoding="utf-8").splitlines()[::8]]
    for row in rows:
        check(
            PYTEXTRANK[TASKS[task].language](
                "\n".join((row["target"], *([row["source"]] if isinstance(row["source"], str) else row["source"])))
            )
        )


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(
    tokens=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["NOUN", "VERB", "ADP"]), st.sampled_from([False, False, False, True])),
        max_size=25,
    )
)
def test_ranks_of_any_words_are_pytextrank_s(tokens):
    """With words that follow each other, that stand alone in a sentence, and pairs in both orders, whose counts pytextrank does not add."""
    words, pos, starts = zip(*tokens, strict=True) if tokens else ((), (), ())
    doc = Doc(VOCAB, words=list(words), pos=list(pos), lemmas=list(words), sent_starts=list(starts))
    check(PYTEXTRANK["en"].get_pipe("textrank")(doc))
