"""What version 0.1.0 wrote is still read, gone on with and shown: runs (fixtures/637db7d says how they were made) and kept rows.

Numbers that are computed again may differ from the recorded ones by `TOLERANCE`, since another CPU rounds otherwise. All of it is asked
twice: as things are, and after a later version has added a setting to every system.
"""

import dataclasses
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import fresh_copy

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.files.json_text import to_json
from hcl_tf.models import registry, setting_flags
from hcl_tf.reporting import claims, report, reproduction
from hcl_tf.serving.generation import generate
from hcl_tf.setting_fields import setting
from hcl_tf.settings import RENAMED, Settings
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import load_run
from hcl_tf.training.trained_run import TrainedRun

OLD = Path(__file__).parent / "fixtures" / "637db7d"
SYSTEMS = ("hcl", "bert_gen", "groupwise", "claps")
REPORTS = sorted(path for path in (Path(__file__).parents[1] / "experiments" / "reports" / "former").iterdir() if (path / "rows").is_dir())
TOLERANCE = 1e-4
# What systems did then and do not by default any more.
AS_THEN = {"hcl": ("--contrast_scale=both", "--impostor=mean", "--graph_whole=0"), "claps": ("--embedding_rate=1.0",)}
MOVED = ("nll_prior", "nll_prior_u_unknown", "nll_prior_u_shuffled")  # then under a sample of the prior, now at its mean
TEXT = "How can I lose weight?"


def with_more(kind: type[Settings]) -> type[Settings]:
    """The settings of a system in a later version."""

    @dataclass(frozen=True)
    class Later(kind):
        later: float = setting(0.5, "What came later, and did nothing at 0.5 before.", low=0.0, before=0.5)

    return Later


def add_settings(monkeypatch, add) -> None:
    for model, entry in registry.SYSTEMS.items():
        monkeypatch.setitem(registry.SYSTEMS, model, dataclasses.replace(entry, settings=add(entry.settings)))


