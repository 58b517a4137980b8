"""What is there already, kept rows and finished runs, has to be what the flags of a series would make: it counts as done.

Each function raises `UserError`, with the file and the remedy, where it is not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import content_of
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.files import pretraining_record
from hcl_tf.models import registry
from hcl_tf.reporting.series import Series
from hcl_tf.settings import EQUAL
from hcl_tf.training.run_folder import has_finished, load_run


def check(series: Series, systems: list[str], wanted_runs: list[tuple[str, int]]) -> None:
    """Checks the flags and the data of these rows (empty: of all), every row that is kept, and every finished run that is to be kept."""
    known = series.systems()
    wanted = systems or known
    series.check_flags(wanted)  # What a row can't have is refused before the first is made.
    data = {folder: PreparedData(folder) for folder in {series.data, *map(series.data_of, wanted)}}
    first = data[series.data]
    for folder, other in data.items():
        if other.manifest["raw_files"] != first.manifest["raw_files"]:
            raise UserError(f"--data_dir={folder}: prepared from other raw files than {series.data}; one table has one corpus")
    kept = [rows.read_kept(path) for path in sorted((series.out / rows.ROWS).glob("*.json"))]
    for result in kept:
        folder = series.data_of(result.row) if result.row in known else series.data
        manifest = data[folder].manifest if folder in data else PreparedData(folder).manifest
        if not result.is_of(manifest):
            raise UserError(f"{result.origin}: kept from other data than {folder}; a row has one data set: choose another --out")
    _check_budget(series, kept)
    _check_weights(kept)
    _check_texts(series, {system: data[series.data_of(system)] for system in wanted})
    _check_finished(series, [run for run in wanted_runs if not series.kept(*run).is_file()])


def _check_budget(series: Series, kept: list[rows.Result]) -> None:
    """Kept rows count as done, so they have to be what the plan would make."""
    known = set(series.systems())
    for result in kept:
        scored = result.record.get("split", "test"), result.record.get("checkpoint", "best_loss")
        if scored != (series.split, series.checkpoint):
            raise UserError(
                f"{result.origin}: scored on {scored[0]} at {scored[1]}, and {series.split} at {series.checkpoint} are asked for; choose "
                "another --out"
            )
        if result.row in known and (other := _other(series, result.row, result.settings, result.weights)):
            raise UserError(
                f"{result.origin}: kept with --{other.name}={other.found}, and this command's flags and files give {other.planned}; one "
                "table has one budget: remove the row and its run folder, or choose another --out"
            )


def _check_weights(kept: list[rows.Result]) -> None:
    """Weights of one name have to be of one recipe. With other bits, as of another processor, they are a departure that the page names."""
    first: dict[str, rows.Result] = {}
    for result in kept:
        if not (named := result.pretrained_here):
            continue
        other = first.setdefault(named, result)
        if pretraining_record.without_bits(other.record["encoder"]) != pretraining_record.without_bits(result.record["encoder"]):
            raise UserError(
                f"{result.origin}: begun with {result.record['encoder']}, and {other.origin} with {other.record['encoder']}; rows of one "
                "table begin with weights of one recipe: remove the older row and its run folder"
            )


def _check_texts(series: Series, data: Mapping[str, PreparedData]) -> None:
    """Weights of hcl_tf.pretrain have to know a row's data, to read it or to leave it out: else they may have seen what it is scored on."""
    for system, prepared in data.items():
        folder = Path(pretraining_record.named_by(series.settings(system, EQUAL)))
        record = pretraining_record.read(folder)
        if record and content_of(prepared.manifest) not in {*record["data"]["data"], *record["data"]["exclude"]}:
            raise UserError(
                f"{folder}: pretrained without {prepared.folder}, so it may have seen texts that {system} is scored on; pretrain with "
                f"--exclude={prepared.folder}"
            )


def _check_finished(series: Series, missing: list[tuple[str, int]]) -> None:
    """A finished run is not trained again, so it has to be what the flags ask for."""
    begun = {tuple(name.rsplit("-", 1)) for system, _ in missing if (name := series.begins.get(system))}
    for system, seed in [*missing, *((name, int(seed)) for name, seed in begun)]:
        path = series.run(system, seed)
        if not has_finished(path):
            continue
        config = load_run(path).config
        settings = registry.read(config["settings"], path)
        if other := _other(series, system, settings.to_dict(), settings.weights(config["encoder"])):
            raise UserError(
                f"{path}: finished with --{other.name}={other.found}, and this command's flags and files give {other.planned}; remove the "
                "folder, or choose another --runs"
            )


class _Other(NamedTuple):
    """A setting that is not as planned."""

    name: str
    found: Any
    planned: Any


def _other(series: Series, system: str, found: Mapping[str, Any], weights: str | None) -> _Other | None:
    """Returns the first setting in which a run is not what its flags give; of several the preset, of which the others may be a part."""
    planned = series.settings(system, weights)
    if not (other := [name for name, value in planned.items() if found.get(name) != value]):
        return None
    name = "preset" if "preset" in other else other[0]
    return _Other(name, found.get(name), planned[name])
