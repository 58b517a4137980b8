"""A trained run as an object of Python: texts in, texts, scores and priors out (`hcl_tf.load`).

Every method takes one text or a list of texts, and answers one with one answer, a list with a list in its order. A dialogue's turns, or a
story's sentences, are the lines of one text. Whatever can't be used is refused with a `UserError` that names the argument and its place.
"""

import dataclasses
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.batches import Batch
from hcl_tf.decoding.generator import Generator
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.decoding.sources import SHAPES, Source
from hcl_tf.errors import UserError
from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import System
from hcl_tf.serving.arguments import as_lists, line
from hcl_tf.serving.export import DESCRIPTION
from hcl_tf.serving.exported_run import ExportedRun, ExportedSystem
from hcl_tf.settings import DecodingSettings, Settings, check
from hcl_tf.training.trained_run import BEST, TrainedRun

# What `Model.generate` can do otherwise than the run, and the type of each: beams, length_penalty, and so on.
DECODING = {
    f.name: f.type for f in dataclasses.fields(DecodingSettings) if f.name not in {own.name for own in dataclasses.fields(Settings)}
}
MOST_SAMPLES = 1000  # as of the command


class Output(NamedTuple):
    """A generated text.

    Attributes:
      score: its log-probability in nats, divided by the length penalty; comparable among the outputs of one source.
    """

    text: str
    score: float


class Prior(NamedTuple):
    """The prior p(z | x, u) of the latent variable (paper, equation 1), a Gaussian with independent dimensions.

    Attributes:
      mean, deviation: [N, Z] float32 each, of N texts; [Z] of one text. The deviation is the standard deviation.
    """

    mean: np.ndarray
    deviation: np.ndarray


class LogProbability(NamedTuple):
    """How likely a model holds targets for, given their sources.

    Attributes:
      total: [N] float32, log P(target | source) in nats, the end of the text included. tokens: [N] int, the pieces that it is summed over,
        the end among them. per_token: [N] float32, total / tokens. Plain numbers of one text.
    """

    total: np.ndarray
    per_token: np.ndarray
    tokens: np.ndarray


