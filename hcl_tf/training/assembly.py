"""From settings and prepared data (or from a run folder) to a system that can train (or generate)."""

import dataclasses
import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tf_keras as keras

from hcl_tf.data import graph as keyword_graph
from hcl_tf.data import library_tokenizer, tokenization
from hcl_tf.data.batches import SPECIAL_PIECES, SplitArrays
from hcl_tf.data.graph import KeywordGraph
from hcl_tf.data.pipeline import PreparedData
from hcl_tf.data.tfrecords import GRAPH, MANIFEST, VOCABULARY
from hcl_tf.data.tokenization import PUBLISHED, Tokenizer
from hcl_tf.decoding.requests import RequestBatches
from hcl_tf.errors import UserError
from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import BertShape
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.models import registry
from hcl_tf.models.base import Inputs, System
from hcl_tf.settings import RANDOM_ENCODER, Settings
from hcl_tf.training import checkpoints
from hcl_tf.training.run_folder import Run, RunFolder
from hcl_tf.training.text_states import TextStates

INPUTS = "inputs.json"
TOKENIZER = "data/tokenizer"
BEST = ("best_loss", "best_nll")
KEYWORD_PIECES = 8
DERIVED = ("neighbours", "keyword_ids")  # of `Inputs`: computed again from the stored graph and vocabulary


@dataclass(frozen=True)
class Encoder:
    """The encoder, or the whole model of a library, that a run begins with: its shape (not of a published library model, which brings
    its own), its weights (None: random), and a line that says which."""

    shape: BertShape
    published: PublishedBert | PublishedModel | None
    note: str

    @property
    def library(self) -> PublishedModel | None:
        """The weights, where they are a library model's."""
        return self.published if isinstance(self.published, PublishedModel) else None


def choose_encoder(settings: Settings, data: PreparedData, given: Collection[str] = ()) -> tuple[Settings, Encoder]:
    """Resolves `--encoder`, and what depends on whether its weights are published, unless its flag is among `given`.

    A system that takes no BERT gets random sizes, of which the width counts.

    Raises `UserError` where weights can't be had or have another vocabulary than the data, or where there is no encoder to freeze.
    """
    system = registry.class_of(settings.model)
    if settings.pretrained:
        published = system.read_published(settings.pretrained)
        settings, encoder = _no_encoder(settings, data)
        return settings, dataclasses.replace(encoder, published=published, note=f"pretrained: {published.description}")
    if not system.takes_bert:
        return _no_encoder(settings, data)
    name, language = settings.encoder, data.manifest["task"]["language"]
    if name == "auto":  # the small preset: the pretrained encoder that comes from PyPI, where it fits
        name = "minilm"
        try:
            return _published(dataclasses.replace(settings, encoder=name), data)
        except UserError as error:
            name, why = "random", str(error)
            settings, encoder = choose_encoder(dataclasses.replace(settings, encoder=name), data, given)
            return settings, dataclasses.replace(encoder, note=f"{encoder.note}, because minilm can't be used here ({why})")
    if not name.startswith("random"):
        return _published(dataclasses.replace(settings, encoder=PUBLISHED[language] if name == "published" else name), data)
    size, shape = _random(name, settings.preset, data)
    values = {"encoder": size}
    if settings.refresh_graph_every < 0:
        values["refresh_graph_every"] = 1
    if "encoder_learning_rate" not in given:
        values["encoder_learning_rate"] = settings.learning_rate  # one rate from scratch
    return dataclasses.replace(settings, **values), Encoder(
        shape, None, f"encoder: random weights, {shape.layers} layers of width {shape.width}"
    )


def _no_encoder(settings: Settings, data: PreparedData) -> tuple[Settings, Encoder]:
    if settings.freeze_encoder:
        raise UserError(f"--freeze_encoder: --model={settings.model} has no BERT encoder that could be frozen; drop the flag")
    own = registry.class_of(settings.model).random_sizes.get(settings.preset)
    name = settings.encoder if settings.encoder.startswith("random") else f"random:{own}" if own else "random"
    size, shape = _random(name, settings.preset, data)
    note = f"no BERT encoder and no pretrained weights, width {shape.width}"
    return dataclasses.replace(settings, encoder=size), Encoder(shape, None, note)


