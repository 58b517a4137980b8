"""Checks what a user of `hcl_tf.load` gives: texts, and keywords for them. An error names the argument and the place in its list."""

from collections.abc import Iterable, Sequence

from hcl_tf.data.corpora.text_files import MOST_CHARACTERS_A_LINE
from hcl_tf.decoding.source_reader import TURN_SEPARATOR
from hcl_tf.errors import UserError


def line(text: str) -> str:
    """Puts the turns of a dialogue, which are lines, into one line, as readers of files have them."""
    return text.replace("\n", TURN_SEPARATOR)


def as_lists(texts: str | Iterable[str], keywords: Sequence | None, name: str = "texts") -> tuple[list[str], list | None, bool]:
    """Checks texts and their keywords. Returns both as lists, and whether there is one text that was not given in a list."""
    single = isinstance(texts, str)
    if single:
        texts, keywords = [texts], None if keywords is None else [keywords]
    elif not isinstance(texts, Iterable) or isinstance(texts, bytes | dict):
        raise UserError(f"{name}: a string or a list of strings is expected, not {type(texts).__name__}")
    texts = list(texts)
    if not texts:
        raise UserError(f"{name}: the list is empty; give at least one text")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{name}[{place}]: a string is expected, not {type(text).__name__}")
        if len(text) > MOST_CHARACTERS_A_LINE:
            raise UserError(f"{name}[{place}]: over {MOST_CHARACTERS_A_LINE:,} characters; give a shorter text")
    return texts, None if keywords is None else _lists_of_keywords(keywords, len(texts), single), single


def _lists_of_keywords(keywords: Sequence, count: int, single: bool) -> list[list[str] | None]:
    wanted = "a list of keywords for each text is expected, such as [['belly', 'fat'], None]; None: TextRank finds them"
    if single:
        wanted = "a list of keywords is expected, such as ['belly', 'fat']; None: TextRank finds them"
    if isinstance(keywords, str | bytes | dict) or not isinstance(keywords, Iterable):
        raise UserError(f"keywords: {wanted}")
    lists = list(keywords)
    if len(lists) != count:
        raise UserError(f"keywords: {len(lists)} for {count} text{'s' * (count > 1)}; {wanted}")
    for place, given in enumerate(lists):
        if given is None:
            continue
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise UserError(f"{'keywords' if single else f'keywords[{place}]'}: {given!r} is no list; {wanted}")
        lists[place] = list(given)
        if wrong := [keyword for keyword in lists[place] if not isinstance(keyword, str)]:
            raise UserError(f"{'keywords' if single else f'keywords[{place}]'}: {wrong[0]!r} is no string; {wanted}")
    return lists
