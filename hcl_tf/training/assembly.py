"""Builds a system from settings and prepared data, and stores in the run what generation needs to build it again."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import tf_keras as keras

from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.store.tfrecords import GRAPH, MANIFEST, VOCABULARY
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.data.tokenizers.wordpiece import Tokenizer
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings
from hcl_tf.training.initialization import Initialization
from hcl_tf.training.run_folder import RunFolder

INPUTS = "inputs.json"
TOKENIZER = "data/tokenizer"
KEYWORD_PIECES = 8  # an encoder reads so many pieces of a keyword at most
# Fields of `Inputs` that are not stored, because they are computed from the stored graph and vocabulary.
DERIVED = ("neighbours", "keyword_ids")


def output_ids(data: PreparedData, train: SplitArrays, which: str) -> np.ndarray:
    """Returns the vocabulary ids that outputs may contain, [V'] int32, ascending.

    Args:
      train: the training split. which: "full": the whole vocabulary; "train": the pieces of training targets, and the special pieces.
    """
    t = data.tokenizer
    if which == "full":
        return np.arange(len(t), dtype=np.int32)
    kept = np.union1d(np.unique(train.target_ids), [t.pad_id, t.unknown_id, t.cls_id, t.sep_id]).astype(np.int32)
    return kept[kept < len(t)]  # a tokeniser may number its padding past its pieces


def inputs_of(data: PreparedData, shape: EncoderShape | None, kept: np.ndarray, library: dict | None = None) -> Inputs:
    """Collects what a system may know of prepared data.

    Args:
      shape: the encoder's sizes; None for a system without weights. kept: [V'] `output_ids`.
      library: the configuration of published weights of a library's model, if there are any.
    """
    t = data.tokenizer
    return Inputs(
        data.manifest["task"]["language"], data.source_length, data.target_length, data.max_keywords,
        t.pad_id, t.unknown_id, t.cls_id, t.sep_id, len(t), kept, data.whole_graph, keyword_ids(data.graph, t), shape, library,
    )  # fmt: skip


def keyword_ids(graph: KeywordGraph, tokenizer: Tokenizer) -> np.ndarray:
    """Returns `Inputs.keyword_ids`, [N, P] int32: of each keyword at most `KEYWORD_PIECES` pieces, in one row for each node."""
    texts = [pieces[:KEYWORD_PIECES] for pieces in tokenizer.encode(list(graph.nodes))]
    return tokenizer.framed(texts, max(map(len, texts), default=0))


def new_system(settings: Settings, inputs: Inputs, begun: Initialization | None) -> tuple[System, list[str]]:
    """Builds a system at its starting weights.

    Args:
      begun: None where the weights do not matter, because those of a checkpoint will replace them.

    Returns:
      The system, and lines that say which published tensor went into which variable.
    """
    keras.utils.set_random_seed(settings.seed)
    half = getattr(settings, "mixed_precision", False)
    keras.mixed_precision.set_global_policy("mixed_float16" if half else "float32")
    system = registry.build(settings, inputs)
    lines = system.load_published(begun.published) if begun and begun.published else []
    if begun and begun.trunk:
        lines += begun.trunk.put(system, variables(system))
    return system, lines


def variables(system: System) -> dict[str, object]:
    """Returns all variables of a system by path. Paths are made of attribute names, so they are the same in every process.

    Raises:
      ValueError: a variable has no path, so that no checkpoint could hold it.
    """
    found = system.get_weight_paths()
    if len({id(v) for v in found.values()}) != len({id(v) for v in system.variables}):
        raise ValueError("a variable of the system has no path")
    return {f"model/{path}": v for path, v in sorted(found.items())}


def store_inputs(run: RunFolder, data: PreparedData, inputs: Inputs) -> None:
    """Copies into the run what generation needs besides weights.

    Raises:
      UserError: a file can't be read, or the run was begun with another one.
    """
    for name in (VOCABULARY, GRAPH, MANIFEST):
        run.store(data.folder / name, f"data/{name}")
    if isinstance(data.tokenizer, LibraryTokenizer):  # it came with the weights; the prepared folder does not hold it
        with tempfile.TemporaryDirectory() as folder:
            data.tokenizer.save(Path(folder))
            run.store(Path(folder), TOKENIZER)
    record = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs) if f.name not in (*DERIVED, "output_ids", "shape")}
    record |= {"output_ids": inputs.output_ids.tolist(), "shape": inputs.shape and inputs.shape.to_dict()}
    run.write_json(INPUTS, record)


def default_data_dir(task: str) -> Path:
    """Returns the folder that hcl_tf.prepare writes a task's data to where --out is not given."""
    return Path("tfrecords") / task
