"""A run in Python: its texts are the command's, its numbers those of the system; an export gives what the run gives."""

import dataclasses
import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit.scores import nll_of, stepped

import hcl_tf
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.generator import SOURCE_COLUMNS
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.errors import UserError
from hcl_tf.serving.export import DESCRIPTION
from hcl_tf.serving.generation import outputs
from hcl_tf.serving.model import Model, _Redecoded

TEXTS = ["How can I lose weight?", "Why is the sky blue?", "What should I eat before a run?"]
TARGETS = ["How do I lose weight?", "What makes the sky blue?", "What is good food before running?"]


@pytest.fixture(scope="module")
def model(loaded_run) -> Model:
    return Model(loaded_run)


@pytest.fixture(scope="module")
def exported(exported_run) -> Model:
    return hcl_tf.load(exported_run)


def reader_of(trained, keywords=None) -> SourceReader:
    return SourceReader(trained.manifest, trained.tokenizer, trained.graph, keywords)


def batch_of(trained, texts: list[str]) -> dict[str, tf.Tensor]:
    return trained.source_batches().make([reader_of(trained).read(text) for text in texts], 0)


# -- texts --------------------------------------------------------------------------------------------------------------


def test_texts_are_those_of_the_evaluation(evaluated_run, model):
    rows = [json.loads(line) for line in (evaluated_run / "predictions.test.jsonl").read_text(encoding="utf-8").splitlines()]
    sources, wanted = [row["source"] for row in rows[:5]], [row["prediction"] for row in rows[:5]]
    assert model.generate(sources) == wanted
    assert model.generate(iter(sources[2:])) == wanted[2:]


@pytest.mark.slow
def test_texts_are_those_of_the_command(loaded_run, model):
    """Over two batches, of one text that is not in a list, and with keywords."""
    texts = (TEXTS * 12)[:34]
    wanted = [text for (text,) in outputs(loaded_run, reader_of(loaded_run), texts, 0, 32)]
    assert model.generate(texts) == wanted
    assert model.generate(TEXTS[0]) == wanted[0]
    (given,) = outputs(loaded_run, reader_of(loaded_run, [loaded_run.graph.nodes[3]]), TEXTS[:1], 0, 32)
    assert model.generate(TEXTS[0], [loaded_run.graph.nodes[3]]) == given[0]
    turns = outputs(loaded_run, reader_of(loaded_run), ["How are you?\tFine, thanks."], 0, 1)
    assert model.generate("How are you?\nFine, thanks.") == next(turns)[0]


def test_keywords_are_each_texts_own(loaded_run, model):
    keyword = loaded_run.graph.nodes[3]
    found, own = model.prior(TEXTS, [[keyword], None, []]).mean, model.prior(TEXTS).mean
    for place, names in enumerate(([keyword], reader_of(loaded_run).read(TEXTS[1]).keywords, [])):
        np.testing.assert_allclose(found[place], model.prior(TEXTS[place : place + 1], [names]).mean[0], rtol=1e-4, atol=1e-6)
    assert abs(found[0] - own[0]).max() > 1e-4 > abs(found[1] - own[1]).max()
    assert model.keywords(TEXTS[0]) == list(reader_of(loaded_run).read(TEXTS[0]).keywords)
    assert [model.keywords(text) for text in TEXTS] == model.keywords(TEXTS)


def test_scores_are_log_probabilities_over_the_length_penalty_best_first(loaded_run, model):
    """A hypothesis whose text is cut into the same pieces again has the log-probability that `score` gives it."""
    ranked = model.generate(TEXTS, hypotheses=4, return_scores=True)
    assert model.generate(TEXTS, return_scores=True) == [one[0] for one in ranked]
    assert model.generate(TEXTS, hypotheses=2) == [[output.text for output in one[:2]] for one in ranked]
    assert all(list(one) == sorted(one, key=lambda output: -output.score) for one in ranked)
    hypotheses = [(source, *output) for source, one in zip(TEXTS, ranked, strict=True) for output in one]
    sources, texts, scores = zip(*hypotheses, strict=True)
    found = model.score(sources, texts)
    penalty = ((5 + found.tokens - 1) / 6) ** loaded_run.settings.length_penalty
    same = np.isclose(found.total, np.array(scores) * penalty, rtol=1e-4)
    assert same.sum() >= len(texts) / 2, same


