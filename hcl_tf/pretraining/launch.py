"""Pretrains a body from start to end, as `python -m hcl_tf.pretrain` does: it reads texts, trains, and writes the weights."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

import hcl_tf
from hcl_tf.data.batching.batches import Batches
from hcl_tf.errors import UserError
from hcl_tf.files import pretraining_record
from hcl_tf.files.json_text import from_json
from hcl_tf.layers import bert_weights
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models.inputs import Inputs
from hcl_tf.pretraining import publication
from hcl_tf.pretraining.corpus import Corpus, collect
from hcl_tf.pretraining.ngrams import NGrams
from hcl_tf.pretraining.objectives import KINDS, Columns, Pieces, sentinels_needed
from hcl_tf.pretraining.rows import pack
from hcl_tf.pretraining.settings import BODIES, PretrainingSettings, differences
from hcl_tf.pretraining.systems import SYSTEMS, Pretraining
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.determinism import make_deterministic
from hcl_tf.training.launch import compiled
from hcl_tf.training.loop import Loop
from hcl_tf.training.run_folder import CHECKPOINTS, RunFolder
from hcl_tf.training.step import TrainStep
from hcl_tf.training.validation import MOST_ROWS, Validation

DONE = "done"  # why a pretraining ended whose weights are there already
POSITIONS = 512  # of a BERT; published ones have as many
FREE_PIECES = ("[unused", "<extra_id_")  # how pieces begin that vocabularies keep for such purposes


def launch(
    folders: list[Path], exclude: list[Path], out: Path, run_dir: Path | None, settings: PretrainingSettings, command: list[str]
) -> str:
    """Begins or resumes a pretraining. Returns why it ended (`Loop.train`), or `DONE` where the weights are there already.

    Args:
      folders, exclude: as of `collect`. out: where the weights go. run_dir: the run's folder; None: runs/pretraining/<name of out>.
      command: the words of the command line, which the run keeps.

    Raises:
      UserError: texts, settings, or what is in the folders do not fit each other, or a loss is not finite.
    """
    path = run_dir or Path("runs/pretraining") / out.name
    _sizes(settings, 1)  # what --config names is refused before texts are read
    there = check_place(out, settings)
    make_deterministic()  # else a resumed run would not have the same bits
    corpus = collect(folders, exclude)
    if there:
        if there["data"] != corpus.hashes:
            raise UserError(f"--out={out}: has weights that were trained on other texts; choose another folder, or remove it")
        print(f"{out}: these weights are there already")
        return DONE
    print(f"{settings.objective}, run folder {path}, weights to {out}", flush=True)
    columns = columns_of(corpus, settings)
    with RunFolder.open(path, recorded_of(corpus, settings), command, same=_what_has_to_be_the_same) as run:
        loop = assemble(corpus, settings, columns, run, path)
        loop.resume()
        why = loop.train()
        if not why.startswith("SIG"):
            _finish(loop, corpus, out, run, why)
        return why


def recorded_of(corpus: Corpus, settings: PretrainingSettings) -> dict[str, Any]:
    """Returns the configuration that a run keeps in config.json."""
    return {"version": hcl_tf.__version__, "task": "pretraining", "settings": settings.to_dict(), "data": corpus.hashes}


def _what_has_to_be_the_same(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("task", "settings", "data")}


def check_place(out: Path, settings: PretrainingSettings) -> dict[str, Any] | None:
    """Returns the record of weights of these settings that are there already; None: there is nothing.

    Raises:
      UserError: there is something else, so hours of work would have no place in the end.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    record = pretraining_record.read(out)
    if record is None:
        raise UserError(f"--out={out}: exists and is not a folder of hcl_tf.pretrain, so it is left alone; choose another folder")
    if found := differences(record["settings"], settings):
        raise UserError(f"--out={out}: has weights of other settings ({'; '.join(found[:3])}); choose another folder, or remove it")
    return record


def columns_of(corpus: Corpus, settings: PretrainingSettings) -> tuple[Columns, Columns]:
    """Packs the texts of both splits into rows, and says how full these are."""
    s, kind, pieces = settings, KINDS[settings.objective], _pieces(corpus, settings)
    found = []
    for name, texts in (("training", corpus.train), ("held-out", corpus.held_out)):
        of = lambda packed, texts=texts: kind(texts, packed, s.row_length, pieces, s.corrupted, s.mean_span, s.whole_words)  # noqa: E731
        packed = pack(texts, of(None).places_of, s.row_length)
        found.append(of(packed))
        print(
            f"{name}: {len(texts):,} distinct texts, {len(texts.pieces):,} pieces, in {len(packed):,} rows of {s.row_length}; "
            f"padding {1 - packed.filled:.1%}",
            flush=True,
        )
    if corpus.hashes["exclude"]:
        print(f"left out because held-out splits of --exclude have them or their duplicates: {corpus.excluded:,} texts", flush=True)
    return found[0], found[1]


