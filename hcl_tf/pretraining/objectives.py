"""What each objective hides and asks for. NumPy alone; all draws come from a batch's place in the run, so a resumed run draws the same.

A row holds several texts. `segments` says which text each place belongs to, from 1, and 0 where there is none; `places` says where in its
text. A label is the piece to predict, and padding where nothing is asked.
"""

from dataclasses import dataclass

import numpy as np

from hcl_tf.data.batching.batches import Place
from hcl_tf.pretraining.rows import Packed, Texts

MASKED, REPLACED = 0.8, 0.1  # of the chosen pieces; the rest stays (Devlin et al. 2019, section 3.1)


@dataclass(frozen=True)
class Pieces:
    """What objectives know of the vocabulary.

    Attributes:
      pad_id, unknown_id, cls_id, sep_id, mask_id: special pieces.
      ordinary: [V'] int32 ids of pieces that may be predicted and are not special. inner: [V] bool, the pieces that go on with a word.
      sentinels: [n] int32 ids, which stand for hidden spans in order.
    """

    pad_id: int
    unknown_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    ordinary: np.ndarray
    inner: np.ndarray
    sentinels: np.ndarray


@dataclass(frozen=True)
class Columns:
    """Computes the columns of a batch (`data.batching.batches.Columns`); subclasses say what a row holds.

    Attributes:
      texts, packed: the texts of a split, and which share a row. length: L, places of a row. pieces: of the vocabulary.
      corrupted: share of the pieces that are hidden. mean_span: pieces. whole_words: words are hidden as a whole.
    """

    texts: Texts
    packed: Packed
    length: int
    pieces: Pieces
    corrupted: float = 0.15
    mean_span: float = 3.0
    whole_words: bool = True

    def __call__(self, rows: np.ndarray, filled: np.ndarray, place: Place) -> dict[str, np.ndarray]:
        """Computes the columns of the rows with the numbers `rows` [B]; rows that only fill the batch up ask for nothing."""
        random = place.random()
        batch: dict[str, list[np.ndarray]] = {}
        for number, empty in zip(rows, filled, strict=True):
            for name, values in self.row([] if empty else [self.texts[text] for text in self.packed[number]], random).items():
                batch.setdefault(name, []).append(values)
        return {name: np.stack(values).astype(np.int32) for name, values in batch.items()}

    def row(self, texts: list[np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Computes the columns of one row of these texts, arrays [L] each, or of another length that is the same for all rows."""
        raise NotImplementedError

    def joined(self, texts: list[np.ndarray], length: int) -> dict[str, np.ndarray]:
        """Puts texts behind each other. Returns `ids`, padded, `segments` and `places`, [length] each."""
        ids, segments, places = np.full(length, self.pieces.pad_id), np.zeros(length, int), np.zeros(length, int)
        at = 0
        for number, text in enumerate(texts, 1):
            here = slice(at, at + len(text))
            ids[here], segments[here], places[here] = text, number, np.arange(len(text))
            at += len(text)
        return {"ids": ids, "segments": segments, "places": places}


class MaskedPieces(Columns):
    """Masked language modelling (Devlin et al. 2019): `[CLS] pieces [SEP]`, a share of the row's pieces hidden."""

    @staticmethod
    def places_of(lengths: np.ndarray) -> np.ndarray:
        """How many places texts take: [CLS] and [SEP] stand around each."""
        return lengths + 2

    def row(self, texts: list[np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        p = self.pieces
        row = self.joined([np.concatenate([[p.cls_id], text, [p.sep_id]]) for text in texts], self.length)
        labels = np.full(self.length, p.pad_id)
        chosen = self.chosen(row["ids"], random)
        labels[chosen] = row["ids"][chosen]
        draw = random.random(len(chosen))
        row["ids"][chosen[draw < MASKED]] = p.mask_id
        replaced = chosen[(draw >= MASKED) & (draw < MASKED + REPLACED)]
        row["ids"][replaced] = random.choice(p.ordinary, len(replaced))
        return row | {"labels": labels}

    def chosen(self, ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Chooses places of a row to predict: words in random order, as many as have `corrupted` of its pieces together.

        A word that would make them more is left out, as in the authors' create_pretraining_data.py; of a row with pieces at least one is
        chosen. Without `whole_words` every piece is a word.
        """
        p = self.pieces
        (places,) = np.nonzero((ids != p.pad_id) & (ids != p.cls_id) & (ids != p.sep_id))
        if not len(places):
            return places
        begins = ~p.inner[ids[places]] if self.whole_words else np.ones(len(places), bool)
        begins |= np.diff(places, prepend=-2) > 1  # a text, or what was cut off before it, may begin within a word
        words = np.split(places, np.flatnonzero(begins)[1:])
        wanted, found = max(1, round(len(places) * self.corrupted)), []
        count = 0
        for number in random.permutation(len(words)):
            if count + len(words[number]) <= wanted:
                found.append(words[number])
                count += len(words[number])
            if count == wanted:
                break
        found = found or [words[int(random.integers(len(words)))]]  # every word is longer than what may be hidden
        return np.sort(np.concatenate(found))


class CorruptedSpans(Columns):
    """Span corruption (Raffel et al. 2020, section 3.1.4): each hidden span is one sentinel in the source, and the target lists them.

        source  [CLS] Thank you <1> me to your party <2> week . [SEP]
        target  [CLS] <1> for inviting <2> last <3> [SEP]

    The number of hidden pieces and of spans follows from a text's length; where the spans are is drawn evenly from all divisions. The
    authors' own code lets a text end in a hidden span, which in texts of twelve pieces would nearly always hide the end.
    """

    @property
    def target_length(self) -> int:
        """Places of a row's targets, T."""
        return self.length // 2

    def places_of(self, lengths: np.ndarray) -> np.ndarray:
        """How many places texts take: of the source's, or twice those of the target, whose rows are half as long."""
        hidden, spans = self.sizes(lengths)
        return np.maximum(lengths - hidden + spans + 2, 2 * (hidden + spans + 2))

    def sizes(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many pieces are hidden of texts, and in how many spans: at least one, and never neighbours."""
        hidden = np.clip(np.rint(lengths * self.corrupted), 1, None).astype(int)
        spans = np.clip(np.rint(hidden / self.mean_span), 1, np.maximum(1, np.minimum(hidden, lengths - hidden + 1))).astype(int)
        return hidden, spans

    def row(self, texts: list[np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        p = self.pieces
        sources, targets = [], []
        for text in texts:
            source, target = self.corrupt(text, random)
            sources.append(np.concatenate([[p.cls_id], source, [p.sep_id]]))
            targets.append(np.concatenate([[p.cls_id], target, [p.sep_id]]))
        row = self.joined(sources, self.length)
        read = self.joined([target[:-1] for target in targets], self.target_length)
        labels = self.joined([target[1:] for target in targets], self.target_length)["ids"]
        return row | {"target_ids": read["ids"], "target_segments": read["segments"], "labels": labels}

    def corrupt(self, text: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Hides spans of a text [n]. Returns source and target, without [CLS] and [SEP]."""
        hidden, spans = (int(size) for size in self.sizes(np.array(len(text))))
        lengths = divided(hidden, spans, random)
        # Between two spans stands at least one piece; before the first and behind the last there may be none.
        gaps = divided(len(text) - hidden + 2, spans + 1, random)
        gaps[0] -= 1
        gaps[-1] -= 1
        source, target, at = [], [], 0
        for sentinel, gap, length in zip(self.pieces.sentinels, gaps, lengths, strict=False):
            source += [text[at : at + gap], [sentinel]]
            target += [[sentinel], text[at + gap : at + gap + length]]
            at += gap + length
        return np.concatenate([*source, text[at:]]), np.concatenate([*target, [self.pieces.sentinels[spans]]])


class NextPieces(Columns):
    """Causal language modelling (Radford et al. 2019): `[SEP] pieces`, and each piece and the [SEP] behind the last is predicted.

    Places count on through the row, as in the authors' rows of documents, so that every position is learnt although texts are short.
    """

    @staticmethod
    def places_of(lengths: np.ndarray) -> np.ndarray:
        """How many places texts take: [SEP] stands before each."""
        return lengths + 1

    def row(self, texts: list[np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        end = [self.pieces.sep_id]
        row = self.joined([np.concatenate([end, text]) for text in texts], self.length)
        labels = self.joined([np.concatenate([text, end]) for text in texts], self.length)["ids"]
        return row | {"places": np.arange(self.length), "labels": labels}


KINDS: dict[str, type[Columns]] = {"mlm": MaskedPieces, "span": CorruptedSpans, "causal": NextPieces}


def divided(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """Divides `total` things into `parts` runs of at least one, each division as likely as any other. Returns their lengths [parts]."""
    ends = np.sort(random.choice(total - 1, parts - 1, replace=False) + 1) if parts > 1 else np.zeros(0, int)
    return np.diff(ends, prepend=0, append=total)


def sentinels_needed(length: int, corrupted: float, mean_span: float) -> int:
    """Returns how many sentinels the longest text that fits a row of `length` places needs, the one behind the last span included."""
    return int(np.rint(np.rint(length * corrupted) / mean_span)) + 2
