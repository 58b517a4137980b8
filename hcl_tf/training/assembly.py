"""From settings and prepared data to a system that can train."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import tf_keras as keras

from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.store.tfrecords import GRAPH, MANIFEST, VOCABULARY
from hcl_tf.data.tokenizers.wordpiece import SPECIAL_PIECES, Tokenizer
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models import registry
from hcl_tf.models.base import Inputs, System
from hcl_tf.settings import Settings
from hcl_tf.training.initialization import Initialization
from hcl_tf.training.run_folder import RunFolder

INPUTS = "inputs.json"
TOKENIZER = "data/tokenizer"
KEYWORD_PIECES = 8
DERIVED = ("neighbours", "keyword_ids")  # of `Inputs`: computed again from the stored graph and vocabulary


def output_ids(data: PreparedData, train: SplitArrays, which: str) -> np.ndarray:
    """[V'] the vocabulary ids that outputs may contain; "train": those of training targets and the special ones."""
    t = data.tokenizer
    if which == "full":
        return np.arange(len(t), dtype=np.int32)
    kept = np.union1d(np.unique(train.target_ids), [t.pad_id, t.unknown_id, t.cls_id, t.sep_id]).astype(np.int32)
    return kept[kept < len(t)]  # padding may be numbered past the pieces


def inputs_of(data: PreparedData, shape: EncoderShape | None, kept: np.ndarray, library: dict | None = None) -> Inputs:
    """What a system may know of prepared data (and `library`: of published weights of a library's model)."""
    t = data.tokenizer
    return Inputs(
        data.manifest["task"]["language"], data.source_length, data.target_length, data.max_keywords,
        t.pad_id, t.unknown_id, t.cls_id, t.sep_id, len(t), kept, data.whole_graph, keyword_ids(data.graph, t), shape, library,
    )  # fmt: skip


def keyword_ids(graph: KeywordGraph, tokenizer: Tokenizer) -> np.ndarray:
    """[N, P] what the nodes' keywords are to an encoder (`Inputs.keyword_ids`), cut to `KEYWORD_PIECES`."""
    texts = [[tokenizer.cls_id, *pieces[:KEYWORD_PIECES], tokenizer.sep_id] for pieces in tokenizer.encode(list(graph.nodes))]
    ids = np.full((len(texts), max(map(len, texts), default=SPECIAL_PIECES)), tokenizer.pad_id, np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return ids


def new_system(settings: Settings, inputs: Inputs, begun: Initialization | None) -> tuple[System, list[str]]:
    """A system at its starting weights, and lines that say which published tensor went where."""
    keras.utils.set_random_seed(settings.seed)
    half = getattr(settings, "mixed_precision", False)
    keras.mixed_precision.set_global_policy("mixed_float16" if half else "float32")
    system = registry.build(settings, inputs)
    lines = system.load_published(begun.published) if begun and begun.published else []
    if begun and begun.trunk:
        lines += begun.trunk.put(system, variables(system))
    return system, lines


def variables(system: System) -> dict[str, object]:
    """Path -> variable, for every variable of the system; paths are the attributes' names, the same in every process."""
    found = system.get_weight_paths()
    if len({id(v) for v in found.values()}) != len({id(v) for v in system.variables}):
        raise ValueError("a variable of the system has no path")
    return {f"model/{path}": v for path, v in sorted(found.items())}


def store_inputs(run: RunFolder, data: PreparedData, inputs: Inputs) -> None:
    """Copies into the run what generation needs besides weights."""
    for name in (VOCABULARY, GRAPH, MANIFEST):
        run.store(data.folder / name, f"data/{name}")
    if inputs.library:  # whose texts are in the pieces of a tokeniser of its own
        with tempfile.TemporaryDirectory() as folder:
            data.tokenizer.save(Path(folder))
            run.store(Path(folder), TOKENIZER)
    record = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs) if f.name not in (*DERIVED, "output_ids", "shape")}
    record |= {"output_ids": inputs.output_ids.tolist(), "shape": inputs.shape and inputs.shape.to_dict()}
    run.write_json(INPUTS, record)


def default_data_dir(task: str) -> Path:
    """Where prepare.py puts a task's data unless told otherwise."""
    return Path("tfrecords") / task
