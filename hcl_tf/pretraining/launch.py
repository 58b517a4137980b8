"""Pretrains a body from start to end, as `python -m hcl_tf.pretrain` does: it reads texts, trains, and writes the weights."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

import hcl_tf
from hcl_tf.data.batching.batches import Batches
from hcl_tf.errors import UserError
from hcl_tf.files import pretraining_record
from hcl_tf.files.json_text import from_json
from hcl_tf.layers import bert_weights
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models.base import Inputs
from hcl_tf.pretraining import publication
from hcl_tf.pretraining.corpus import Corpus, collect
from hcl_tf.pretraining.ngrams import NGrams
from hcl_tf.pretraining.objectives import KINDS, Columns, Pieces, sentinels_needed
from hcl_tf.pretraining.rows import pack
from hcl_tf.pretraining.settings import BODIES, PretrainingSettings, differences
from hcl_tf.pretraining.systems import SYSTEMS, Pretraining
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.environment import describe_environment
from hcl_tf.training.launch import compiled
from hcl_tf.training.loop import Loop
from hcl_tf.training.run_folder import CHECKPOINTS, Run, RunFolder
from hcl_tf.training.step import TrainStep
from hcl_tf.training.validation import MOST_ROWS, Validation

POSITIONS = 512  # of a BERT; published ones have as many
FREE_PIECES = ("[unused", "<extra_id_")  # how pieces begin that vocabularies keep for such purposes


def launch(
    folders: list[Path], exclude: list[Path], out: Path, run_dir: Path | None, settings: PretrainingSettings, command: list[str]
) -> str:
    """Begins or resumes a pretraining. Returns why it ended: see `Loop.train`.

    Args:
      folders, exclude: as of `collect`. out: where the weights go. run_dir: the run's folder; None: runs/pretraining/<name of out>.
      command: the words of the command line, which the run keeps.

    Raises:
      UserError: texts, settings, or what is in the folders do not fit each other, or a loss is not finite.
    """
    path = run_dir or Path("runs/pretraining") / out.name
    _check_place(out, settings)
    tf.config.experimental.enable_op_determinism()  # else a resumed run would not have the same bits
    corpus = collect(folders, exclude)
    recorded = {"version": hcl_tf.__version__, "task": "pretraining", "settings": settings.to_dict(), "data": corpus.hashes}
    print(f"{settings.objective}, run folder {path}, weights to {out}", flush=True)
    with RunFolder.open(path, recorded, command, same=_what_has_to_be_the_same) as run:
        if Run(path, recorded).finished and out.exists():
            print(f"{out}: these weights are there already")
            return run.finished["ended"]
        columns, held_out = _columns(corpus, settings)
        loop = _loop(corpus, settings, columns, held_out, run, path)
        loop.resume()
        why = loop.train()
        if not why.startswith("SIG"):
            _finish(loop, corpus, columns, out, run, why)
        return why


def _what_has_to_be_the_same(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("task", "settings", "data")}


def _check_place(out: Path, settings: PretrainingSettings) -> None:
    """Raises `UserError` where the weights could not be written in the end: hours of work would have no place."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    record = pretraining_record.read(out)
    if record is None:
        raise UserError(f"--out={out}: exists and is not a folder of hcl_tf.pretrain, so it is left alone; choose another folder")
    if found := differences(record["settings"], settings):
        raise UserError(f"--out={out}: has weights of other settings ({'; '.join(found[:3])}); choose another folder, or remove it")


def _columns(corpus: Corpus, settings: PretrainingSettings) -> tuple[Columns, Columns]:
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
    return Pieces(t.pad_id, t.cls_id, t.sep_id, vocabulary.index("[MASK]"), np.setdiff1d(there, special).astype(np.int32), inner, sentinels)


