"""The rows of a table: which are missing, what is kept of them, what the page says, and what is refused."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import prepare_sample
from made_results import made

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import content_of
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.models.registry import resolve
from hcl_tf.reporting import reproduction
from hcl_tf.reporting.series import Series
from hcl_tf.settings import EQUAL, PUBLISHED, RANDOM

CLAIMS = Path(__file__).parents[2] / "experiments" / "paper_claims.yaml"
SYSTEMS = ("hcl", "bert_cvae", "transformer")


@pytest.fixture
def series(tmp_path, qqp_folder) -> Series:
    for system in SYSTEMS:
        path = tmp_path / "experiments" / "qqp" / f"{system}.flags"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# a row\n--model={system}\n--preset=paper\n")
    budget = tmp_path / "budget"
    budget.mkdir()
    (budget / "all.flags").write_text("--batch_size=16\n--encoder=random:1x32\n")
    (budget / "hcl.flags").write_text("--free_bits=0.1\n")
    return Series("qqp", "tiny", tmp_path / "experiments" / "qqp", qqp_folder, budget, 6, tmp_path / "runs", tmp_path / "out", CLAIMS)


@pytest.fixture
def calls(monkeypatch, series, evaluated_run) -> list[tuple[str, str]]:
    """Commands of the package that were called, as (module, row); training puts a finished, evaluated run in place."""
    found: list[tuple[str, str]] = []

    def call(module: str, flags: list[str]) -> int:
        run = Path(next(flag for flag in flags if flag.startswith("--run_dir=")).removeprefix("--run_dir="))
        found.append((module, run.name))
        if module == "hcl_tf.train" and not run.exists():
            run.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(evaluated_run, run)
            system, seed = run.name.rsplit("-", 1)
            give(run, series.settings(system) | {"seed": int(seed)})
        return 0

    monkeypatch.setattr(reproduction, "_call", call)
    return found


def give(run: Path, settings: dict) -> None:
    """Makes it a run of these settings, as its own command would have."""
    config, files = (json.loads((run / name).read_text()) for name in ("config.json", "files.json"))
    config["settings"] |= settings
    (run / "config.json").write_text(json.dumps(config))
    files["config.json"] = hashlib.sha256((run / "config.json").read_bytes()).hexdigest()
    (run / "files.json").write_text(json.dumps(files))


def trained(calls: list[tuple[str, str]]) -> list[str]:
    return [row for module, row in calls if module == "hcl_tf.train"]


def ends_with(monkeypatch, row: str, code: int):
    """Commands for this row fail from now on; returns the call that works."""
    working = reproduction._call
    monkeypatch.setattr(reproduction, "_call", lambda module, flags: code if any(row in f for f in flags) else working(module, flags))
    return working


def test_flags_of_the_row_then_of_the_budget_then_of_the_command(series, tmp_path):
    files = [f"--flagfile={tmp_path / name}" for name in ("experiments/qqp/hcl.flags", "budget/hcl.flags")]
    for_all = ["--batch_size=16", "--encoder=random:1x32", "--max_steps=6"]
    last = ["--task=qqp", "--preset=tiny", "--seed=7", "--row=hcl", f"--data_dir={series.data}", f"--run_dir={series.runs / 'hcl-7'}"]
    flags = series.train("hcl", 7)
    assert [flags[0], sorted(flags[1:4]), flags[4], flags[5:]] == [files[0], sorted(for_all), files[1], last]
    assert files[1] not in series.train("bert_cvae", 7)


def test_a_row_s_own_file_of_the_budget_goes_before_what_all_rows_get_and_the_command_before_both(series):
    (series.budget / "all.flags").write_text("--batch_size=16\n--max_steps=5\n--dropout=0.2\n")
    (series.budget / "hcl.flags").write_text("--batch_size=8\n--nocopy\n")
    (series.flag_files / "hcl.flags").write_text("--model=hcl\n--batch_size=4\n--dropout=0.3\n--latent_size=7\n")
    found = series.settings("hcl")
    assert (found["batch_size"], found["max_steps"], found["dropout"], found["latent_size"], found["copy"]) == (8, 6, 0.2, 7, False)


def test_what_a_start_settles_depends_on_the_kept_row_s_weights(series):
    """Node features are made anew of random weights that train, and an encoder that others published has a rate of its own."""
    (series.flag_files / "hcl.flags").write_text("--model=hcl\n--learning_rate=0.01\n")
    found = {weights: series.settings("hcl", weights) for weights in (PUBLISHED, EQUAL, RANDOM)}
    assert [found[weights]["refresh_graph_every"] for weights in found] == [0, 0, 1]
    rates = [found[weights]["encoder_learning_rate"] for weights in found]
    assert rates == [0.001, 0.01, 0.01]
    (series.flag_files / "hcl.flags").write_text("--model=hcl\n--trainable_features\n")
    assert series.settings("hcl", RANDOM)["refresh_graph_every"] == 0


def test_a_row_gets_of_the_budget_what_its_system_uses(series):
    (series.budget / "all.flags").write_text("--batch_size=16\n--free_bits=0.2\n--nocopy\n--beams=3\n")
    (series.flag_files / "copy.flags").write_text("--model=copy\n")
    given = {row: {flag for flag in series.train(row, 1) if "flagfile" not in flag} for row in (*SYSTEMS, "copy")}
    everywhere = {"--beams=3"}
    trained = everywhere | {"--batch_size=16", "--max_steps=6"}
    for row, wanted in (("bert_cvae", trained | {"--free_bits=0.2"}), ("transformer", trained), ("copy", everywhere)):
        flags = {"--batch_size=16", "--max_steps=6", "--free_bits=0.2", "--beams=3"} & given[row]
        assert flags == wanted, row
    assert "max_steps" not in series.settings("copy")
    assert (series.settings("transformer")["copy"], series.settings("copy")["beams"]) == (False, 3)
    series.check_budget()


@pytest.mark.parametrize(
    ("text", "steps", "said"),
    [
        ("--batch_size=16\n--group_draws=3\n", 6, r"^--group_draws of .*/budget/all\.flags: no row of qqp uses it; groupwise would$"),
        ("--recurrent_layers=2\n", None, r"^--recurrent_layers of .*all\.flags: no row of qqp uses it; seq2seq, seq2seq_du, cvae would$"),
    ],
    ids=["of one system", "of several"],
)
def test_a_flag_for_all_rows_that_none_uses_is_refused(series, calls, text, steps, said):
    (series.budget / "all.flags").write_text(text)
    with pytest.raises(UserError, match=said):
        reproduction.reproduce(replace(series, max_steps=steps), ["hcl"], [1])
    assert not calls


@pytest.mark.parametrize("line", ["--preset=tiny", "--task=douban", "--seed=3", "--data_dir=x", "--run_dir=x", "--row=x"])
def test_what_the_command_says_for_every_row_can_t_stand_in_the_budget(series, calls, line):
    (series.budget / "all.flags").write_text(f"--batch_size=16\n{line}\n")
    said = rf"/budget/all\.flags: {line.split('=')[0]}: this command, or the plan's stage, says that for every row; remove the line$"
    with pytest.raises(UserError, match=said):
        reproduction.reproduce(series, ["hcl"], [1])
    assert not calls


def test_steps_of_a_table_of_systems_without_weights_are_refused(series, calls):
    for system in SYSTEMS:
        (series.flag_files / f"{system}.flags").unlink()
    (series.flag_files / "copy.flags").write_text("--model=copy\n")
    with pytest.raises(UserError, match=r"^--max_steps of this command: no row of qqp uses it; hcl, "):
        reproduction.reproduce(replace(series, budget=None), [], [1])
    assert not calls


def test_a_row_s_file_may_not_give_what_its_system_does_not_use(series, calls):
    (series.budget / "transformer.flags").write_text("--free_bits=0.1\n")
    with pytest.raises(UserError, match=r"^--free_bits: --model=transformer does not use it; hcl, "):
        reproduction.reproduce(series, [], [1])
    assert not calls


@pytest.fixture
def other_data(series, qqp_folder, tmp_path) -> Path:
    """The same raw files prepared otherwise, which the row of the Transformer names."""
    folder = prepare_sample(tmp_path / "other", "qqp", vocab_size=1500)
    with (series.flag_files / "transformer.flags").open("a") as file:
        file.write(f"--data_dir={folder}\n")
    return folder


@pytest.mark.slow
def test_a_row_may_name_data_of_its_own(series, calls, other_data, monkeypatch):
    """As systems do whose texts have to be cut into other pieces. The task's own folder is what --data_dir stands in for."""
    (series.flag_files / "hcl.flags").write_text("--model=hcl\n--data_dir=tfrecords/qqp\n")
    assert [series.data_of(row) for row in SYSTEMS] == [series.data, series.data, other_data]
    assert f"--data_dir={other_data}" in series.train("transformer", 1)
    assert f"--data_dir={series.data}" in series.train("hcl", 1)
    told = []
    working = reproduction._call
    monkeypatch.setattr(reproduction, "_call", lambda module, flags: told.append((module, flags)) or working(module, flags))
    keep_row(series, "bert_cvae")
    kept = made("transformer", data=PreparedData(other_data).manifest["sha256"], settings=planned(series, "transformer"))
    assert reproduction.reproduce(series, ["hcl"], [1]) == 0
    assert {flag for _, flags in told for flag in flags if flag.startswith("--data_dir")} == {f"--data_dir={series.data}"}
    rows.keep(series.kept("transformer", 1), kept)
    told.clear()
    assert reproduction.reproduce(series, ["transformer"], [1]) == 0, "kept from its own data, so it is done"
    assert not told
    rows.keep(series.kept("transformer", 1), made("transformer", data=PreparedData(series.data).manifest["sha256"]))
    with pytest.raises(UserError, match=f"transformer-1.json: kept from other data than {other_data}; a row has one data set"):
        reproduction.reproduce(series, ["hcl"], [1])


