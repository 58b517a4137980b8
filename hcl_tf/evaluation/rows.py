"""What a page needs to know of an evaluated run: read from its folder, or kept in one file that outlives the folder.

A kept file has everything but the predictions: settings, scores with intervals, diagnostics, curves, the BLEU of each sentence, samples,
and what keyword control, Figure 3 and samples of z (`evaluate --samples`) found, if they were made.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hcl_tf.config import TASKS
from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.corpora.negatives import negative_routes
from hcl_tf.data.store.tfrecords import content_of
from hcl_tf.errors import UserError
from hcl_tf.evaluation import sentence_similarity
from hcl_tf.evaluation.dependence import units_of
from hcl_tf.evaluation.evaluated_run import EvaluatedRun, label_of
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.files.names import is_plain
from hcl_tf.files.pretraining_record import named_by
from hcl_tf.files.whole_file import write_whole
from hcl_tf.metrics.scores import DISTINCT_OUTPUTS, MATCHED, SOURCE_BLEU
from hcl_tf.metrics.units import by_unit
from hcl_tf.models import registry
from hcl_tf.settings import EQUAL, preset_values
from hcl_tf.training.run_folder import CONFIG

ROWS = "rows"  # sub-folder of kept files
SAMPLES, EXTREMES = 20, 10
RANKED_BY = "BLEU-2"  # what the best and the worst outputs are best and worst in
# The last three since version 0.5, the very last where its encoder was at hand.
PER_SENTENCE = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "iBLEU", SOURCE_BLEU, sentence_similarity.NAME)
# What other commands may have left in a run: key of the record -> how the name of their results begins. Pictures are kept as files.
FURTHER = {"keyword_control": "keywords", "figure3": "representations", "channel": "channel", "likelihood": "likelihood"}
PICTURE = "representations.test.png"
HOURS = "a run on half of the cores counts half its time"  # what an hour of a page is
DEGENERATE, FEWEST_DIFFERENT = "DEGENERATE", 0.5  # of a run, and the share of different outputs among its sources below which it is
SHOWN = ("id", "source", "keywords", "reference", "prediction")
FIRST_VERSION = "0.1.0"  # wrote no version into runs and rows
CORPUS = ("raw_files", "raw_rows", "settings", "tokenizer")  # of the manifest


@dataclass(frozen=True)
class Result:
    """An evaluated run.

    Attributes:
      origin: the folder or file that it was read from. record: what `record_of` returns.
    """

    origin: Path
    record: dict[str, Any]

    @property
    def row(self) -> str:
        """The name of its flag file in experiments/<task>/."""
        return self.record["system"]

    @property
    def seed(self) -> int:
        return self.record["seed"]

    @property
    def settings(self) -> dict[str, Any]:
        """All that its system takes, as this version names them (`registry.read`): what was kept by an earlier version is read over."""
        return self._settings

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return registry.read(self.record["settings"], self.origin).to_dict()

    @property
    def weights(self) -> str | None:
        """The kind of weights that it began with (`Settings.weights`)."""
        return registry.read(self.record["settings"], self.origin).weights(self.record["encoder"])

    @property
    def pretrained_here(self) -> str:
        """The folder of weights of hcl_tf.pretrain that it began with; "": it began with others."""
        return named_by(self.settings) if self.weights == EQUAL else ""

    @property
    def cautions(self) -> dict[str, str]:
        """Why it can't be taken at face value: mark -> what that means (`Settings.cautions`, and what its outputs show)."""
        found = registry.read(self.record["settings"], self.origin).cautions(self.record["encoder"], self.arithmetic)
        different = self._different_outputs
        if different is not None and different < FEWEST_DIFFERENT:
            found = found | {DEGENERATE: f"it has fewer than {FEWEST_DIFFERENT:.0%} as many different outputs as different sources"}
        return found

    @property
    def _different_outputs(self) -> float | None:
        """How many different outputs it has for each different source; for each output where sources were not counted (to version 0.4)."""
        share = self.score(DISTINCT_OUTPUTS)
        if share is None:
            return None
        entry = self.record["scores"][DISTINCT_OUTPUTS]
        return share * entry["sentences"] / entry["sources"] if "sources" in entry else share

    @property
    def hours(self) -> float:
        """What it took of its machine (`HOURS`)."""
        cpu = self.record["environment"]["cpu"]
        return self.record.get("seconds", 0) / 3600 * cpu["cores_usable"] / cpu["cores"]

    @property
    def arithmetic(self) -> int:
        """The version of the arithmetic that it was made under, which is recorded since version 0.2.0."""
        return self.record["environment"].get("arithmetic", 1)

    @property
    def diagnostics(self) -> dict[str, Any]:
        """What `evaluation.diagnostics.summary` says of it, named as this version names it.

        Before version 2 of the arithmetic `nll_prior` had a z drawn from the prior, which is `nll_prior_sampled` now.
        """
        found = self.record["figures"]
        if self.arithmetic >= 2:
            return found
        renamed = {"nll_prior": "nll_prior_sampled", "nll_prior_minus_posterior": "nll_prior_sampled_minus_posterior"}
        return found | {part: {renamed.get(name, name): entry for name, entry in found[part].items()} for part in ("means", "differences")}

    @property
    def scaled(self) -> bool:
        """Whether it is not of the paper's size: another preset, fewer steps, a part of the corpus, or cut off by the clock."""
        shorter = bool(self.settings.get("max_steps")) or self.record["finished"].get("ended") == "time"
        return self.settings["preset"] != "paper" or shorter or not self.record["corpus"]["whole"]

    @property
    def picture(self) -> Path:
        """Where the run's Figure 3 lies, if it was made."""
        return self.origin / PICTURE if self.origin.is_dir() else self.origin.with_suffix(".png")

    def by_unit(self, table: np.ndarray) -> np.ndarray:
        """Returns [seeds, units] of a table [seeds, examples] over the same examples, NaN left out.

        Examples that share a text are one unit (`dependence.units_of`); in rows from before version 0.5 each is one of its own.
        """
        known = np.isfinite(table).all(0)
        return by_unit(table[:, known], np.array(self.record["units"])[known] if "units" in self.record else None)

    def score(self, name: str) -> float | None:
        """A score's value on the test split; None where it has none."""
        entry = self.record["scores"].get(name)
        return entry and entry["value"]

    def is_of(self, manifest: dict[str, Any]) -> bool:
        """Whether it was made on the records that a prepared folder has. Rows from before version 0.5 have its manifest's hash alone."""
        return self.record["content"] == content_of(manifest) if "content" in self.record else self.record["data"] == manifest["sha256"]

    def command(self) -> str:
        """The training command, from the settings that the preset does not give. A task of one's own has a folder to fill in."""
        s = self.settings
        folder = [] if self.record["task"] in TASKS else ["--data_dir=PREPARED_FOLDER"]
        preset = preset_values(registry.entry(s["model"]).settings, s["preset"])
        given = [f"--{name}={value}" for name, value in s.items() if name not in ("preset", "seed") and value != preset.get(name)]
        return " ".join(
            ["python -m hcl_tf.train", f"--task={self.record['task']}", *folder, f"--preset={s['preset']}", *given, f"--seed={self.seed}"]
        )


