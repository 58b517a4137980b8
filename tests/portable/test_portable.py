"""A training that was exported, run through JAX and taken back is the training that TensorFlow would have done."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import published_models
import pytest
from conftest import fresh_copy
from epochs import assert_same, epoch_of

pytest.importorskip("jax", reason="the extra `portable` needs Python 3.11 or later")

from hcl_tf import progress
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.evaluation.evaluated_run import EvaluatedRun
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.models import registry
from hcl_tf.portable import bundle, compiling, loop, starting_weights
from hcl_tf.portable.loop import train
from hcl_tf.portable.results import take_back
from hcl_tf.training.launch import assemble, launch, settle

GIVEN = {
    "model": "transformer", "encoder": "random:1x32", "decoder_layers": 1, "batch_size": 32, "warmup_steps": 1, "output_vocab": "train",
    "max_steps": 6, "validate_every": 3, "log_every": 2, "validate_examples": 64, "maximum_length": 6,
}  # fmt: skip
HCL = GIVEN | {"model": "hcl", "refresh_graph_every": 0, "latent_size": 4, "latent_hidden": 8}
SAMPLED = {"graph_whole": 0, "graph_node_budget": 2048}


def export_all(data: Path, folder: Path, given: dict, system: str | None = None) -> bundle.Bundle:
    """A bundle whose weights are all stored, so that both begin with the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting_weights, "describe", lambda *_: None)
        compiling.export("qqp", data, "tiny", {**given, "jit_compile": "true"}, folder, system, False)
    return bundle.read(folder, system or given["model"])


def by_tensorflow(data: Path, folder: Path, given: dict) -> EvaluatedRun:
    """The same training in TensorFlow."""
    launch("qqp", data, str(folder), "tiny", {**given, "jit_compile": "false"}, ["test"])
    evaluate(EvaluationRequest(folder, data_dir=data))
    return EvaluatedRun(folder)


def check_same(ours: EvaluatedRun, plain: EvaluatedRun, rel: float) -> None:
    """How they ended, and the metrics line by line and number by number."""
    for name in ("ended", "step", "best_step"):
        assert ours.done[name] == plain.done[name]
    lines, others = ({(line["kind"], line["step"]): line for line in run.metrics} for run in (ours, plain))
    assert lines.keys() == others.keys()
    for key, line in others.items():
        assert lines[key].keys() == {name for name in line if not name.startswith("examined/grad_norm_")}, (
            "TensorFlow's loop alone has these"
        )
        for name, value in line.items():
            if isinstance(value, float) and name in lines[key]:
                assert lines[key][name] == pytest.approx(value, rel=rel, abs=1e-5), (key, name)


def check_same_outputs(ours: EvaluatedRun, plain: EvaluatedRun) -> None:
    assert [p["prediction"] for p in ours.predictions] == [p["prediction"] for p in plain.predictions]
    assert ours.scores["scores"] == plain.scores["scores"]
    figures = [run.diagnostics["figures"] for run in (ours, plain)]
    for name in ("preference", "per_example"):
        assert figures[0].get(name, {}).keys() == figures[1].get(name, {}).keys()
    for name, values in figures[1].get("per_example", {}).items():
        assert figures[0]["per_example"][name] == pytest.approx(values, rel=1e-3, abs=1e-3), name
    means, others = (found.get("means", {}) for found in figures)
    assert means.keys() == others.keys()
    for name, entry in others.items():
        assert means[name]["value"] == pytest.approx(entry["value"], rel=1e-3, abs=1e-4), name


