"""Evaluation of a tiny run: what it writes, what it refuses, and that references can't reach the outputs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hcl_tf.data.corpora.examples import ROLES, clean
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.tokenizers import normalization
from hcl_tf.data.tokenizers.words import words
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.errors import UserError
from hcl_tf.evaluation import scoring
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.files.checksums import sha256
from hcl_tf.metrics import bleu
from hcl_tf.models import registry
from hcl_tf.models.hcl import HCL
from hcl_tf.models.latent_variable import LatentVariable
from hcl_tf.serving.generation import outputs as generated
from hcl_tf.training import trained_run as door
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import load_run
from hcl_tf.training.trained_run import TrainedRun


def read(path):
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def altered(folder, out):
    """A copy of a prepared folder whose test targets and negatives are the training split's."""
    shutil.copytree(folder, out)
    data = PreparedData(folder)
    records = [
        replace(record, target=other.negative, negative=other.target)
        for record, other in zip(data.records("test"), data.records("train"), strict=False)
    ]
    manifest = {**data.manifest}
    manifest["splits"] = {
        **manifest["splits"],
        "test": {"examples": len(records), "shards": tfrecords.write_shards(out, "test", iter(records), len(records))},
    }
    tfrecords.write_manifest(out, manifest)
    return out


def test_predictions_are_those_of_the_split_in_order(evaluated_run, qqp_folder):
    rows, records = read(evaluated_run / "predictions.test.jsonl"), list(PreparedData(qqp_folder).records("test"))
    assert [(r["id"], r["source"], r["reference"]) for r in rows] == [(r.id, r.source.raw, r.target.raw) for r in records]
    assert [r["keywords"] for r in rows] == [[k.text for k in r.source.keywords] for r in records]
    assert len({r["prediction"] for r in rows}) > 1
    # --> the scores beside a prediction are those of this pair
    direct = bleu.sentence_scores(*([words(r[name], "en") for r in rows] for name in ("prediction", "reference")))
    np.testing.assert_allclose([[r["scores"][f"BLEU-{n}"] for n in bleu.ORDERS] for r in rows], direct)


def test_scores_say_of_what_they_are_and_are_the_means_of_the_rows(evaluated_run, qqp_folder):
    found, rows = read(evaluated_run / "scores.test.json"), read(evaluated_run / "predictions.test.jsonl")
    best = load_run(evaluated_run).checkpoints.read("best_loss")
    assert (found["task"], found["model"], found["split"]) == ("qqp", "hcl", "test")
    assert (found["checkpoint"], found["step"], found["examples"]) == ("best_loss", best.step, len(rows))
    assert found["data"] == PreparedData(qqp_folder).manifest["sha256"]
    for name, entry in found["scores"].items():
        assert entry["signature"]
        values = [row["scores"][name] for row in rows if row["scores"].get(name) is not None]
        if values:
            assert entry["value"] == pytest.approx(np.mean(values))
            assert entry["low"] <= entry["value"] <= entry["high"]
    assert "sacreBLEU" in found["scores"]


def test_floors_need_no_model(evaluated_run):
    floors, rows = read(evaluated_run / "figures.test.json")["floors"], read(evaluated_run / "predictions.test.jsonl")
    copied = bleu.sentence_scores([words(clean(r["source"]), "en") for r in rows], [words(r["reference"], "en") for r in rows])
    assert floors["copy_source"]["BLEU-2"]["value"] == pytest.approx(copied[:, 1].mean())
    assert floors["copy_source"]["any-keyword-included"]["value"] == 1.0
    assert floors["random_target"]["verbatim-training-targets"]["value"] == 1.0