class Model:
    """A trained system that takes and gives texts. Calls from several threads take turns.

    Args:
      opened: a run (`TrainedRun`) or an exported one (`ExportedRun`).

    Attributes:
      system: the name of the system, such as "hcl". task: the name of the task. checkpoint, step: of the weights.
      language: "en" or "zh". settings: the run's. uses_keywords: whether keywords can change outputs. has_latent: whether there is a z.
      most_keywords: the most that a text may have.

    Raises:
      UserError: something of the run is missing or damaged.
    """

    def __init__(self, opened: TrainedRun | ExportedRun) -> None:
        self._opened, self._system, self._tokenizer = opened, opened.system, opened.tokenizer
        self._reader = SourceReader(opened.manifest, opened.tokenizer, opened.graph)
        self._batches = opened.source_batches()
        self._generators: dict[tuple[Settings, bool], Generator] = {}
        self._lock = threading.RLock()
        self.settings: Settings = opened.settings
        self.system, self.task, self.checkpoint, self.step = opened.settings.model, opened.task, opened.checkpoint, opened.step
        self.language, self.most_keywords = opened.manifest["task"]["language"], opened.manifest["settings"]["max_keywords"]
        self.uses_keywords, self.has_latent = self._system.uses_keywords, self._system.has_latent
        for note in self._reader.notes:
            warnings.warn(note, stacklevel=4)

    def __repr__(self) -> str:
        return f"<{self.system} of {self.task}, {self.checkpoint} at step {self.step:,}, from {self._opened.path}>"

    # -- texts out ----------------------------------------------------------------------------------------------------

    def generate(
        self, texts: str | Iterable[str], keywords: Sequence | None = None, *, samples: int = 0, hypotheses: int = 0,
        return_scores: bool = False, **decoding: float,
    ) -> str | Output | list:  # fmt: skip
        """Generates an output for each text, as `python -m hcl_tf.generate` does.

        Args:
          texts: one text, or N of them.
          keywords: a list of keywords for each text, or None where TextRank is to find them; of one text, its list.
          samples: S: a list of S outputs for each text, each from another z drawn from the prior. They depend on the run's seed and on the
            text's place among the N, so the same call gives the same outputs. 0: one output, with z at the prior's mean.
          hypotheses: H: a list of the H best outputs of the search for each text, best first; empty texts with a score of -inf where
            there are fewer. 0: the best one alone.
          return_scores: give `Output`s, texts with their scores, instead of texts.
          decoding: settings of the search for this call, in place of the run's: beams, length_penalty, minimum_length, maximum_length (in
            pieces) and no_repeat_ngram. The first call with other ones takes some seconds.

        Returns:
          N outputs, or N lists of outputs; of one text, its output or its list.

        Raises:
          UserError: an argument can't be used.
        """
        texts, keywords, single = as_lists(texts, keywords)
        self._check_counts(samples, hypotheses)
        settings = self._redecoded(decoding)
        if hypotheses > settings.hypotheses:
            raise UserError(f"hypotheses={hypotheses}: the search has {settings.hypotheses} (beams); ask for more beams, or for fewer")
        sources = self._sources(texts, keywords)
        with self._lock:
            generator = self._generator(settings, bool(samples))
            draws = [self._search(generator, sources, draw) for draw in range(samples or 1)]
        if samples:
            found = [[ranked[0] for ranked in of_text] for of_text in zip(*draws, strict=True)]
        else:
            found = [ranked[:hypotheses] for ranked in draws[0]] if hypotheses else [ranked[0] for ranked in draws[0]]
        if not return_scores:
            found = [[output.text for output in one] if samples or hypotheses else one.text for one in found]
        return found[0] if single else found

    def keywords(self, texts: str | Iterable[str]) -> list:
        """Finds the keywords of texts as preparation does (TextRank).

        Args:
          texts: one text, or N of them.

        Returns:
          N lists of at most `most_keywords` keywords, best first, lower-cased lemmas; of one text, its list.

        Raises:
          UserError: a text can't be used.
        """
        texts, _, single = as_lists(texts, None)
        found = [list(source.keywords) for source in self._sources(texts, None)]
        return found[0] if single else found

    # -- numbers out --------------------------------------------------------------------------------------------------

    def prior(self, texts: str | Iterable[str], keywords: Sequence | None = None) -> Prior:
        """Computes the prior of the latent variable z, from which outputs are made.

        Args:
          texts, keywords: as of `generate`.

        Returns:
          Mean and standard deviation, [N, Z] each; of one text, [Z].

        Raises:
          UserError: an argument can't be used, or the system has no latent variable.
        """
        texts, keywords, single = as_lists(texts, keywords)
        self._check_latent("prior")
        sources, means, deviations = self._sources(texts, keywords), [], []
        with self._lock:
            for block, batch in self._blocks(sources):
                mean, deviation = self._generator(self.settings).prior(batch)
                means.append(mean[: len(block)])
                deviations.append(deviation[: len(block)])
        found = Prior(np.concatenate(means), np.concatenate(deviations))
        return Prior(*(part[0] for part in found)) if single else found

    def score(self, sources: str | Iterable[str], targets: str | Iterable[str], keywords: Sequence | None = None) -> LogProbability:
        """Computes the log-probability of each target given its source; z, if the system has one, is at the prior's mean.

        The search's bounds on lengths do not count here. A target longer than those that the run was trained on is cut as these were, with
        a warning.

        Args:
          sources, keywords: texts and keywords as of `generate`. targets: one for each source.

        Returns:
          Sums and means a token, [N] each; of one source, plain numbers.

        Raises:
          UserError: an argument can't be used, or the system gives no probabilities.
        """
        sources, keywords, single = as_lists(sources, keywords, "sources")
        targets, _, single_target = as_lists(targets, None, "targets")
        if single != single_target or len(sources) != len(targets):
            counts = ["1 text" if one else f"a list of {len(texts)}" for texts, one in ((sources, single), (targets, single_target))]
            raise UserError(f"targets: {counts[1]} for {counts[0]} of sources; give one target for each source")
        if not self._system.is_trained:
            raise UserError(f"score: {self._nothing_of('score', 'gives no probabilities')}")
        read, pieces = self._sources(sources, keywords, "sources"), self._pieces(targets)
        frames, nll = self._tokenizer.framed(pieces, self._opened.target_length), []
        with self._lock:
            for block, batch in self._blocks(read):
                place, rows = len(nll), batch["source_ids"].shape[0]
                chosen = [place + (row if row < len(block) else 0) for row in range(rows)]  # rows that fill up repeat the first
                nll += self._generator(self.settings).nll(batch, frames[chosen])[: len(block)].tolist()
        total, tokens = -np.array(nll, np.float32), np.array([len(ids) + 1 for ids in pieces])
        found = LogProbability(total, total / tokens.astype(np.float32), tokens)
        return LogProbability(*(part[0].item() for part in found)) if single else found

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _sources(self, texts: list[str], keywords: list | None, name: str = "texts") -> list[Source]:
        """Reads texts with their keywords, from which sources are made."""
        if keywords is not None and not self.uses_keywords:
            raise UserError("keywords: this system was trained without keywords, so they can't change anything; leave them out")
        names = [None if given is None else self._normalised(given, place) for place, given in enumerate(keywords or [None] * len(texts))]
        unknown = self._reader.unknown(list(dict.fromkeys(name for given in names for name in given or ())))
        if unknown:
            warnings.warn(f"not in the keyword graph, so counted as unknown: {', '.join(unknown)}", stacklevel=3)
        found = []
        for place, (text, given) in enumerate(zip(texts, names, strict=True)):
            source = self._reader.read(line(text), given)
            if source is None:
                raise UserError(f"{name}[{place}]: holds no text; give one, or leave it out")
            found.append(source)
        return found

    def _normalised(self, keywords: list[str], place: int) -> tuple[str, ...]:
        try:
            return self._reader.normalised(keywords)
        except UserError as error:
            raise UserError(f"keywords[{place}]: {str(error).removeprefix('--keywords: ')}") from error

    def _pieces(self, targets: list[str]) -> list[list[int]]:
        """Cuts targets into pieces, and to the length of those that the run was trained on."""
        texts, most = [self._reader.text_of(line(target)) for target in targets], self._opened.target_length
        if "" in texts:
            raise UserError(f"targets[{texts.index('')}]: holds no text; give one, or leave it and its source out")
        pieces = self._tokenizer.encode(texts)
        for place, ids in enumerate(pieces):
            if len(ids) > most:
                said = f"targets[{place}]: {len(ids)} pieces, cut to {most} as in training; the score is that of what is left"
                warnings.warn(said, stacklevel=3)
        return [ids[:most] for ids in pieces]

    def _check_counts(self, samples: int, hypotheses: int) -> None:
        for name, count, most in (("samples", samples, MOST_SAMPLES), ("hypotheses", hypotheses, MOST_SAMPLES)):
            if not isinstance(count, int | np.integer) or not 0 <= count <= most:
                raise UserError(f"{name}={count!r}: a whole number from 0 to {most} is expected")
        if samples and hypotheses:
            raise UserError("samples and hypotheses: give one of them; a sample is the best hypothesis of its search")
        if samples:
            self._check_latent("samples")

    def _check_latent(self, name: str) -> None:
        if not self.has_latent:
            raise UserError(f"{name}: {self._nothing_of('prior', 'has no latent variable, so there is no prior to draw from')}")

    def _nothing_of(self, signature: str, why: str) -> str:
        """Says why something can't be had: an export may be too old to have it."""
        if isinstance(self._opened, ExportedRun) and self._opened.format == 1:
            return f"this export was written by an earlier version, without the signature {signature!r}; export the run again"
        return f"{self.system} {why}"

    # -- search -------------------------------------------------------------------------------------------------------

    def _redecoded(self, decoding: dict) -> Settings:
        """Returns the run's settings with other ones of the search."""
        for name, value in decoding.items():
            if name not in DECODING:
                raise UserError(f"{name}: unknown option; there are samples, hypotheses, return_scores, {', '.join(DECODING)}")
            whole = DECODING[name] is int
            if isinstance(value, bool) or not isinstance(value, int | np.integer if whole else int | float | np.number):
                raise UserError(f"{name}={value!r}: a {'whole ' if whole else ''}number is expected")
        settings = dataclasses.replace(self.settings, **{name: DECODING[name](value) for name, value in decoding.items()})
        if settings == self.settings:
            return self.settings
        if isinstance(self._system, ExportedSystem):
            name = next(name for name in decoding if getattr(settings, name) != getattr(self.settings, name))
            raise UserError(f"{name}={decoding[name]}: exported with {getattr(self.settings, name)}, which stays; open the run itself")
        if "beams" in decoding and getattr(settings, "search", "beam") != "beam":
            raise UserError(f"beams={settings.beams}: this run searches by {settings.search} search, which has no beams; leave it out")
        most = max(self._opened.target_length, self.settings.maximum_length)
        if settings.maximum_length > most:
            raise UserError(f"maximum_length={settings.maximum_length}: this run learned from texts of at most {most} pieces; give no more")
        try:
            check(DecodingSettings(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(DecodingSettings)}))
        except UserError as error:
            raise UserError(str(error).replace("--", "")) from error
        return settings

    def _generator(self, settings: Settings, sampled: bool = False) -> Generator:
        """Returns the generator of some settings, always the same one, which so is traced once."""
        if (settings, sampled) not in self._generators:
            system = self._system if settings == self.settings else _Redecoded(self._system, settings)
            self._generators[settings, sampled] = Generator(system, self._tokenizer, sampled=sampled)
        return self._generators[settings, sampled]

    def _blocks(self, sources: list[Source]) -> Iterator[tuple[list[Source], Batch]]:
        """Yields the sources of each batch, and the batch."""
        for number, batch in enumerate(self._batches.of(sources)):
            yield sources[number * SHAPES[-1] : (number + 1) * SHAPES[-1]], batch

    def _search(self, generator: Generator, sources: list[Source], draw: int) -> list[list[Output]]:
        """Returns all hypotheses of each source, best first."""
        ranked = (of for block, batch in self._blocks(sources) for of in generator.beams(batch, [source.text for source in block], draw))
        return [[Output(*hypothesis) for hypothesis in hypotheses] for hypotheses in ranked]


class _Redecoded:
    """A system that searches with other settings than its run's, and is the same in all else."""

    def __init__(self, system: System, settings: Settings) -> None:
        self._system, self.settings = system, settings

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Does as `System.generate`, which reads its settings while it is traced."""
        own = self._system.settings
        self._system.settings = self.settings
        try:
            return self._system.generate(batch, noise)
        finally:
            self._system.settings = own


def load(path: str | Path, checkpoint: str | None = None) -> Model:
    """Opens a run or an exported one; see `hcl_tf.load`."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"{path}: no such folder; give one that hcl_tf.train wrote, or hcl_tf.generate --export")
    if (folder / DESCRIPTION).is_file():
        if checkpoint is not None:
            raise UserError(f"checkpoint={checkpoint!r}: {path} is an exported model, which holds one checkpoint only; leave it out")
        return Model(ExportedRun(folder))
    try:
        return Model(TrainedRun(folder, checkpoint or BEST[0]))
    except UserError as error:
        raise UserError(str(error).removeprefix("--run_dir=")) from error
