"""What edited keywords change, against the command line's own outputs and against NumPy."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.errors import UserError
from hcl_tf.serving.generation import outputs
from hcl_tf.serving.keyword_edits import EXAMPLES, EditableRun, check_text, load, prior_change
from hcl_tf.training.trained_run import TrainedRun

TEXT = "How can I lose weight without going to the gym?"


@pytest.fixture(scope="module")
def run(loaded_run) -> EditableRun:
    return EditableRun(loaded_run, "tiny")


@pytest.fixture(scope="module")
def other_keyword(loaded_run, run) -> str:
    """A node of the graph that is no keyword of `TEXT`."""
    return next(node for node in loaded_run.graph.nodes if node not in run.own_keywords(TEXT))


@pytest.mark.slow
def test_best_outputs_are_those_of_generate(loaded_run, run, other_keyword):
    found = run.compare(TEXT, [other_keyword])
    for given, answer in ((None, found.own), ([other_keyword], found.edited)):
        reader = SourceReader(loaded_run.manifest, loaded_run.tokenizer, loaded_run.graph, given)
        assert list(outputs(loaded_run, reader, [TEXT], 0, 1)) == [[answer.beams[0][0]]]
        assert len(answer.beams) == loaded_run.settings.beams
        scores = [score for _, score in answer.beams]
        assert scores == sorted(scores, reverse=True)
    assert found.edited.keywords == (other_keyword,)


def test_own_keywords_are_those_of_the_prepared_text(run, qqp_folder):
    source = next(record.source for record in PreparedData(qqp_folder).records("test"))
    assert run.own_keywords(source.raw) == tuple(keyword.text for keyword in source.keywords)


def test_examples_are_texts_of_the_test_split_with_their_targets(run, qqp_folder):
    records = list(PreparedData(qqp_folder).records("test"))
    pairs = {(record.source.raw, record.target.raw) for record in records}
    examples = run.examples()
    assert 0 < len(examples) <= EXAMPLES
    assert {(example.text, example.target) for example in examples} <= pairs
    assert len({example.text for example in examples}) == len(examples)
    assert all(len(run.own_keywords(example.text)) > 1 for example in examples)


@pytest.mark.slow
def test_without_its_data_a_run_answers_and_has_no_examples(trained_run, tmp_path):
    (found,) = load([trained_run], "best_loss", tmp_path)
    with pytest.raises(UserError, match=f"--data_dir={tmp_path}: no prepared data there"):
        found.examples()
    assert found.compare(TEXT, []).own.beams


def test_words_that_are_suggested_are_the_most_frequent_of_the_graph(loaded_run, run):
    counts = dict(zip(loaded_run.graph.nodes, loaded_run.graph.counts.tolist(), strict=True))
    assert sorted(map(counts.get, run.frequent)) == sorted(counts.values())[-len(run.frequent) :]


@pytest.mark.slow
def test_the_prior_moves_with_the_keywords_and_only_with_them(run, other_keyword):
    same = run.compare(TEXT, list(run.own_keywords(TEXT)))
    assert same.own == same.edited
    assert (same.change.kl, same.change.kl_back, same.change.shift.max()) == (0.0, 0.0, 0.0)
    moved = run.compare(TEXT, [other_keyword])
    assert moved.change.kl > 0
    assert moved.change.shift.max() > 0
    assert run.compare(TEXT, []).edited.keywords == ()
    assert run.compare(TEXT, ["zyxwvut"]).edited.unknown == ("zyxwvut",)


def test_the_prior_is_where_generation_takes_z_from(loaded_run, run):
    """`start` puts the projected mean into the first slot of the decoder's memory, whose prior a `drawn` sample names."""
    seen = []
    original = loaded_run.system.drawn
    loaded_run.system.drawn = lambda prior, noise: seen.append(prior.mean().numpy()) or original(prior, noise)
    try:
        batch = loaded_run.source_batches().make([run._reader.read(TEXT)], 0)
        loaded_run.system.start(batch, 1, None)
    finally:
        del loaded_run.system.drawn
    np.testing.assert_allclose(run.compare(TEXT, []).own.prior[0], seen[0][0], rtol=1e-5, atol=1e-6)


