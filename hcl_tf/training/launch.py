"""Trains a run from start to end, as `python -m hcl_tf.train` does: it reads data and settings, trains, and shows outputs of the result."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

import hcl_tf
from hcl_tf.data.batching.batches import Columns
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.corpora.negatives import negative_routes
from hcl_tf.data.store import retokenized
from hcl_tf.data.store.prepared_data import PreparedData, SplitArrays
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.tokenizers.wordpiece import SPECIAL_PIECES
from hcl_tf.decoding.generator import Generator
from hcl_tf.errors import UserError
from hcl_tf.markdown import markdown_table
from hcl_tf.models import registry
from hcl_tf.progress import track
from hcl_tf.settings import EncoderSettings, Settings, TrainingSettings
from hcl_tf.training import assembly, checkpoints, workers
from hcl_tf.training.branching import with_trunk
from hcl_tf.training.chosen_data import chosen_data, settings_on
from hcl_tf.training.determinism import make_deterministic
from hcl_tf.training.initialization import Initialization, initialize
from hcl_tf.training.loop import Loop
from hcl_tf.training.run_folder import CHECKPOINTS, CONFIG, Run, RunFolder
from hcl_tf.training.step import TrainStep
from hcl_tf.training.text_states import TextStates
from hcl_tf.training.trained_run import BEST
from hcl_tf.training.validation import Validation

UNTRAINED = "nothing to train"  # why the run of a system without weights ended
LOOKED_AT = 500  # validation outputs whose variety is printed at the end


def launch(
    task: str, data_dir: Path | None, run_dir: str | None, preset: str | None, given: dict, command: list[str], row: str | None = None
) -> str:
    """Begins or resumes the training of a run. Returns why it ended: see `Loop.train`, or `UNTRAINED` for a system without weights.

    Args:
      task: the task's name. data_dir: the prepared folder; None: tfrecords/<task>, where the generated sample is made if it is missing.
      run_dir: the run's folder; None: `default_run_dir`. given: the settings that flags gave.
      preset: gives all other settings; None: see `settings_on`.
      command: the words of the command line, which the run keeps. row: the table row that the run belongs to; None: its settings say.

    Raises:
      UserError: flags, data or the run's folder do not fit each other, or a loss is not finite.
    """
    data, settings, begun_with = settle(task, data_dir, preset, given)
    path = Path(run_dir or default_run_dir(task, settings))
    print(f"{settings.model}, preset {settings.preset} ({begun_with.note}), run folder {path}", flush=True)
    trained = registry.class_of(settings.model).is_trained
    strategy = _strategy(settings) if trained else None  # devices can't be split any more once a trunk is read
    make_deterministic()  # else a resumed run would not have the same bits
    begun_with = with_trunk(begun_with, settings, data, path)
    chief = not (known := workers.read()) or known.is_chief
    recorded = recorded_of(task, data, settings, begun_with, row) | {"data_dir": str(data.folder)}  # as it was given
    begun, existed = (path / CONFIG).exists(), path.exists()
    run = RunFolder.open(path, recorded, command, same=what_has_to_be_the_same) if chief else None
    try:
        if finished := Run(path, recorded).finished:
            print(f"{path}: this run is finished; evaluate it with python -m hcl_tf.evaluate --run_dir={path}")
            return finished["ended"]
        if not trained:
            if run:
                _without_training(data, settings, begun_with, run)
            return UNTRAINED
        try:
            loop = assemble(data, settings, begun_with, run, path, strategy)
        except UserError:
            if run and not begun:  # nothing was computed yet, so the folder is left as it was
                shutil.rmtree(path)
                if existed:
                    path.mkdir()
            raise
        if run and begun_with.trunk:
            begun_with.trunk.keep(loop.saved)
        loop.resume()
        why = loop.train()
        if run and not why.startswith("SIG"):
            _look(run, data, settings, loop, why)
        return why
    finally:
        if run:
            run.close()


def settle(task: str, data_dir: Path | None, preset: str | None, given: dict) -> tuple[PreparedData, Settings, Initialization]:
    """Resolves the flags of a training. Returns the data as the system sees them, all settings, and what the run begins with."""
    registry.resolve(preset or "tiny", given)  # refuses impossible flags before data are prepared, which takes long
    data = chosen_data(task, data_dir)
    settings = settings_on(data, preset, given)
    data = data.with_keywords() if settings.append_keywords else data
    settings, begun_with = initialize(settings, data, given)
    return (retokenized.with_tokenizer(data, begun_with.library.tokenizer) if begun_with.library else data), settings, begun_with


def recorded_of(task: str, data: PreparedData, settings: Settings, begun_with: Initialization, row: str | None = None) -> dict:
    """Returns the configuration that a run keeps in config.json."""
    return {
        "version": hcl_tf.__version__, "row": row or settings.row, "task": task, "settings": settings.to_dict(),
        "encoder": begun_with.note, "data": data.manifest["sha256"], **({"init_from": begun_with.trunk.record} if begun_with.trunk else {}),
    }  # fmt: skip


def what_has_to_be_the_same(config: dict) -> dict:
    """Returns the part of a recorded configuration, of any version, that has to be the same for the run to be resumed."""
    settings = registry.read(config["settings"])
    names = ("task", "data", "encoder") if isinstance(settings, EncoderSettings) else ("task", "data")
    return {name: config[name] for name in names} | {"settings": settings.to_dict()}


def default_run_dir(task: str, settings: Settings) -> str:
    """Returns runs/<task>/<model>-<preset>-<seed>; behind the model stands `Settings.variant`, what the settings leave out."""
    name = "-".join(filter(None, (settings.model, settings.variant.replace(" ", "-"))))
    return f"runs/{task}/{name}-{settings.preset}-{settings.seed}"


def _strategy(settings: TrainingSettings) -> tf.distribute.Strategy | None:
    if settings.logical_cpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * settings.logical_cpus)
    if settings.strategy == "none":
        return None
    if settings.strategy == "multi_worker":
        if not (known := workers.read()):
            raise UserError("--strategy=multi_worker needs the environment variable TF_CONFIG, which names all workers and this one")
        with workers.waiting(known, settings.worker_timeout):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        strategy = tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])
    replicas = strategy.num_replicas_in_sync
    if settings.batch_size % (replicas * (settings.micro_batch or 1)):
        raise UserError(f"--batch_size={settings.batch_size}: no multiple of {replicas} devices times --micro_batch={settings.micro_batch}")
    return strategy


def assemble(
    data: PreparedData, settings: TrainingSettings, begun_with: Initialization, run: RunFolder | None, path: Path, strategy,
    keep_states: bool = True,
) -> Loop:  # fmt: skip
    """Builds a training loop with everything that it needs.

    Args:
      run: the folder to write to; None: nothing is written. path: the same folder, from which checkpoints are read.
      strategy: of tf.distribute; None: one device.
      keep_states: whether batches bring what an encoder's fixed part makes of their texts; else each step computes it.
    """
    train, held_out = data.arrays("train"), data.arrays("validation")
    kept = assembly.output_ids(data, train, settings.output_vocab)
    inputs = assembly.inputs_of(data, begun_with.shape, kept, begun_with.library and begun_with.library.config)
    if run:
        assembly.store_inputs(run, data, inputs)
    with strategy.scope() if strategy else tf.device(None):
        system, lines = assembly.new_system(settings, inputs, begun_with)
        step = TrainStep(system, settings, strategy, compiled(settings))
    trained = sum(int(np.prod(v.shape)) for v in system.trainable_variables)
    print(f"{trained:,} trainable parameters, {len(train):,} training examples, outputs from {len(inputs.output_ids):,} pieces", flush=True)
    print("\n".join([_negatives(data), *_too_long(data, train, settings)]), flush=True)
    if run and lines:
        run.write_text("published_weights.txt", "\n".join(lines) + "\n")
        print(f"{len(lines)} published tensors read (published_weights.txt says which went where)", flush=True)
    keep = begun_with.published is not None or begun_with.trunk is not None
    texts, held_out_texts = TextStates(data, train, keep), TextStates(data, held_out, keep, "validation")
    cached = system.columns_of_texts(texts) if keep_states else None
    held_out_cached = system.columns_of_texts(held_out_texts, held_out=True) if keep_states else None
    own, held_out_own = (system.columns(data, split, arrays, train) for split, arrays in (("train", train), ("validation", held_out)))
    batches = pair_batches(
        data, train, settings.batch_size, settings.seed, system.sampler(data.graph), system.impostors, _real(cached, own)
    )  # fmt: skip
    validation = Validation.of_pairs(system, data, held_out, _real(held_out_cached, held_out_own))
    saved = checkpoints.Checkpoints(path / CHECKPOINTS, settings.keep_checkpoints)
    samples = Samples(Generator(system, data.tokenizer), validation, list(data.records("validation")))
    return Loop(system, step, batches, validation, texts, settings, run, saved, samples)


def _negatives(data: PreparedData) -> str:
    """Says where the training negatives come from, by shares, and how many of them are what another example is to write."""
    shares = ", ".join(f"{route} {share:.1%}" for route, share in sorted(negative_routes(data.manifest).items()))
    targets = data.manifest["splits"]["train"].get("negatives", {}).get("targets")
    said = "" if targets is None else f"; {targets:.1%} are another example's target (BUILD_NOTES 93)"
    return f"negatives in training: {shares or 'not recorded'}{said}"


def _real(*columns: Columns | None) -> list[Columns]:
    return [one for one in columns if one]


class Samples:
    """Decodes, each time it is called, the same few validation examples, which are spread evenly over the split."""

    def __init__(self, generator: Generator, validation: Validation, records: list[Record]) -> None:
        self._generator, self._validation, self._chosen = generator, validation, sample_rows(len(records))
        self._known = [_known(records[i]) for i in self._chosen]
        self._sources = [records[i].source.normal for i in self._chosen]

    def __call__(self) -> list[dict[str, str]]:
        """Returns a row for each example, with its source, keywords, reference and output."""
        texts = self._generator.texts(self._validation.rows(self._chosen), self._sources)
        return [{**known, "output": text} for known, text in zip(self._known, texts, strict=True)]


def _without_training(data: PreparedData, settings: Settings, begun_with: Initialization, run: RunFolder) -> None:
    """Stores what evaluation and generation need of a system that has nothing to learn, and finishes its run."""
    inputs = assembly.inputs_of(data, begun_with.shape, assembly.output_ids(data, data.arrays("train"), settings.output_vocab))
    assembly.store_inputs(run, data, inputs)
    weights = checkpoints.variables_of(assembly.variables(assembly.new_system(settings, inputs, begun_with)[0]))
    for name in BEST:
        run.checkpoints.save_best(name, 0, weights, {})
    run.finish({"ended": UNTRAINED, "step": 0, "best_step": 0})
    print(f"{settings.model} has nothing to train; evaluate it with python -m hcl_tf.evaluate --run_dir={run.path}")


def compiled(settings: Settings) -> bool:
    """Says whether XLA compiles the step. `auto` compiles on GPUs, except for tiny; on CPUs with AVX-512 oneDNN is faster without XLA."""
    if not isinstance(settings, TrainingSettings):
        return False
    if settings.jit_compile == "auto":
        return settings.preset != "tiny" and bool(tf.config.list_physical_devices("GPU"))
    return settings.jit_compile == "true"


def _look(run: RunFolder, data: PreparedData, settings: Settings, loop: Loop, why: str) -> None:
    """Decodes validation examples with the best checkpoint, and finishes the run with them (`finish`)."""
    best = loop.saved.read("best_loss")
    checkpoints.assign(assembly.variables(loop.system), best.arrays, best.path)
    loop.system.before_inference()
    count = min(LOOKED_AT, loop.validation.batches.count)
    generator = Generator(loop.system, data.tokenizer, compiled(settings) and count > 200)
    records = list(islice(data.records("validation"), count))
    batches = track(loop.validation.rows(np.arange(count)), "decoding validation examples", unit=" batches")
    outputs = generator.texts(batches, (record.source.normal for record in records))
    summary = {"ended": why, "step": loop.at.step, "best_step": best.step}
    finish(run, data, records, outputs, summary, best.state["validation"])


def finish(run: RunFolder, data: PreparedData, records: list[Record], outputs: list[str], summary: dict, loss: float) -> None:
    """Shows validation outputs of the best checkpoint and how varied they are, and marks the run as finished.

    Args:
      records: the first of the validation split. outputs: the text decoded for each. loss: the best validation loss.
      summary: how training ended: `ended` (why), `step` and `best_step`.
    """
    count, step = len(records), summary["best_step"]
    targets = set(map(data.tokenizer.decode, data.tokenizer.encode([record.target.normal for record in data.records("train")])))
    verbatim = sum(text in targets for text in outputs) / count
    different, sources = len(set(outputs)), len({record.source.normal for record in records})
    rows = [{**_known(record), "output": text} for record, text in zip(records, outputs, strict=True)]
    chosen = [rows[i] for i in sample_rows(count)]
    run.write_text("samples.md", f"Step {step}, validation, evenly spread.\n\n{markdown_table(chosen)}\n")
    print(f"best validation loss {loss:.3f} at step {step}; ended by {summary['ended']}")
    print(f"{count} validation outputs: {verbatim:.1%} are training targets word for word; {different} differ, of {sources} sources")
    for row in chosen[:5]:
        print("\n".join(f"  {name:<10}{text}".replace("\n", " / ") for name, text in row.items()) + "\n")
    run.finish(summary | {"verbatim": verbatim, "distinct": different / count})


def _known(record: Record) -> dict[str, str]:
    """Returns what is shown of an example beside its output: source, keywords and reference."""
    keywords = ", ".join(keyword.text for keyword in record.source.keywords)
    return {"source": record.source.raw, "keywords": keywords, "reference": record.target.raw}


def _too_long(data: PreparedData, train: SplitArrays, settings: TrainingSettings) -> list[str]:
    """Warns where training targets are longer than outputs may be."""
    lengths = np.count_nonzero(train.target_ids != data.tokenizer.pad_id, axis=1) - SPECIAL_PIECES
    share, longest = np.mean(lengths > settings.maximum_length), lengths.max()
    if not share:
        return []
    ends = f"outputs end after {settings.maximum_length} pieces, and {share:.1%} of the training targets are longer"
    return [f"warning: {ends}, the longest {longest}: --maximum_length={longest} lets outputs be as long"]
