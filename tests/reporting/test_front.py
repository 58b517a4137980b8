"""The front page: of nothing run, of everything run, and of parts of it; small, without a network, and legible at three widths."""

import re

import made_evidence
import numpy as np
import pytest
from chromium import CHROMIUM, Browser
from made_evidence import keep, questions, result

from hcl_tf.metrics import power
from hcl_tf.reporting import claims, front, kept, stage_pages
from hcl_tf.reporting.departures import departures

LARGEST = 3_000_000  # bytes of a report's pages and pictures


@pytest.fixture(autouse=True)
def _few_simulations(monkeypatch):
    monkeypatch.setattr(power.smallest_found, "__defaults__", (0.8, 0.95, 20))
    monkeypatch.setattr(power.equal_found, "__defaults__", (0.95, 20))
    monkeypatch.setattr(power.false_alarms, "__defaults__", (0.95, 20))


@pytest.fixture
def plan(tmp_path):
    return made_evidence.plan(tmp_path / "evidence")


def sections(plan, reports, known=None):
    found = kept.of_plan(plan, reports / "evidence")
    return front.sections(plan, found, known or claims.read(claims.shipped()), departures(plan, found, {}))


def titles(found):
    return [section.title for section in found]


def test_with_nothing_run_there_is_no_number_but_those_of_the_plan(plan, tmp_path):
    found = sections(plan, tmp_path)
    assert found[0].points[0] == (
        "On questions, hcl beside bert_cvae in BLEU-2, the test that decides: NOT RUN (hcl 0 of 5 seeds, bert_cvae 0 of 5 seeds)."
    )
    assert len(found[0].points) == 5
    (table,) = [section for section in found if section.title == "Table 1"]
    assert (table.paragraphs, table.grids) == (["NOT RUN: 10 systems on questions, stories, chat."], [])
    assert not any(section.pictures for section in found)
    assert "Ours minus each row" not in titles(found)


@pytest.fixture
def whole(plan, tmp_path):
    """Questions as planned but for the ablation, one seed of stories, degenerate, and no chat."""
    reports = tmp_path / "reports"
    keep(reports, plan, "questions", *questions({"hcl": 31.0, "bert_cvae": 30.0, "claps": 28.0, "bert_gen": 31.0}))
    keep(reports, plan, "questions", result("hcl_without_graph", 21, 30.5))
    dull = result("hcl", 21, 12.0, task="rocstories")
    dull.record["scores"]["distinct-outputs"] = dull.record["scores"]["distinct-outputs"] | {"value": 0.31}
    keep(reports, plan, "stories", dull, result("bert_cvae", 21, 12.0, task="rocstories"))
    return reports


def test_the_headline_follows_from_verdicts(plan, whole):
    bleu, nll, both, others, meter, said = sections(plan, whole)[0].points
    assert bleu.startswith("On questions, hcl beside bert_cvae in BLEU-2: a gain; +0.9")
    assert bleu.endswith(f"above 0 is better, over 5 seeds and {made_evidence.N} sentences.")
    assert nll.startswith("On questions, hcl beside bert_cvae in NLL of y+ at the prior's mean: no difference beyond 0.5 nats a text;")
    assert both == "hcl beside bert_cvae, by BLEU-2 and NLL of y+ together: they do not agree, so nothing is said of both."
    assert others == (
        "Of 3 further planned comparisons: hcl is above claps (questions, BLEU-2), no different from bert_gen beyond 0.5 points "
        "(questions, BLEU-2); 1 not judged."
    )
    assert meter == (
        "The road through z to the text is OPEN from keywords in 13 of 13 runs that have a z. From negatives it is OPEN in 7 of 7 runs "
        "that have L_ins: that is what L_ins could do to the text if the prior knew the target, not what it does."
    )
    assert said.startswith("Of the paper's 22 known claims, asked task by task, 2 hold, 0 do not hold, 1 is undecided, ")


