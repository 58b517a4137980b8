"""The report's tables: gains and what they are credited to, what people rated, links to notes, and a task that the paper lacks."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from made_results import made, with_settings, without_scores, without_weights
from toy_study import SYSTEMS, toy_study

from hcl_tf.errors import UserError
from hcl_tf.metrics.crossed import crossed_mean
from hcl_tf.metrics.significance import paired_bootstrap
from hcl_tf.reporting import page, report, sections, tables
from hcl_tf.reporting.build_notes import BuildNotes
from hcl_tf.reporting.claims import Claim, read
from hcl_tf.reporting.comparisons import ELSEWHERE
from hcl_tf.reporting.ratings import Ratings
from hcl_tf.reporting.verdicts import NOT_RUN, Table
from hcl_tf.studies.human_evaluation.results import summarise
from hcl_tf.studies.human_evaluation.study import SCALES

ROOT = Path(__file__).parents[2]
CLAIMS = read(ROOT / "experiments" / "paper_claims.yaml")
NOTES = BuildNotes.read(ROOT / "BUILD_NOTES.md")
NO_NOTES = BuildNotes({})
STUDY = toy_study(items=8)
DATA = {"data": STUDY.origin["data"]}


def ratings(ours="hcl", annotators=(1, 2, 3), **best) -> Ratings:
    """Everyone gets 2 throughout and `best` (scale=system) 3 on every other item."""
    scores = np.full((8, len(SYSTEMS), len(SCALES)), 2)
    for scale, system in best.items():
        for number, item in enumerate(STUDY.items):
            label = next(place for place, label in enumerate(STUDY.labels) if item.systems[label] == system)
            scores[number, label, SCALES.index(scale)] += number % 2
    return Ratings(Path("study/results.json"), summarise(STUDY, dict.fromkeys(annotators, scores), ours))


def grid(table, title: str, notes=NO_NOTES, place: int = 0) -> list[dict]:
    """The rows of a section's table."""
    (section,) = (section for section in tables.tables(table, notes) if section.title == title)
    return section.grids[place].rows


# -- gains ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    results = [
        made("hcl", 1, 21.0), made("hcl", 2, 21.4), made("hcl_without_keyword", 1, 20.0), made("hcl_without_graph", 1, 21.2),
        made("bert_cvae", 1, 22.5, preset="small"), made("transformer_keywords", 1, 15.0), made("hcl weight_ma=0.5", 1, 20.0),
        made("claps", 1, 20.0),
    ]  # fmt: skip
    results[6].record["settings"]["model"] = "hcl"
    return report.table_of("qqp", results, CLAIMS)[0]


def test_ablations_and_control_rows_have_tables_of_their_own(table):
    ablations = {row["system"]: row for row in grid(table, "Table 2")}
    assert list(ablations) == list(CLAIMS.tables["Table 2"].values())
    assert ablations["without keywords"]["BLEU-1"].startswith(f"{table.cell_mean('hcl_without_keyword', 'BLEU-1'):.2f}, p ")
    assert ablations["without the Mahalanobis contrast"]["BLEU-1"] == "NOT RUN"
    controls = {row["system"]: row for row in grid(table, "Control rows")}
    assert list(controls) == list(CLAIMS.tables["Control rows"].values())
    assert "p " in controls["Transformer, keywords appended"]["BLEU-2"]
    assert [row["system"] for row in grid(table, "Further rows")] == ["hcl weight_ma=0.5"]


def test_every_ablation_and_control_says_what_a_gain_over_it_is_credited_to():
    rows = {*CLAIMS.tables["Table 2"], *CLAIMS.tables["Control rows"]} - {"hcl"}
    assert rows <= CLAIMS.credits.keys()


