"""A run's results are read only where they are whole and of its best checkpoint."""

import json
import shutil

import pytest

from hcl_tf.errors import UserError
from hcl_tf.evaluation.evaluated_run import EvaluatedRun
from hcl_tf.files.checksums import sha256


def change(path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


HARM = {
    "unfinished": (lambda run: (run / "done.json").unlink(), "not finished"),
    "evaluated earlier": (lambda run: change(run / "done.json", best_step=999), "its best is of step 999; evaluate it again"),
    "no scores": (lambda run: (run / "scores.test.json").unlink(), r"scores\.test\.json: .*hcl_tf\.evaluate"),
    "no predictions": (lambda run: (run / "predictions.test.jsonl").unlink(), r"predictions\.test\.jsonl: .*hcl_tf\.evaluate"),
    "damaged figures": (lambda run: (run / "figures.test.json").write_text('{"a": '), r"figures\.test\.json: damaged"),
    "damaged predictions": (lambda run: (run / "predictions.test.jsonl").write_text("{}\n{"), r"predictions\.test\.jsonl: damaged"),
    "changed settings": (lambda run: change(run / "config.json", task="x"), r"config\.json: changed since"),
}


@pytest.mark.parametrize("case", HARM)
def test_what_is_missing_or_damaged_is_named(evaluated_run, tmp_path, case):
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    assert EvaluatedRun(run).scores["examples"] == len(EvaluatedRun(run).predictions)
    harm, message = HARM[case]
    harm(run)
    with pytest.raises(UserError, match=message) as error:
        EvaluatedRun(run)
    assert str(run) in str(error.value)


@pytest.mark.parametrize(("recorded", "name"), [({}, "hcl"), ({"row": "mine"}, "mine"), ({"row": ""}, "hcl")])
def test_a_run_is_of_the_row_that_it_recorded_or_its_settings_say(evaluated_run, tmp_path, recorded, name):
    """Version 0.1.0 recorded none."""
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    config = {key: value for key, value in json.loads((run / "config.json").read_text()).items() if key not in ("row", "version")}
    (run / "config.json").write_text(json.dumps(config | recorded))
    change(run / "files.json", **{"config.json": sha256(run / "config.json")})
    assert EvaluatedRun(run).name == name
