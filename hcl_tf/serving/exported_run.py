"""Opens a folder that serving/export.py wrote, so that it is used like the run that it was made of (training/trained_run.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import tensorflow as tf
from absl import logging

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.keywords import graph as keyword_graph
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.store.tfrecords import GRAPH
from hcl_tf.data.tokenizers import library, normalization, wordpiece
from hcl_tf.data.tokenizers.wordpiece import SPECIAL_PIECES, Tokenizer
from hcl_tf.decoding.sources import SourceBatches
from hcl_tf.errors import UserError
from hcl_tf.files.json_text import from_json
from hcl_tf.layers.latent import Gaussian, gaussian
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.progress import working
from hcl_tf.serving.export import DESCRIPTION, FORMAT, KEYWORDS_FOUND, PRIOR, SCORE, SIGNATURE
from hcl_tf.settings import Settings


@contextmanager
def _without_warnings() -> Iterator[None]:
    """TensorFlow warns of every custom gradient that was not saved, and nobody asks an exported model for one."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


class ExportedSystem:
    """What a SavedModel's signatures offer of a system (`models.base.System`): it decodes as it was exported.

    Args:
      program: the loaded SavedModel. settings: of the run. uses_keywords: as of `System`.

    Attributes:
      has_latent, is_trained: whether there are the signatures `prior` and `score`.
    """

    def __init__(self, program, settings: Settings, uses_keywords: bool) -> None:
        self._program = program  # whose variables live as long as it does
        self.settings, self.uses_keywords = settings, uses_keywords
        self.has_latent, self.is_trained = PRIOR in program.signatures, SCORE in program.signatures

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Does as `System.generate`. Raises `UserError` where z is to be drawn, for which an export has no signature."""
        if noise is not None:
            raise UserError("samples: an exported model takes z at the prior's mean; open the run that it was made of")
        found = self._call(SIGNATURE, batch)
        return found["ids"], found["scores"]

    def source_prior(self, batch: Batch) -> Gaussian | None:
        """Does as `System.source_prior`."""
        if not self.has_latent:
            return None
        found = self._call(PRIOR, batch)
        return gaussian((found["mean"], found["deviation"]))

    def target_nll(self, batch: Batch) -> tf.Tensor:
        """Does as `System.target_nll`."""
        return -self._call(SCORE, batch)["log_probability"]

    def length(self, column: str) -> int:
        """Returns how many entries a row of an input has, such as K of source_nodes."""
        return self._inputs(SIGNATURE)[column].shape[1]

    def _call(self, name: str, batch: Batch) -> dict[str, tf.Tensor]:
        return self._program.signatures[name](**{column: batch[column] for column in self._inputs(name)})

    def _inputs(self, name: str) -> dict[str, tf.TensorSpec]:
        return self._program.signatures[name].structured_input_signature[1]


class ExportedRun:
    """An exported run, with those attributes of `TrainedRun` that texts in and texts out need.

    Args:
      folder: what `hcl_tf.generate --export` wrote, by this version or an earlier one.

    Attributes:
      path: the folder. format: of the export. task, checkpoint, step: of the run. settings: its settings.

    Raises:
      UserError: a file is missing or damaged, or a later version wrote it; raised on opening, or when a part is first asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.path, file = folder, folder / DESCRIPTION
        try:
            self._description = found = from_json(file.read_bytes())
            self.task, self.checkpoint, self.step, self.format = (found[name] for name in ("task", "checkpoint", "step", "format"))
            settings = found["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: can't be read ({error}); export the run again") from error
        if self.format > FORMAT:
            raise UserError(f"{file}: of format {self.format}, and this version reads up to {FORMAT}; use the version that exported it")
        self.settings = registry.read(settings, file)

    @cached_property
    def manifest(self) -> dict:
        """What a manifest of prepared data says of how texts are read."""
        found = self._description
        return {
            "task": {name: found[name] for name in ("language", "source_length", "source_keep")},
            "settings": {"tagger": "auto", "keyword_unit": found["keyword_unit"], "max_keywords": found["max_keywords"]},
            "tagger": found["tagger"],
            "normalization": found.get("normalization", normalization.NONE),
            **{name: found[name] for name in KEYWORDS_FOUND if name in found},
        }

    @cached_property
    def graph(self) -> KeywordGraph:
        """The keyword graph."""
        try:
            return keyword_graph.load(self.path / GRAPH)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{self.path / GRAPH}: can't be read ({error}); export the run again") from error

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokeniser that cut the run's texts into pieces."""
        pieces = self.path / self._description.get("pieces", "vocab.txt")
        return library.load(pieces) if pieces.is_dir() else wordpiece.from_file(pieces)

    @property
    def target_length(self) -> int | None:
        """The most pieces of a target; None: an earlier version exported it, and it can't score targets."""
        return self._description.get("target_length")

    @cached_property
    def system(self) -> ExportedSystem:
        """The model, ready to be used."""
        try:
            with working("loading the model"), _without_warnings():
                program = tf.saved_model.load(str(self.path))
        except Exception as error:  # TensorFlow raises what the damaged part happens to raise
            raise UserError(f"{self.path}: the model can't be read ({str(error).splitlines()[0]}); export the run again") from error
        # Of earlier exports nobody knows whether keywords matter, so they are taken.
        return ExportedSystem(program, self.settings, self._description.get("uses_keywords", True))

    def source_batches(self) -> SourceBatches:
        """Returns the object that makes batches of sources for this model."""
        length = self.system.length("source_ids") - SPECIAL_PIECES
        return SourceBatches(self.tokenizer, length, self.system.length("source_nodes"), self.settings.append_keywords)