def test_diagnostics_hold_every_question_about_the_latent_and_the_keywords(evaluated_run):
    found = read(evaluated_run / "figures.test.json")["figures"]
    assert {"nll_posterior", "nll_prior", "nll_shuffled", "nll_prior_u_unknown", "nll_prior_u_shuffled", "kl"} <= set(found["means"])
    assert {f"order_{c}{suffix}" for c in ("ins", "key", "ma") for suffix in ("", "_random", "_differ")} <= set(found["means"])
    means = found["means"]
    for name, (value, baseline) in HCL.comparisons.items():
        assert found["differences"][name]["value"] == pytest.approx(means[value]["value"] - means[baseline]["value"], abs=1e-3)
    assert found["collapsed"] is not (found["differences"]["nll_shuffled_minus_posterior"]["low"] > 0)
    assert 0 <= found["active_units"] <= found["latent_size"] == len(found["kl_by_dimension"]) == 8
    assert sum(found["kl_by_dimension"]) == pytest.approx(means["kl"]["value"], rel=1e-4)


def test_samples_are_spread_evenly(evaluated_run):
    text, rows = (evaluated_run / "samples.test.md").read_text(encoding="utf-8"), read(evaluated_run / "predictions.test.jsonl")
    ids = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(ids) == min(20, len(rows))
    numbers = [[row["id"] for row in rows].index(i.replace("\\", "")) for i in ids]
    assert numbers[0] == 0
    assert numbers[-1] == len(rows) - 1
    assert set(np.diff(numbers)) <= {1, 2}


@pytest.mark.slow
def test_references_and_negatives_do_not_reach_the_outputs(evaluated_run, qqp_folder, tmp_path, monkeypatch):
    other = PreparedData(altered(qqp_folder, tmp_path / "altered"))
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    with pytest.raises(UserError, match="not the data that the run was trained on"):
        evaluate(EvaluationRequest(run, data_dir=other.folder))
    monkeypatch.setattr(door, "data_of", lambda *_: other)
    monkeypatch.setattr(scoring, "diagnose", lambda *_: scoring.diagnostics.summary({}, {}))
    evaluate(EvaluationRequest(run))
    before, after = (read(folder / "predictions.test.jsonl") for folder in (evaluated_run, run))
    assert [row["prediction"].encode() for row in after] == [row["prediction"].encode() for row in before]
    assert all(a["reference"] != b["reference"] for a, b in zip(after, before, strict=True))
    assert sha256(run / "scores.test.json") != sha256(evaluated_run / "scores.test.json")


# -- samples of z -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(trained_run, qqp_folder, tmp_path_factory) -> Path:
    """A run whose first 20 test sources were decoded three times more."""
    run = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("sampled") / "run"))
    evaluate(EvaluationRequest(run, data_dir=qqp_folder, limit=20, samples=3))
    return run


@pytest.mark.slow
def test_samples_are_those_that_generation_draws(sampled, loaded_run):
    rows = read(sampled / "sampled.test.first20.jsonl")
    predicted = read(sampled / "predictions.test.first20.jsonl")
    assert [{k: row[k] for k in ("id", "source", "reference")} for row in rows] == [
        {k: row[k] for k in ("id", "source", "reference")} for row in predicted
    ]
    reader = SourceReader(loaded_run.manifest, loaded_run.tokenizer, loaded_run.graph)
    assert [row["outputs"] for row in rows] == list(generated(loaded_run, reader, [row["source"] for row in rows], 3, 8))


@pytest.mark.slow
def test_samples_leave_everything_else_as_it_was(sampled, evaluated_run):
    assert read(sampled / "predictions.test.first20.jsonl") == read(evaluated_run / "predictions.test.jsonl")[:20]
    assert "samples" not in read(evaluated_run / "figures.test.json")
    assert not list(evaluated_run.glob("sampled.*"))


@pytest.mark.slow
def test_of_some_sources_samples_are_the_same_and_the_others_have_none(sampled, trained_run, qqp_folder, tmp_path):
    shutil.copytree(trained_run, run := tmp_path / "run")
    evaluate(EvaluationRequest(run, data_dir=qqp_folder, limit=20, samples=3, sampled_sources=7))
    assert read(run / "sampled.test.first20.jsonl") == read(sampled / "sampled.test.first20.jsonl")[:7]
    found, whole = (read(folder / "figures.test.first20.json") for folder in (run, sampled))
    assert {entry["examples"] for entry in found["samples"]["means"].values()} == {7}
    assert found["figures"] == whole["figures"]
    evaluate(EvaluationRequest(run, data_dir=qqp_folder, limit=20))
    assert not (run / "sampled.test.first20.jsonl").exists(), "its figures are gone, too"


