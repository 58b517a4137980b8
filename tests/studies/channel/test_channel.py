"""The command on a small trained run: every figure that the page names, and what is refused."""

import json
import shutil
import signal

import numpy as np
import pytest
from conftest import entry_point

from hcl_tf.errors import UserError
from hcl_tf.evaluation.links import FIGURES
from hcl_tf.evaluation.scoring import EvaluationRequest
from hcl_tf.models import registry
from hcl_tf.reporting import row_measures
from hcl_tf.studies.channel import page
from hcl_tf.studies.channel.meter import ALPHAS, MeterRequest, measure
from hcl_tf.training.launch import launch
from hcl_tf.training.trained_run import TrainedRun


@pytest.fixture(scope="module")
def trained(trained_run, qqp_folder, tmp_path_factory) -> TrainedRun:
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(trained_run, folder)
    return TrainedRun(folder, data_dir=qqp_folder)


@pytest.fixture(scope="module")
def found(trained) -> dict:
    return measure(trained, MeterRequest(limit=12, what_if=True))


@pytest.mark.slow
def test_every_link_is_judged_and_every_part_has_its_gradients(found, trained):
    assert [link["name"] for link in found["links"]] == list(FIGURES)
    assert set(found["contrasts"]) == {"ins", "key", "ma"}
    assert set(found["gradients"]) == {"nll", "kl_objective", "ins", "key", "ma"}
    assert set(found["gradients"]["nll"]) == set(trained.model.places)
    reached = {part for part, entry in found["gradients"]["ins"].items() if entry["norm"]["value"] > 0}
    assert reached == {"embeddings", "encoder", "prior", "posterior", "graph"}, "L_ins reaches no block of the decoder"
    assert found["examples"] == 12
    assert found["infonce_ceiling"] == pytest.approx(np.log(12))
    assert found["contrasts"]["ins"]["untrained_order"] is not None


@pytest.mark.slow
def test_alpha_0_is_the_prior_s_mean(found):
    assert list(found["what_if"]) == [f"{alpha:g}" for alpha in ALPHAS]
    means, row = found["figures"]["means"], found["what_if"]["0"]
    assert row["nll"]["value"] == pytest.approx(means["nll_prior"]["value"], rel=1e-6)
    assert row["margin"]["value"] == pytest.approx(means["nll_negative"]["value"] - means["nll_prior"]["value"], abs=1e-4)
    assert row["moved"] == {"value": 0.0, "low": 0.0, "high": 0.0, "examples": 12}


@pytest.mark.slow
def test_the_page_shows_each_section(found):
    text = page.page(found)
    for title in ("# The channel", "At the prior's mean", "## Scales", "## Contrasts", "## Target against", "## Gradients", "## What if"):
        assert title in text
    assert "| u -> prior |" in text
    assert any(line.startswith("L_key: order") for line in page.lines(found))


@pytest.mark.slow
def test_the_command_writes_both_files_and_prints_the_verdicts(trained, qqp_folder, capsys, monkeypatch):
    command = entry_point("studies.channel.__main__")
    from absl import flags

    flags.FLAGS(["channel", f"--run_dir={trained.run.path}", f"--data_dir={qqp_folder}", "--limit=8", "--nountrained"])
    command.main()
    said = capsys.readouterr().out
    assert "from negatives to the text" in said
    kept = json.loads((trained.run.path / "channel.validation.first8.json").read_text())
    assert kept["contrasts"]["ins"]["untrained_order"] is None
    assert "what_if" not in kept
    assert (trained.run.path / "channel.validation.first8.md").read_text().startswith("# The channel: hcl on qqp, 8 examples")


@pytest.mark.slow
def test_a_system_without_z_is_refused(trained, monkeypatch):
    monkeypatch.setattr(registry.class_of("hcl"), "output_nll", "nll")
    with pytest.raises(UserError, match="hcl has no latent variable z, so there is no channel to measure"):
        measure(trained, MeterRequest())


@pytest.mark.slow
def test_where_l_ins_pulls_is_not_asked_of_a_system_without_it(qqp_folder, tmp_path, monkeypatch):
    run = tmp_path / "cvae"
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # training would take them over
    launch("qqp", qqp_folder, str(run), "tiny", {"model": "cvae", "latent_size": 8, "max_steps": 2}, ["hcl_tf.train"])
    with pytest.raises(UserError, match="--what_if: cvae has no L_ins"):
        measure(TrainedRun(run, data_dir=qqp_folder), MeterRequest(limit=4, what_if=True))
    row_measures.measure(EvaluationRequest(run, "validation", data_dir=qqp_folder, limit=4), ["channel"])
    assert "what_if" not in json.loads((run / "channel.validation.first4.json").read_text())