def _random(name: str, preset: str, data: PreparedData) -> tuple[str, BertShape]:
    """`--encoder=random...` with its sizes spelt out, and the shape."""
    layers, width = _sizes(name, preset)
    return f"random:{layers}x{width}", BertShape(len(data.tokenizer), width, layers, max(1, width // 64), 4 * width)


def _sizes(name: str, preset: str) -> tuple[int, int]:
    _, colon, size = name.partition(":")
    try:
        if name != "random" and not name.startswith("random:"):
            raise ValueError
        layers, width = map(int, (size if colon else RANDOM_ENCODER[preset]).split("x"))
        if layers < 1 or width < 8 or width % max(1, width // 64):
            raise ValueError
    except ValueError as error:
        raise UserError(f"--encoder={name}: random:LAYERSxWIDTH is expected, such as random:4x256 (width a multiple of 64)") from error
    return layers, width


def _published(settings: Settings, data: PreparedData) -> tuple[Settings, Encoder]:
    published = bert_weights.load(settings.encoder)
    ours = data.tokenizer.vocabulary()
    theirs = published.vocabulary
    fits = published.shape.vocab_size == len(ours) if theirs is None else theirs == ours
    if not fits:
        raise UserError(
            f"--encoder={settings.encoder}: its vocabulary is not the one that {data.folder} was prepared with; "
            "prepare the data with --vocab set to this encoder's vocabulary, or train with --encoder=random"
        )
    if settings.refresh_graph_every < 0:
        settings = dataclasses.replace(settings, refresh_graph_every=0)
    return settings, Encoder(published.shape, published, f"encoder: {published.description}")


def output_ids(data: PreparedData, train: SplitArrays, which: str) -> np.ndarray:
    """[V'] the vocabulary ids that outputs may contain; "train": those of training targets and the special ones."""
    t = data.tokenizer
    if which == "full":
        return np.arange(len(t), dtype=np.int32)
    kept = np.union1d(np.unique(train.target_ids), [t.pad_id, t.unknown_id, t.cls_id, t.sep_id]).astype(np.int32)
    return kept[kept < len(t)]  # padding may be numbered past the pieces


def inputs_of(data: PreparedData, shape: BertShape, kept: np.ndarray, library: dict | None = None) -> Inputs:
    """What a system may know of prepared data (and `library`: of published weights that are not BERT's)."""
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


def new_system(settings: Settings, inputs: Inputs, encoder: Encoder | None) -> tuple[System, list[str]]:
    """A system at its starting weights, and lines that say which published tensor went where."""
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy("mixed_float16" if settings.mixed_precision else "float32")
    system = registry.build(settings, inputs)
    lines = system.load_published(encoder.published) if encoder and encoder.published else []
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
    record = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs) if f.name not in (*DERIVED, "output_ids", "bert")}
    record |= {"output_ids": inputs.output_ids.tolist(), "bert": inputs.bert.to_dict()}
    run.write_json(INPUTS, record)


@dataclass(frozen=True)
class TrainedRun:
    """A run with its system at one of its checkpoints."""

    run: Run
    settings: Settings
    system: System
    inputs: Inputs
    tokenizer: Tokenizer
    graph: KeywordGraph
    manifest: dict
    checkpoint: str
    step: int

    def request_batches(self) -> RequestBatches:
        """What makes batches of sources for this system."""
        inputs = self.inputs
        return RequestBatches(self.tokenizer, inputs.source_length, inputs.max_keywords, self.settings.append_keywords)


def load_trained(run: Run, checkpoint: str) -> TrainedRun:
    """The system of a run. Raises `UserError` where anything is missing or damaged."""
    settings = Settings(**run.config["settings"])
    manifest = json.loads(run.stored(f"data/{MANIFEST}").read_text(encoding="utf-8"))
    graph = keyword_graph.load(run.stored(f"data/{GRAPH}"))
    path = run.path / INPUTS
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["bert"] = BertShape.from_dict(record["bert"])
        record["output_ids"] = np.array(record["output_ids"], np.int32)
        stored = run.stored(TOKENIZER if record.get("library") else f"data/{VOCABULARY}")
        tokenizer = library_tokenizer.load(stored) if record.get("library") else tokenization.from_file(stored)
        derived = graph.table(manifest["settings"]["graph_degree"]), keyword_ids(graph, tokenizer)
        inputs = Inputs(**record, **dict(zip(DERIVED, derived, strict=True)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read ({error}); train again, or restore the run") from error
    system, _ = new_system(settings, inputs, None)
    saved = run.checkpoints.read(checkpoint)
    ours = variables(system)
    checkpoints.assign(ours, {name: saved.arrays[name] for name in saved.arrays if name.startswith("model/")}, saved.path)
    system.before_inference()
    return TrainedRun(run, settings, system, inputs, tokenizer, graph, manifest, checkpoint, saved.step)


def starting_system(trained: TrainedRun, data: PreparedData) -> System:
    """The system of a run as it was before its first step: the same seed, settings and published weights.

    Args:
      data: what the run was trained on.

    Raises `UserError` where the published weights can't be had any more, or are described otherwise than the run has recorded.
    """
    path, recorded = trained.run.path, trained.run.config["encoder"]
    try:
        settings, encoder = choose_encoder(trained.settings, data, trained.settings.to_dict())
    except UserError as error:
        raise UserError(f"{path}: the weights that the run began with can't be had any more: {error}") from error
    if not recorded.startswith(encoder.note):  # behind which the record may say why a random encoder was taken
        raise UserError(f"{path}: begun with other weights ({recorded}) than are here ({encoder.note}); install those again")
    system, _ = new_system(settings, trained.inputs, encoder)
    system.before_epoch(0, TextStates(data, data.arrays("train"), keep=encoder.published is not None))
    system.before_inference()
    return system


def default_data_dir(task: str) -> Path:
    """Where prepare.py puts a task's data unless told otherwise."""
    return Path("tfrecords") / task