def test_other_settings_hold_for_one_call_alone():
    system = SimpleNamespace(settings="own", generate=lambda batch, noise: (system.settings, batch["scores"]))
    assert _Redecoded(system, "other").generate({"scores": 1}) == ("other", 1)
    with pytest.raises(KeyError):
        _Redecoded(system, "other").generate({})
    assert system.settings == "own"


@pytest.mark.slow
def test_a_search_with_other_settings_is_that_of_a_run_with_them(loaded_run, model):
    own, changed = loaded_run.settings, dataclasses.replace(loaded_run.settings, beams=2, maximum_length=8, length_penalty=0.0)
    loaded_run.system.settings = changed
    try:
        _, wanted = loaded_run.system.generate(batch_of(loaded_run, TEXTS[:1]))
    finally:
        loaded_run.system.settings = own
    found = model.generate(TEXTS[0], beams=2, maximum_length=8, length_penalty=0, hypotheses=2, return_scores=True)
    np.testing.assert_allclose([output.score for output in found], wanted.numpy()[0], rtol=1e-4)
    assert loaded_run.system.settings == own
    assert model.generate(TEXTS[0], beams=own.beams) == model.generate(TEXTS[0])  # as the run has it: nothing is traced anew


@pytest.mark.slow
def test_samples_are_those_of_the_command(loaded_run, model):
    wanted = list(outputs(loaded_run, reader_of(loaded_run), TEXTS, 2, 32))
    found = model.generate(TEXTS, samples=2, return_scores=True)
    assert [[output.text for output in one] for one in found] == wanted
    assert len({output.score for output in found[0]}) == 2  # the words of so poor a model may well be the same
    assert model.generate(TEXTS[0], samples=2) == wanted[0]


# -- numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_prior_is_the_layers(loaded_run, model):
    found = model.prior(TEXTS)
    _, _, wanted = loaded_run.system.read_sources({name: batch_of(loaded_run, TEXTS)[name] for name in SOURCE_COLUMNS})
    np.testing.assert_allclose(found.mean, wanted.mean()[:3], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.deviation, wanted.stddev()[:3], rtol=1e-4)
    assert found.mean.shape == (3, loaded_run.settings.latent_size)
    one = model.prior(TEXTS[1])
    np.testing.assert_allclose(one.deviation, found.deviation[1], rtol=1e-5)
    assert one.mean.shape == found.mean.shape[1:]


@pytest.mark.slow
def test_scores_of_targets_are_sums_over_decoding_steps(loaded_run, model):
    """`stepped` decodes the target token by token, as the search does, from z at the prior's mean."""
    system, tokenizer = loaded_run.system, loaded_run.tokenizer
    ids = tokenizer.framed(pieces := tokenizer.encode(TARGETS), max(map(len, pieces)))
    batch = loaded_run.source_batches().make([reader_of(loaded_run).read(text) for text in TEXTS], 0)
    batch = {name: tensor[:3] for name, tensor in batch.items()}
    wanted = -nll_of(stepped(system, batch, ids[:, None])[:, 0], system, ids[:, 1:]).sum(1)
    found = model.score(TEXTS, TARGETS)
    np.testing.assert_allclose(found.total, wanted, rtol=1e-4)
    assert found.tokens.tolist() == [len(each) + 1 for each in pieces]
    np.testing.assert_allclose(found.per_token, wanted / found.tokens, rtol=1e-4)
    one = model.score(TEXTS[1], TARGETS[1])
    assert one == pytest.approx((found.total[1], found.per_token[1], found.tokens[1]), rel=1e-5)