@pytest.fixture(params=[False, True], ids=["now", "later"])
def later(request, monkeypatch) -> bool:
    """Whether every system has a setting more than its runs have."""
    if request.param:
        add_settings(monkeypatch, with_more)
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A copy of the prepared folder: training leaves a cache in it."""
    return fresh_copy(OLD / "data", tmp_path_factory.mktemp("prepared") / "data")


@pytest.fixture
def copied(tmp_path):
    """system -> a copy of its run, in a folder that holds no other."""

    def copy(system: str, *without: str) -> Path:
        return Path(shutil.copytree(OLD / "runs" / system, tmp_path / "runs" / system, ignore=shutil.ignore_patterns(*without)))

    return copy


def assert_same(found, recorded, where: str = "") -> None:
    """The same structure, numbers within the tolerance. What was not recorded then may be there."""
    if isinstance(recorded, dict):
        for name, value in recorded.items():
            assert name in found, f"{where}.{name}"
            assert_same(found[name], value, f"{where}.{name}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for number, (one, other) in enumerate(zip(found, recorded, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(recorded, float):
        assert found == pytest.approx(recorded, rel=TOLERANCE, abs=TOLERANCE), where
    else:
        assert found == recorded, where


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_is_opened_with_what_it_was_trained_with(later, system):
    trained = TrainedRun(OLD / "runs" / system, data_dir=OLD / "data", finished=True)
    recorded = {RENAMED.get(name, name): value for name, value in trained.run.config["settings"].items()}
    found = trained.settings.to_dict()
    assert type(trained.settings) is registry.entry(system).settings
    for name, value in found.items():
        if name in recorded:
            assert value == recorded[name], name
        else:
            assert value == next(item.metadata["before"] for item in dataclasses.fields(trained.settings) if item.name == name), name
    assert ("later" in found) == later
    assert recorded.keys() - found.keys(), "those of other systems are read over"
    assert trained.data.manifest == trained.manifest
    assert trained.inputs.shape.width == 8


def test_a_setting_that_was_renamed_keeps_its_value():
    assert load_run(OLD / "runs" / "claps").config["settings"]["claps_imposter_norm"] == 1.0
    assert TrainedRun(OLD / "runs" / "claps").settings.claps_impostor_norm == 1.0


def each() -> list:
    """Whether settings were added, and a system. The default suite takes two systems as they are, `make test-all` everything."""
    slow = {True: set(SYSTEMS), False: {"groupwise", "bert_gen"}}
    return [
        pytest.param(later, system, marks=[pytest.mark.slow] if system in slow[later] else [], id=f"{system}-{'later' if later else 'now'}")
        for later in (False, True)
        for system in SYSTEMS
    ]


EACH = each()


@pytest.mark.parametrize(("later", "system"), EACH, indirect=["later"])
def test_a_run_generates_what_it_generated(later, system, tmp_path, capsys):
    (tmp_path / "in.txt").write_text(f"{TEXT}\n", encoding="utf-8")
    generate(OLD / "runs" / system, "best_loss", tmp_path / "in.txt", None, 0)
    assert capsys.readouterr().out == (OLD / "expected" / f"{system}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("later", "system"), EACH, indirect=["later"])
def test_a_run_is_evaluated_to_what_it_was(later, system, data, copied):
    run = copied(system, "*.test.*")
    evaluate(EvaluationRequest(run, data_dir=data))
    for name in ("scores.test.json", "figures.test.json"):
        recorded = json.loads((OLD / "runs" / system / name).read_text())
        assert recorded.pop("ablate") == ""  # what has become "variant"
        if "nll_prior" in recorded.get("figures", {}).get("means", {}):
            recorded["figures"] = as_named_now(recorded["figures"])
        assert_same(json.loads((run / name).read_text()), recorded, f"{system}/{name}")
    found, recorded = (lines_of(folder / "predictions.test.jsonl") for folder in (run, OLD / "runs" / system))
    assert_same(found, recorded, system)
    (result,), apart = rows.collect([run])
    assert (result.row, apart) == (system, [])


def as_named_now(figures: dict) -> dict:
    """What was recorded of the latent variable, by the names that it has now: NLL under a sample of the prior is `nll_prior_sampled`."""
    moved = {"nll_prior_minus_posterior", "nll_u_unknown_minus_graph", "nll_u_shuffled_minus_graph"}
    found = figures | {"differences": {name: entry for name, entry in figures["differences"].items() if name not in moved}}
    found["means"] = {name: entry for name, entry in figures["means"].items() if name not in MOVED}
    return found | {"means": found["means"] | {"nll_prior_sampled": figures["means"]["nll_prior"]}}


def words_of(system: str) -> tuple[list[str], setting_flags.TrainingFlags]:
    """The command that a run was begun with, and its flags as this version reads them."""
    _, program, *flags = shlex.split((OLD / "runs" / system / "command.txt").read_text())
    return [program, *flags], setting_flags.read(flags)


def go_on(system: str, data: Path, run: Path, *more: str) -> str:
    """The same command again, on a copy."""
    words, _ = words_of(system)
    flags = setting_flags.read([*words[1:], *AS_THEN.get(system, ()), *more])
    return launch(flags.task.value, data, str(run), flags.preset.value, flags.given, [*words, *more], flags.row.value)


@pytest.fixture
def plain(monkeypatch) -> None:
    """Determinism would stay on for other tests."""
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)


@pytest.mark.skipif(hcl_tf.ARITHMETIC != 1, reason="runs of another arithmetic go on, but not to the same numbers")
@pytest.mark.parametrize(("later", "system"), EACH, indirect=["later"])
def test_a_run_goes_on_from_its_checkpoint_and_ends_as_it_did(later, system, data, copied, plain, capsys):
    """What a killed run looks like: its last step is not there yet."""
    run = copied(system, "done.json", "step-00000006", "samples.md")
    assert go_on(system, data, run) == "steps"
    said = capsys.readouterr().out
    assert "going on from step 4 " in said
    assert "of the arithmetic" not in said
    lines = lines_of(OLD / "runs" / system / "metrics.jsonl")
    if system != "hcl":  # without a KL term its weight is not logged any more
        lines = [{name: value for name, value in line.items() if name != "kl_weight"} for line in lines]
    assert_same(lines_of(run / "metrics.jsonl"), lines, system)
    found, recorded = (load_run(folder) for folder in (run, OLD / "runs" / system))
    assert_same(found.finished, recorded.finished, system)
    assert found.config == recorded.config, "what it was begun with stays as it was written"
    assert found.environment["arithmetic"] == 1
    assert [earlier["packages"]["hcl_tf"] for earlier in found.environment["earlier"]] == ["0.1.0"]
    arrays, others = (each.checkpoints.read("step-00000006").arrays for each in (found, recorded))
    assert arrays.keys() == others.keys()
    assert {name: array.shape for name, array in arrays.items()} == {name: array.shape for name, array in others.items()}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_finished_run_is_not_begun_again(later, system, data, copied, plain, capsys):
    run = copied(system)
    assert go_on(system, data, run) == "steps"
    assert "this run is finished" in capsys.readouterr().out


@pytest.mark.parametrize("left_out", AS_THEN["hcl"])
def test_a_default_that_has_changed_needs_the_flag_that_says_what_was_done_then(data, copied, plain, left_out):
    name, value = left_out[2:].split("=")
    now = getattr(registry.resolve("tiny", {"model": "hcl"}), name)
    assert str(now) != value
    with pytest.raises(UserError, match=rf'settings\.{name} was "?{value}"?, now "?{now}"?;'):
        go_on("hcl", data, copied("hcl"), f"--{name}={now}")


def test_other_settings_are_refused_as_ever(later, data, copied, plain):
    run = copied("bert_gen", "done.json")
    with pytest.raises(UserError, match=r"settings\.batch_size was 8, now 4;"):
        go_on("bert_gen", data, run, "--batch_size=4")
    with pytest.raises(UserError, match=r"settings\.seed was 1, now 2;"):
        go_on("bert_gen", data, run, "--seed=2")


def changed(kind: type[Settings]) -> type[Settings]:
    @dataclass(frozen=True)
    class Later(kind):
        later: float = setting(0.7, "What came later, with another value than what was done before.", low=0.0, before=0.5)

    return Later


def test_where_a_later_default_is_not_what_was_done_before_the_flag_that_says_so_is_needed(data, copied, plain, budget, monkeypatch):
    add_settings(monkeypatch, changed)
    run = copied("bert_gen")
    assert TrainedRun(run).settings.later == 0.5
    with pytest.raises(UserError, match=r"settings\.later was 0\.5, now 0\.7;"):
        go_on("bert_gen", data, run)
    assert go_on("bert_gen", data, run, "--later=0.5") == "steps"
    series = series_of(Path("nowhere"), budget)
    monkeypatch.chdir(OLD)
    with pytest.raises(UserError, match=r"hcl-1\.json: kept with --later=0\.5, and this command's flags and files give 0\.7;"):
        reproduction.reproduce(dataclasses.replace(series, out=OLD / "reports" / "qqp"), ["hcl"], [1])


# -- beside each other ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runs_are_reported_beside_each_other(later, tmp_path):
    found, apart = rows.collect([OLD / "runs"])
    assert (sorted(result.row for result in found), apart) == (sorted(SYSTEMS), [])
    assert {result.record["version"] for result in found} == {"0.1.0"}
    table, apart = report.table_of("qqp", found, claims.read(OLD / "paper_claims.yaml"))
    assert apart == []
    report.write(table, apart, tmp_path / "out")
    text = (tmp_path / "out" / report.PAGE).read_text(encoding="utf-8").replace("\\_", "_")
    for system in SYSTEMS:
        recorded = json.loads((OLD / "runs" / system / "scores.test.json").read_text())["scores"]["BLEU-2"]["value"]
        assert table.cell(system, "BLEU-2").ours == (recorded,)
        assert (f"--model={system}" in report.csv_of(table)) == (system != registry.OURS)
    assert "python -m hcl_tf.train --task=qqp --preset=tiny" in text


def test_a_command_that_a_report_prints_is_taken_by_this_version(later):
    for result in rows.collect([OLD / "runs"])[0]:
        words = shlex.split(result.command())[3:]
        flags = setting_flags.read(words)
        assert registry.resolve(flags.preset.value, flags.given) == registry.read(result.record["settings"])


@pytest.fixture
def budget(tmp_path) -> Path:
    """The fixture's budget, and what a later version has to be told."""
    folder = Path(shutil.copytree(OLD / "budget", tmp_path / "budget"))
    for system, flags in AS_THEN.items():
        (folder / f"{system}.flags").write_text("\n".join(("# As version 0.1.0.", *flags, "")))
    return folder