@pytest.fixture(scope="module")
def exported(qqp_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export_all(qqp_folder, folder, GIVEN)
    return folder


@pytest.fixture(scope="module")
def part(exported) -> bundle.Bundle:
    return bundle.read(exported, "transformer")


@pytest.fixture(scope="module")
def results(part, tmp_path_factory) -> Path:
    """What the exported training brings back."""
    out = tmp_path_factory.mktemp("results") / "transformer"
    train(part, out)
    return out


@pytest.fixture(scope="module")
def taken_back(part, results, qqp_folder, tmp_path_factory) -> EvaluatedRun:
    """The run folder made of it."""
    folder = tmp_path_factory.mktemp("runs") / "back"
    take_back(part, results, qqp_folder, folder)
    return EvaluatedRun(folder)


@pytest.mark.slow
def test_a_training_is_tensorflows(taken_back, qqp_folder, tmp_path):
    plain = by_tensorflow(qqp_folder, tmp_path / "plain", GIVEN)
    check_same(taken_back, plain, 2e-4)
    check_same_outputs(taken_back, plain)


@pytest.mark.slow
def test_where_output_is_a_file_every_long_part_says_how_far_it_is(part, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    train(part, tmp_path / "results")
    said = capfd.readouterr().err
    for what in ("compiling ", "training: ", "validating: ", "decoding test: "):
        assert any(line.startswith(what) for line in said.splitlines()), what
    assert f"/{GIVEN['max_steps']} [" in said
    assert "loss " in said


def both_ways(data: Path, folder: Path, given: dict) -> tuple[EvaluatedRun, EvaluatedRun]:
    """A training exported, run and taken back, and TensorFlow's."""
    whole = export_all(data, folder / "bundle", given, "it")
    train(whole, folder / "results")
    take_back(whole, folder / "results", data, folder / "back")
    return EvaluatedRun(folder / "back"), by_tensorflow(data, folder / "plain", given)


@pytest.mark.slow
@pytest.mark.parametrize("graph", [{}, SAMPLED], ids=["whole", "sampled"])
def test_hcl_s_training_is_tensorflows(qqp_folder, tmp_path, graph):
    """With its graph, its diagnostics, and weights that both begin with."""
    ours, plain = both_ways(qqp_folder, tmp_path, HCL | graph)
    check_same(ours, plain, 2e-4)
    check_same_outputs(ours, plain)
    validated = [line for line in ours.metrics if line["kind"] == "validation" and line["step"]]
    done = json.loads((tmp_path / "results" / "done.json").read_text())
    assert done["best_nll"] == min(line["nll_prior"] for line in validated) != min(line["nll"] for line in validated)


@pytest.mark.slow
def test_a_graph_that_is_computed_whole_travels_without_a_sampler(qqp_folder, tmp_path):
    """Its neighbours stand in the program, and batches bring no sub-graph."""
    for name, graph, drawn in (("whole", {}, False), ("sampled", SAMPLED, True)):
        compiling.export("qqp", qqp_folder, "tiny", {**HCL, **graph, "jit_compile": "true"}, tmp_path / "bundle", name, False)
        part = bundle.read(tmp_path / "bundle", name)
        assert bool(part.description["batches"]["sampler"]) == drawn
        batch = epoch_of(loop._batches(part, "train"), 0)[0]
        assert ("graph_nodes" in batch) == drawn
        assert (batch["impostor_nodes"] >= 0).any()
        assert part.description["output_nll"] == "nll_prior"
        assert any(column.startswith("graph_") for column in part.description["programs"]["step"]["inputs"]) == drawn


@pytest.mark.parametrize(("named", "best"), [({}, 2.0), ({"output_nll": "nll"}, 2.0), ({"output_nll": "nll_prior"}, 5.0)])
def test_the_best_nll_is_that_under_which_outputs_are_made(named, best):
    """A bundle that names none is of a version that took `nll`."""
    run = object.__new__(loop._Run)
    run.about, run.done = named, {"best_nll": np.inf, "best_loss": -1.0}
    for nll, nll_prior in ((3.0, 5.0), (2.0, 6.0)):
        run._keep({"loss": 0.0, "nll": nll, "nll_prior": nll_prior})
    assert run.done["best_nll"] == best


@pytest.mark.slow
def test_epochs_ramps_and_patience_are_tensorflows(qqp_folder, tmp_path):
    """With a frozen encoder, whose states TensorFlow caches in 16 bits, and negatives from the batch, whose size then counts."""
    more = {"max_steps": 0, "validate_every": 0, "batch_size": 128, "epochs": 9, "patience": 2, "kl_ramp": 8}
    more |= {"learning_rate": 0.0}  # so no loss is smaller than the first, whatever the rounding
    ours, plain = both_ways(qqp_folder, tmp_path, {**HCL, **more, "freeze_encoder": True, "in_batch_negatives": True})
    assert (ours.done["ended"], ours.done["step"], ours.done["best_step"]) == ("patience", 16, 4)
    check_same(ours, plain, 5e-3)


@pytest.mark.slow
def test_upper_layers_another_run_s_weights_and_refreshed_features_are_tensorflows(qqp_folder, tmp_path):
    """Two epochs, the second of which begins with new node features. TensorFlow's steps compute the fixed layers too."""
    more = {"encoder": "random:2x32", "max_steps": 6, "batch_size": 128, "validate_every": 2, "log_every": 1}
    launch("qqp", qqp_folder, str(tmp_path / "trunk"), "tiny", {**HCL, **more, "max_steps": 2}, ["test"])
    more |= {"init_from": str(tmp_path / "trunk"), "trainable_layers": 1, "lower_states": "live", "refresh_graph_every": 1}
    ours, plain = both_ways(qqp_folder, tmp_path, {**HCL, **more})
    assert ours.run.config["init_from"] == plain.run.config["init_from"]
    check_same(ours, plain, 1e-3)
    about = bundle.read(tmp_path / "bundle", "it").description
    assert about["refresh"]["every"] == 1
    assert "vectors" in about["programs"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["t5", "dialogpt"])
def test_a_library_s_published_weights_travel_with_their_tokeniser(qqp_folder, tmp_path, monkeypatch, model):
    """The published folder is needed where it is exported, not where results are taken back."""
    data, published = fresh_copy(qqp_folder, tmp_path / "data"), tmp_path / "published"
    (published_models.t5 if model == "t5" else published_models.gpt2)(published)
    names = registry.names_of(model)
    given = {name: value for name, value in GIVEN.items() if name in names and name != "encoder"}
    given |= {"model": model, "pretrained": str(published), "learning_rate": 1e-4}  # Adam makes steps of T5's rounding errors too
    plain = by_tensorflow(data, tmp_path / "plain", given)
    whole = export_all(data, tmp_path / "bundle", given, "it")
    shutil.rmtree(published)
    train(whole, tmp_path / "results")
    take_back(whole, tmp_path / "results", data, tmp_path / "back")
    ours = EvaluatedRun(tmp_path / "back")
    check_same(ours, plain, 1e-3)
    check_same_outputs(ours, plain)
    assert (ours.run.path / "data" / "tokenizer").is_dir()


@pytest.mark.slow
def test_the_record_says_where_it_ran(taken_back):
    environment = taken_back.run.environment
    assert environment["exported"] == {"float16": False}
    assert environment["gpus"] == ["cpu"]
    assert environment["packages"]["jaxlib"]
    speed = [json.loads(line) for line in (taken_back.run.path / "speed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in speed] == [2, 4, 6]
    assert all(line["examples_per_second"] > 0 for line in speed)


@pytest.mark.slow
def test_time_ends_it(part, tmp_path):
    """At the first step after the limit, and the outputs are there all the same."""
    done = train(part, tmp_path / "out", 1e-6)
    assert (done["ended"], done["step"]) == ("time", 1)
    assert (tmp_path / "out" / "outputs.test.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"model": "groupwise"}, "groupwise"),
        ({"mixed_precision": True}, "--mixed_precision"),
        ({"strategy": "mirrored"}, "--strategy"),
        ({"model": "copy"}, "nothing to train"),
    ],
)
def test_what_needs_tensorflow_meanwhile_is_refused(qqp_folder, tmp_path, given, named):
    given = registry.used(given.get("model", GIVEN["model"]), GIVEN) | given
    with pytest.raises(UserError, match=named):
        compiling.export("qqp", qqp_folder, "tiny", given, tmp_path / "bundle", None, False)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_damaged_bundle_is_named(exported, tmp_path):
    with pytest.raises(UserError, match="systems in this bundle: transformer"):
        bundle.read(exported, "claps")
    copy = Path(shutil.copytree(exported, tmp_path / "bundle"))
    part = bundle.read(copy, "transformer")
    key = next(start["key"] for start in part.description["variables"].values() if start["kind"] == "stored")
    (copy / "arrays" / f"{key}.npy.gz").write_bytes(b"x")
    with pytest.raises(UserError, match=f"{key}.npy.gz: damaged"):
        part.array(key)
    path = copy / "transformer" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    with pytest.raises(UserError, match="of format 0"):
        bundle.read(copy, "transformer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("outputs.test.npz", None, "can't be read"), ("outputs.test.npz", b"PK", "damaged"), ("outputs.test.npz", b"", "damaged"),
        ("metrics.jsonl", b"{", "damaged"), ("done.json", b"{}", "not of this bundle's transformer"),
    ],
)  # fmt: skip
def test_results_that_are_not_whole_are_named_and_leave_no_run(part, results, qqp_folder, tmp_path, name, content, why):
    broken = Path(shutil.copytree(results, tmp_path / "results"))
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: {why}"):
        take_back(part, broken, qqp_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_too_few_outputs_are_named(part, results, qqp_folder, tmp_path):
    broken = Path(shutil.copytree(results, tmp_path / "results"))
    np.savez(broken / "outputs.test.npz", ids=np.zeros((3, 6), np.int32))
    with pytest.raises(UserError, match=r"outputs.test.npz: 3 outputs for \d+ examples"):
        take_back(part, broken, qqp_folder, tmp_path / "run")


@pytest.mark.slow
def test_a_failure_half_way_leaves_no_run(part, results, qqp_folder, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hcl_tf.portable.results.report", fail)
    with pytest.raises(KeyboardInterrupt):
        take_back(part, results, qqp_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("system", "why"), [("transformer", "has the system already"), ("arrays", "letters"), ("../x", "letters")])
def test_a_system_s_name_in_a_bundle(exported, qqp_folder, system, why):
    with pytest.raises(UserError, match=why):
        compiling.export("qqp", qqp_folder, "tiny", GIVEN, exported, system, False)


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_it(part, tmp_path, monkeypatch):
    monkeypatch.setattr("hcl_tf.portable.loop.means_of", lambda *_: {"loss": float("nan"), "nll": 1.0})
    with pytest.raises(UserError, match="step 0: the validation loss is nan"):
        train(part, tmp_path / "out")
    assert not (tmp_path / "out" / "done.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("version", bundle.READABLE)
def test_batches_of_a_bundle_are_those_of_the_data(qqp_folder, tmp_path, version):
    """In format 1, which version 0.1.0 wrote, the sampler's values stand beside the others."""
    data, graph, made = PreparedData(qqp_folder), PreparedData(qqp_folder).graph, bundle.Bundle(tmp_path, "it")
    splits = {split: data.arrays(split) for split in ("train", "validation")}
    sampler = {"fanout": [3, 2], "node_budget": 512, "impostors": "graph"}
    description = {
        "columns": {
            split: {field.name: made.store(getattr(arrays, field.name)) for field in dataclasses.fields(arrays)}
            for split, arrays in splits.items()
        },
        "batch_size": 32, "held_out_batch_size": 8, "seed": 3, "max_keywords": data.max_keywords, "nodes": len(graph),
        "degree": data.whole_graph.shape[2], "indptr": list(map(made.store, graph.indptr)), "indices": list(map(made.store, graph.indices)),
        **(sampler if version == 1 else {"sampler": sampler, "impostors": "graph"}),
    }  # fmt: skip
    made.write({"batches": description}, {})
    path = tmp_path / "it" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": version}))
    part = bundle.read(tmp_path, "it")
    expected = {
        "train": pair_batches(data, splits["train"], 32, 3, SubgraphSampler(graph, (3, 2), 512)),
        "validation": pair_batches(data, splits["validation"], 8),
    }
    for split, batches in expected.items():
        assert_same(epoch_of(loop._batches(part, split), 1)[:3], epoch_of(batches, 1)[:3])


@pytest.mark.slow
def test_training_needs_no_tensorflow():
    """In a process of its own, where importing it fails."""
    code = "import sys; sys.modules['tensorflow'] = sys.modules['tf_keras'] = None; import hcl_tf.portable.loop"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_random_encoder_travels_where_node_features_come_from_it(qqp_folder):
    """Drawn anew it would be another than the one that computed them."""
    data, settings, encoder = settle("qqp", qqp_folder, "tiny", HCL)
    with compiling.starting_points() as starts:
        loop = assemble(data, settings, encoder, None, Path(), None)
    own = {id(v) for v in loop.system.encoder.variables}
    assert own & starts.keys()
    assert not own & compiling.drawable(loop, starts).keys()


@pytest.mark.slow
def test_half_of_a_frozen_encoder_is_rounded_and_forgets_what_no_text_has(qqp_folder, tmp_path):
    compiling.export("qqp", qqp_folder, "tiny", {**HCL, "freeze_encoder": True, "jit_compile": "true"}, tmp_path, "small", True)
    part = bundle.read(tmp_path, "small")
    starts = part.description["variables"]
    assert {"constant", "uniform", "stored"} <= {start["kind"] for start in starts.values()}
    stored = {name: part.array(start["key"]) for name, start in starts.items() if start["kind"] == "stored"}
    assert all(array.dtype == np.float16 for array in stored.values())
    (table,) = (array for name, array in stored.items() if name.endswith("._embedding_layer.embeddings"))
    data = PreparedData(qqp_folder)
    read = np.unique(
        np.concatenate([getattr(data.arrays(s), f"{role}_ids").ravel() for s in ("train", "validation", "test") for role in ROLES])
    )
    assert table[read].any(1).all()
    assert 0 < (~table.any(1)).sum() <= len(table) - len(read)
    assert train(part, tmp_path / "out")["ended"] == "steps"
