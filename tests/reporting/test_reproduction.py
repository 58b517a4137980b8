"""The rows of a table: which are missing, what is kept of them, what the page says, and what is refused."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from made_results import made

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.evaluation import rows
from hcl_tf.models import registry
from hcl_tf.reporting import reproduction
from hcl_tf.reporting.reproduction import Plan
from hcl_tf.settings import resolve

CLAIMS = Path(__file__).parents[2] / "experiments" / "paper_claims.yaml"
SYSTEMS = ("hcl", "bert_cvae", "transformer")


@pytest.fixture
def plan(tmp_path, qqp_folder) -> Plan:
    for system in SYSTEMS:
        path = tmp_path / "experiments" / "qqp" / f"{system}.flags"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# a row\n--model={system}\n--preset=paper\n")
    budget = tmp_path / "budget"
    budget.mkdir()
    (budget / "all.flags").write_text("--batch_size=16\n--encoder=random:1x32\n")
    (budget / "hcl.flags").write_text("--free_bits=0.1\n")
    return Plan("qqp", "tiny", tmp_path / "experiments", qqp_folder, budget, 6, tmp_path / "runs", tmp_path / "out", CLAIMS)


@pytest.fixture
def calls(monkeypatch, plan, evaluated_run) -> list[tuple[str, str]]:
    """Commands of the package that were called, as (module, row); training puts a finished, evaluated run in place."""
    found: list[tuple[str, str]] = []

    def call(module: str, flags: list[str]) -> int:
        run = Path(next(flag for flag in flags if flag.startswith("--run_dir=")).removeprefix("--run_dir="))
        found.append((module, run.name))
        if module == "hcl_tf.train" and not run.exists():
            run.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(evaluated_run, run)
            system, seed = run.name.rsplit("-", 1)
            give(run, plan.settings(system) | {"seed": int(seed)})
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


def test_flags_of_the_row_then_of_the_budget_then_of_the_command(plan, tmp_path):
    flags = plan.train("hcl", 7)
    files = ["experiments/qqp/hcl.flags", "budget/all.flags", "budget/hcl.flags"]
    assert flags[:3] == [f"--flagfile={tmp_path / name}" for name in files]
    assert {"--preset=tiny", "--seed=7", "--max_steps=6", "--task=qqp"} <= set(flags[3:])
    assert f"--flagfile={tmp_path / 'budget/hcl.flags'}" not in plan.train("bert_cvae", 7)


def test_every_missing_row_is_made_once_and_kept(plan, calls, capsys):
    assert reproduction.reproduce(plan, [], [1, 2]) == 0
    assert trained(calls) == [f"{system}-{seed}" for seed in (1, 2) for system in sorted(SYSTEMS)]
    assert {path.stem for path in (plan.out / "rows").iterdir()} == set(trained(calls))
    kept = json.loads(plan.kept("hcl", 2).read_text())
    assert (kept["system"], kept["seed"], len(kept["samples"])) == ("hcl", 2, min(20, kept["examples"]))
    assert kept["scores"]["BLEU-4"]["signature"]
    assert not any(str(plan.runs) in flag for flag in kept["flags"])  # nothing of this machine
    page = (plan.out / "report.md").read_text()
    assert all(system.replace("_", "\\_") in page for system in SYSTEMS)
    assert "SCALED DOWN" in page
    assert {"report.html", "table1.csv", "scores.png"} <= {path.name for path in plan.out.iterdir()}
    assert "about " in capsys.readouterr().out  # time left, from the second row on
    calls.clear()
    assert reproduction.reproduce(plan, [], [1, 2]) == 0
    assert not calls


def test_only_what_was_asked_for(plan, calls):
    reproduction.reproduce(plan, ["bert_cvae"], [3])
    assert trained(calls) == ["bert_cvae-3"]


def test_a_failed_row_does_not_stop_the_others(plan, calls, monkeypatch, capsys):
    working = reproduction._call
    monkeypatch.setattr(
        reproduction, "_call", lambda module, flags: 1 if any("bert_cvae-1" in f for f in flags) else working(module, flags)
    )
    assert reproduction.reproduce(plan, [], [1]) == 1
    assert not plan.kept("bert_cvae", 1).exists()
    assert plan.kept("transformer", 1).exists()
    assert "failed: bert_cvae seed 1" in capsys.readouterr().err


@pytest.mark.parametrize("code", [130, 143])
def test_a_signal_ends_the_command_and_the_next_one_goes_on(plan, calls, monkeypatch, code):
    working = ends_with(monkeypatch, "hcl-1", code)
    assert reproduction.reproduce(plan, [], [1]) == code
    assert trained(calls) == ["bert_cvae-1"]
    monkeypatch.setattr(reproduction, "_call", working)
    assert reproduction.reproduce(plan, [], [1]) == 0
    assert trained(calls) == ["bert_cvae-1", "hcl-1", "transformer-1"]


def test_what_can_t_be_is_refused_before_anything_runs(plan, calls, tmp_path):
    with pytest.raises(UserError, match=r"--systems: no hcll.flags"):
        reproduction.reproduce(plan, ["hcll"], [1])
    (plan.budget / "all.flags").unlink()
    with pytest.raises(UserError, match=r"no all\.flags there"):
        reproduction.reproduce(plan, [], [1])
    nowhere = Plan(**{**vars(plan), "experiments": tmp_path / "nowhere"})
    with pytest.raises(UserError, match="--experiments"):
        reproduction.reproduce(nowhere, [], [1])
    assert not calls


def test_kept_rows_of_other_data_and_damaged_ones_are_refused(plan, calls):
    reproduction.reproduce(plan, ["hcl"], [1])
    path = plan.kept("hcl", 1)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "data": "another"}))
    with pytest.raises(UserError, match="kept from other data"):
        reproduction.reproduce(plan, ["hcl"], [1])
    path.write_text("{")
    with pytest.raises(UserError, match=r"hcl-1.json: damaged"):
        reproduction.reproduce(plan, ["hcl"], [1])


def keep_row(plan: Plan, system: str, **settings) -> Path:
    """Keeps a row that was made under the plan, but for some settings."""
    given = {"preset": plan.preset, "model": system, "max_steps": 6, "batch_size": 16, "encoder": "random:1x32"} | settings
    found = resolve(given.pop("preset"), given, registry.defaults_of(system)).to_dict()
    data = PreparedData(plan.data).manifest["sha256"]
    rows.keep(plan.kept(system, 1), made(system, data=data, settings=found))
    return plan.kept(system, 1)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"preset": "small"}, "--preset=small, and this command's flags and files give tiny"),
        ({"max_steps": 1000}, "--max_steps=1000, and this command's flags and files give 6"),
        ({"batch_size": 64}, "--batch_size=64, and this command's flags and files give 16"),
        ({"free_bits": 0.0}, "--free_bits=0.0, and this command's flags and files give 0.1"),
        ({"encoder": "random:2x64"}, "--encoder=random:2x64, and this command's flags and files give random:1x32"),
    ],
)
def test_kept_rows_of_another_budget_are_refused(plan, calls, settings, why):
    path = keep_row(plan, "hcl", **{"free_bits": 0.1, **settings})
    with pytest.raises(UserError, match=re.escape(f"{path}: kept with {why}; one table has one budget: choose another --out")):
        reproduction.reproduce(plan, [], [1])
    assert not calls


def test_what_changes_no_number_or_is_settled_at_the_start_may_differ(plan, calls):
    keep_row(plan, "hcl", free_bits=0.1, jit_compile="true", micro_batch=8, encoder_learning_rate=0.5)
    keep_row(plan, "transformer", encoder="random:3x48")  # it has no BERT
    rows.keep(plan.kept("hcl_once", 1), made("hcl_once", data=PreparedData(plan.data).manifest["sha256"]))  # no file: nothing to be like
    assert reproduction.reproduce(plan, ["hcl", "transformer"], [1]) == 0
    assert not calls