def series_of(out: Path, budget: Path) -> reproduction.Series:
    """The fixture's command, `reproduce --experiments=experiments --budget=budget --data_dir=data`."""
    folders = (Path("experiments/qqp"), Path("data"), budget, None)
    return reproduction.Series("qqp", "tiny", *folders, Path("nowhere"), out, Path("paper_claims.yaml"))


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """A copy of the kept rows. Flag files name folders relative to where the command is given."""
    monkeypatch.chdir(OLD)
    monkeypatch.setattr(reproduction, "_call", lambda *words: pytest.fail(f"a row is made: {words}"))
    return Path(shutil.copytree(OLD / "reports" / "qqp", tmp_path / "kept"))


@pytest.mark.slow
def test_kept_rows_count_as_done_and_both_seeds_are_one_row(later, kept, budget, capsys):
    assert reproduction.reproduce(series_of(kept, budget), ["hcl"], [1, 2]) == 0
    assert "2 of 2 rows are there, missing: none" in capsys.readouterr().out
    table, apart = report.table_of("qqp", rows.collect([kept])[0], claims.read(OLD / "paper_claims.yaml"))
    assert apart == []
    assert {row: [result.seed for result in results] for row, results in table.rows.items()} == {"hcl": [1, 2]}
    assert len(table.cell("hcl", "BLEU-2").ours) == 2
    assert "seeds 1, 2" in (kept / report.PAGE).read_text().lower()


