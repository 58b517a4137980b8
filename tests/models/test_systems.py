"""Every system of the registry, the same way: whole runs on each task."""

import numpy as np
import pytest
from system_toolkit import Kit

from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.models import registry
from hcl_tf.training.launch import UNTRAINED, launch

SHORT = {"max_steps": 4, "log_every": 1, "checkpoint_every": 2, "batch_size": 8}
SEEN = 3  # test examples that are decoded


@pytest.mark.slow
@pytest.mark.parametrize("model", registry.SYSTEMS)
@pytest.mark.parametrize("task", ["qqp", "douban", "rocstories"])
def test_it_trains_and_is_evaluated_on_each_task(model, task, request, tmp_path):
    folder, trained = request.getfixturevalue(f"{task}_folder"), registry.class_of(model).is_trained
    given = {**Kit(folder, model).given, **registry.used(model, SHORT)}
    assert launch(task, folder, str(tmp_path / "run"), "tiny", given, ["train"]) == ("steps" if trained else UNTRAINED)
    drawn = 2 if model in registry.systems_with("latent_size") else 0
    scores = evaluate(EvaluationRequest(tmp_path / "run", data_dir=folder, limit=SEEN, samples=drawn))
    assert np.isfinite(scores["BLEU-1"]["value"])
    assert len((tmp_path / "run" / f"predictions.test.first{SEEN}.jsonl").read_text().splitlines()) == SEEN