def test_the_cost_of_targets_is_shown_for_other_choices_of_z_too(tmp_path):
    """Drawn z may say the opposite of the prior's mean, which the test asks."""
    of_stories = "stories: {stage: stories, row: hcl, beside: [bert_cvae], margins: {BLEU-2: 0.5}"
    assert of_stories in made_evidence.TEXT
    text = made_evidence.TEXT.replace(of_stories, f"{of_stories}, open_channel: true")
    plan = made_evidence.plan(tmp_path / "evidence", text)

    def costly(row, seed, *costs, **changes):
        found = result(row, seed, **changes)
        means = dict(zip(("nll_prior", "nll_prior_sampled", "nll_posterior", "kl"), ({"value": cost} for cost in costs), strict=True))
        found.record["figures"] = found.record["figures"] | {"means": means}
        return found

    keep(tmp_path, plan, "questions", costly("hcl", 21, 41.0, 41.5, 38.0, 4.0), costly("hcl", 22, 43.0, 43.5, 40.0, 4.0))
    keep(tmp_path, plan, "questions", costly("bert_cvae", 22, 42.0, 44.0, 39.0, 3.0))
    (section,) = [section for section in sections(plan, tmp_path) if section.title == "The test that decides"]
    names = ("seeds", "the prior's mean", "one draw from the prior", "posterior, plus KL: negative ELBO")
    assert [(row["row"], *(row[name] for name in names)) for row in section.grids[1].rows] == [
        ("hcl", "2", "42.00 ± 1.41", "42.50 ± 1.41", "43.00 ± 1.41"),
        ("bert_cvae", "1", "42.00", "44.00", "42.00"),
        ("hcl beside bert_cvae, gain", "1", "-1.00", "+0.50", "-2.00"),
    ]
    for row, cost in (("hcl", 50.0), ("bert_cvae", 53.0)):
        keep(tmp_path, plan, "stories", costly(row, 21, cost, 54.0, 48.0, 5.0, task="rocstories"))
    (section,) = [section for section in sections(plan, tmp_path) if section.title == "The other planned comparisons"]
    (grid,) = [grid for grid in section.grids if grid.title.endswith("by where z is taken from")]
    assert grid.title.startswith("stories: ")
    assert grid.rows[-1]["the prior's mean"] == "+3.00"


def test_the_likelihood_whatever_z_is_shown_of_the_stage_that_has_it(tmp_path):
    of_likelihood = """
  questions_likelihood:
    about: The same runs.
    task: qqp
    preset: paper
    data: tfrecords/qqp
    split: test
    limit: 40
    runs_of: questions
    base: bert_cvae
    rows: {hcl: {asks: Ours, seeds: [21, 22], studies: [likelihood]}, bert_cvae: {asks: The base, seeds: [21, 22], studies: [likelihood]}}
"""
    plan = made_evidence.plan(tmp_path / "evidence", made_evidence.TEXT + of_likelihood)
    title = "The likelihood, whatever z"
    assert title not in titles(sections(plan, tmp_path))
    for seed in (21, 22):
        for row, at_mean, cost in (("hcl", 41.0, 39.0), ("bert_cvae", 40.0, 39.5)):
            found = result(row, seed, nll=at_mean)
            count = len(found.record["figures"]["per_example"]["nll"])
            each = cost + np.random.default_rng(seed + int(cost)).normal(0, 0.1, count)
            found.record["figures"] = found.record["figures"] | {"means": {"nll_prior": {"value": at_mean}}}
            bounds = {"2": {"value": cost + 1.0}, "32": {"value": cost}, "8": {"value": cost + 0.5}}
            found.record["likelihood"] = {"bounds": bounds, "effective_draws": {"value": 3.4}, "per_example": each.tolist()}
            keep(tmp_path, plan, "questions_likelihood", found)
    (section,) = [section for section in sections(plan, tmp_path) if section.title == title]
    ((ours, base),) = [grid.rows for grid in section.grids]
    assert [name for name in ours if name.endswith(" draws")] == ["2 draws", "8 draws", "32 draws"]
    assert (ours["32 draws"], base["32 draws"], ours["draws of equal weight"]) == ("39.00 ± 0.00", "39.50 ± 0.00", "3")
    assert re.fullmatch(r"-(0\.9|1\.0)\d\d \[-1\.\d{3}, -0\.\d{3}\] nats a text", ours["gain at the prior's mean"])
    assert re.fullmatch(r"\+0\.[45]\d\d \[\+0\.\d{3}, \+[01]\.\d{3}\] nats a text", ours["gain whatever z"])
    assert base["gain whatever z"] == "-"