@pytest.mark.slow
def test_data_of_other_raw_files_are_refused(series, calls, rocstories_folder):
    with (series.flag_files / "transformer.flags").open("a") as file:
        file.write(f"--data_dir={rocstories_folder}\n")
    with pytest.raises(
        UserError, match=f"^--data_dir={rocstories_folder}: prepared from other raw files than {series.data}; one table has"
    ):
        reproduction.reproduce(series, [], [1])
    assert reproduction.reproduce(series, ["hcl"], [1]) == 0, "a row that is not asked for is not looked at"


def test_every_missing_row_is_made_once_and_kept(series, calls, capsys):
    assert reproduction.reproduce(series, [], [1, 2]) == 0
    assert trained(calls) == [f"{system}-{seed}" for seed in (1, 2) for system in sorted(SYSTEMS)]
    assert {path.stem for path in (series.out / "rows").iterdir()} == set(trained(calls))
    kept = json.loads(series.kept("hcl", 2).read_text())
    assert (kept["system"], kept["seed"], len(kept["samples"])) == ("hcl", 2, min(20, kept["examples"]))
    assert kept["scores"]["BLEU-4"]["signature"]
    assert not any(str(series.runs) in flag for flag in kept["flags"])  # nothing of this machine
    page = (series.out / "report.md").read_text()
    assert all(system.replace("_", "\\_") in page for system in SYSTEMS)
    assert "SCALED DOWN" in page
    assert {"report.html", "table1.csv", "scores.png"} <= {path.name for path in series.out.iterdir()}
    assert "about " in capsys.readouterr().out  # time left, from the second row on
    calls.clear()
    assert reproduction.reproduce(series, [], [1, 2]) == 0
    assert not calls


