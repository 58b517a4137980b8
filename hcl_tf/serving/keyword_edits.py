"""Compares a system's answers to a text before and after a person edited its keywords: the outputs, and the prior of z."""

import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hcl_tf.data.corpora.text_files import MOST_CHARACTERS_A_LINE
from hcl_tf.decoding.generator import Generator
from hcl_tf.decoding.source_reader import TURN_SEPARATOR, SourceReader
from hcl_tf.decoding.sources import Source
from hcl_tf.errors import UserError
from hcl_tf.progress import working
from hcl_tf.studies.keyword_control.measures import prior_kl
from hcl_tf.training.trained_run import TrainedRun

SCRIPTS = {"en": "LATIN", "zh": "CJK"}
LANGUAGES = {"en": "English", "zh": "Chinese"}
EXAMPLES = 24  # texts of the test split that a page has ready
FREQUENT = 200  # words of the keyword graph that a page suggests
LOOKED_AT = 2_000  # among so many first records; a test split can be long, and a page should open at once


@dataclass(frozen=True)
class Example:
    """A text of a test split, its turns or sentences one a line, and the target that the data have for it."""

    text: str
    target: str


@dataclass(frozen=True)
class PriorChange:
    """How far the prior moved by the edit.

    Attributes:
      shift: [Z] |mu_edited - mu_own| / sigma_own. kl: KL(edited || own), nats. kl_back: KL(own || edited), nats.
    """

    shift: np.ndarray
    kl: float
    kl_back: float


@dataclass(frozen=True)
class Answer:
    """A system's answer to a text with some keywords.

    Attributes:
      unknown: the keywords that the graph lacks. beams: hypotheses with their scores, best first.
      prior: mean and standard deviation, [Z] each; None: the system has no z.
    """

    keywords: tuple[str, ...]
    unknown: tuple[str, ...]
    beams: tuple[tuple[str, float], ...]
    prior: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class Comparison:
    """A run's answers with a text's own keywords and with edited ones. `change` is None where there is no z."""

    own: Answer
    edited: Answer
    change: PriorChange | None


def prior_change(own: tuple[np.ndarray, np.ndarray], edited: tuple[np.ndarray, np.ndarray]) -> PriorChange:
    """Measures how far the prior moved, from mean and standard deviation of each, [Z]."""
    (mean, deviation), (mean_edited, _) = ([np.asarray(part, np.float64) for part in pair] for pair in (own, edited))
    shift = np.abs(mean_edited - mean) / deviation
    return PriorChange(shift, *(float(prior_kl(*pair)) for pair in ((edited, own), (own, edited))))