def test_a_gain_is_the_paired_difference_with_its_verdict(table):
    rows = {row["hcl minus"]: row for row in grid(table, "What a gain is credited to")}
    ours, its = (np.array(table.rows[row][0].record["per_sentence"]["BLEU-2"]) / 100 for row in ("hcl", "hcl_without_keyword"))
    found = paired_bootstrap(ours, its)  # of seed 1, which both have
    expected = f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}], p <0.001, 1 seed: no verdict under 5 seeds"
    assert rows["without keywords"]["BLEU-2"] == expected
    assert rows["without keywords"]["a gain is credited to"].startswith("keywords")
    assert rows["Ours, all contrasts off"]["BLEU-1"].endswith("no verdict under 5 seeds SCALED")
    assert rows["without the Mahalanobis contrast"]["BLEU-1"] == "NOT RUN"
    assert "T5-CLAPS" not in rows


@pytest.mark.parametrize(
    ("base", "seeds", "said"),
    [(20.0, 5, "hcl above"), (22.0, 5, "hcl below"), (21.0, 5, "not certain"), (20.0, 2, "no verdict under 5 seeds")],
)
def test_with_seeds_enough_a_gain_has_a_verdict_by_the_interval_over_seeds_and_sentences(base, seeds, said):
    of_row = {row: [made(row, seed, score) for seed in range(seeds)] for row, score in (("hcl", 21.0), ("bert_cvae", base))}
    both = Table("qqp", [result for results in of_row.values() for result in results], CLAIMS)
    (row,) = (row for row in grid(both, "What a gain is credited to") if row["hcl minus"] == "Ours, all contrasts off")
    ours, its = (np.array([one.record["per_sentence"]["BLEU-2"] for one in results]) / 100 for results in of_row.values())
    found = crossed_mean(ours - its)
    assert row["BLEU-2"].startswith(f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}], p ")
    assert row["BLEU-2"].endswith(f", {seeds} seeds: {said}")


def test_where_a_plan_s_tests_judge_a_gain_and_a_sentence_have_no_verdict_of_this_page():
    results = [made(row, seed, score) for seed in range(5) for row, score in (("hcl", 21.0), ("bert_cvae", 20.0), ("claps", 20.0))]
    table = Table("qqp", results, CLAIMS, judged=False)
    assert table.gain("bert_cvae", "BLEU-2")[1] == ELSEWHERE
    assert {found.verdict for found in table.checked()} == {ELSEWHERE, NOT_RUN}


def test_without_ours_nothing_is_credited():
    table, _ = report.table_of("qqp", [made("claps"), made("bert_cvae")], CLAIMS)
    assert "What a gain is credited to" not in [section.title for section in tables.tables(table, NO_NOTES)]


# -- cautions ---------------------------------------------------------------------------------------------------------


def test_cautions_stand_beside_a_row_s_name_wherever_it_is_shown():
    old = {"environment": {**made().record["environment"], "arithmetic": 1}}
    frozen = with_settings(made("hcl_without_graph"), freeze_encoder=True)
    runs = [made("hcl"), without_weights(made("claps", **old)), made("bert_cvae", encoder="encoder: minilm", **old), frozen]
    table = report.table_of("qqp", runs, CLAIMS)[0]
    names = {row["system"] for title in ("Table 1", "Table 2", "Control rows") for row in grid(table, title)}
    marked = {"T5-CLAPS (NO WEIGHTS, WEAK)", "Ours, all contrasts off (SPOILT)", "without the keyword graph (FROZEN)"}
    assert marked <= names
    assert {name for name in names if name.endswith(")")} == marked, "nobody else has one"
    gains = {row["hcl minus"] for row in grid(table, "What a gain is credited to")}
    assert {"Ours, all contrasts off (SPOILT)", "without the keyword graph (FROZEN)", "without keywords"} <= gains
    assert {row["system"] for row in tables.scores(table).rows} >= {
        "hcl", "claps (NO WEIGHTS, WEAK)", "bert_cvae (SPOILT)", "hcl_without_graph (FROZEN)",
    }  # fmt: skip