@pytest.mark.slow
def test_a_finished_run_counts_only_if_its_settings_are_those_asked_for(series, calls):
    """Also where it is the run, not the kept row, that is left of a former budget."""
    assert reproduction.reproduce(series, ["hcl"], [1]) == 0
    series.kept("hcl", 1).unlink()
    calls.clear()
    with pytest.raises(
        UserError, match=r"runs/hcl-1: finished with --max_steps=6, and this command's .* give 7; remove the folder, or choose"
    ):
        reproduction.reproduce(replace(series, max_steps=7), ["hcl"], [1])
    assert not calls
    assert reproduction.reproduce(series, ["hcl"], [1]) == 0
    assert calls == [("hcl_tf.evaluate", "hcl-1")]


@pytest.mark.parametrize(("encoder", "kinds"), [("auto", {EQUAL, PUBLISHED, RANDOM}), ("random", {RANDOM}), ("published", {PUBLISHED})])
def test_an_encoder_that_is_asked_for_by_its_kind_may_have_any_name(series, encoder, kinds):
    (series.budget / "all.flags").write_text(f"--batch_size=16\n--encoder={encoder}\n")
    found = {kind for kind in (EQUAL, PUBLISHED, RANDOM) if "encoder" not in series.settings("hcl", kind)}
    assert found == kinds, "of another kind it is compared, and differs"