def record_of(run: EvaluatedRun, system: str = "", flags: Iterable[str] = ()) -> dict[str, Any]:
    """Everything of an evaluated run that pages show, ready for JSON.

    Args:
      system: its row; default: as the run says. flags: of its training, without folders.
    """
    curves = ("step", "loss", *registry.class_of(run.settings.model).curves)
    config, manifest = run.run.config, from_json(run.run.stored("data/manifest.json").read_bytes())
    predictions, scores, best = run.predictions, run.scores, [v for v in run.validations() if v["step"] == run.scores["step"]]
    known = [(p["id"], p["source"], p["reference"], *p.get("references", ())) for p in predictions]
    units = units_of(((p["source"], p["reference"]) for p in predictions), config["task"])
    ranked = sorted(predictions, key=lambda p: -p["scores"][RANKED_BY])
    chosen = {"samples": [predictions[i] for i in sample_rows(len(predictions), SAMPLES)]}
    chosen |= {"best": ranked[:EXTREMES], "worst": ranked[: -EXTREMES - 1 : -1]}
    # Keyword control chooses among all of the split, and Figure 3 has a checkpoint of its own choice.
    labels = {
        "channel": run.label,
        "likelihood": run.label,
        "keyword_control": label_of(scores["split"], scores["checkpoint"]),
        "figure3": scores["split"],
    }
    paths = {key: run.run.path / f"{name}.{labels[key]}.json" for key, name in FURTHER.items()}
    further = {key: from_json(path.read_bytes()) for key, path in paths.items() if path.is_file()}
    if drawn := run.diagnostics.get("samples"):
        further["samples_of_z"] = drawn
    if "keyword_control" in further:
        further["keyword_control"]["rows"] = further["keyword_control"]["rows"][:SAMPLES]
    return further | {
        "system": system or run.name, "seed": run.settings.seed, "flags": list(flags), "task": config["task"],
        "settings": run.settings.to_dict(), "version": config.get("version", FIRST_VERSION), "encoder": config["encoder"],
        "finished": run.done, "data": config["data"], "content": content_of(manifest), "init_from": config.get("init_from"),
        "split": scores["split"], "checkpoint": scores["checkpoint"],
        "corpus": {k: manifest[k] for k in CORPUS}
        | {"whole": manifest["raw_rows"] >= manifest["task"]["full_corpus"], "negatives": negative_routes(manifest)},
        "references": hashlib.sha256(to_json(known)).hexdigest(),
        "examples": scores["examples"], "of": scores["of"], "training_examples": scores["training_examples"], "step": scores["step"],
        "validation": best[-1] if best else {}, "scores": scores["scores"],
        "floors": run.diagnostics["floors"], "figures": run.diagnostics["figures"],
        "curves": {kind: [_point(line, curves) for line in run.metrics if line["kind"] == kind] for kind in ("train", "validation")},
        # Hundredths as whole numbers: what the paired bootstrap needs, in a fifth of the space.
        "per_sentence": {
            name: [round(100 * p["scores"][name]) for p in predictions] for name in PER_SENTENCE if name in predictions[0]["scores"]
        },
        # Which examples share a text, where any do; since version 0.5.
        **({"units": units} if units else {}),
        # The same of the sources themselves as outputs, for comparisons at matched overlap; since version 0.5.
        "per_copy": {name: [round(100 * p["copy"][name]) for p in predictions] for name in MATCHED if "copy" in predictions[0]},
        "environment": run.run.environment,
        **{name: [{k: p[k] for k in SHOWN} | {RANKED_BY: p["scores"][RANKED_BY]} for p in part] for name, part in chosen.items()},
    }  # fmt: skip


