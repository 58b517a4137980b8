"""Hides words of real sources, and plants others in their place, in the records of a prepared folder."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record, Text
from hcl_tf.data.tokenizers import wordpiece
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.errors import UserError

WORDS = 64
HIDDEN = "[UNK]"  # stands for a hidden word in a source's text, as the unknown piece does among its ids


def choose_words(data: PreparedData, count: int = WORDS, seed: int = 1) -> dict[str, int]:
    """Draws nodes of the graph that are words of letters and one piece each. Returns word -> id of its piece.

    Raises `UserError` where the graph has fewer than `count`.
    """
    nodes = [node for node in data.graph.nodes if node.isalpha() and node.isascii()]
    single = [(node, pieces[0]) for node, pieces in zip(nodes, data.tokenizer.encode(nodes), strict=True) if len(pieces) == 1]
    if len(single) < count:
        raise UserError(
            f"--data_dir={data.folder}: its graph has only {len(single)} keywords of one piece, and {count} are planted; prepare more "
            "data, or with a larger vocabulary"
        )
    return dict(single[i] for i in np.sort(np.random.default_rng(seed).choice(len(single), count, replace=False)))


def plant(records: Iterable[Record], data: PreparedData, planted: dict[str, int], copies: int, seed: int) -> list[Record]:
    """Replaces a keyword that source and target share by a word drawn uniformly, and hides it in the source's text.

    The word becomes the only keyword of both texts, so nothing but the keyword state tells a decoder which it is, and nothing else is in
    the state. Of the keywords that can be replaced the highest ranked one is. Records without one are left out, and so are records that
    have a planted word already: there some draws would be likelier than others.

    Args:
      records: of a split of `data`. planted: of `choose_words`. copies: draws for each record. seed: of the draws.
    """
    words, random, found = list(planted), np.random.default_rng(seed), []
    for record in records:
        source, target = record.source, record.target
        shared = {keyword.text for keyword in target.keywords}
        keyword = next((keyword for keyword in source.keywords if keyword.text in shared), None)
        drawn = random.integers(len(words), size=copies)
        if keyword is None or _has_any(record, planted):
            continue
        name = keyword.text
        hidden = _encoded(substituted(source, name, HIDDEN), data.tokenizer, *_limit(data))
        for number, draw in enumerate(drawn):
            word = words[draw]
            changed = _encoded(substituted(target, name, word), data.tokenizer, data.target_length, "head")
            if planted[word] in changed.ids:  # else it was cut off
                pair = {"source": _renamed(hidden, name, word), "target": _renamed(changed, name, word)}
                found.append(dataclasses.replace(record, id=f"{record.id}#{number}", **pair))
    return found


def hide_keywords(records: Iterable[Record], data: PreparedData) -> tuple[list[Record], list[Record]]:
    """Hides all keywords of each source in its text; they stay its keywords.

    Records whose source has a keyword that is no node, or that is no keyword of the target, are left out.

    Returns:
      The records that are left, as they were; and with their keywords hidden.
    """
    kept, found = [], []
    for record in records:
        source, names = record.source, {keyword.text for keyword in record.target.keywords}
        if not source.keywords or UNKNOWN in source.nodes or not all(keyword.text in names for keyword in source.keywords):
            continue
        for keyword in source.keywords:
            source = substituted(source, keyword.text, HIDDEN)
        kept.append(record)
        found.append(dataclasses.replace(record, source=_encoded(source, data.tokenizer, *_limit(data))))
    return kept, found


def first_places(records: Sequence[Record], planted: dict[str, int], length: int) -> np.ndarray:
    """Marks the first place of the planted word among each target's tokens. Returns [n, length + 1] float32, one 1 in each row."""
    places = np.zeros((len(records), length + 1), np.float32)
    for row, record in zip(places, records, strict=True):
        row[next(place for place, piece in enumerate(record.target.ids) if piece in planted.values())] = 1.0
    return places


def substituted(text: Text, name: str, word: str) -> Text:
    """Puts `word` in place of a keyword wherever it stands in a text's normal form, which becomes its raw one; ids stay as they are.

    Args:
      name: of the keyword. Its form in the text is replaced, in upper and lower case, where it is a word of its own.
    """
    normal = text.normal
    (form,) = {normal[keyword.start : keyword.end] for keyword in text.keywords if keyword.text == name}
    spans = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(form)}(?!\w)", normal, re.IGNORECASE)]
    spans = spans or [(keyword.start, keyword.end) for keyword in text.keywords if keyword.text == name]
    raw, end = "", 0
    for start, stop in spans:
        raw, end = raw + normal[end:start] + word, stop

    def moved(place: int) -> int:
        """Returns where a place between words is afterwards."""
        return place + sum(len(word) - (stop - start) for start, stop in spans if stop <= place)

    keywords = tuple(dataclasses.replace(k, start=moved(k.start), end=moved(k.end)) for k in text.keywords)
    return dataclasses.replace(text, raw=raw + normal[end:], keywords=keywords, changed=None)


def _encoded(text: Text, tokenizer: Tokenizer, length: int, keep: str) -> Text:
    """Gives a text the ids of its normal form, where each `HIDDEN` is one unknown piece."""
    parts = text.normal.split(HIDDEN)
    ids = [piece for part in tokenizer.encode(parts) for piece in (*part, tokenizer.unknown_id)][:-1]
    return dataclasses.replace(text, ids=wordpiece.cut(ids, length, keep))


def _renamed(text: Text, name: str, word: str) -> Text:
    """Calls a keyword by another name, and leaves it as the text's only one."""
    kept = next(keyword for keyword in text.keywords if keyword.text == name)
    return dataclasses.replace(text, keywords=(dataclasses.replace(kept, text=word),), nodes=(UNKNOWN,))


def _limit(data: PreparedData) -> tuple[int, str]:
    return data.source_length, data.manifest["task"]["source_keep"]


def _has_any(record: Record, planted: dict[str, int]) -> bool:
    """Says whether source or target have one of the words as a piece or as a keyword."""
    texts = (record.source, record.target)
    pieces, names = {piece for text in texts for piece in text.ids}, {keyword.text for text in texts for keyword in text.keywords}
    return bool(pieces & set(planted.values()) or names & planted.keys())