# -- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("older", ["hcl", "claps"])
def test_a_score_that_an_earlier_version_had_not_is_an_empty_cell(older):
    results = [without_scores(result, "iBLEU") if result.row == older else result for result in (made("hcl", 1, 21.0), made("claps"))]
    table, apart = report.table_of("qqp", results, CLAIMS)
    assert apart == []
    rows = {row["system"]: row for row in tables.scores(table).rows}
    newer = {"hcl": "claps", "claps": "hcl"}[older]
    assert (rows[older]["iBLEU"], rows[newer]["iBLEU"]) == ("", f"{table.cell_mean(newer, 'iBLEU'):.2f}")
    assert bool(rows["(copy the source)"]["iBLEU"]) == (older != "hcl"), "floors are the first row's"
    assert all(row["BLEU-2"] for row in rows.values())
    text = page.markdown(sections.sections(table, [], NO_NOTES))
    assert "| iBLEU | iBLEU\\|made |" in text, "the signature, from the row that has one"


# -- claims -----------------------------------------------------------------------------------------------------------


def test_a_claim_is_marked_by_its_own_rows():
    def claim(says: str, *of: str) -> Claim:
        return Claim(says, of, ("claps",), "above", "BLEU-1", "qqp", None, ())

    claims = replace(
        CLAIMS, claims=(claim("paper-size", "hcl"), claim("one scaled", "hcl", "bert_cvae"), claim("missing", "t5")), human=None
    )
    runs = [made("hcl", 1, 21.0), made("claps", 1, 20.0), made("bert_cvae", 1, 22.0, preset="small")]
    table = report.table_of("qqp", runs, claims)[0]
    rows = {row["the paper says"]: row["verdict"] for row in grid(table, "What the paper's text claims")}
    assert rows == {"paper-size": "OK", "one scaled": "OK SCALED", "missing": "NOT RUN"}


# -- Table 3 ----------------------------------------------------------------------------------------------------------


def rated(found: Ratings | None, claims=CLAIMS, preset="paper", task="qqp"):
    results = [made("hcl", score=30.0, preset=preset, task=task, **DATA)]
    return report.table_of(task, results, claims, found)[0]


def test_each_human_scale_has_its_verdict():
    table = rated(ratings(Fluency="hcl", Meaningfulness="claps"))
    assert [(found.scale, found.verdict) for found in table.rated()] == [
        ("Fluency", "OK"), ("Meaningfulness", "FAIL"), ("Differential", "FAIL"),
    ]  # fmt: skip
    fluency, meaningfulness, _ = table.rated()
    assert (fluency.of, fluency.to) == (2.5, 2.0)
    assert (meaningfulness.rival, meaningfulness.to) == ("claps", 2.5)
    assert meaningfulness.p == table.ratings.found["systems"]["claps"]["ours_minus_it"]["Meaningfulness"]["p"]
    rows = {row["metric"]: row for row in grid(table, "What the paper's text claims")}
    assert rows["Fluency"]["verdict"] == "OK SCALED", "the study's runs are tiny ones"
    assert rows["Meaningfulness"]["ours"] == "2.00 beside 2.50 (T5-CLAPS)"


def test_the_paper_s_kappas_stand_beside_ours():
    table = rated(ratings(Fluency="hcl"))
    rows = {row["scale"]: row for row in grid(table, "Table 3: rated by people", place=1)}
    assert {scale: row["paper"] for scale, row in rows.items()} == {"Fluency": "0.53", "Meaningfulness": "0.61", "Differential": "0.56"}
    share = table.ratings.agreement("Fluency").undefined_resamples
    assert rows["Fluency"]["kappa"] == f"1.00 [1.00, 1.00] (undefined in {share:.1%} of resamples, left out)"
    assert rows["Differential"]["kappa"].startswith("undefined: ")
    means = {row["system"]: row for row in grid(table, "Table 3: rated by people")}
    entry = table.ratings.mean("hcl", "Fluency")
    assert means["Ours"]["Fluency"] == f"2.50 [{entry['low']:.2f}, {entry['high']:.2f}]"
    assert means["T5-CLAPS"]["Differential"] == "2.00 [2.00, 2.00], p 1.000"


