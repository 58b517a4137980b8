"""The one tokenisation of every score, so that no system gains or loses by the way its own tokeniser spells a text.

It is BERT's basic tokenisation as the `tokenizers` library does it: lower case, accents stripped, every punctuation mark a
token of its own, and in Chinese every ideograph too, while runs of Latin letters or digits stay whole. Spaces around a
punctuation mark make no difference, which matters: WordPiece gives back "t - shirt" where T5 gives back "t-shirt".
"""

from collections.abc import Iterable

import tokenizers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

_NORMALISERS = {language: BertNormalizer(lowercase=True, handle_chinese_chars=language == "zh") for language in ("en", "zh")}
_SPLITTER = BertPreTokenizer()
TOKENISATION = {  # language -> its part of a signature
    language: f"tok:bert-basic-{unit}-{tokenizers.__version__}|case:lc|accents:no" for language, unit in (("en", "words"), ("zh", "chars"))
}


def words(text: str, language: str) -> list[str]:
    """Splits a text into tokens: English words ("en") or Chinese characters ("zh"). None of them holds white space."""
    return [word for word, _ in _SPLITTER.pre_tokenize_str(_NORMALISERS[language].normalize_str(text))]


def vocabulary(texts: Iterable[str], language: str) -> set[str]:
    """Returns the distinct words of texts, for which a large file of word vectors is then searched."""
    return {word for text in texts for word in words(text, language)}