def _pieces(corpus: Corpus, settings: PretrainingSettings) -> Pieces:
    """Collects what objectives need of the vocabulary. Sentinels are unused pieces, or added ones behind all where these are too few."""
    t, vocabulary = corpus.tokenizer, corpus.tokenizer.vocabulary()
    needed = sentinels_needed(settings.row_length, settings.corrupted, settings.mean_span) if settings.objective == "span" else 0
    free = [number for number, piece in enumerate(vocabulary) if piece.startswith(FREE_PIECES)]
    sentinels = np.array(free[:needed] if len(free) >= needed else range(len(t), len(t) + needed), np.int32)
    there = np.unique(corpus.train.pieces) if settings.output_vocab == "train" else np.arange(len(t))
    special = [t.pad_id, t.unknown_id, t.cls_id, t.sep_id, vocabulary.index("[MASK]"), *sentinels]
    inner = np.array([piece.startswith("##") for piece in vocabulary])
    ordinary = np.setdiff1d(there, special).astype(np.int32)
    return Pieces(t.pad_id, t.unknown_id, t.cls_id, t.sep_id, vocabulary.index("[MASK]"), ordinary, inner, sentinels)


def _sizes(settings: PretrainingSettings, pieces: int) -> tuple[EncoderShape, dict[str, Any] | None]:
    """Returns the sizes of a body of so many pieces: those of `--layers` and `--width`, or what `--config` names."""
    s = settings
    if s.config and s.objective == "mlm":
        return EncoderShape(**{**bert_weights.read_config(Path(s.config)).to_dict(), "vocab_size": pieces}), None
    library = _library_config(Path(s.config), s, pieces) if s.config else None
    return EncoderShape(pieces, s.width, s.layers, s.heads, 4 * s.width, max(POSITIONS, s.row_length)), library


def _library_config(path: Path, settings: PretrainingSettings, rows: int) -> dict[str, Any]:
    """Reads the sizes of a T5 or GPT-2 from a published config.json, for a vocabulary of `rows` pieces.

    Raises:
      UserError: it can't be read, is of another kind of model, or has fewer positions than a row.
    """
    wanted = BODIES[settings.objective]
    try:
        config = from_json(path.read_bytes())
        found, positions = config.get("model_type"), config.get("n_positions", math.inf) if wanted == "gpt2" else math.inf
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"--config={path}: can't be read as a JSON object ({error}); give a model's config.json") from error
    if found != wanted:
        raise UserError(
            f"--config={path}: of a {found!r}, but --objective={settings.objective} pretrains a {wanted!r}; give one of that kind"
        )
    if positions < settings.row_length:
        raise UserError(f"--config={path}: the model has {positions} positions; give --row_length={positions} or less")
    if wanted == "t5" and not config.get("tie_word_embeddings", True):
        raise UserError(f"--config={path}: its output layer is not tied with its embeddings (T5 v1.1); give T5 v1.0")
    return config | {"vocab_size": rows}


def assemble(
    corpus: Corpus, settings: PretrainingSettings, both: tuple[Columns, Columns], run: RunFolder | None, path: Path
) -> Loop:  # fmt: skip
    """Builds the training loop.

    Args:
      both: `columns_of` the texts. run: the folder to write to; None: nothing is written.
      path: the same folder, from which checkpoints are read.
    """
    columns, held_out = both
    pieces = max(len(corpus.tokenizer), int(columns.pieces.sentinels.max(initial=-1)) + 1)
    system = body(settings, columns.pieces, *_sizes(settings, pieces))
    size = min(settings.batch_size, MOST_ROWS, len(held_out.packed))
    validation = Validation(system, Batches(len(held_out.packed), size, (held_out,), settings.seed), settings.seed)
    batches = Batches(len(columns.packed), settings.batch_size, (columns,), settings.seed)
    print(f"{_parameters(system):,} trainable parameters, {len(batches):,} steps an epoch", flush=True)
    saved = checkpoints.Checkpoints(path / CHECKPOINTS, settings.keep_checkpoints)
    return Loop(system, TrainStep(system, settings, None, compiled(settings)), batches, validation, None, settings, run, saved)