@pytest.mark.slow
def test_scores_of_the_test_split_are_those_of_the_evaluation(loaded_run, model, qqp_folder):
    """Over several batches, whose last rows fill up."""
    records = list(PreparedData(qqp_folder).records("test"))
    wanted = loaded_run.validation("test").diagnose()["nll_prior"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # targets that are cut
        found = model.score([record.source.raw for record in records], [record.target.raw for record in records])
    np.testing.assert_allclose(-found.total, wanted, rtol=1e-4)


def test_a_longer_target_is_cut_and_said_to_be(loaded_run, model):
    most = loaded_run.inputs.target_length
    with pytest.warns(UserWarning, match=rf"targets\[0\]: {most + 5} pieces, cut to {most}"):
        found = model.score([TEXTS[0]], ["a " * (most + 5)])
    assert found.tokens.tolist() == [most + 1]
    np.testing.assert_allclose(found.total, model.score([TEXTS[0]], ["a " * most]).total, rtol=1e-6)


# -- exported -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_export_gives_what_its_run_gives(model, exported):
    assert (exported.system, exported.task, exported.step, exported.language) == (model.system, model.task, model.step, model.language)
    assert exported.keywords(TEXTS) == model.keywords(TEXTS)
    found, wanted = exported.generate(TEXTS, hypotheses=4, return_scores=True), model.generate(TEXTS, hypotheses=4, return_scores=True)
    assert [[output.text for output in one] for one in found] == [[output.text for output in one] for one in wanted]
    np.testing.assert_allclose(np.array(found)[..., 1].astype(float), np.array(wanted)[..., 1].astype(float), rtol=1e-4)
    for here, there in zip(exported.prior(TEXTS), model.prior(TEXTS), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(exported.score(TEXTS, TARGETS).total, model.score(TEXTS, TARGETS).total, rtol=1e-4)


@pytest.mark.slow
def test_an_export_stays_as_it_is(exported, exported_run):
    assert exported.generate(TEXTS[0], beams=exported.settings.beams) == exported.generate(TEXTS[0])
    for options, message in (
        ({"beams": 2}, "beams=2: exported with 4, which stays; open the run itself"),
        ({"samples": 2}, "samples: an exported model takes z at the prior's mean"),
    ):
        with pytest.raises(UserError, match=message):
            exported.generate(TEXTS, **options)
    with pytest.raises(UserError, match=r"checkpoint=.best_nll.: .* is an exported model"):
        hcl_tf.load(exported_run, "best_nll")


@pytest.fixture(scope="module")
def earlier_export(exported_run, tmp_path_factory):
    """An export of format 1: one signature, and a description that knows no more."""
    folder = tmp_path_factory.mktemp("earlier") / "model"
    shutil.copytree(exported_run, folder, ignore=shutil.ignore_patterns("saved_model.pb", "variables"))
    program, earlier = tf.saved_model.load(str(exported_run)), tf.Module()
    earlier.kept = program.kept
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(earlier, str(folder), {"generate": program.signatures["generate"]}, options)
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for name in ("signatures", "target_length", "uses_keywords", "stop_words", "parsed"):
        del description[name]
    (folder / DESCRIPTION).write_text(json.dumps(description | {"format": 1}), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_an_earlier_export_still_generates(earlier_export, model):
    found = hcl_tf.load(earlier_export)
    assert found.generate(TEXTS) == model.generate(TEXTS)
    for ask, signature in ((lambda: found.prior(TEXTS), "prior"), (lambda: found.score(TEXTS, TARGETS), "score")):
        with pytest.raises(UserError, match=f"by an earlier version, without the signature '{signature}'; export the run again"):
            ask()


@pytest.mark.slow
def test_an_export_that_can_not_be_used(exported_run, tmp_path):
    folder = shutil.copytree(exported_run, tmp_path / "model")
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for text, message in (
        ("{", rf"{DESCRIPTION}: can't be read"),
        (json.dumps(description | {"format": 3}), "of format 3, and this version reads up to 2"),
    ):
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            hcl_tf.load(folder)
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    (folder / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(UserError, match="the model can't be read"):
        hcl_tf.load(folder)


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "keywords", "options", "message"),
    [
        ([], None, {}, "texts: the list is empty"),
        (["a text", " \n"], None, {}, r"texts\[1\]: holds no text"),
        (TEXTS, [["diet"]], {}, "keywords: 1 for 3 texts"),
        (TEXTS[:1], [["?!"]], {}, r"keywords\[0\]: '\?!' holds no word"),
        (TEXTS[:1], [[f"word{i}" for i in range(99)]], {}, r"keywords\[0\]: 99 keywords.* at most"),
        (TEXTS, None, {"beam": 4}, "beam: unknown option; there are samples, hypotheses, return_scores, beams"),
        (TEXTS, None, {"beams": 0}, "^beams=0: at least 1 is expected"),
        (TEXTS, None, {"beams": "4"}, "beams='4': a whole number is expected"),
        (TEXTS, None, {"beams": 2.5}, "beams=2.5: a whole number is expected"),
        (TEXTS, None, {"length_penalty": True}, "length_penalty=True: a number is expected"),
        (TEXTS, None, {"minimum_length": 9, "maximum_length": 8}, "^minimum_length=9 is more than maximum_length=8"),
        (TEXTS, None, {"maximum_length": 1000}, "maximum_length=1000: this run learned from texts of at most"),
        (TEXTS, None, {"samples": -1}, "samples=-1: a whole number from 0 to 1000"),
        (TEXTS, None, {"samples": 2, "hypotheses": 2}, "samples and hypotheses: give one of them"),
        (TEXTS, None, {"hypotheses": 5}, r"hypotheses=5: the search has 4 \(beams\)"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_by_name_and_place(model, monkeypatch, texts, keywords, options, message):
    monkeypatch.setattr(model, "_search", lambda *_: pytest.fail("the search was asked"))
    with pytest.raises(UserError, match=message):
        model.generate(texts, keywords, **options)


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (TEXTS, TARGETS[:2], "targets: a list of 2 for a list of 3 of sources"),
        (TEXTS[0], TARGETS[:1], "targets: a list of 1 for 1 text of sources"),
        (TEXTS[:1], [" "], r"targets\[0\]: holds no text"),
        ([" "], TARGETS[:1], r"sources\[0\]: holds no text"),
        (TEXTS, [None] * 3, r"targets\[0\]: a string is expected, not NoneType"),
    ],
)  # fmt: skip
def test_targets_that_can_not_be_scored(model, sources, targets, message):
    with pytest.raises(UserError, match=message):
        model.score(sources, targets)


def test_a_keyword_that_the_graph_lacks_is_named(model):
    with pytest.warns(UserWarning, match="not in the keyword graph, so counted as unknown: zyxwvut"):
        model.prior(TEXTS[0], ["zyxwvut"])


def test_what_a_system_lacks_is_said(loaded_run):
    """Of `copy`, which has neither weights nor a latent variable nor a use for keywords."""
    lacking = SimpleNamespace(uses_keywords=False, has_latent=False, is_trained=False)
    parts = ("manifest", "tokenizer", "graph", "task", "checkpoint", "step", "path", "target_length", "source_batches")
    settings = dataclasses.replace(loaded_run.settings, model="copy", search="contrastive")
    model = Model(SimpleNamespace(system=lacking, settings=settings, **{name: getattr(loaded_run, name) for name in parts}))
    for ask, message in (
        (lambda: model.prior(TEXTS), "prior: copy has no latent variable"),
        (lambda: model.generate(TEXTS, samples=2), "samples: copy has no latent variable"),
        (lambda: model.score(TEXTS, TARGETS), "score: copy gives no probabilities"),
        (lambda: model.generate(TEXTS, [["diet"]] * 3), "keywords: this system was trained without keywords"),
        (lambda: model.generate(TEXTS, beams=2), "beams=2: this run searches by contrastive search"),
    ):
        with pytest.raises(UserError, match=message):
            ask()