def test_rows_that_begin_with_weights_of_another_recipe_are_refused_beside_older_ones(series, calls):
    (series.budget / "all.flags").write_text("--batch_size=16\n--encoder=weights/bert\n")

    def keep(system: str, recipe: str, bits: str) -> None:
        given = {"max_steps": 6, "batch_size": 16, "encoder": "weights/bert"} | ({"free_bits": 0.1} if system == "hcl" else {})
        settings = resolve("tiny", {"model": system, **given}).settled(EQUAL, given).to_dict()
        data = PreparedData(series.data).manifest["sha256"]
        note = f"encoder: folder bert, {EQUAL} (mlm, recipe {recipe}, weights {bits})"
        rows.keep(series.kept(system, 1), made(system, data=data, encoder=note, settings=settings))

    keep("bert_cvae", "aaaaaaaa", "11111111")
    keep("hcl", "bbbbbbbb", "22222222")
    with pytest.raises(
        UserError, match=r"hcl-1\.json: begun with .*bbbbbbbb, .*\), and .*bert_cvae-1\.json with .*aaaaaaaa, .*\); .* remove the older row"
    ):
        reproduction.reproduce(series, ["hcl"], [1])
    keep("bert_cvae", "bbbbbbbb", "11111111")  # other bits: a departure, which the page names
    assert reproduction.reproduce(series, ["hcl"], [1]) == 0
    assert not calls


@pytest.mark.parametrize(("data", "exclude", "refused"), [([], [], True), (["own"], [], False), ([], ["own"], False)])
def test_weights_that_may_have_seen_what_a_row_is_scored_on_are_refused(series, calls, tmp_path, data, exclude, refused):
    weights, own = tmp_path / "bert", content_of(PreparedData(series.data).manifest)
    weights.mkdir()
    known = {"data": [*data, "another"], "exclude": exclude}
    record = {"settings": {"objective": "mlm"}, "texts": 9, "pieces_seen": 99, "data": known}
    (weights / "pretraining.json").write_text(json.dumps(record).replace('"own"', f'"{own}"'))
    (series.budget / "all.flags").write_text(f"--batch_size=16\n--encoder={weights}\n")
    if refused:
        said = f"{weights}: pretrained without {series.data}, so it may have seen texts that hcl is scored on; pretrain with --exclude="
        with pytest.raises(UserError, match=re.escape(said)):
            reproduction.reproduce(series, ["hcl"], [1])
        assert not calls
    else:
        reproduction.reproduce(series, ["hcl"], [1])
        assert trained(calls) == ["hcl-1"]


@pytest.mark.slow
def test_only_what_was_asked_for(series, calls):
    reproduction.reproduce(series, ["bert_cvae"], [3])
    assert trained(calls) == ["bert_cvae-3"]


@pytest.mark.slow
def test_a_failed_row_does_not_stop_the_others(series, calls, monkeypatch, capsys):
    working = reproduction._call
    monkeypatch.setattr(
        reproduction, "_call", lambda module, flags: 1 if any("bert_cvae-1" in f for f in flags) else working(module, flags)
    )
    assert reproduction.reproduce(series, [], [1]) == 1
    assert not series.kept("bert_cvae", 1).exists()
    assert series.kept("transformer", 1).exists()
    assert "failed: bert_cvae seed 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("code", [130, pytest.param(143, marks=pytest.mark.slow)])