@pytest.mark.slow
def test_what_samples_are_worth_is_of_their_texts(sampled, loaded_run):
    rows, found = read(sampled / "sampled.test.first20.jsonl"), read(sampled / "figures.test.first20.json")["samples"]
    assert (found["of_each"], found["seed"]) == (3, loaded_run.settings.seed)
    references, sources = ([words(row[name], "en") for row in rows] for name in ("reference", "source"))
    outputs = [[words(row["outputs"][draw], "en") for row in rows] for draw in range(3)]
    scored = np.array([bleu.sentence_scores(texts, references, (2,))[:, 0] for texts in outputs])
    means = found["means"]
    assert list(means) == sorted(["BLEU-2-mean", "BLEU-2-best", "BLEU-2-single", "iBLEU-mean", "pairwise-distinctness", "distinct-samples"])
    assert means["BLEU-2-mean"]["value"] == pytest.approx(scored.mean())
    assert means["BLEU-2-best"]["value"] == pytest.approx(scored.max(0).mean())
    assert means["iBLEU-mean"]["value"] == pytest.approx(np.mean([bleu.ibleu(texts, references, sources) for texts in outputs]))
    assert means["distinct-samples"]["value"] == pytest.approx(np.mean([len(set(row["outputs"])) / 3 for row in rows]))
    for entry in means.values():
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert entry["examples"] == 20
    single = means.pop("BLEU-2-single")
    assert single["value"] == pytest.approx(np.mean([row["scores"]["BLEU-2"] for row in read(sampled / "predictions.test.first20.jsonl")]))
    assert all("of 3 outputs of each source, z drawn from the prior" in entry["signature"] for entry in means.values())


