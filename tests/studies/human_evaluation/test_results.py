"""From filled sheets to numbers: the blinding round trip, intervals, kappas, and what is refused."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_study import SYSTEMS, filled, toy_study

from hcl_tf.errors import UserError
from hcl_tf.metrics.significance import paired_bootstrap
from hcl_tf.studies.human_evaluation.folder import write
from hcl_tf.studies.human_evaluation.results import PAGE, RESULTS, by_system, report, summarise
from hcl_tf.studies.human_evaluation.sheets import read_all, to_csv
from hcl_tf.studies.human_evaluation.study import FILLED_FOLDER, SCALES

STUDY = toy_study(items=12)


def folder_of(study, place: Path, rule, annotators=(1, 2, 3)) -> Path:
    """The study's folder with filled sheets in it."""
    place.mkdir()
    write(study, place)
    for annotator in annotators:
        (place / FILLED_FOLDER / f"from {annotator}.csv").write_bytes(to_csv(filled(study, annotator, rule)))
    return place


def by_name(item, system, scale, annotator) -> int:
    """Full agreement: ours is best, the others differ by system and scale."""
    return 3 if system == "hcl" else 1 + (SYSTEMS.index(system) + SCALES.index(scale)) % 2


def mixed(item, system, scale, annotator) -> int:
    """Annotators agree on two items of three."""
    of = (item.number, system, scale, annotator if item.number % 3 == 0 else "all")
    return random.Random(str(of)).randint(1, 3)


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(st.sampled_from([(s, k) for s in SYSTEMS for k in SCALES]), st.integers(1, 3)), st.integers(0, 50))
def test_scores_that_are_a_function_of_the_system_come_back_as_its_means(tmp_path_factory, function, seed):
    study, folder = toy_study(items=4, seed=seed), tmp_path_factory.mktemp("sheets")
    rule = lambda item, system, scale, annotator: function.get((system, scale), 2)  # noqa: E731
    paths = [folder / f"{annotator}.csv" for annotator in (1, 2, 3)]
    for annotator, path in enumerate(paths, 1):
        path.write_bytes(to_csv(filled(study, annotator, rule)))
    found = summarise(study, read_all(study, paths), "hcl")
    for system in SYSTEMS:
        for scale in SCALES:
            wanted = function.get((system, scale), 2)
            assert found["systems"][system]["means"][scale] == {"value": wanted, "low": wanted, "high": wanted}
    for scale in SCALES:
        one = len({function.get((system, scale), 2) for system in SYSTEMS}) == 1
        assert found["agreement"][scale]["kappa"] == (None if one else pytest.approx(1))


def test_means_differences_and_intervals_of_mixed_scores(tmp_path):
    found = report(folder_of(STUDY, tmp_path / "study", mixed), [], "hcl")
    scores = np.array([[[[mixed(i, s, k, a) for a in (1, 2, 3)] for k in SCALES] for s in SYSTEMS] for i in STUDY.items])
    for s, system in enumerate(SYSTEMS):
        for k, scale in enumerate(SCALES):
            entry = found["systems"][system]["means"][scale]
            assert entry["value"] == pytest.approx(scores[:, s, k].mean())
            assert 1 <= entry["low"] < entry["value"] < entry["high"] <= 3
            if system != "hcl":
                pair = paired_bootstrap(scores[:, 3, k].mean(axis=-1), scores[:, s, k].mean(axis=-1))
                assert found["systems"][system]["ours_minus_it"][scale] == pytest.approx(
                    {"value": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p_value}
                )
    assert found["systems"]["hcl"]["ours_minus_it"] == {}
    for scale in SCALES:
        agreement = found["agreement"][scale]
        assert (agreement["subjects"], agreement["raters"]) == (12 * 4, 3)
        assert agreement["low"] < agreement["kappa"] < agreement["high"]
    assert json.loads((tmp_path / "study" / "results" / RESULTS).read_text(encoding="utf-8")) == json.loads(json.dumps(found))


def test_the_page_says_what_was_found(tmp_path, capsys):
    folder = folder_of(STUDY, tmp_path / "study", by_name)
    report(folder, [], "hcl")
    page = (folder / "results" / PAGE).read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    assert f"# Human evaluation: qqp, study {STUDY.id}\n" in page
    assert "| hcl | 3.00 [3.00, 3.00] | 3.00 [3.00, 3.00] | 3.00 [3.00, 3.00] |" in page
    assert "| seq2seq\\_du | +2.00 [+2.00, +2.00], p = 0.0002 |" in page
    assert "| Fluency | 1.00 [1.00, 1.00]" in page
    assert "INCOMPLETE" not in page
    first = (folder / "results" / RESULTS).read_bytes()
    report(folder, [folder / FILLED_FOLDER / f"from {n}.csv" for n in (3, 1, 2)], "hcl")
    assert (folder / "results" / RESULTS).read_bytes() == first


def test_undefined_kappa_is_said_in_words(tmp_path):
    folder = folder_of(STUDY, tmp_path / "study", lambda *of: 2)
    found = report(folder, [], "hcl")
    text = (folder / "results" / PAGE).read_text(encoding="utf-8")
    assert text.count("undefined: every rating is in the same category") == 3
    assert "nan" not in text
    assert found["agreement"]["Fluency"]["kappa"] is None
    assert "NaN" not in (folder / "results" / RESULTS).read_text(encoding="utf-8")


def test_a_missing_annotator_is_said(tmp_path):
    folder = folder_of(STUDY, tmp_path / "study", mixed, annotators=(1, 3))
    found = report(folder, [], "hcl")
    assert (found["annotators"], found["missing_annotators"]) == ([1, 3], [2])
    assert "**INCOMPLETE**: no sheet of annotator 2 of 3." in (folder / "results" / PAGE).read_text(encoding="utf-8")
    (folder / FILLED_FOLDER / "from 3.csv").unlink()
    assert "one annotator" in report(folder, [], "hcl")["agreement"]["Fluency"]["undefined"]


def test_blinding_is_undone_by_item():
    labels = np.array([[[ord(label)] for label in STUDY.labels] for _ in STUDY.items])
    found = by_system(STUDY, labels)
    for item, row in zip(STUDY.items, found[..., 0], strict=True):
        assert [item.systems[chr(label)] for label in row] == list(SYSTEMS)


def test_what_is_refused_leaves_the_earlier_results(tmp_path):
    folder = folder_of(STUDY, tmp_path / "study", mixed)
    report(folder, [], "hcl")
    before = sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())
    with pytest.raises(UserError, match=r"--ours=cvae: not in this study; its systems are: claps, dialogpt, seq2seq_du, hcl"):
        report(folder, [], "cvae")
    other = folder_of(toy_study(items=12, seed=9), tmp_path / "other", mixed)
    with pytest.raises(UserError, match=r"from 1\.csv:2: sheet .* is none of this study's"):
        report(folder, [other / FILLED_FOLDER / "from 1.csv"], "hcl")
    assert sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file()) == before
    shutil.rmtree(other / FILLED_FOLDER)
    with pytest.raises(UserError, match="no filled sheets there; put them there, or give them with --filled"):
        report(other, [], "hcl")
    with pytest.raises(UserError, match=r"key\.json: can't be read"):
        report(tmp_path / "nowhere", [], "hcl")
