"""Keyword control of a tiny run: what it writes, that its own-keyword outputs are ordinary generation's, and what it refuses."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from absl.testing import flagsaver
from conftest import entry_point

from hcl_tf import cli
from hcl_tf.data.corpora.examples import Keyword
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import Record, Text
from hcl_tf.decoding.sources import from_record
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.registry import resolve
from hcl_tf.studies.keyword_control import page
from hcl_tf.studies.keyword_control.swaps import KeywordControlRequest, choose, draw_swaps, keyword_control, keyword_forms, measure
from hcl_tf.training.trained_run import TrainedRun


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def found(loaded_run) -> dict:
    """Twelve inputs, two swaps each."""
    return measure(loaded_run, KeywordControlRequest(loaded_run.run.path, inputs=12, swaps=2))


def outputs(found: dict, condition: str) -> list[list[dict]]:
    return [[o for o in row["outputs"] if o["condition"] == condition] for row in found["rows"]]


def test_under_their_own_keywords_inputs_have_the_outputs_of_the_evaluation(found, evaluated_run):
    rows = [json.loads(line) for line in (evaluated_run / "predictions.test.jsonl").read_bytes().splitlines()]
    wanted = {row["id"]: (row["source"], row["keywords"], row["prediction"]) for row in rows}
    own = {
        row["id"]: (row["source"], one["keywords"], one["output"]) for row, (one,) in zip(found["rows"], outputs(found, "own"), strict=True)
    }
    assert own == {name: wanted[name] for name in own}
    assert list(own)[:: len(own) - 1] == [rows[0]["id"], rows[-1]["id"]]


def test_swapped_in_keywords_are_other_texts_nodes(found, data, loaded_run):
    records = {record.id: record for record in data.records("test")}
    for row, swapped in zip(found["rows"], outputs(found, "swapped"), strict=True):
        names = [swap["keywords"][0] for swap in swapped]
        assert len(set(names)) == 2
        assert not set(names) & {keyword.text for keyword in records[row["id"]].source.keywords}
        for swap, name in zip(swapped, names, strict=True):
            assert name in loaded_run.graph.numbers()
            assert name in {keyword.text for keyword in records[swap["from"]].source.keywords}
            assert swap["prior_kl"] > 0
    assert all(one["keywords"] == [] and one["included"] is None for (one,) in outputs(found, "none"))


def test_figures_are_those_of_the_rows(found):
    swapped, own = outputs(found, "swapped"), [one["output"] for (one,) in outputs(found, "own")]
    values = {name: {c: entry["value"] for c, entry in measure["values"].items()} for name, measure in found["figures"].items()}
    mean = lambda key: np.mean([swap[key] for row in swapped for swap in row])  # noqa: E731
    assert values["swapped-keyword-included"]["swapped"] == pytest.approx(mean("included"))
    assert values["prior-shift"]["swapped"] == pytest.approx(mean("prior_shift"), rel=1e-4)
    assert values["prior-KL"]["swapped"] == pytest.approx(mean("prior_kl"), rel=1e-4)
    changed = [swap["output"] != text for row, text in zip(swapped, own, strict=True) for swap in row]
    assert values["outputs-changed"]["swapped"] == pytest.approx(np.mean(changed))


@pytest.mark.slow
def test_swapped_outputs_are_those_of_a_user_who_gives_the_keyword(found, loaded_run, data):
    """Through the same door as `hcl_tf.generate --keywords`."""
    from hcl_tf.decoding.source_reader import SourceReader
    from hcl_tf.serving.generation import outputs as generate

    row, (swap, _) = found["rows"][0], outputs(found, "swapped")[0]
    reader = SourceReader(loaded_run.manifest, loaded_run.tokenizer, loaded_run.graph, swap["keywords"])
    assert list(generate(loaded_run, reader, [row["source"]], 0, 1)) == [[swap["output"]]]


def test_the_prior_is_that_of_the_model(loaded_run, data):
    records = list(data.records("test"))[:3]
    batch = loaded_run.source_batches().make([from_record(record.source) for record in records], 0)
    ours, system = loaded_run.system.source_prior(batch), loaded_run.system
    texts = system.encode(batch, None, ("source",))
    nodes = [[system.node_states.numpy()[n] for n in record.source.nodes if n != UNKNOWN] for record in records]
    own = system.project(texts["source"]).numpy()
    u = [
        (sum(states) + record.source.nodes.count(UNKNOWN) * own[i]) / len(record.source.nodes)
        for i, (states, record) in enumerate(zip(nodes, records, strict=True))
    ]
    mean, stddev = system.prior(np.concatenate([texts["source"].numpy()[:3], np.stack(u)], 1))
    np.testing.assert_allclose(ours.mean().numpy()[:3], mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.stddev().numpy()[:3], stddev.numpy(), rtol=1e-5)


@pytest.fixture
def muted(loaded_run):
    """A function that zeroes (rows of) a kernel of the run's system, until the test is over."""
    kept = []

    def zero(layer, rows: slice = slice(None)) -> None:
        for variable in layer.variables:
            kept.append((variable, variable.numpy()))
        changed = layer.kernel.numpy()
        changed[rows] = 0.0
        layer.kernel.assign(changed)

    yield zero
    for variable, value in kept:
        variable.assign(value)