def _inputs(corpus: Corpus, settings: PretrainingSettings, pieces: Pieces) -> Inputs:
    """Describes the body: its vocabulary, and its sizes from `--layers` and `--width` or from `--config`."""
    s, t = settings, corpus.tokenizer
    rows = max(len(t), int(pieces.sentinels.max(initial=-1)) + 1)
    kept = np.union1d(pieces.ordinary, [t.pad_id, t.unknown_id, t.cls_id, t.sep_id, *pieces.sentinels]).astype(np.int32)
    shape, library = EncoderShape(rows, s.width, s.layers, s.heads, 4 * s.width, max(POSITIONS, s.row_length)), None
    if s.config and s.objective == "mlm":
        shape = bert_weights.read_config(Path(s.config))
        shape = EncoderShape(**{**shape.to_dict(), "vocab_size": rows})
    elif s.config:
        library = _library_config(Path(s.config), s, rows)
    nothing = np.zeros((0, 2, 1), np.int32), np.zeros((0, 1), np.int32)
    return Inputs(
        corpus.language, s.row_length, s.row_length, 0, t.pad_id, t.unknown_id, t.cls_id, t.sep_id, rows, kept, *nothing, shape, library
    )


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


def _loop(corpus: Corpus, settings: PretrainingSettings, columns: Columns, held_out: Columns, run: RunFolder, path: Path) -> Loop:
    pieces = columns.pieces
    keras.utils.set_random_seed(settings.seed)
    unscored = (*(int(sentinel) for sentinel in pieces.sentinels), pieces.sep_id) if settings.objective == "span" else ()
    system = SYSTEMS[settings.objective](settings, _inputs(corpus, settings, pieces), unscored, name=settings.objective)
    system.make_variables()
    size = min(settings.batch_size, MOST_ROWS, len(held_out.packed))
    validation = Validation(system, Batches(len(held_out.packed), size, (held_out,), settings.seed), settings.seed)
    batches = Batches(len(columns.packed), settings.batch_size, (columns,), settings.seed)
    print(f"{_parameters(system):,} trainable parameters, {len(batches):,} steps an epoch", flush=True)
    saved = checkpoints.Checkpoints(path / CHECKPOINTS, settings.keep_checkpoints)
    return Loop(system, TrainStep(system, settings, None, compiled(settings)), batches, validation, None, settings, run, saved)


def _parameters(system: Pretraining) -> int:
    return sum(int(np.prod(variable.shape)) for variable in system.trainable_variables)


def _finish(loop: Loop, corpus: Corpus, columns: Columns, out: Path, run: RunFolder, why: str) -> None:
    """Writes the weights of the smallest held-out loss with their record, and marks the run as finished."""
    best = loop.saved.read("best_loss")
    checkpoints.assign(assembly.variables(loop.system), best.arrays, best.path)
    losses = next(r for r in run.read_metrics() if r["kind"] == "validation" and r["step"] == best.step)
    train = corpus.train
    record = run.config | {
        "name": out.name, "parameters": _parameters(loop.system), "body": _body(loop.system),
        "texts": len(train), "pieces": len(train.pieces),
        "held_out": len(corpus.held_out), "excluded": corpus.excluded, "padding": 1 - columns.packed.filled, "step": best.step,
        "pieces_seen": round(len(train.pieces) * best.step / len(loop.batches)),
        "pieces_a_second": loop.rate() * len(train.pieces) / len(columns.packed),
        "losses": {"piece": losses["nll_piece"], "token": losses["nll_token"], **_yardsticks(corpus, columns)},
        "environment": describe_environment(),
    }  # fmt: skip
    publication.publish(loop.system, corpus, record, out)
    run.write_json("weights.json", {"losses": record["losses"], "pieces_a_second": record["pieces_a_second"]})
    run.finish({"ended": why, "step": loop.at.step, "best_step": best.step})
    print(publication.card(record), f"\nwrote {out}", sep="", flush=True)


def _yardsticks(corpus: Corpus, columns: Columns) -> dict[str, float]:
    """Returns what models of single pieces and, for the causal objective, of pairs lose on the held-out texts, in nats a piece."""
    end, size = corpus.tokenizer.sep_id, len(corpus.tokenizer)
    counted = NGrams.of(corpus.train, end, size)
    if not isinstance(columns, KINDS["causal"]):
        return {"unigram": counted.piece_loss(corpus.held_out)}
    unigram, bigram = counted.losses(corpus.held_out, end)
    return {"unigram": unigram, "bigram": bigram}


def _body(system: Pretraining) -> str:
    """Says in words how large a body is."""
    s = system.settings
    if s.config:
        return f"{BODIES[s.objective]}, sizes of {Path(s.config).name}"
    layers = {"mlm": s.layers, "span": f"{s.layers} + {s.decoder_layers}", "causal": s.layers + s.decoder_layers}[s.objective]
    return f"{BODIES[s.objective]}, {layers} layers of width {s.width}"