def test_what_contrasts_learnt_is_shown_of_a_stage_of_training_pairs(tmp_path):
    of_training = """
  questions_train:
    about: Training pairs.
    task: qqp
    preset: paper
    data: tfrecords/qqp
    split: train
    runs_of: questions
    base: bert_cvae
    rows: {hcl: {asks: Ours, seeds: [21, 22]}, bert_cvae: {asks: The base, seeds: [21, 22]}}
"""
    plan = made_evidence.plan(tmp_path / "evidence", made_evidence.TEXT + of_training)
    title = "On the training pairs: what the contrasts learnt"
    assert title not in titles(sections(plan, tmp_path))
    for seed in (21, 22):
        for row, nll, order in (("hcl", 39.0, 0.9), ("bert_cvae", 40.0, 0.5)):
            found = result(row, seed, nll=nll, split="train")
            found.record["figures"] = found.record["figures"] | {"means": {"order_ins": {"value": order + seed / 1000 - 0.0215}}}
            keep(tmp_path, plan, "questions_train", found)
    (section,) = [section for section in sections(plan, tmp_path) if section.title == title]
    ((ours, base),) = [grid.rows for grid in section.grids]
    assert [row["right order, L_ins"] for row in (ours, base)] == ["90.0%", "50.0%"]
    assert ours["right order, L_key"] == "-", "the row does not have it"
    assert re.fullmatch(r"\+(0\.9|1\.0)\d\d \[\+0\.\d{3}, \+1\.\d{3}\] nats a text", ours["gain in NLL of y+"])
    assert base["gain in NLL of y+"] == "-"


def test_table_1_has_systems_down_and_tasks_across_and_says_what_is_missing(plan, whole):
    (table,) = [section for section in sections(plan, whole) if section.title == "Table 1, in the paper's layout"]
    (grid,) = table.grids
    assert [row["system"] for row in grid.rows] == ["BERT-GEN", "T5-CLAPS", "Ours"]
    assert grid.groups[:3] == [("", 1), ("questions", 8), ("stories", 8)]
    assert grid.columns[:3] == ["system", "runs", "BLEU-1"]
    assert re.fullmatch("\\d\\d\\.\\d\\d ± 0\\.\\d\\d", grid.rows[-1]["questions: BLEU-2"])
    assert [row["stories: runs"] for row in grid.rows] == ["NOT RUN", "NOT RUN", "1 DEGENERATE"]
    assert grid.rows[0]["stories: BLEU-2"] == "-"
    assert table.paragraphs[-2:] == [
        "NOT RUN on any task: CVAE, Seq2Seq, Transformer, Seq2Seq-DU, DialoGPT, T5, Group-wise.",
        "NOT RUN at all: chat.",
    ]


def test_the_paper_s_cells_stand_behind_ours_where_they_are_filled(plan, whole):
    known = claims.read(claims.shipped())
    known.cells.update({("qqp", "hcl", "BLEU-2"): 48.2, ("qqp", "cvae", "BLEU-2"): 40.1})
    (table,) = [section for section in sections(plan, whole, known) if section.title.startswith("Table 1")]
    ours, cvae = (next(row for row in table.grids[0].rows if row["system"] == name) for name in ("Ours", "CVAE"))
    assert ours["questions: BLEU-2"].endswith("; paper 48.20")
    assert (cvae["questions: runs"], cvae["questions: BLEU-2"]) == ("NOT RUN", "paper 40.10")