def test_a_rating_is_marked_by_the_runs_that_were_rated():
    human = replace(CLAIMS.human, cells=dict.fromkeys([("hcl", "Fluency"), ("claps", "Fluency"), ("dialogpt", "Fluency")], 2.0))

    def marked(presets: dict[str, str], unrated: str = "small", own: str = "paper") -> dict[str, bool]:
        found = ratings(Fluency="hcl")
        systems = [system | {"preset": presets.get(system["name"], "paper")} for system in found.origin["systems"]]
        found.found["origin"] = found.origin | {"systems": systems}
        runs = [made("hcl", score=30.0, preset=own, **DATA), made("bert_cvae", preset=unrated, **DATA)]
        table = report.table_of("qqp", runs, replace(CLAIMS, human=human), found)[0]
        cells = {row["system"]: row["Fluency"] for row in grid(table, "Table 3: rated by people")}
        (claim,) = (row for row in grid(table, "What the paper's text claims") if row["metric"] == "Fluency")
        texts = {name: cells[name] for name in ("Ours", "T5-CLAPS", "DialoGPT")} | {"claim": claim["verdict"]}
        return {name: text.endswith("SCALED") for name, text in texts.items()}

    assert marked({}) == {"Ours": False, "T5-CLAPS": False, "DialoGPT": False, "claim": False}, "nobody rated the scaled row"
    assert marked({"dialogpt": "tiny"}) == {"Ours": False, "T5-CLAPS": False, "DialoGPT": True, "claim": True}
    assert marked({}, own="small") == {"Ours": True, "T5-CLAPS": False, "DialoGPT": False, "claim": True}


def test_a_filled_cell_of_table_3_is_judged_by_the_common_rule():
    human = replace(CLAIMS.human, cells={("hcl", "Fluency"): 2.52, ("hcl", "Differential"): 2.9, ("claps", "Fluency"): 2.15})
    table = rated(ratings(Fluency="hcl"), replace(CLAIMS, human=human))
    means = {row["system"]: row for row in grid(table, "Table 3: rated by people")}
    assert means["Ours"]["Fluency"].endswith("; paper 2.52: OK SCALED")
    assert means["Ours"]["Differential"].endswith("; paper 2.90: FAIL SCALED")
    assert means["T5-CLAPS"]["Fluency"].endswith("; paper 2.15: NEAR SCALED")
    without = rated(None, replace(CLAIMS, human=human))
    assert grid(without, "Table 3: rated by people")[-1]["Fluency"] == "paper 2.52: NOT RUN"


@pytest.mark.slow
def test_without_a_study_table_3_is_not_run():
    table = rated(None)
    assert {found.verdict for found in table.rated()} == {"NOT RUN"}
    assert {row[scale] for row in grid(table, "Table 3: rated by people") for scale in SCALES} == {"NOT RUN"}
    assert grid(table, "Table 3: rated by people", place=1)[0] == {"scale": "Fluency", "paper": "0.53", "kappa": "NOT RUN"}
    assert "--human" in page.markdown(sections.sections(table, [], NO_NOTES))


def test_a_study_that_lacks_a_system_can_t_decide():
    found = ratings(Fluency="hcl")
    del found.found["systems"]["dialogpt"]
    table = rated(found)
    assert {each.verdict for each in table.rated()} == {"NOT RUN"}
    assert grid(table, "Table 3: rated by people")[1]["Fluency"] == "NOT RUN"


def test_a_study_that_compared_with_another_system_has_no_p():
    table = rated(ratings("claps", Fluency="hcl"))
    assert table.rated()[0].p is None
    assert table.rated()[0].verdict == "OK"


@pytest.mark.slow
def test_a_missing_annotator_is_said():
    assert "INCOMPLETE: no sheet of annotator 2." in page.markdown(sections.sections(rated(ratings(annotators=(1, 3))), [], NO_NOTES))