@pytest.mark.slow
def test_a_row_that_this_version_keeps_stands_beside_one_that_was_kept_then(later, kept, budget):
    path = kept / "rows" / "hcl-2.json"
    record = json.loads(path.read_text())
    now = record | {"version": hcl_tf.__version__, "settings": registry.read(record["settings"]).to_dict()}
    assert now["settings"] != record["settings"]
    path.write_bytes(to_json(now))
    assert reproduction.reproduce(series_of(kept, budget), ["hcl"], [1, 2]) == 0
    table, apart = report.table_of("qqp", rows.collect([kept])[0], claims.read(OLD / "paper_claims.yaml"))
    assert (apart, len(table.rows["hcl"])) == ([], 2)


def test_a_row_of_another_budget_is_refused_as_ever(later, kept, budget):
    series = dataclasses.replace(series_of(kept, budget), max_steps=5)
    with pytest.raises(UserError, match=r"hcl-1\.json: kept with --max_steps=4, and this command's flags and files give 5;"):
        reproduction.reproduce(series, ["hcl"], [1, 2])


# -- the rows of experiments/reports/former ---------------------------------------------------------------------------


def test_there_are_rows_to_be_read():
    assert sum(len(list((folder / rows.ROWS).glob("*.json"))) for folder in REPORTS) >= 64


@pytest.mark.slow
@pytest.mark.parametrize("folder", REPORTS, ids=lambda folder: folder.name)
def test_every_kept_row_is_read_and_none_is_set_apart(later, folder):
    """None was when they were kept."""
    paths = sorted((folder / rows.ROWS).glob("*.json"))
    kept = [rows.read_kept(path) for path in paths]
    for result in kept:
        settings, recorded = result.settings, result.record["settings"]
        assert settings.keys() == registry.names_of(settings["model"])
        assert all(value == recorded[name] for name, value in settings.items() if name in recorded)
        assert result.row == result.origin.stem.rpartition("-")[0]
        words = setting_flags.read(shlex.split(result.command())[3:])
        assert registry.resolve(words.preset.value, words.given).to_dict() == settings
    task = kept[0].record["task"]
    table, apart = report.table_of(task, kept, claims.read(Path(__file__).parents[1] / "experiments" / "paper_claims.yaml"))
    assert apart == []
    assert sum(map(len, table.rows.values())) == len(kept)
