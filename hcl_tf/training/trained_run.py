"""Opens trained runs, for evaluation, studies, generation, exports and the demo.

Opening a run checks what is cheap to check. Its model is built, and its data are read, when they are first asked for.
"""

import dataclasses
import json
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from hcl_tf.data.keywords import graph as keyword_graph
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.store import retokenized
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import GRAPH, MANIFEST, VOCABULARY
from hcl_tf.data.tokenizers import library, wordpiece
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.decoding.generator import Generator
from hcl_tf.decoding.sources import SourceBatches
from hcl_tf.errors import UserError
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.progress import working
from hcl_tf.training import checkpoints, trunk
from hcl_tf.training.assembly import DERIVED, INPUTS, TOKENIZER, default_data_dir, keyword_ids, new_system, variables
from hcl_tf.training.checkpoints import Checkpoint
from hcl_tf.training.initialization import initialize
from hcl_tf.training.run_folder import Run, load_run
from hcl_tf.training.text_states import TextStates
from hcl_tf.training.validation import Validation

BEST = ("best_loss", "best_nll")  # the checkpoints of every run: smallest validation loss, as in the paper; smallest NLL alone


class TrainedRun:
    """A run at one of its checkpoints.

    Args:
      run_dir: the folder that training wrote. checkpoint: the checkpoint's name.
      data_dir: the prepared folder that the run was trained on; None: as the run has it (`data_of`). It is not opened
        before data are asked for.
      finished: whether to refuse a run whose training has not ended.

    Attributes:
      run, settings, model (the system's class), checkpoint.

    Raises:
      UserError: something is missing, damaged, or belongs to other data; raised on opening, or when a part is first asked for.
    """

    def __init__(self, run_dir: Path, checkpoint: str = BEST[0], data_dir: Path | None = None, finished: bool = False) -> None:
        self.run: Run = load_run(run_dir)
        if finished and not self.run.finished:
            raise UserError(f"--run_dir={self.run.path}: not finished; the same hcl_tf.train command goes on with it")
        self.settings = registry.read(self.run.config["settings"], self.run.path)
        self.model = registry.class_of(self.settings.model)
        self.checkpoint, self._data_dir = checkpoint, data_dir
        # What takes long is done once, whoever asks.
        self.generator, self.diagnosed = cache(self._generator), cache(self._diagnosed)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def task(self) -> str:
        """The name of the run's task."""
        return self.run.config["task"]

    @property
    def target_length(self) -> int:
        """The most pieces of a target, without special ones."""
        return self.inputs.target_length

    @cached_property
    def manifest(self) -> dict:
        """The manifest of the prepared data that the run was trained on, from the run's own copy."""
        return json.loads(self.run.stored(f"data/{MANIFEST}").read_text(encoding="utf-8"))

    @cached_property
    def graph(self) -> KeywordGraph:
        """The keyword graph, from the run's own copy."""
        return keyword_graph.load(self.run.stored(f"data/{GRAPH}"))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokeniser that cut the run's texts into pieces."""
        if self.run.holds(TOKENIZER):
            return library.load(self.run.stored(TOKENIZER))
        return wordpiece.from_file(self.run.stored(f"data/{VOCABULARY}"))

    @cached_property
    def inputs(self) -> Inputs:
        """What the system knows of its task."""
        record = dict(self._recorded_inputs)
        derived = self.graph.table(self.manifest["settings"]["graph_degree"]), keyword_ids(self.graph, self.tokenizer)
        try:
            shape = record.pop("bert", None) or record.pop("shape", None)  # "bert": until version 0.1.0
            record["shape"] = shape and EncoderShape.from_dict(shape)
            record["output_ids"] = np.array(record["output_ids"], np.int32)
            return Inputs(**record, **dict(zip(DERIVED, derived, strict=True)))
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error

    @cached_property
    def system(self) -> System:
        """The system at the checkpoint's weights, ready for inference."""
        with working("building the model"):
            system, _ = new_system(self.settings, self.inputs, None)
        saved, ours = self._saved, variables(system)
        checkpoints.assign(ours, {name: saved.arrays[name] for name in saved.arrays if name.startswith("model/")}, saved.path)
        system.before_inference()
        return system

    @property
    def step(self) -> int:
        """The checkpoint's step."""
        return self._saved.step

    @cached_property
    def prepared(self) -> PreparedData:
        """The data that the run was trained on, as they were prepared."""
        return data_of(self.run.config, self._data_dir)

    @cached_property
    def data(self) -> PreparedData:
        """The data that the run was trained on, as its system sees them."""
        return retokenized.with_tokenizer(self.prepared, self.tokenizer)

    @cached_property
    def beginning(self) -> System:
        """The system as it was before its first step: the same seed, settings and weights, published ones or another run's.

        Raises `UserError` where the published weights can't be had any more, or are not the ones that the run has recorded.
        """
        path, recorded = self.run.path, self.run.config["encoder"]
        try:
            settings, begun = initialize(self.settings, self.data, self.settings.to_dict())
            begun = dataclasses.replace(begun, trunk=trunk.kept(self.run.checkpoints))
        except UserError as error:
            raise UserError(f"{path}: the weights that the run began with can't be had any more: {error}") from error
        if not recorded.startswith(begun.note):  # the record may go on: it says why a random encoder was taken
            raise UserError(f"{path}: begun with other weights ({recorded}) than are here ({begun.note}); install those again")
        system, _ = new_system(settings, self.inputs, begun)
        system.before_epoch(0, TextStates(self.data, self.data.arrays("train"), keep=begun.published is not None))
        system.before_inference()
        return system

    def validation(self, split: str, limit: int | None = None, system: System | None = None) -> Validation:
        """Returns passes over a split, or over its first `limit` examples, with the trained system or the given one."""
        return Validation.of_pairs(system or self.system, self.data, self.data.arrays(split).first(limit))

    def _generator(self, compiled: bool, sampled: bool = False) -> Generator:
        """Returns what decodes with the system; arguments as those of `Generator`."""
        return Generator(self.system, self.tokenizer, compiled, sampled)

    def _diagnosed(self, split: str, limit: int | None) -> dict[str, np.ndarray]:
        """Returns the diagnostics of a split's examples, or of its first `limit` (`Validation.diagnose`)."""
        return self.validation(split, limit).diagnose()

    def source_batches(self) -> SourceBatches:
        """Returns the object that makes batches of sources for this system."""
        return SourceBatches(self.tokenizer, self.inputs.source_length, self.inputs.max_keywords, self.settings.append_keywords)

    @cached_property
    def _saved(self) -> Checkpoint:
        return self.run.checkpoints.read(self.checkpoint)

    @cached_property
    def _recorded_inputs(self) -> dict:
        try:
            return json.loads((self.run.path / INPUTS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.run.path / INPUTS}: can't be read ({error}); train again, or restore the run")


def data_of(config: dict, folder: Path | None) -> PreparedData:
    """Reads the data that a run was trained on, with keywords appended if the run's have them.

    Args:
      config: the run's. folder: the prepared folder; None: the one that the training had, while it is there, else tfrecords/<task>.

    Raises:
      UserError: there are no prepared data, or other data than the run's.
    """
    given = config.get("data_dir")
    folder = folder or Path(given if given and (Path(given) / MANIFEST).is_file() else default_data_dir(config["task"]))
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"--data_dir={folder}: no prepared data there; pass --data_dir, the folder that the run was trained on "
            "(its command.txt may name it)"
        )
    data = PreparedData(folder)
    if data.manifest["sha256"] != config["data"]:
        raise UserError(
            f"--data_dir={folder}: not the data that the run was trained on (manifest {data.manifest['sha256'][:12]}, "
            f"the run's is {config['data'][:12]}); give that folder, or prepare the same files with the same flags"
        )
    return data.with_keywords() if config["settings"].get("append_keywords") else data
