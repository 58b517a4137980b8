"""The rows of a corpus, whatever file they come from: labelled pairs, and examples with their sources, targets and negatives."""

import re
from dataclasses import dataclass

ROLES = ("source", "target", "negative")  # of the texts of an example
TURN_BREAK = "\n"  # joins turns and sentences in `Example.source`; a tokeniser sees white space, a reader sees turns
# Ideographs and full-width signs; not full-width letters and digits (FF10, FF21 and FF41 on), between which a space parts words.
_CHINESE = "\u3000-\u303f\u3400-\u9fff\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uffef\U00020000-\U0003ffff"
_SHARED = "\u2014\u2018-\u201d\u2026\u00b7"  # dashes, quotes and dots that English uses too: only beside a Chinese character
_BETWEEN_CHINESE = re.compile(f"(?<=[{_CHINESE}])[ \\t]+(?=[{_CHINESE}{_SHARED}])|(?<=[{_SHARED}])[ \\t]+(?=[{_CHINESE}])")


@dataclass(slots=True)
class QuestionPair:
    """A labelled pair of Quora questions."""

    id: str
    question1: str
    question2: str
    duplicate: bool


@dataclass(slots=True)
class SampledPair:
    """A context and response that Group-wise's authors sampled for an example, with two matching scores (about 0 to 1).

    Attributes:
      response_score: how well this response matches the example's context. context_score: this context, the example's response.
    """

    context: str
    response: str
    response_score: float
    context_score: float


@dataclass(slots=True)
class Example:
    """A source with its target.

    Attributes:
      negatives: candidates for the negative that the corpus itself offers, best first. sampled: pairs that it offers (Group-wise).
      group: examples of one group (prefixes of a story, responses to a context) belong in one split, and are never each other's negatives.
      negative: y-, chosen later (negatives.py). route: how it was chosen.
      references: of a test example, further targets that are as right as `target`.
    """

    id: str
    source: str
    target: str
    negatives: tuple[str, ...] = ()
    sampled: tuple[SampledPair, ...] = ()
    group: str = ""
    negative: str = ""
    route: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword of a text.

    Attributes:
      text: as the graph names its node. start, end: it first stands at text[start:end]. rank: its TextRank score.
      nominal: whether it is a noun or name, not an adjective; records do not keep this.
    """

    text: str
    start: int
    end: int
    rank: float
    nominal: bool = True


Row = QuestionPair | Example


def clean(text: str) -> str:
    """Collapses white space, and removes the spaces that word segmentation left between Chinese characters."""
    return _BETWEEN_CHINESE.sub("", " ".join(text.split()))
