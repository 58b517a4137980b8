"""Scores and studies made by one process are those that the commands make one by one."""

import shutil
from pathlib import Path

import pytest

from hcl_tf import config
from hcl_tf.errors import UserError
from hcl_tf.evaluation.scoring import EvaluationRequest
from hcl_tf.files.json_text import from_json
from hcl_tf.reporting import row_measures
from hcl_tf.reporting.row_measures import measure
from hcl_tf.studies.channel.meter import MeterRequest
from hcl_tf.studies.channel.publication import publish
from hcl_tf.studies.keyword_control.swaps import KeywordControlRequest, keyword_control
from hcl_tf.training.trained_run import TrainedRun

OLD = Path(__file__).parents[1] / "fixtures" / "637db7d"


@pytest.mark.slow
def test_one_process_gives_what_the_commands_give(trained_run, qqp_folder, tmp_path):
    together, apart = tmp_path / "together", tmp_path / "apart"
    for folder in (together, apart):
        shutil.copytree(trained_run, folder)
    measure(EvaluationRequest(together, "validation", "best_nll", qqp_folder, limit=20), config.STUDIES[:2])
    publish(TrainedRun(apart, "best_nll", qqp_folder), MeterRequest("validation", 20, what_if=True, untrained=False))
    keyword_control(KeywordControlRequest(apart, qqp_folder, split="validation", checkpoint="best_nll"))
    for name in ("channel.validation.best_nll.first20.json", "keywords.validation.best_nll.json"):
        one, other = (from_json((folder / name).read_bytes()) for folder in (together, apart))
        assert one == other
    assert (together / "scores.validation.best_nll.first20.json").is_file()


def test_every_study_that_a_row_can_have_is_made():
    assert tuple(row_measures.STUDIES) == config.STUDIES


def test_studies_of_a_system_without_z_are_refused_before_work():
    with pytest.raises(UserError, match="--study=channel: bert_gen has no latent z"):
        measure(EvaluationRequest(OLD / "runs" / "bert_gen", data_dir=OLD / "data"), ["channel"])
