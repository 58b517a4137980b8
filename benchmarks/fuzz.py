"""Damages files of our own at random, and reads them as the program does.

  python benchmarks/fuzz.py --damages=10000

Files with a checksum have to give the same content or an error that names the file; files that people edit, or lines without a checksum,
have to be read or refused with an error. A traceback, more than ten seconds or more than a gigabyte is a fault. Prints a table.
"""

import contextlib
import io
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hcl_tf import cli, config
from hcl_tf.errors import UserError

DAMAGES = flags.DEFINE_integer("damages", 10_000, "In all, spread evenly over the kinds of files.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 1, "Of the damages.")
SLOW, LARGE = 10.0, 1e6  # seconds; kilobytes that reading may add to the most that was ever held
ARRAYS = ("first.npy", "second.npy")
Reader = Callable[[Path], object]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """One of seven damages: cut, grown, a byte or a bit changed, a piece doubled or left out, two lines changed for each other."""
    place, length = draw.randrange(len(data) + 1), draw.choice([1, 2, 8, 64, 512])
    kind = draw.randrange(7)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + draw.randbytes(length) + data[place:]
    if kind == 2 and data:
        at = draw.randrange(len(data))
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    if kind == 3 and data:
        at = draw.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if kind == 4:
        return data[:place] + data[place : place + length] * 2 + data[place + length :]
    if kind == 5:
        return data[:place] + data[place + length :]
    lines = data.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def made(scratch: Path) -> dict[str, tuple[Path, list[str], Reader, bool]]:
    """Makes small files of each kind. Returns kind -> folder, files in it to damage, their reader, whether they have checksums."""
    from hcl_tf.data.preparation import PreparationSettings, prepare
    from hcl_tf.evaluation import rows
    from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
    from hcl_tf.files import array_cache, pretraining_record
    from hcl_tf.reporting import claims, plan, ratings
    from hcl_tf.studies.human_evaluation import study
    from hcl_tf.training.launch import launch

    data, run, texts = scratch / "data", scratch / "run", scratch / "texts"
    task = config.TASKS["qqp"]
    prepare(task, task.sample, data, PreparationSettings("labelled", limit=60, vocab="learn", vocab_size=400, tagger="builtin"), 1, False)
    given = {
        "encoder": "random:1x16",
        "latent_size": 4,
        "latent_hidden": 8,
        "decoder_layers": 1,
        "batch_size": 16,
        "max_steps": 4,
        "beams": 2,
    }
    launch("qqp", data, str(run), "tiny", given | {"log_every": 1, "checkpoint_every": 2, "maximum_length": 6}, ["fuzz"])
    evaluate(EvaluationRequest(run, data_dir=data))
    texts.mkdir()
    rows.keep(texts / "row.json", rows._of_run(run))
    root = Path(__file__).resolve().parents[1] / "experiments"
    shutil.copyfile(root / "paper_claims.yaml", texts / "claims.yaml")
    shutil.copytree(root / "choices", texts, dirs_exist_ok=True)
    record = {"texts": 3, "pieces_seen": 9, "settings": {"objective": "mlm"}}
    (texts / pretraining_record.RECORD).write_text(json.dumps(record))
    _make_study(scratch / "study")
    array_cache.cached(scratch / "cache", ARRAYS, _computed)
    shards = [str(path.relative_to(data)) for path in sorted(data.rglob("*")) if path.is_file()]
    kept = [str(path.relative_to(run)) for path in sorted(run.glob("checkpoints/*/*")) if path.is_file()]
    return {
        "prepared folder": (data, shards, _prepared, True),
        "checkpoints": (run, kept, _checkpoints, True),
        "config.json, files.json": (run, ["config.json", "files.json"], _config, True),
        "metrics.jsonl": (run, ["metrics.jsonl"], _metrics, False),
        "kept row": (texts, ["row.json"], lambda folder: rows.read_kept(folder / "row.json").record, False),
        "claims": (texts, ["claims.yaml"], lambda folder: claims.read(folder / "claims.yaml"), False),
        "plan": (texts, ["plan.yaml"], lambda folder: plan.read(folder / "plan.yaml"), False),
        "pretraining record": (texts, [pretraining_record.RECORD], pretraining_record.origin_of, False),
        "cached arrays": (scratch / "cache", [*ARRAYS, array_cache.SUMS], _cached, True),
        "study: key": (scratch / "study", [study.KEY], study.read_key, True),
        "study: filled sheet": (scratch / "study", ["filled/1.csv"], _sheet, False),
        "study: results": (scratch / "study", ["results/results.json"], lambda folder: ratings.read(folder, "qqp"), False),
    }


def _make_study(folder: Path) -> None:
    """The tests' study of made-up outputs, two sheets of it filled, and their results."""
    from toy_study import NASTY, as_saved, filled, toy_study

    from hcl_tf.studies.human_evaluation import folder as study_folder
    from hcl_tf.studies.human_evaluation import results

    drawn = toy_study(annotators=2, texts=NASTY)
    folder.mkdir()
    study_folder.write(drawn, folder)
    for annotator in (1, 2):
        lines = filled(drawn, annotator, lambda item, *_: item.number % 3 + 1)
        (folder / "filled" / f"{annotator}.csv").write_bytes(as_saved(lines))
    with contextlib.redirect_stdout(io.StringIO()):
        results.report(folder, [], "hcl")


def _computed() -> tuple[np.ndarray, ...]:
    return np.arange(60, dtype=np.float32), np.arange(12)


def _cached(folder: Path) -> object:
    """Damaged arrays are computed again, so that the same has to come back."""
    from hcl_tf.files import array_cache

    with contextlib.redirect_stdout(io.StringIO()):
        return [array.tobytes() for array in array_cache.cached(folder, ARRAYS, _computed)]


def _sheet(folder: Path) -> object:
    from hcl_tf.studies.human_evaluation import sheets, study

    annotator, scores = sheets.read(study.read_key(folder), folder / "filled" / "1.csv")
    if not (annotator in (1, 2) and set(scores.ravel().tolist()) <= set(study.SCORES)):
        raise AssertionError(f"out of range: annotator {annotator}, scores {set(scores.ravel().tolist())}")
    return annotator, scores.tolist()


def _prepared(folder: Path) -> object:
    from hcl_tf.data.store.prepared_data import PreparedData

    data = PreparedData(folder)
    arrays = [data.arrays(split) for split in data.manifest["splits"]]
    records = [repr(record) for split in data.manifest["splits"] for record in data.records(split)]
    return [*(array.source_ids.tobytes() + array.target_nodes.tobytes() for array in arrays), records, data.whole_graph.tobytes()]


def _checkpoints(folder: Path) -> object:
    from hcl_tf.training.checkpoints import Checkpoints

    saved = Checkpoints(folder / "checkpoints")
    # Each by its name: a resumed run takes an older one in place of a damaged one, and says so.
    found = [saved.read(name) for name in ("best_loss", "best_nll", "step-00000002", "step-00000004")]
    return [(one.step, sorted((name, array.tobytes()) for name, array in one.arrays.items()), one.state) for one in found]


def _config(folder: Path) -> object:
    from hcl_tf.training.run_folder import load_run

    return load_run(folder).config


def _metrics(folder: Path) -> object:
    from hcl_tf.training.run_folder import load_run

    return load_run(folder).read_metrics()


def tried(place: tuple[Path, list[str], Reader, bool], count: int, draw: random.Random) -> tuple[Counter, list[str]]:
    """Damages files of one kind. Returns how often what came of it, and a line for each fault."""
    folder, names, read, checked = place
    whole, outcomes, faults = repr(read(folder)), Counter(), []
    for number in range(count):
        name = draw.choice(names)
        path = folder / name
        data = path.read_bytes()
        path.write_bytes(damaged(data, draw))
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            same = repr(read(folder)) == whole
            outcome = "the same" if same else "read" if not checked else "SILENTLY DIFFERENT"
        except UserError as error:
            outcome = "refused" if path.name in str(error) or path.parent.name in str(error) else "refused without its name"
        except Exception as error:
            outcome = f"FAULT {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]
        finally:
            path.write_bytes(data)
        if time.monotonic() - began > SLOW:
            outcome = "TOO SLOW"
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LARGE:
            outcome = "TOO LARGE"
        outcomes[outcome] += 1
        if outcome.isupper() or outcome.startswith(("FAULT", "SILENTLY", "TOO")):
            faults.append(f"{name}, damage {number}: {outcome}")
    return outcomes, faults


def main(_) -> None:
    """Makes the files, damages them, and prints what came of it."""
    cli.quieten_libraries()
    cli.import_tensorflow()
    with tempfile.TemporaryDirectory() as scratch:
        kinds = made(Path(scratch))
        print("| kind | tried | what came of it | seconds |\n| --- | --- | --- | --- |")
        faults, draw = [], random.Random(SEED.value)
        for kind, place in kinds.items():
            began, count = time.monotonic(), -(-DAMAGES.value // len(kinds))
            outcomes, found = tried(place, count, draw)
            faults += [f"{kind}: {line}" for line in found]
            said = ", ".join(f"{outcome} {times:,}" for outcome, times in outcomes.most_common())
            print(f"| {kind} | {count:,} | {said} | {time.monotonic() - began:.0f} |", flush=True)
    print("\n".join(faults[:50]))
    if faults:
        raise SystemExit(f"{len(faults)} faults")


if __name__ == "__main__":
    app.run(main)