class EditableRun:
    """A trained run that answers one text at a time. Calls from several threads take turns.

    Args:
      trained: the run. name: for people.

    Attributes:
      uses_keywords: whether keywords can change its outputs. ordered: whether their order can.
      notes: lines for the user. language: "en" or "zh". most_keywords: the most that a text may have.
      frequent: the most frequent keywords of the graph, in their order.

    Raises:
      UserError: something of the run is missing or damaged.
    """

    def __init__(self, trained: TrainedRun, name: str) -> None:
        self._trained, self.name = trained, name
        self._reader = SourceReader(trained.manifest, trained.tokenizer, trained.graph)
        self._batches = trained.source_batches()
        self._generator = Generator(trained.system, trained.tokenizer)
        self._lock = threading.Lock()
        self.uses_keywords, self.ordered = trained.system.uses_keywords, trained.settings.append_keywords
        self.notes = tuple(self._reader.notes)
        self.language, self.most_keywords = trained.inputs.language, trained.inputs.max_keywords
        self.frequent = tuple(trained.graph.nodes[node] for node in np.argsort(-trained.graph.counts, kind="stable")[:FREQUENT])

    @property
    def model(self) -> str:
        """The system's name and the step of its checkpoint."""
        return f"{self._trained.settings.model}, step {self._trained.step:,}"

    def examples(self) -> list[Example]:
        """Returns up to `EXAMPLES` texts of the test split, with two keywords at least where there are such, spread over the split.

        Raises:
          UserError: the data that the run was trained on are not there.
        """
        found: dict[str, Example] = {}
        few: dict[str, Example] = {}
        for record in islice(self._trained.prepared.records("test"), LOOKED_AT):
            kept = found if len(record.source.keywords) > 1 else few
            kept.setdefault(record.source.raw, Example(record.source.raw, record.target.raw))
        chosen = list((found or few).values())
        return chosen[:: max(1, len(chosen) // EXAMPLES)][:EXAMPLES]

    def own_keywords(self, text: str) -> tuple[str, ...]:
        """Returns TextRank's keywords of a text, best first. Raises `UserError` for a text that this run can't take."""
        with self._lock:
            return self._read(text).keywords

    def compare(self, text: str, keywords: Sequence[str]) -> Comparison:
        """Answers a text with its own keywords and with those that are given.

        Raises:
          UserError: no text, a text in the script of another language, a keyword without a word, or too many of them.
        """
        with self._lock:
            edited = self._reader.normalised(keywords)
            own, other = self._read(text), self._read(text, edited)
            answers = [self._answer(own)]
            same = other.keywords == own.keywords or not self.uses_keywords
            answers.append(answers[0] if same else self._answer(other))
        priors = [answer.prior for answer in answers]
        return Comparison(*answers, prior_change(*priors) if None not in priors else None)

    def _read(self, text: str, keywords: tuple[str, ...] | None = None) -> Source:
        check_text(self._reader.normal(text), self.language)
        source = self._reader.read(TURN_SEPARATOR.join(text.strip().splitlines()), keywords)
        if source is None:
            raise UserError("there is no text; type one")
        return source

    def _answer(self, source: Source) -> Answer:
        batch = self._batches.make([source], 0)
        (beams,) = self._generator.beams(batch, [source.text])
        prior = self._generator.prior(batch)
        return Answer(source.keywords, self._reader.unknown(source.keywords), tuple(beams), prior and (prior[0][0], prior[1][0]))


def check_text(text: str, language: str) -> None:
    """Raises `UserError` for a text that is empty, too long, or mostly in letters that the language does not use."""
    if not text.strip():
        raise UserError("there is no text; type one")
    if len(text) > MOST_CHARACTERS_A_LINE:
        raise UserError(f"the text has over {MOST_CHARACTERS_A_LINE:,} characters; give a shorter one")
    letters = [character for character in text if character.isalpha()]
    fitting = sum(unicodedata.name(letter, "").startswith(SCRIPTS[language]) for letter in letters)
    # English words stand in many a Chinese text; the other way round hardly ever.
    if letters and (fitting == 0 if language == "zh" else 2 * fitting < len(letters)):
        raise UserError(f"the text is not in {LANGUAGES[language]}, which this run was trained on; type one that is")


def load(folders: Sequence[Path], checkpoint: str, data_dir: Path | None = None) -> list[EditableRun]:
    """Loads the runs of several folders.

    Args:
      data_dir: where the prepared data are now, from which examples come; None: where the training had them.

    Raises:
      UserError: a folder holds no finished run, is given twice, or runs are of different languages.
    """
    found: list[EditableRun] = []
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("--run_dir: a folder is given twice; give each once")
    runs = [TrainedRun(folder, checkpoint, data_dir, finished=True) for folder in folders]  # all before the first, slow, model is built
    names = [folder.resolve().name for folder in folders]
    for folder, run, name in zip(folders, runs, names, strict=True):
        with working(f"loading {folder}"):
            found.append(EditableRun(run, name if names.count(name) == 1 else str(folder)))
    if len({run.language for run in found}) > 1:
        raise UserError("--run_dir: the runs are of different languages; a page has one text for all of them, so give those of one")
    return found