def body(settings: PretrainingSettings, pieces: Pieces, shape: EncoderShape, library: dict[str, Any] | None) -> Pretraining:
    """Builds a body with its head at its first weights.

    Args:
      shape, library: its sizes; `library`, the configuration of a T5 or GPT-2, goes before `shape`.
    """
    s, p = settings, pieces
    kept = np.union1d(p.ordinary, [p.pad_id, p.unknown_id, p.cls_id, p.sep_id, *p.sentinels]).astype(np.int32)
    special, nothing = (p.pad_id, p.unknown_id, p.cls_id, p.sep_id), (np.zeros((0, 2, 1), np.int32), np.zeros((0, 1), np.int32))
    inputs = Inputs("", s.row_length, s.row_length, 0, *special, shape.vocab_size, kept, *nothing, shape, library)
    keras.utils.set_random_seed(s.seed)
    unscored = (*map(int, p.sentinels), p.sep_id) if s.objective == "span" else ()
    system = SYSTEMS[s.objective](s, inputs, unscored, name=s.objective)
    system.make_variables()
    return system


def _parameters(system: Pretraining) -> int:
    return sum(int(np.prod(variable.shape)) for variable in system.trainable_variables)


def _finish(loop: Loop, corpus: Corpus, out: Path, run: RunFolder, why: str) -> None:
    """Writes the weights of the smallest held-out loss with their record, and marks the run as finished."""
    best = loop.saved.read("best_loss")
    checkpoints.assign(assembly.variables(loop.system), best.arrays, best.path)
    losses = next(r for r in run.read_metrics() if r["kind"] == "validation" and r["step"] == best.step)
    record = completed(run.config | described(loop, corpus), out.name, losses, loop.rate(), run.environment)
    publication.publish(loop.system, corpus.vocabulary.read_bytes(), record, out)
    run.finish({"ended": why, "step": loop.at.step, "best_step": best.step})
    print(publication.card(record), f"\nwrote {out}", sep="", flush=True)


def described(loop: Loop, corpus: Corpus) -> dict[str, Any]:
    """Returns what a record says of body and texts before any training."""
    columns = loop.batches.columns[0]
    return {
        "parameters": _parameters(loop.system), "body": _size(loop.system), "lowercase": corpus.tokenizer.lowercase,
        "texts": len(corpus.train), "pieces": len(corpus.train.pieces), "held_out": len(corpus.held_out), "excluded": corpus.excluded,
        "padding": 1 - columns.packed.filled, "rows": len(columns.packed), "epoch_steps": len(loop.batches),
        "losses": _yardsticks(corpus, columns),
    }  # fmt: skip


def completed(record: dict[str, Any], name: str, losses: dict[str, Any], rate: float, environment: dict[str, Any]) -> dict[str, Any]:
    """Completes a record with what training gave.

    Args:
      name: of the folder. losses: the line of metrics.jsonl of the step that is published. rate: rows a second; 0: not known.
    """
    own = {"piece": losses["nll_piece"], "token": losses["nll_token"]}
    return record | {
        "name": name, "step": losses["step"], "pieces_seen": round(record["pieces"] * losses["step"] / record["epoch_steps"]),
        "pieces_a_second": rate * record["pieces"] / record["rows"], "losses": record["losses"] | own, "environment": environment,
    }  # fmt: skip


def _yardsticks(corpus: Corpus, columns: Columns) -> dict[str, float]:
    """Returns what models of single pieces and, for the causal objective, of pairs lose on the held-out texts, in nats a piece."""
    end, size = corpus.tokenizer.sep_id, len(corpus.tokenizer)
    counted = NGrams.of(corpus.train, end, size)
    if not isinstance(columns, KINDS["causal"]):
        return {"unigram": counted.piece_loss(corpus.held_out)}
    unigram, bigram = counted.losses(corpus.held_out, end)
    return {"unigram": unigram, "bigram": bigram}


def _size(system: Pretraining) -> str:
    """Says in words how large a body is."""
    s = system.settings
    if s.config:
        return f"{BODIES[s.objective]}, sizes of {Path(s.config).name}"
    layers = {"mlm": s.layers, "span": f"{s.layers} + {s.decoder_layers}", "causal": s.layers + s.decoder_layers}[s.objective]
    return f"{BODIES[s.objective]}, {layers} layers of width {s.width}"
