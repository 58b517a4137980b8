"""Brings texts to the one form in which they are cut into pieces, tagged and scored, so that one word has one spelling.

A web page leaves marks in its texts that nobody sees: a soft hyphen, a zero-width space, a direction mark, an accent in a character of
its own. For a tagger "cof<U+200B>fee" is another word than "coffee", and so another node of the keyword graph. Raw texts stay as they were
given; prepared data names the normalisation that it was made with, and everything that reads it uses the same one.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from hcl_tf.data.corpora.examples import TURN_BREAK, clean
from hcl_tf.errors import UserError

NONE = "none"  # of folders that were prepared before there was a normalisation
CURRENT = "nfc-visible-1"

_PLAIN = re.compile(r"[\n -~]*")  # nothing in it to be changed, and most English texts are such
# Unicode's default ignorable characters and its control characters, but for the joiner, of which emoji are made.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_EMOJI = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_LOOSE_JOINER = re.compile(f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])")
_FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]+")
_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF10, 0xFF5B)}


def visible(text: str) -> str:
    """Returns a text, cleaned before (`examples.clean`), with every word in its one spelling.

    Characters that show nothing are left out, except a joiner between two emoji. Full-width letters and digits become ASCII ones, what is
    left is composed (NFC), and white space is cleaned once more where something was left out. Signs stay: "，" is Chinese for a comma.
    """
    if _PLAIN.fullmatch(text):
        return text
    found = _spelled(text)
    if found == text:
        return text
    # Where a space goes, marks may come together that have an order, and where these change places, a space may go.
    while (again := _spelled(_cleaned(found))) != found:
        found = again
    return found


def _spelled(text: str) -> str:
    shown = _LOOSE_JOINER.sub("", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", _FULL_WIDTH.sub(lambda match: match[0].translate(_TO_ASCII), shown))


def _cleaned(text: str) -> str:
    return TURN_BREAK.join(turn for turn in map(clean, text.split(TURN_BREAK)) if turn)


def _as_given(text: str) -> str:
    return text


_FORMS: dict[str, Callable[[str], str]] = {NONE: _as_given, CURRENT: visible}


def name_in(manifest: Mapping[str, Any]) -> str:
    """Returns the name of the normalisation that prepared data was made with."""
    return manifest.get("normalization", NONE)


def of(manifest: Mapping[str, Any]) -> Callable[[str], str]:
    """Returns the function that prepared data was normalised with. Raises `UserError` where this version does not have it."""
    name = name_in(manifest)
    if name not in _FORMS:
        raise UserError(
            f"the data was prepared with the normalisation {name!r}, and this version knows {', '.join(_FORMS)}; "
            "use the version that prepared it, or prepare the data again"
        )
    return _FORMS[name]
