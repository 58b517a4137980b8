"""Tells how a text file is encoded: guesses it where the file is not UTF-8, and holds what a user names (--encoding) against the bytes.

A guess is only ever put into a message, or makes a file be refused: nothing is read by it. Bytes that are no UTF-8 are nearly always
"valid" in several other encodings, and what decides between GB 18030 and Big5 is which of them makes the bytes common characters:
both standards begin with the few thousand that nearly all text consists of (BUILD_NOTES 101).
"""

import codecs
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path

from hcl_tf.errors import UserError

LOOKED_AT = 1 << 18  # bytes of a file by which it is judged
SURE = 0.8  # share of common characters from which bytes count as Chinese
# codec -> the standards whose first rows hold the common characters, and those rows by their lead bytes. GB 18030 has both scripts.
_SIMPLIFIED = "gb2312", {bytes([lead]) for lead in (0xA1, 0xA3, *range(0xB0, 0xD8))}
_TRADITIONAL = "big5", {bytes([lead]) for lead in range(0xA1, 0xC7)}
_COMMON = {"gb18030": (_SIMPLIFIED, _TRADITIONAL), "big5": (_TRADITIONAL,)}
_FAMILY = {"gb2312": "gb18030", "gbk": "gb18030", "gb18030": "gb18030", "big5": "big5", "big5hkscs": "big5", "cp950": "big5"}
CHINESE = tuple(_COMMON)
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NEWLINES = {"utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}


def codec_of(name: str) -> str:
    """Returns Python's name of an encoding. Raises `UserError` where it is none in which a line of text ends as in ASCII or UTF-16."""
    try:
        codec = codecs.lookup(name).name
        ascii_text = bytes(range(32, 127)) + b"\t\r\n"
        if codec.startswith("utf-16") or ascii_text.decode(codec) == ascii_text.decode("ascii"):
            return codec
    except (LookupError, ValueError):  # unknown; or no encoding of text, or one that ASCII is no part of
        pass
    raise UserError(f"--encoding={name}: not an encoding that can be read; utf-8, utf-16, gb18030, big5 or cp1252, for example")


@lru_cache(maxsize=4)  # the same lines of a file are asked about for each line that is like them
def likely(data: bytes) -> str | None:
    """Guesses the encoding of some whole lines. Returns None where nothing fits, for example for a picture or an archive."""
    if data.startswith(UTF16_MARKS):
        return "utf-16"
    if b"\0" in data:
        return "utf-16" if any(_is_text(data, codec) for codec in _NEWLINES) else None
    if _decoded(data, "utf-8") is not None:
        return "utf-8"  # by chance, too: `agreed` looks more closely where it matters
    shares = {codec: share_of_common(data, codec) for codec in _COMMON}
    best = max(shares, key=shares.__getitem__)
    if shares[best] >= SURE and re.search(rb"[\x80-\xff]{2}", data):  # an accented letter alone can also be half of a rare character
        return best
    return "cp1252" if _decoded(data, "cp1252") is not None else None


def share_of_common(data: bytes, codec: str) -> float:
    """Returns which share of the characters beyond ASCII are common Chinese ones if a codec of `CHINESE` reads the bytes."""
    counts = Counter(character for character in data.decode(codec, errors="replace") if character > "\x7f")
    common = sum(count for character, count in counts.items() if any(_is_in(character, *rows) for rows in _COMMON[codec]))
    return common / max(counts.total(), 1)


def _is_in(character: str, standard: str, leads: set[bytes]) -> bool:
    return character.encode(standard, "ignore")[:1] in leads


def lines_beyond_utf8(path: Path) -> tuple[bytes, bool]:
    """Returns the lines at a file's beginning that are not UTF-8, and whether the whole file is like them.

    It is where they are at least half of the lines with characters beyond ASCII.
    """
    beyond = [other for other in head(path).splitlines(keepends=True) if not other.isascii()]
    foreign = [other for other in beyond if _decoded(other, "utf-8") is None]
    return b"".join(foreign), 2 * len(foreign) >= len(beyond)


def is_western(line: bytes) -> bool:
    """Says whether bytes beyond ASCII stand alone or in twos, as accented letters and dashes do. Chinese ones stand in long rows."""
    return max(map(len, re.findall(rb"[\x80-\xff]+", line)), default=0) <= 2


def head(path: Path) -> bytes:
    """Returns the beginning of a file, up to a line end where it goes on."""
    with path.open("rb") as file:
        data = file.read(LOOKED_AT)
    whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    return data[:whole] if len(data) == LOOKED_AT and whole else data


def agreed(path: Path, encoding: str) -> str:
    """Returns the codec that reads a file which a user says is encoded like this.

    For UTF-16 it names the order of bytes, which the mark at the file's beginning or else its line ends tell.

    Raises:
      UserError: the file is certainly in another encoding, whose text would come out as other characters without any error.
    """
    codec, data = codec_of(encoding), head(path)
    if codec.startswith("utf-16"):
        if data.startswith(UTF16_MARKS):
            return "utf-16-le" if data.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
        orders = [order for order in _NEWLINES if _is_text(data, order)]
        if len(orders) == 1:
            return orders[0]
        raise UserError(f"{path}: not UTF-16, as --encoding={encoding} says{_instead(likely(data), encoding)}")
    found, standard = likely(data), _FAMILY.get(codec)
    rare = standard is not None and share_of_common(data, standard) < SURE / 2
    if found != "utf-16" and (codec == "utf-8" or data.isascii()):
        return codec
    if _is_mostly_utf8(data, by_chance=standard is not None and not rare):
        found = "utf-8"
    elif found == "utf-8":
        found = standard
    if found in ("utf-16", "utf-8") or (found in CHINESE and found != standard) or rare:
        likelier = f", but {found}{_instead(found, encoding)}" if found else "; check how the file was saved"
        raise UserError(f"{path}: probably not {encoding}, as --encoding says{likelier}")
    return codec


def _instead(found: str | None, encoding: str) -> str:
    if found is None or found == encoding:
        return "; check how the file was saved"
    return "; leave --encoding out" if found == "utf-8" else f"; pass --encoding={found}"


def _is_mostly_utf8(data: bytes, by_chance: bool) -> bool:
    """Says whether most lines beyond ASCII are UTF-8.

    Args:
      by_chance: whether they may be in GBK as well: characters of two bytes there can be valid UTF-8, but not of three.
    """
    beyond = [line for line in data.splitlines() if not line.isascii()]
    valid = [text for line in beyond if (text := _decoded(line, "utf-8")) is not None]
    return 2 * len(valid) > len(beyond) and (not by_chance or any(character >= "\u0800" for character in "".join(valid)))


def _decoded(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _is_text(data: bytes, codec: str) -> bool:
    """Says whether bytes are text in one of the two orders of UTF-16: lines, and next to no characters that do not exist."""
    text = _decoded(data[: len(data) // 2 * 2], codec)
    if not text or not ({"\n", "\r", "\t"} & set(text)):
        return False
    odd = sum(unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") and character not in "\t\r\n\f" for character in text)
    return odd <= len(text) / 20