def test_every_trial_that_is_kept_is_shown(plan, whole):
    assert "Trials of settings" not in titles(sections(plan, whole))
    place = whole / "evidence" / "questions" / "trials"
    place.mkdir()
    (place / "hcl.md").write_text("1 trials, smallest value first.\n\n| trial | value |\n| --- | --- |\n| 1 | 33.5 |\n")
    (section,) = [section for section in sections(plan, whole) if section.title == "Trials of settings"]
    assert [(grid.title, grid.rows) for grid in section.grids] == [("questions: hcl", [{"trial": "1", "value": "33.5"}])]


def test_ten_samples_of_each_task_are_the_same_each_time(plan, whole):
    first, again = ([section for section in sections(plan, whole) if "samples of" in section.title] for _ in range(2))
    assert titles(first) == ["10 samples of questions", "10 samples of stories"]
    assert [grid.rows for section in first for grid in section.grids] == [grid.rows for section in again for grid in section.grids]
    assert [row[""] for row in first[0].grids[0].rows] == ["source", "reference", "hcl", "bert_cvae", "claps", "bert_gen"]
    assert len({str(grid.rows[0]["text"]) for grid in first[0].grids}) == 10


@pytest.mark.slow
def test_all_pages_are_written_from_kept_rows_and_are_small(plan, whole, monkeypatch):
    monkeypatch.setattr(stage_pages, "series_of", lambda *_: type("NoFlags", (), {"settings": lambda self, row, weights: {}})())
    _, size = stage_pages.write_all(plan, claims.read(claims.shipped()), whole)
    text, html = ((whole / name).read_text() for name in ("README.md", "index.html"))
    assert text.startswith("# The evidence")
    assert (whole / "questions-forest.png").read_bytes().startswith(b"\x89PNG")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {"evidence/questions/report.md", "evidence/stories/report.md"} <= set(links)
    assert all((whole / link).is_file() for link in links), "every page and picture is there"
    pages = [path for path in whole.rglob("*") if path.suffix in (".md", ".html", ".png", ".csv")]
    assert size < sum(path.stat().st_size for path in pages) < LARGEST
    assert "http" not in re.sub(r"data:image[^\"]+", "", html)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_a_reader_never_scrolls_sideways_but_in_a_table(plan, whole, tmp_path, width):
    found = kept.of_plan(plan, whole / "evidence")
    front.write(plan, found, claims.read(claims.shipped()), [], whole)
    browser = Browser(tmp_path / "profile", tmp_path / "downloads")
    try:
        browser.resize(width, 900)
        browser.open(whole / "index.html")
        browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(
            "[...document.images].every(one => one.naturalWidth > 0 && one.getBoundingClientRect().right <= innerWidth)"
        )
        assert not browser.faults
        assert not [address for address in browser.requests if address.startswith("http")]
    finally:
        browser.close()


def test_a_row_that_no_table_names_is_shown_with_what_it_is_for(tmp_path):
    (tmp_path / "evidence" / "stories").mkdir(parents=True)
    (tmp_path / "evidence" / "stories" / "hcl_copy.flags").write_text("--model=hcl\n--copy\n")
    planned = "rows: {hcl: {asks: Ours, seeds: [21, 22, 23]}, "
    text = made_evidence.TEXT.replace(planned, planned + "hcl_copy: {asks: With a pointer, seeds: [21]}, ")
    plan = made_evidence.plan(tmp_path / "evidence", text)
    for row in ("hcl", "bert_cvae", "hcl_copy"):
        keep(tmp_path, plan, "stories", result(row, 21, task="rocstories"))
    (section,) = [section for section in sections(plan, tmp_path) if section.title == "Rows that the paper has not"]
    assert "hcl_copy: With a pointer" in [row["system"] for row in section.grids[0].rows]