def test_a_signal_ends_the_command_and_the_next_one_goes_on(series, calls, monkeypatch, code):
    working = ends_with(monkeypatch, "hcl-1", code)
    assert reproduction.reproduce(series, [], [1]) == code
    assert trained(calls) == ["bert_cvae-1"]
    noted = series.runs / "hcl-1.seconds"
    assert float(noted.read_text()) < 60
    noted.write_text("1000")
    monkeypatch.setattr(reproduction, "_call", working)
    assert reproduction.reproduce(series, [], [1]) == 0
    assert trained(calls) == ["bert_cvae-1", "hcl-1", "transformer-1"]
    assert 1000 <= rows.read_kept(series.kept("hcl", 1)).record["seconds"] < 1060, "with what earlier attempts took"
    assert not noted.exists()


def test_what_can_t_be_is_refused_before_anything_runs(series, calls, tmp_path):
    with pytest.raises(UserError, match=r"--systems: no hcll.flags"):
        reproduction.reproduce(series, ["hcll"], [1])
    (series.budget / "all.flags").unlink()
    with pytest.raises(UserError, match=r"no all\.flags there"):
        reproduction.reproduce(series, [], [1])
    nowhere = replace(series, flag_files=tmp_path / "nowhere")
    with pytest.raises(UserError, match="--experiments"):
        reproduction.reproduce(nowhere, [], [1])
    assert not calls


@pytest.mark.slow
def test_kept_rows_of_other_data_and_damaged_ones_are_refused(series, calls):
    reproduction.reproduce(series, ["hcl"], [1])
    path = series.kept("hcl", 1)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "content": "another"}))
    with pytest.raises(UserError, match="kept from other data"):
        reproduction.reproduce(series, ["hcl"], [1])
    path.write_text("{")
    with pytest.raises(UserError, match=r"hcl-1.json: damaged"):
        reproduction.reproduce(series, ["hcl"], [1])


def keep_row(series: Series, system: str, **settings) -> Path:
    """Keeps a row that was made under the series, but for some settings."""
    data = PreparedData(series.data).manifest["sha256"]
    rows.keep(series.kept(system, 1), made(system, data=data, settings=planned(series, system, **settings)))
    return series.kept(system, 1)


def planned(series: Series, system: str, **settings) -> dict:
    """The settings of a row under the series, but for some."""
    given = {"preset": series.preset, "model": system, "max_steps": 6, "batch_size": 16, "encoder": "random:1x32"} | settings
    return resolve(given.pop("preset"), given).settled(PUBLISHED, given).to_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"preset": "small"}, "--preset=small, and this command's flags and files give tiny"),
        ({"max_steps": 1000}, "--max_steps=1000, and this command's flags and files give 6"),
        ({"batch_size": 64}, "--batch_size=64, and this command's flags and files give 16"),
        ({"free_bits": 0.0}, "--free_bits=0.0, and this command's flags and files give 0.1"),
        ({"encoder_learning_rate": 0.5}, "--encoder_learning_rate=0.5, and this command's flags and files give 0.001"),
        ({"encoder": "random:2x64"}, "--encoder=random:2x64, and this command's flags and files give random:1x32"),
    ],
)
def test_kept_rows_of_another_budget_are_refused(series, calls, settings, why):
    path = keep_row(series, "hcl", **{"free_bits": 0.1, **settings})
    remedy = "remove the row and its run folder, or choose another --out"
    with pytest.raises(UserError, match=re.escape(f"{path}: kept with {why}; one table has one budget: {remedy}")):
        reproduction.reproduce(series, [], [1])
    assert not calls


@pytest.mark.slow
def test_what_changes_no_number_may_differ(series, calls):
    (series.budget / "hcl.flags").write_text("--free_bits=0.1\n--learning_rate=0.5\n")
    keep_row(series, "hcl", free_bits=0.1, learning_rate=0.5, jit_compile="true", micro_batch=8)
    keep_row(series, "transformer", encoder="random:3x48")  # it has no BERT
    rows.keep(
        series.kept("hcl_once", 1), made("hcl_once", data=PreparedData(series.data).manifest["sha256"])
    )  # no file: nothing to be like
    assert reproduction.reproduce(series, ["hcl", "transformer"], [1]) == 0
    assert not calls