def _point(line: dict[str, Any], curves: Collection[str]) -> dict[str, float]:
    """Of a line of metrics.jsonl what a report draws."""
    names = [name for name in line if name in curves or name.startswith("examined/order_")]
    return {name: line[name] if name == "step" else round(line[name], 4) for name in names}


def place_of(out: Path, row: str, seed: int) -> Path:
    """Where a row's result is kept in a report's folder.

    Raises:
      UserError: the row's name, which somebody else's run may have, leads out of the folder.
    """
    if not is_plain(row):
        raise UserError(f"a run's row is named {row!r}, which is no plain file name; leave its folder out of --runs")
    return out / ROWS / f"{row}-{seed}.json"


def keep(path: Path, result: Result) -> None:
    """Writes a result's record, and its picture beside it; each file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if result.picture.is_file():
        write_whole(path.with_suffix(".png"), result.picture.read_bytes())
    write_whole(path, to_json(result.record) + b"\n")


def keep_all(out: Path, shown: Iterable[Result]) -> None:
    """Keeps the results that a report shows beside its pages.

    Raises:
      UserError: a row that it does not show is kept there already, and who reads the rows would take it for one of the report's.
    """
    places = {place_of(out, result.row, result.seed): result for result in shown}
    if foreign := sorted(set((out / ROWS).glob("*.json")) - places.keys()):
        raise UserError(
            f"{foreign[0]}: a kept row that this report does not show; choose another --out, or give {out} under --runs too "
            "(what is of another task or set apart can't be shown)"
        )
    for place, result in places.items():
        keep(place, result)


def read_kept(path: Path) -> Result:
    """A kept file. Raises `UserError` where it is damaged or was kept by a version that knew less."""
    try:
        record = from_json(path.read_bytes())
        missing = {"system", "seed", "task", "settings", "scores", "per_sentence", "references", "corpus", "curves"} - record.keys()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); remove it, and hcl_tf.reproduce makes its row again") from error
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it, and hcl_tf.reproduce makes its row again") from error
    if missing:
        raise UserError(
            f"{path}: has no {min(missing)}; it was kept by another version: remove it, and hcl_tf.reproduce makes its row again"
        )
    return Result(path, record)


def collect(places: Iterable[Path]) -> tuple[list[Result], list[tuple[Path, str]]]:
    """The evaluated runs in some places: run folders, folders of such, or folders with kept files in `rows/`.

    Returns:
      results, in the order of their places and names; (folder, reason) of what was found below a place but can't be used.

    Raises:
      UserError: a place that was named itself holds nothing, or can't be used.
    """
    results, apart = [], []
    for place in places:
        if (place / CONFIG).is_file():
            results.append(_of_run(place))
            continue
        kept = sorted((place / ROWS).glob("*.json"))
        folders = sorted(path.parent for path in place.glob(f"*/{CONFIG}")) if place.is_dir() else []
        if not kept and not folders:
            raise UserError(f"--runs={place}: no run there; give run folders, a folder of them, or one that hcl_tf.reproduce keeps rows in")
        results += map(read_kept, kept)
        for folder in folders:
            try:
                results.append(_of_run(folder))
            except UserError as error:
                apart.append((folder, str(error)))
    return results, apart


def _of_run(folder: Path) -> Result:
    return Result(folder, record_of(EvaluatedRun(folder)))