def test_distances_against_sampling_and_by_hand():
    rng = np.random.default_rng(5)
    own, edited = ((rng.normal(size=3), rng.uniform(0.5, 2.0, 3)) for _ in range(2))
    found = prior_change(own, edited)
    assert found.shift.tolist() == pytest.approx([abs(edited[0][i] - own[0][i]) / own[1][i] for i in range(3)])

    def log_density(z, mean, deviation):
        return (-0.5 * ((z - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)).sum(-1)

    for kl, p, q in ((found.kl, edited, own), (found.kl_back, own, edited)):
        z = p[0] + p[1] * rng.normal(size=(400_000, 3))
        terms = log_density(z, *p) - log_density(z, *q)
        assert abs(terms.mean() - kl) < 5 * terms.std() / np.sqrt(len(terms))
    assert prior_change(own, own).kl == 0.0


@pytest.mark.slow
def test_threads_take_turns(run, other_keyword):
    texts = [TEXT, "Why is the sky blue?", "What is the best way to learn a language?"]
    alone = [run.compare(text, [other_keyword]) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: run.compare(text, [other_keyword]), texts * 4))
    for found, wanted in zip(together, alone * 4, strict=True):
        assert [text for text, _ in found.edited.beams] == [text for text, _ in wanted.edited.beams]


@pytest.mark.parametrize(
    ("text", "language", "message"),
    [
        (" \n", "en", "no text"),
        ("怎么减肥？", "en", "not in English"),
        ("How can I lose weight?", "zh", "not in Chinese"),
        ("a" * 1_000_001, "en", "over 1,000,000 characters"),
        ("Как похудеть?", "en", "not in English"),
    ],
    ids=["empty", "chinese", "english", "endless", "russian"],
)
def test_texts_that_can_not_be_are_named(text, language, message):
    with pytest.raises(UserError, match=message):
        check_text(text, language)


@pytest.mark.parametrize(("text", "language"), [("42?", "en"), ("Is 'été' French?", "en"), ("我用iPhone和MacBook，你呢？", "zh")])
def test_texts_that_can_be_are_let_through(text, language):
    check_text(text, language)


def test_too_many_keywords_and_one_without_a_word_are_refused(run):
    with pytest.raises(UserError, match="5 keywords"):
        run.compare(TEXT, ["one", "two", "three", "four", "five"])
    with pytest.raises(UserError, match="holds no word"):
        run.compare(TEXT, ["?!"])


def test_folders_that_are_no_finished_runs_are_refused(trained_run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder"):
        load([tmp_path / "nowhere"], "best_loss")
    with pytest.raises(UserError, match="given twice"):
        load([trained_run, Path(f"{trained_run}/.")], "best_loss")
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("a model was loaded")))
    shutil.copytree(trained_run, tmp_path / "run", ignore=shutil.ignore_patterns("done.json", "checkpoints", "tensorboard"))
    with pytest.raises(UserError, match=f"--run_dir={tmp_path / 'run'}: not finished"):
        load([trained_run, tmp_path / "run"], "best_loss")


def test_marks_that_nobody_sees_make_no_difference(run):
    marked = "\ufeff" + TEXT.replace("weight", "wei\u200bght").replace("gym", "ｇｙｍ")
    assert run.own_keywords(marked) == run.own_keywords(TEXT)
    edited = [run.compare(text, [keyword]).edited for text, keyword in ((marked, "wei\u00adght"), (TEXT, "weight"))]
    assert edited[0].keywords == edited[1].keywords == ("weight",)
    assert edited[0].beams == edited[1].beams
    assert run.own_keywords("ｗｅｉｇｈｔ?") == ("weight",), "not taken for another language"
    with pytest.raises(UserError, match="there is no text"):
        run.own_keywords("\u200b\u2060")
