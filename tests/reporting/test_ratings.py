"""A study's results as a report reads them, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from toy_study import SYSTEMS, filled, toy_study

from hcl_tf.errors import UserError
from hcl_tf.reporting import ratings
from hcl_tf.studies.human_evaluation.folder import write
from hcl_tf.studies.human_evaluation.results import RESULTS, report
from hcl_tf.studies.human_evaluation.sheets import to_csv
from hcl_tf.studies.human_evaluation.study import FILLED_FOLDER


def by_place(item, system, scale, annotator) -> int:
    """hcl and claps are level in Fluency, hcl is best in the others, and one annotator is stricter on every third item."""
    best = 3 if system == "hcl" or (system == "claps" and scale == "Fluency") else 2
    return best - (annotator == 3 and item.number % 3 == 0)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder, made = tmp_path_factory.mktemp("human") / "study", toy_study(items=6)
    folder.mkdir()
    write(made, folder)
    for annotator in (1, 2, 3):
        (folder / FILLED_FOLDER / f"{annotator}.csv").write_bytes(to_csv(filled(made, annotator, by_place)))
    report(folder, [], "hcl")
    return folder


def test_what_the_command_wrote_is_read_from_its_folder_or_as_a_file(study):
    found = ratings.read(study, "qqp")
    assert found.path == study / "results" / RESULTS
    for place in (found.path, study / "results"):
        assert ratings.read(place, "qqp").found == found.found
    assert found.systems == list(SYSTEMS)
    assert found.mean("hcl", "Fluency")["value"] == pytest.approx(3 - 2 / 18)
    assert found.mean("t5", "Fluency") is None
    assert found.p("hcl", "claps", "Fluency") == 1
    assert found.p("hcl", "claps", "Differential") < 0.01
    assert found.p("claps", "hcl", "Fluency") is None, "the study compared with hcl"
    assert found.p("hcl", "hcl", "Fluency") is None
    assert found.agreement("Fluency").raters == 3


def remove(*keys):
    def change(found):
        for key in keys[:-1]:
            found = found[key]
        del found[keys[-1]]

    return change


@pytest.mark.parametrize(
    "change",
    [
        remove("systems"), remove("systems", "claps", "means", "Fluency"), remove("systems", "claps", "ours_minus_it", "Fluency", "p"),
        remove("agreement", "Fluency"), remove("agreement", "Fluency", "kappa"), remove("origin", "task"), remove("origin", "systems", 0),
        remove("study"), remove("origin", "systems", 0, "step"),
        lambda found: found["systems"]["claps"]["means"]["Fluency"].update(value=None),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(study, tmp_path, change):
    found = json.loads((study / "results" / RESULTS).read_text())
    change(found)
    (path := tmp_path / RESULTS).write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"results\.json: no results of a study .*hcl_tf\.studies\.human_evaluation --sheets"):
        ratings.read(path, "qqp")


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"systems": {}}', "\x00"])
def test_another_file_is_refused(tmp_path, text):
    (path := tmp_path / "any.json").write_text(text)
    with pytest.raises(UserError, match=r"any\.json: no results of a study"):
        ratings.read(path, "qqp")


def test_no_file_no_results_yet_and_another_task(study, tmp_path):
    with pytest.raises(UserError, match=r"--human=.*nowhere: .* can't be read .*human_evaluation --sheets"):
        ratings.read(tmp_path / "nowhere", "qqp")
    shutil.copytree(study, tmp_path / "new", ignore=shutil.ignore_patterns("results"))
    with pytest.raises(UserError, match=r"results/results\.json can't be read"):
        ratings.read(tmp_path / "new", "qqp")
    with pytest.raises(UserError, match="a study of qqp, not of douban"):
        ratings.read(study, "douban")