def moved(found: dict) -> dict[str, float]:
    measures = found["figures"]
    return {name: measures[name]["values"]["swapped"]["value"] for name in ("prior-shift", "prior-KL", "outputs-changed")}


@pytest.mark.slow
def test_a_prior_that_ignores_u_does_not_move(loaded_run, muted):
    muted(loaded_run.system.prior.inner, slice(loaded_run.inputs.shape.width, None))
    found = measure(loaded_run, KeywordControlRequest(loaded_run.run.path, inputs=3, swaps=1))
    assert moved(found) == {"prior-shift": 0.0, "prior-KL": 0.0, "outputs-changed": 0.0}
    difference = found["figures"]["swapped-keyword-included"]["values"]["swapped minus own"]
    assert (difference["value"], difference["low"], difference["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.slow
def test_a_decoder_that_ignores_z_gives_the_same_outputs_though_the_prior_moves(loaded_run, muted):
    muted(loaded_run.system.latent_memory)
    found = moved(measure(loaded_run, KeywordControlRequest(loaded_run.run.path, inputs=3, swaps=1)))
    assert found["outputs-changed"] == 0.0
    assert found["prior-KL"] > 0


def text(raw: str, *keywords: tuple[str, int]) -> Text:
    found = tuple(Keyword(name, raw.index(name), raw.index(name) + len(name), 1.0, True) for name, _ in keywords)
    return Text(raw, [], found, tuple(node for _, node in keywords))


def record(name: str, *keywords: tuple[str, int], raw: str = "") -> Record:
    source = text(" ".join([raw, *(keyword for keyword, _ in keywords)]), *keywords)
    return Record(name, source, text(""), text(""), "labelled")


RECORDS = [
    record("a", ("sky", 0), raw="blue"), record("b", ("sky", 0)), record("c", ("blue", 1)), record("d", ("rare", UNKNOWN)),
    record("e", ("moon", 2)), record("f", ("sun", 3)), record("g", ("moon", 2)), record("h"),
]  # fmt: skip


def test_what_can_not_be_swapped_in_is_not_drawn():
    """Not the own keyword (sky), a word of the text (blue), what the graph lacks (rare), or the same twice (moon)."""
    forms = keyword_forms(RECORDS)
    firsts = {draw_swaps(RECORDS, 0, forms, "en", 2, seed)[0] for seed in range(40)}
    assert {(swap.node, swap.name, swap.origin) for swap in firsts} == {(2, "moon", "e"), (2, "moon", "g"), (3, "sun", "f")}
    assert draw_swaps(RECORDS, 0, forms, "en", 2, 1) == draw_swaps(RECORDS, 0, forms, "en", 2, 1)
    with pytest.raises(UserError, match="--swaps=3: other texts of the split gave only 2 keywords for example a"):
        draw_swaps(RECORDS, 0, forms, "en", 3, 1)


def test_forms_are_those_that_stand_in_the_texts():
    raw = "Some Questions about a question"
    source = Text(raw, [], (Keyword("question", 5, 14, 1.0, True),), (0,))
    forms = keyword_forms([Record("a", source, text("question", ("question", 0)), text(""), "labelled")])
    assert forms == {"question": ("question", "questions")}


def test_inputs_are_spread_evenly_or_chosen(capsys):
    assert choose(RECORDS, KeywordControlRequest("run", inputs=3)) == [0, 3, 7]
    assert choose(RECORDS, KeywordControlRequest("run")) == list(range(8))
    assert "the test split has 8 examples, fewer than --inputs=200: all are taken" in capsys.readouterr().out
    assert choose(RECORDS, KeywordControlRequest("run", ids=("f", "b", "f"))) == [5, 1]
    with pytest.raises(UserError, match="--ids=z: no example of the test split"):
        choose(RECORDS, KeywordControlRequest("run", ids=("a", "z")))


@pytest.mark.slow
def test_the_command_writes_both_files_and_prints_a_table(trained_run, loaded_run, qqp_folder, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = {path.name for path in run.iterdir()}
    loaded = loaded_run.system
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: loaded))
    ids = [record.id for record, _ in zip(PreparedData(qqp_folder).records("test"), range(2), strict=False)]
    for arguments in (["--inputs=2"], [f"--ids={ids[1]},{ids[0]}"]):
        program = entry_point("studies.keyword_control.__main__")
        common = ["hcl_tf.studies.keyword_control", f"--run_dir={run}", f"--data_dir={qqp_folder}", "--swaps=1"]
        monkeypatch.setattr(sys, "argv", [*common, *arguments])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
            cli.run(program.main)
        assert stopped.value.code == 0
    files = {f"keywords.test{label}.{kind}" for label in ("", ".chosen") for kind in ("json", "md")}
    assert {path.name for path in run.iterdir()} - before == files
    found = json.loads((run / "keywords.test.chosen.json").read_bytes())
    assert [row["id"] for row in found["rows"]] == [ids[1], ids[0]]
    assert (found["model"], found["split"], found["examples"], found["swaps"], found["chosen_by_id"]) == ("hcl", "test", 2, 1, True)
    text, printed = (run / "keywords.test.chosen.md").read_text(encoding="utf-8"), capsys.readouterr().out
    assert f"Example {ids[1]}\n" in text
    assert found["figures"]["prior-KL"]["signature"] in text
    value = found["figures"]["prior-KL"]["values"]["swapped"]["value"]
    assert f"{value:.3f}" in text
    assert f"{value:.3f}" in printed


@pytest.mark.slow
def test_a_result_that_can_not_be_finished_leaves_nothing(trained_run, loaded_run, data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = {path.name for path in run.iterdir()}
    loaded = loaded_run.system
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: loaded))
    monkeypatch.setattr(page, "page", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        keyword_control(KeywordControlRequest(run, data.folder, inputs=1, swaps=1))
    assert {path.name for path in run.iterdir()} == before


def test_the_page_escapes_text_and_shows_no_more_than_it_says(found):
    rows = [{**found["rows"][0], "id": str(i), "source": "a | b <c>"} for i in range(50)]
    text = page.page({**found, "rows": rows, "examples": 50})
    assert text.count("\nExample ") == page.SHOWN
    assert "a \\| b &lt;c>" in text
    assert "(20 of 50 inputs)" in text


def test_what_can_not_work_is_refused_before_the_model_is_loaded(trained_run, rocstories_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("the model was loaded")))
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    with pytest.raises(UserError, match="no such folder"):
        keyword_control(KeywordControlRequest(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="--ids and --inputs contradict"):
        keyword_control(KeywordControlRequest(run, inputs=3, ids=("1",)))
    with pytest.raises(UserError, match="not the data that the run was trained on"):
        keyword_control(KeywordControlRequest(run, rocstories_folder))
    (run / "done.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        keyword_control(KeywordControlRequest(run))


def test_a_system_without_keywords_is_refused(data):
    run, system = SimpleNamespace(path="runs/x"), SimpleNamespace(uses_keywords=False)
    for given, said in (({"ablate": "keyword"}, "hcl without keyword"), ({"model": "transformer"}, "transformer")):
        trained = SimpleNamespace(run=run, system=system, data=data, settings=resolve("tiny", given))
        with pytest.raises(UserError, match=f"^runs/x: {said} uses no keywords, so there is nothing to control"):
            measure(trained, KeywordControlRequest("runs/x"))


@pytest.mark.parametrize(
    ("model", "given", "uses"),
    [
        ("hcl", {}, True), ("hcl", {"ablate": "keyword"}, False), ("hcl", {"ablate": "graph"}, True), ("bert_cvae", {}, True),
        ("seq2seq_du", {}, True), ("transformer_keywords", {}, True), ("transformer", {}, False), ("cvae", {}, False), ("copy", {}, False),
    ],
)  # fmt: skip
def test_which_systems_use_keywords(model, given, uses):
    said = registry.class_of(model).uses_keywords
    settings = resolve("tiny", {"model": model, **given})
    assert (said.fget(SimpleNamespace(settings=settings)) if isinstance(said, property) else said) is uses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run_dir is needed"),
        (["--run_dir=x", "--swaps=0"], "--swaps=0"),
        (["--run_dir=x", "--inputs=0"], "--inputs=0"),
        (["--run_dir=x", "--split=tests"], "--split=tests"),
    ],
    ids=["no run", "swaps", "inputs", "split"],
)
def test_flags_that_can_not_be_are_refused_at_once(arguments, message, monkeypatch, capsys):
    program = entry_point("studies.keyword_control.__main__")
    monkeypatch.setattr(sys, "argv", ["hcl_tf.studies.keyword_control", *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        cli.run(program.main)
    assert stopped.value.code == 1
    assert message in capsys.readouterr().err