def test_a_system_without_z_has_no_samples(qqp_folder, tmp_path, monkeypatch):
    launch("qqp", qqp_folder, str(tmp_path / "run"), "tiny", {"model": "copy"}, ["hcl_tf.train"])
    monkeypatch.setattr(scoring, "decode", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(UserError, match="--samples: copy has no latent z to draw; hcl, bert_cvae, bert_cvae_ins, cvae have one"):
        evaluate(EvaluationRequest(tmp_path / "run", data_dir=qqp_folder, samples=2))
    assert {name for name in registry.SYSTEMS if issubclass(registry.class_of(name), LatentVariable)} == set(
        registry.systems_with("latent_size")
    )


# -- what can't be ----------------------------------------------------------------------------------------------------


def test_a_part_never_replaces_the_whole():
    run = scoring.Path("run")
    labels = [EvaluationRequest(run).label, EvaluationRequest(run, limit=5).label, EvaluationRequest(run, checkpoint="best_nll").label]
    assert labels == ["test", "test.first5", "test.best_nll"]
    assert EvaluationRequest(run, "validation", "best_nll", limit=2).label == "validation.best_nll.first2"


def test_what_can_not_work_is_refused_before_the_model_is_loaded(trained_run, rocstories_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("the model was loaded")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        evaluate(EvaluationRequest(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="--data_dir=gone: no prepared data there"):
        evaluate(EvaluationRequest(trained_run, data_dir=scoring.Path("gone")))
    with pytest.raises(UserError, match="not the data that the run was trained on"):
        evaluate(EvaluationRequest(trained_run, data_dir=rocstories_folder))
    with pytest.raises(UserError, match=r"--embeddings=.*no such file"):
        evaluate(EvaluationRequest(trained_run, embeddings=tmp_path / "glove.txt"))


@pytest.mark.slow
def test_a_users_vectors_score_the_system_and_the_floors(qqp_folder, tmp_path):
    data = PreparedData(qqp_folder)
    records = [record for record, _ in zip(data.records("test"), range(3), strict=False)]
    wanted = sorted({word for record in records for word in words(record.target.raw, "en")})
    random = np.random.default_rng(0)
    lines = [" ".join([word, *(f"{x:.3f}" for x in random.normal(size=5))]) for word in [*wanted, "unwanted"]]
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    inputs = scoring._ScoreInputs(data, records, tmp_path / "glove.txt", [record.target.raw for record in records])
    scores, _ = inputs.score([record.target.raw for record in records])
    assert scores["Average"]["value"] == pytest.approx(1.0)
    assert all("vectors:glove.txt#" in part["Greedy"]["signature"] for part in (scores, inputs.copies()[0], inputs.random()))


# -- normalisation ----------------------------------------------------------------------------------------------------


def marked(text: str) -> str:
    """The text as a web page may leave it."""
    return "\u202a" + text.replace("e", "e\u200b").replace("o", "ｏ")


def scored(folder: Path, outputs: list[str], form: str | None, change=lambda record: record) -> dict[str, dict]:
    """Scores of outputs for test examples of a folder whose manifest names a normalisation."""
    data = PreparedData(folder)
    data.manifest = {name: value for name, value in data.manifest.items() if name != "normalization"} | (
        {"normalization": form} if form else {}
    )
    records = [change(record) for record in list(data.records("test"))[: len(outputs)]]
    return scoring._ScoreInputs(data, records, None, outputs).score(outputs)[0]


def with_marks(record):
    """A record whose raw texts have marks, as preparation writes it."""
    texts = {role: getattr(record, role) for role in ROLES}
    return replace(record, **{role: replace(text, raw=marked(text.raw), changed=text.raw) for role, text in texts.items()})


@pytest.mark.slow
def test_scores_are_of_normal_forms_on_both_sides(qqp_folder):
    targets = [record.target.raw for record in list(PreparedData(qqp_folder).records("test"))[:5]]
    plain = scored(qqp_folder, targets, normalization.CURRENT)
    assert scored(qqp_folder, list(map(marked, targets)), normalization.CURRENT) == plain
    changed = scored(qqp_folder, list(map(marked, targets)), normalization.CURRENT, with_marks)
    assert {name: entry["value"] for name, entry in changed.items()} == {name: entry["value"] for name, entry in plain.items()}
    for name, entry in changed.items():
        assert entry["signature"] == f"{plain[name]['signature']}|text:{normalization.CURRENT}"


@pytest.mark.slow
def test_scores_for_data_without_a_normalisation_are_of_raw_texts(qqp_folder):
    targets = [record.target.raw for record in list(PreparedData(qqp_folder).records("test"))[:5]]
    plain, other = (scored(qqp_folder, texts, None) for texts in (targets, list(map(marked, targets))))
    assert plain == scored(qqp_folder, targets, normalization.CURRENT)
    assert other["sacreBLEU"]["value"] < plain["sacreBLEU"]["value"]
    assert {name: entry["signature"] for name, entry in other.items()} == {name: entry["signature"] for name, entry in plain.items()}


@pytest.mark.slow
def test_further_references_count_in_the_scores_and_stand_beside_the_first(qqp_folder):
    data = PreparedData(qqp_folder)
    records = [record for record, _ in zip(data.records("test"), range(3), strict=False)]
    outputs = ["a text that nobody expects"] * 3
    for record in records:
        record.references = (outputs[0],)
    alone, with_more = (scoring._ScoreInputs(data, chosen, None, outputs) for chosen in (list(data.records("test"))[:3], records))
    (before, _), (after, rows) = alone.score(outputs), with_more.score(outputs)
    for name in ("BLEU-2", "sacreBLEU", "Average"):
        assert after[name]["value"] > (before[name]["value"] or 0)
    row = scoring._row(records[0], outputs[0], rows[0], rows[0])
    assert (row["reference"], row["references"]) == (records[0].target.raw, [outputs[0]])