@pytest.mark.parametrize(("best", "code"), [(dict.fromkeys(SCALES, "hcl"), 0), ({"Fluency": "hcl"}, 1), (None, 2)])
def test_check_counts_the_human_scales(best, code):
    assert report.check(rated(ratings(**best) if best else None)) == code


def test_a_study_of_other_data_is_refused():
    with pytest.raises(UserError, match=r"study/results\.json: outputs of other data than the runs'"):
        report.table_of("qqp", [made("hcl")], CLAIMS, ratings())


# -- links to notes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_claims_and_settings_lead_to_notes_that_are_on_the_page(table):
    found = sections.sections(table, [], NOTES)
    shown = Page(page.html(found))
    links = {link for link in shown.links if link.startswith("#")}
    assert {f"#{anchor}" for anchor in shown.anchors} >= links
    assert len(shown.anchors) == len(NOTES.texts)
    assert "68" in str(next(row for row in grid(table, "Table 1", NOTES) if row["system"] == "T5-CLAPS")["notes"])
    claims = grid(table, "What the paper's text claims", NOTES)
    assert {row["metric"]: str(row["notes"]) for row in claims}["Fluency"] == "70, 77"
    (what,) = (section for section in found if section.title == "What the rows are")
    settings = {row["setting"]: row for row in what.grids[-1].rows}
    assert settings["output_vocab"]["notes"].numbers == NOTES.of_settings(["output_vocab"])
    assert settings["output_vocab"]["value"] != "by row" == settings["preset"]["value"]


# -- a task of one's own ----------------------------------------------------------------------------------------------


def custom(row: str, score: float = 20.0, **changes):
    return made(row, 1, score, preset="small", task="custom", **changes)


@pytest.mark.slow
def test_a_task_of_one_s_own_has_everything_but_the_paper():
    table, _ = report.table_of("custom", [custom("hcl", 21.0), custom("bert_cvae"), custom("claps")], CLAIMS)
    text = page.markdown(sections.sections(table, [], NO_NOTES))
    for absent in ("SCALED", "NOT RUN", "the paper says", "beside the paper", "verdict on", "Table 1", "Table 3", "paper's"):
        assert absent not in text
    assert "the paper has no such task" in text
    assert [row["system"] for row in grid(table, "Scores")] == ["T5-CLAPS", "Ours", "Ours, all contrasts off"]
    (gain,) = grid(table, "What a gain is credited to")
    assert gain["BLEU-1"].endswith(": no verdict under 5 seeds")
    lines = list(csv.DictReader(io.StringIO(report.csv_of(table))))
    assert not {"paper", "difference", "verdict", "scaled"} & lines[0].keys()
    assert {line["table"] for line in lines} == {"Scores"}
    assert float(next(line for line in lines if line["system"] == "hcl")["ours"]) == pytest.approx(
        table.cell_mean("hcl", "BLEU-1"), abs=1e-4
    )


def test_the_paper_s_cells_and_claims_say_nothing_of_it(capsys):
    filled = replace(CLAIMS, cells={("qqp", "hcl", "BLEU-1"): 90.0}, human=replace(CLAIMS.human, cells={("hcl", "Fluency"): 1.0}))
    table = rated(ratings(Fluency="claps"), filled, task="custom")
    assert report.check(table) == 2
    assert "nothing checked: the paper has no task custom" in capsys.readouterr().out
    rows = grid(table, "Table 3: rated by people")
    assert [row["system"] for row in rows] == ["T5-CLAPS", "DialoGPT", "Seq2Seq-DU", "Ours"]
    assert "paper" not in str(rows)
    assert "paper" not in grid(table, "Table 3: rated by people", place=1)[0]


@pytest.mark.parametrize(("task", "other"), [("custom", "qqp"), ("qqp", "custom")])
def test_the_paper_s_tasks_and_one_s_own_are_not_mixed(task, other):
    with pytest.raises(UserError, match=rf"runs/claps-1: a run of {other} among those of {task}; .* leave it out of --runs"):
        report.table_of(task, [made("hcl", task=task), made("claps", task=other)], CLAIMS)
